/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/buf.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct chp_bytes chp_bytes(const void *data, size_t len)
{
    return (struct chp_bytes){.data = data, .len = len};
}

struct chp_bytes chp_bytes_of(const char *text)
{
    return chp_bytes(text, text == NULL ? 0 : strlen(text));
}

bool chp_bytes_equal(struct chp_bytes a, struct chp_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

void chp_buf_deinit(struct chp_buf *buf)
{
    free(buf->data);
    *buf = (struct chp_buf){0};
}

void chp_buf_clear(struct chp_buf *buf)
{
    chp_buf_truncate(buf, 0);
}

void chp_buf_truncate(struct chp_buf *buf, size_t len)
{
    CHP_ASSERT(len <= buf->len);
    buf->len = len;
    if (buf->data != NULL) {
        buf->data[len] = 0;
    }
}

void chp_buf_reserve(struct chp_buf *buf, size_t more)
{
    CHP_ASSERT(more < SIZE_MAX / 2 - buf->len);
    size_t need = buf->len + more + 1;
    if (need <= buf->cap) {
        return;
    }
    size_t cap = buf->cap == 0 ? 64 : buf->cap;
    while (cap < need) {
        cap *= 2;
    }
    buf->data = chp_realloc(buf->data, cap);
    buf->data[buf->len] = 0;
    buf->cap = cap;
}

void chp_buf_add(struct chp_buf *buf, const void *data, size_t len)
{
    chp_buf_reserve(buf, len);
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = 0;
}

void chp_buf_add_text(struct chp_buf *buf, const char *text)
{
    chp_buf_add(buf, text, strlen(text));
}

void chp_buf_add_byte(struct chp_buf *buf, uint8_t byte)
{
    chp_buf_add(buf, &byte, 1);
}

void chp_buf_printf(struct chp_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHP_ASSERT(need >= 0);
    chp_buf_reserve(buf, (size_t)need);
    (void)vsnprintf((char *)buf->data + buf->len, (size_t)need + 1, format, again);
    va_end(again);
    buf->len += (size_t)need;
}

const char *chp_buf_text(const struct chp_buf *buf)
{
    return buf->data == NULL ? "" : (const char *)buf->data;
}

struct chp_bytes chp_buf_bytes(const struct chp_buf *buf)
{
    return chp_bytes(buf->data, buf->len);
}

char *chp_buf_take(struct chp_buf *buf)
{
    chp_buf_reserve(buf, 0);
    buf->data[buf->len] = 0;
    char *text = (char *)buf->data;
    *buf = (struct chp_buf){0};
    return text;
}

/* Length of the valid UTF-8 sequence at s (at most left bytes), 0 when there is none. NUL counts as
 * invalid. */
static size_t utf8_sequence(const uint8_t *s, size_t left)
{
    if (s[0] >= 0x01 && s[0] <= 0x7f) {
        return 1;
    }
    size_t len = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                 : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                : 0;
    if (len == 0 || len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f;
    bool beyond = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : len;
}

bool chp_utf8_valid(const void *data, size_t len)
{
    const uint8_t *s = data;
    for (size_t i = 0; i < len;) {
        size_t step = utf8_sequence(s + i, len - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

void chp_buf_add_utf8_lossy(struct chp_buf *buf, const void *data, size_t len)
{
    const uint8_t *s = data;
    for (size_t i = 0; i < len;) {
        size_t step = utf8_sequence(s + i, len - i);
        if (step == 0) {
            chp_buf_add(buf, "\xef\xbf\xbd", 3);
            i++;
        } else {
            chp_buf_add(buf, s + i, step);
            i += step;
        }
    }
}

void chp_hex_encode(const void *data, size_t len, char *text)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *s = data;
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[s[i] >> 4];
        text[2 * i + 1] = digits[s[i] & 15];
    }
    text[2 * len] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int chp_hex_decode(const char *text, void *data, size_t len)
{
    uint8_t *out = data;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) {
            return CHP_EMALFORMED;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * len] == 0 ? 0 : CHP_EMALFORMED;
}
