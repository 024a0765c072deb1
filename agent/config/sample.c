/* SPDX-License-Identifier: AGPL-3.0-only */
/* The table as a configuration file: what must be set is set to an example, all else is a comment.
 * "# " begins a sentence, "#" without a blank an option or section that can be taken in by removing
 * it. */
#include "config/internal.h"

#include <string.h>

enum { COLUMNS = 100 };

static void print_sentence(const char *text, FILE *out)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column == 0 || column + 1 + len > COLUMNS) {
            (void)fputs(column == 0 ? "#" : "\n#", out);
            column = 1;
        }
        (void)fputc(' ', out);
        (void)fwrite(text, 1, len, out);
        column += 1 + len;
        text += len;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

static void print_option(const struct config__option *option, FILE *out)
{
    struct chp_buf doc = {0};
    chp_buf_add_text(&doc, option->doc);
    if (option->choices != NULL && strstr(option->doc, option->choices->name) == NULL) {
        for (const struct config__choice *choice = option->choices; choice->name != NULL;
             choice++) {
            chp_buf_printf(&doc, "%s%s", choice == option->choices ? " One of " : ", ",
                           choice->name);
        }
        chp_buf_add_byte(&doc, '.');
    }
    chp_buf_add_text(&doc, option->required ? " Must be set." : "");
    chp_buf_add_text(&doc, option->reloads ? " Reloads." : "");
    chp_buf_add_text(&doc, option->preset == NULL ? " Example:" : "");
    (void)fputc('\n', out);
    print_sentence(chp_buf_text(&doc), out);
    bool comment = !option->required || config__sections[option->section].named;
    (void)fprintf(out, "%s%s = %s\n", comment ? "#" : "", option->key,
                  option->preset == NULL ? option->example : option->preset);
    chp_buf_deinit(&doc);
}

void chp_config_print_help(FILE *out)
{
    print_sentence(
        "Configuration of cheops-agent, as `cheops-agent --print-config` prints it: every "
        "option with its default, or with an example where there is none.",
        out);
    print_sentence(
        "A comment has a line of its own. Numbers take ms, s, m, h or k, M, G; lists are "
        "separated by commas; relative paths start from this file's directory. \"Reloads\" "
        "marks what SIGHUP takes over while the agent runs.",
        out);
    for (int i = 0; i < CONFIG__SECTION_COUNT; i++) {
        const struct config__section *section = &config__sections[i];
        (void)fputc('\n', out);
        print_sentence(section->doc, out);
        (void)fprintf(out, section->named ? "#[%s%s]\n" : "[%s%s]\n", section->name,
                      section->named ? section->example : "");
        for (size_t j = 0; j < config__option_count; j++) {
            if ((int)config__options[j].section == i) {
                print_option(&config__options[j], out);
            }
        }
    }
}
