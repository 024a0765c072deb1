/* SPDX-License-Identifier: AGPL-3.0-only */
/* "Did you mean": the known name that is nearest to what somebody typed. */
#ifndef CHP_BASE_SUGGEST_H
#define CHP_BASE_SUGGEST_H

#include "base/buf.h"

/* The name of names with the fewest edits (insert, delete, replace, swap of neighbours; ASCII case
 * does not count) from typed, the first of several; NULL when none is near enough to be a slip.
 * Names over 128 bytes are not compared. */
const char *chp_suggest(const char *typed, const char *const *names, size_t count);

/* Appends "a, b, c", after about max_bytes cut with "and N more"; "none" when count is 0. */
void chp_suggest_list(struct chp_buf *out, const char *const *names, size_t count,
                      size_t max_bytes);

#endif
