/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The check of a resolution matrix (design section 6): the conflict policy of a resource type, as
 * users write it.
 *
 *     {"ResolutionMatrix": [{"Before": "set", "After": "add", "Result": "take-both-keep-order"}],
 * "version": 1}
 *
 * Pure: no I/O.
 */
#ifndef CHP_MATRIX_MATRIX_H
#define CHP_MATRIX_MATRIX_H

#include "base/arena.h"

enum {
    CHP_MATRIX_NOTES_MAX = 32, /* the last one then says how many more there are */
    CHP_MATRIX_VERSION_DEFAULT = 1,
};

/*
 * Checks json (NUL-terminated) and brings it into canonical form: every mirror completed, rows
 * sorted, the version given, no spaces, so that equal matrices have equal text and a canonical text
 * is its own canonical form.
 *
 * Notes are sentences for whoever wrote the matrix: what was completed, which pairs are assumed to
 * commute, what looks odd but is taken as written. canonical_json and notes live in arena; they are
 * not set on error.
 *
 * CHP_EMALFORMED: not JSON or not this shape. CHP_ETOOBIG: over CHP_CONFIG_MAX_BYTES or
 * CHP_MATRIX_ROWS_MAX, as given or completed. CHP_EINVAL: a result that does not exist, a
 * contradiction.
 */
int chp_matrix_check(const char *json, struct chp_arena *arena, const char **canonical_json,
                     const char ***notes, size_t *note_count,
                     struct chp_error *error) CHP_MUST_CHECK;

#endif
