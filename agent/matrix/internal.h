/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the check of a matrix hands to its compilation. */
#ifndef CHP_MATRIX_INTERNAL_H
#define CHP_MATRIX_INTERNAL_H

#include "matrix/matrix.h"

enum { MATRIX__RULE_COUNT = CHP_TAKE_BOTH_REVERSE_ORDER + 1 };

struct matrix__row {
    const char *before;
    const char *after;
    enum chp_pair_rule rule;
    size_t number; /* in the JSON, from 1, for messages */
};

enum matrix__says { MATRIX__NOTHING, MATRIX__FALSE, MATRIX__TRUE };

struct matrix__type {
    const char *name;
    enum matrix__says replace;
    enum matrix__says idempotent;
};

extern const char *const matrix__rule_names[MATRIX__RULE_COUNT];

/* The same statement about a pair, read from its other end. */
enum chp_pair_rule matrix__mirror(enum chp_pair_rule rule);

/* Names of all types in rows and types, sorted, each once; the array is in arena, with room for one
 * more. */
size_t matrix__names(struct chp_arena *arena, const struct matrix__row *rows, size_t row_count,
                     const struct matrix__type *types, size_t type_count, const char ***names);

/* At most CHP_MATRIX_TYPES_MAX names. canonical_json NULL: the matrix without rows. */
struct chp_matrix *matrix__compile(const struct matrix__row *rows, size_t row_count,
                                   const struct matrix__type *types, size_t type_count,
                                   uint64_t version, const char *canonical_json) CHP_MUST_CHECK;

#endif
