/* SPDX-License-Identifier: AGPL-3.0-only */
/* Bytes: a borrowed slice (struct chp_bytes) and a growable buffer (struct chp_buf). */
#ifndef CHP_BASE_BUF_H
#define CHP_BASE_BUF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed: whoever gives one says how long it lives. */
struct chp_bytes {
    const uint8_t *data;
    size_t len;
};

/* Growable, always NUL-terminated behind len so that text in it can be used as a C string (data is
 * NULL until the first byte). Zero-initialise; chp_buf_deinit is safe on a zeroed one. */
struct chp_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

struct chp_bytes chp_bytes(const void *data, size_t len);
struct chp_bytes chp_bytes_of(const char *text);
bool chp_bytes_equal(struct chp_bytes a, struct chp_bytes b);

void chp_buf_deinit(struct chp_buf *buf);
void chp_buf_clear(struct chp_buf *buf);
/* Forgets what is behind len bytes; len is at most buf->len. */
void chp_buf_truncate(struct chp_buf *buf, size_t len);
void chp_buf_reserve(struct chp_buf *buf, size_t more);
void chp_buf_add(struct chp_buf *buf, const void *data, size_t len);
void chp_buf_add_text(struct chp_buf *buf, const char *text);
void chp_buf_add_byte(struct chp_buf *buf, uint8_t byte);
void chp_buf_printf(struct chp_buf *buf, const char *format, ...) CHP_PRINTF(2, 3);
/* Text of the buffer, "" when empty. Valid until the next change. */
const char *chp_buf_text(const struct chp_buf *buf);
struct chp_bytes chp_buf_bytes(const struct chp_buf *buf);
/* Gives the memory away (free() it) and leaves the buffer empty. Never NULL. */
char *chp_buf_take(struct chp_buf *buf);

/* True when data is valid UTF-8 (no surrogates, no overlong forms) without NUL. */
bool chp_utf8_valid(const void *data, size_t len);
/* Appends data as UTF-8: what is invalid becomes U+FFFD. */
void chp_buf_add_utf8_lossy(struct chp_buf *buf, const void *data, size_t len);

/* Lower-case hexadecimal: text must hold 2 * len + 1 bytes. */
void chp_hex_encode(const void *data, size_t len, char *text);
/* Exactly 2 * len hexadecimal digits, either case; CHP_EMALFORMED otherwise. */
int chp_hex_decode(const char *text, void *data, size_t len) CHP_MUST_CHECK;

#endif
