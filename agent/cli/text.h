/* SPDX-License-Identifier: AGPL-3.0-only */
/* Text for people: widths in columns, durations, times, escapes. Pure; all text is UTF-8. */
#ifndef CHP_CLI_TEXT_H
#define CHP_CLI_TEXT_H

#include "base/buf.h"

/* Columns that text takes on a terminal; what has no width counts 1. Needs an UTF-8 LC_CTYPE. */
size_t cli__text_width(const char *text);
/* Appends text padded with spaces to width columns, to the left of it when right is true. */
void cli__text_pad(struct chp_buf *out, const char *text, size_t width, bool right);
/* Appends at most width columns of text, the last one '…' when it was cut. Text without control
 * characters. */
void cli__text_fit(struct chp_buf *out, const char *text, size_t width);
/* Appends text with control characters (C0, DEL, C1), line separators and direction overrides
 * written as \n, \x1b or \u202e, so that it can neither move the cursor nor lie about its order.
 * Tabs stay when tabs is true. */
void cli__text_escape(struct chp_buf *out, const char *text, size_t len, bool tabs);
/* A word quoted for a POSIX shell where it needs quotes. */
void cli__text_quote(struct chp_buf *out, const char *word);

/* Whole number with ms, s or m, from 1ms to 24h; CHP_EINVAL with a sentence. */
int cli__duration_parse(const char *text, uint64_t *ms, struct chp_error *error) CHP_MUST_CHECK;
/* "4 ms", "12.3 s", "5 min", "3 h", "2 d"; at most 7 columns below 100 days. */
void cli__duration_format(uint64_t ms, struct chp_buf *out);
/* "20 MiB", "512 B". */
void cli__size_format(uint64_t bytes, struct chp_buf *out);
/* RFC 3339 in UTC ("…Z") to Unix milliseconds; CHP_EMALFORMED. */
int cli__time_parse(const char *text, uint64_t *wall_ms) CHP_MUST_CHECK;
/* "3 s ago", "now", "in 2 s". */
void cli__time_ago(uint64_t wall_ms, uint64_t now_ms, struct chp_buf *out);

/* For a sentence that says "at character N": the expression and a caret below that character, two
 * indented lines. Returns false, and appends nothing, when the sentence names no character of the
 * expression. */
bool cli__text_caret(struct chp_buf *out, const char *expression, const char *sentence);

#endif
