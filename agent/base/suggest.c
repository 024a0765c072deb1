/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/suggest.h"

#include <string.h>

enum { NAME_MAX_BYTES = 128 };

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: three rows suffice, the one before the last is for swaps. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_MAX_BYTES + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= b_len; j++) {
        before[j] = last[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (same ? 0 : 1));
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1])) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b_len];
}

const char *chp_suggest(const char *typed, const char *const *names, size_t count)
{
    size_t typed_len = strlen(typed);
    if (typed_len > NAME_MAX_BYTES) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t nearest_edits =
        (typed_len + 2) / 3 + 1; /* from here on it is another word, not a slip */
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);
        if (len > NAME_MAX_BYTES) {
            continue;
        }
        size_t edits = distance(typed, typed_len, names[i], len);
        if (edits < nearest_edits && edits < len) {
            nearest = names[i];
            nearest_edits = edits;
        }
    }
    return nearest;
}

void chp_suggest_list(struct chp_buf *out, const char *const *names, size_t count, size_t max_bytes)
{
    if (count == 0) {
        chp_buf_add_text(out, "none");
    }
    size_t start = out->len;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && out->len - start + strlen(names[i]) > max_bytes) {
            chp_buf_printf(out, " and %zu more", count - i);
            return;
        }
        chp_buf_printf(out, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
}
