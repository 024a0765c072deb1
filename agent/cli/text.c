/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/text.h"

#include "base/limits.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

/* Decodes one character of text (len > 0); returns its bytes. What is not a character is one byte,
 * *c its value. */
static size_t next_character(const char *text, size_t len, wchar_t *c)
{
    mbstate_t state = {0};
    size_t bytes = mbrtowc(c, text, len, &state);
    if (bytes == (size_t)-1 || bytes == (size_t)-2 || bytes == 0) {
        *c = (unsigned char)text[0];
        return 1;
    }
    return bytes;
}

static size_t character_width(wchar_t c)
{
    int width = wcwidth(c);
    return width < 0 ? 1 : (size_t)width;
}

size_t cli__text_width(const char *text)
{
    size_t width = 0;
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        wchar_t c;
        i += next_character(text + i, len - i, &c);
        width += character_width(c);
    }
    return width;
}

static void add_spaces(struct chp_buf *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        chp_buf_add_byte(out, ' ');
    }
}

void cli__text_pad(struct chp_buf *out, const char *text, size_t width, bool right)
{
    size_t own = cli__text_width(text);
    size_t spaces = own < width ? width - own : 0;
    add_spaces(out, right ? spaces : 0);
    chp_buf_add_text(out, text);
    add_spaces(out, right ? 0 : spaces);
}

void cli__text_fit(struct chp_buf *out, const char *text, size_t width)
{
    if (cli__text_width(text) <= width) {
        chp_buf_add_text(out, text);
        return;
    }
    size_t used = 0;
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        wchar_t c;
        size_t bytes = next_character(text + i, len - i, &c);
        if (used + character_width(c) + 1 > width) {
            break;
        }
        used += character_width(c);
        chp_buf_add(out, text + i, bytes);
        i += bytes;
    }
    chp_buf_add_text(out, width == 0 ? "" : "…");
}

/* Control characters, line and paragraph separators, and what changes the direction of writing. */
static bool must_escape(wchar_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void cli__text_escape(struct chp_buf *out, const char *text, size_t len, bool tabs)
{
    for (size_t i = 0; i < len;) {
        wchar_t c;
        size_t bytes = next_character(text + i, len - i, &c);
        bool broken = bytes == 1 && c >= 0x80;
        if ((!must_escape(c) && !broken) || (tabs && c == L'\t')) {
            chp_buf_add(out, text + i, bytes);
        } else if (c == L'\n' || c == L'\r' || c == L'\t') {
            chp_buf_add_text(out, c == L'\n' ? "\\n" : c == L'\r' ? "\\r" : "\\t");
        } else {
            chp_buf_printf(out, c < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)c);
        }
        i += bytes;
    }
}

void cli__text_quote(struct chp_buf *out, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";
    if (word[0] != 0 && word[strspn(word, plain)] == 0) {
        chp_buf_add_text(out, word);
        return;
    }
    chp_buf_add_byte(out, '\'');
    for (const char *c = word; *c != 0; c++) {
        if (*c == '\'') {
            chp_buf_add_text(out, "'\\''");
        } else {
            chp_buf_add_byte(out, (uint8_t)*c);
        }
    }
    chp_buf_add_byte(out, '\'');
}

int cli__duration_parse(const char *text, uint64_t *ms, struct chp_error *error)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}};
    size_t digits = strspn(text, "0123456789");
    for (size_t i = 0; i < sizeof units / sizeof units[0] && digits > 0 && digits <= 9; i++) {
        if (strcmp(text + digits, units[i].name) == 0) {
            uint64_t value = strtoull(text, NULL, 10) * units[i].ms;
            if (value > 0 && value <= CHP_DEADLINE_MAX_MS) {
                *ms = value;
                return 0;
            }
        }
    }
    return chp_error_set(
        error, CHP_EINVAL,
        "'%.40s' is not a duration: a whole number with ms, s or m, as 500ms, 60s or 5m, "
        "from 1ms to %dm",
        text, CHP_DEADLINE_MAX_MS / (60 * 1000));
}

void cli__duration_format(uint64_t ms, struct chp_buf *out)
{
    const uint64_t second = 1000;
    const uint64_t minute = 60 * second;
    const uint64_t hour = 60 * minute;
    if (ms < 10 * second) {
        chp_buf_printf(out, "%u ms", (unsigned)ms);
    } else if (ms < 100 * second) {
        chp_buf_printf(out, "%u.%u s", (unsigned)(ms / second), (unsigned)(ms % second / 100));
    } else if (ms < 100 * minute) {
        chp_buf_printf(out, "%u min", (unsigned)(ms / minute));
    } else if (ms < 48 * hour) {
        chp_buf_printf(out, "%u h", (unsigned)(ms / hour));
    } else {
        chp_buf_printf(out, "%llu d", (unsigned long long)(ms / (24 * hour)));
    }
}

void cli__size_format(uint64_t bytes, struct chp_buf *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    bool whole = unit == 0 || value >= 100 || value == (double)(uint64_t)value;
    chp_buf_printf(out, whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

int cli__time_parse(const char *text, uint64_t *wall_ms)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL) {
        return CHP_EMALFORMED;
    }
    unsigned ms = 0;
    if (*rest == '.') {
        unsigned scale = 100;
        for (rest++; isdigit((unsigned char)*rest); rest++, scale /= 10) {
            ms += (unsigned)(*rest - '0') * scale;
        }
    }
    time_t seconds = timegm(&tm);
    if (strcmp(rest, "Z") != 0 || seconds < 0) {
        return CHP_EMALFORMED;
    }
    *wall_ms = (uint64_t)seconds * 1000 + ms;
    return 0;
}

void cli__time_ago(uint64_t wall_ms, uint64_t now_ms, struct chp_buf *out)
{
    bool future = wall_ms > now_ms;
    uint64_t distance = future ? wall_ms - now_ms : now_ms - wall_ms;
    if (distance < 1000) {
        chp_buf_add_text(out, "now");
        return;
    }
    chp_buf_add_text(out, future ? "in " : "");
    if (distance < 100 * 1000) {
        chp_buf_printf(out, "%u s", (unsigned)(distance / 1000));
    } else {
        cli__duration_format(distance, out);
    }
    chp_buf_add_text(out, future ? "" : " ago");
}

bool cli__text_caret(struct chp_buf *out, const char *expression, const char *sentence)
{
    static const char mark[] = "at character ";
    const char *place = strstr(sentence, mark);
    if (place == NULL) {
        return false;
    }
    unsigned long long n = strtoull(place + sizeof mark - 1, NULL, 10);
    size_t len = strlen(expression);
    size_t column = 0;
    size_t i = 0;
    struct chp_buf line = {0};
    for (unsigned long long character = 1; character < n && i < len; character++) {
        wchar_t c;
        size_t bytes = next_character(expression + i, len - i, &c);
        struct chp_buf shown = {0};
        cli__text_escape(&shown, expression + i, bytes, false);
        column += cli__text_width(chp_buf_text(&shown));
        chp_buf_deinit(&shown);
        i += bytes;
    }
    bool inside = n > 0 && n <= len + 1;
    if (inside) {
        cli__text_escape(&line, expression, len, false);
        chp_buf_printf(out, "    %s\n    %*s^\n", chp_buf_text(&line), (int)column, "");
    }
    chp_buf_deinit(&line);
    return inside;
}
