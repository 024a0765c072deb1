/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/err.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    int code;
    int http_status;
} table[] = {
#define X(name, value, text, http) {text, CHP_##name, http},
    CHP_ERRORS(X)
#undef X
};

const char *chp_error_name(int code)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].code == code) {
            return table[i].text;
        }
    }
    return code == 0 ? "ok" : "unknown error";
}

int chp_error_http_status(int code)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].code == code) {
            return table[i].http_status;
        }
    }
    return 500;
}

/* Sentences quote what came from outside, cut to fit: what is not UTF-8 then becomes '?', so that
 * every door can put a sentence into JSON as it is. */
static void make_utf8(char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t len = 1;
        while (len < left && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len++;
        }
        if (!chp_utf8_valid(text, len)) {
            memset(text, '?', len);
        }
        text += len;
        left -= len;
    }
}

int chp_error_set(struct chp_error *error, int code, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        error->code = code;
        va_start(args, format);
        (void)vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        make_utf8(error->text);
    }
    return code;
}

_Noreturn void chp_assert_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "level=fatal msg=\"broken invariant\" expression=\"%s\" at=%s:%d\n",
                  expression, file, line);
    abort();
}
