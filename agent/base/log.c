/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static enum chp_log_level threshold = CHP_LOG_INFO;
static char site_name[128];

void chp_log_setup(enum chp_log_level level, const char *site)
{
    threshold = level;
    (void)snprintf(site_name, sizeof site_name, "%s", site == NULL ? "" : site);
}

int chp_log_level_parse(const char *text, enum chp_log_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum chp_log_level)i;
            return 0;
        }
    }
    return CHP_EINVAL;
}

static void add_value(struct chp_buf *line, const char *text)
{
    bool plain = text[0] != 0;
    for (const char *c = text; *c != 0 && plain; c++) {
        plain = *c > ' ' && *c < 0x7f && *c != '"' && *c != '=' && *c != '\\';
    }
    if (plain) {
        chp_buf_add_text(line, text);
        return;
    }
    chp_buf_add_byte(line, '"');
    for (const char *c = text; *c != 0; c++) {
        if (*c == '"' || *c == '\\') {
            chp_buf_add_byte(line, '\\');
            chp_buf_add_byte(line, (uint8_t)*c);
        } else if (*c == '\n') {
            chp_buf_add_text(line, "\\n");
        } else if ((unsigned char)*c < ' ' || *c == 0x7f) {
            chp_buf_printf(line, "\\x%02x", (unsigned char)*c);
        } else {
            chp_buf_add_byte(line, (uint8_t)*c);
        }
    }
    chp_buf_add_byte(line, '"');
}

void chp_log_write(enum chp_log_level level, const char *message,
                   const struct chp_log_field *fields, size_t count)
{
    if (level < threshold) {
        return;
    }
    struct chp_buf line = {0};
    char time[CHP_TIME_TEXT_BYTES];
    chp_clock_format(chp_clock_wall_ms(), time);
    chp_buf_printf(&line, "time=%s level=%s", time, level_names[level]);
    if (site_name[0] != 0) {
        chp_buf_add_text(&line, " site=");
        add_value(&line, site_name);
    }
    chp_buf_add_text(&line, " msg=");
    add_value(&line, message);
    for (size_t i = 0; i < count; i++) {
        chp_buf_printf(&line, " %s=", fields[i].key);
        if (fields[i].text == NULL) {
            chp_buf_printf(&line, "%lld", (long long)fields[i].number);
        } else {
            add_value(&line, fields[i].text);
        }
    }
    chp_buf_add_byte(&line, '\n');
    ssize_t ignored = write(STDERR_FILENO, line.data, line.len);
    (void)ignored;
    chp_buf_deinit(&line);
}
