/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The resolution matrix (design section 6), the conflict policy of a resource type: its check, as
 * users write it, and the compiled form that decides pairs.
 *
 *     {"ResolutionMatrix": [{"Before": "set", "After": "add", "Result": "take-both-keep-order"}],
 *      "version": 1, "types": {"set": {"replace": true, "idempotent": true}}}
 *
 * Members of a type, all optional: replace (whether such an operation establishes the whole state,
 * where the rows say otherwise or too little), idempotent (running it twice is like once).
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
 * and types sorted, the version given, no spaces, so that equal matrices have equal text and a
 * canonical text is its own canonical form.
 *
 * Notes are sentences for whoever wrote the matrix: what was completed, which pairs are assumed to
 * commute, what looks odd but is taken as written. canonical_json and notes live in arena; they are
 * not set on error.
 *
 * CHP_EMALFORMED: not JSON or not this shape. CHP_ETOOBIG: over CHP_CONFIG_MAX_BYTES or
 * CHP_MATRIX_ROWS_MAX, as given or completed, or over CHP_MATRIX_TYPES_MAX. CHP_EINVAL: a result
 * that does not exist, a contradiction.
 */
int chp_matrix_check(const char *json, struct chp_arena *arena, const char **canonical_json,
                     const char ***notes, size_t *note_count,
                     struct chp_error *error) CHP_MUST_CHECK;

/* What becomes of two operations, the one before and the one after. */
enum chp_pair_rule {
    CHP_TAKE_BOTH_ANY_ORDER,
    CHP_TAKE_ONE,
    CHP_TAKE_BOTH_KEEP_ORDER,
    CHP_TAKE_BOTH_REVERSE_ORDER,
};

/* As the JSON has it, in "Result": "take-one". */
const char *chp_pair_rule_name(enum chp_pair_rule rule);

struct chp_matrix_row {
    const char *before;
    const char *after;
    enum chp_pair_rule rule;
};

/* Compiled; does not change and borrows nothing. */
struct chp_matrix;

/* What chp_matrix_check accepts, compiled; json need not be canonical. NULL is the matrix without
 * rows, version 0. Codes as the check's; *matrix is not set on error. */
int chp_matrix_new(const char *json, struct chp_matrix **matrix,
                   struct chp_error *error) CHP_MUST_CHECK;
/* Rows as they are, not judged: missing mirrors are completed, a pair listed again is as listed
 * last. For comparing with other implementations of the rules. CHP_ETOOBIG. */
int chp_matrix_of_rows(const struct chp_matrix_row *rows, size_t count, uint64_t version,
                       struct chp_matrix **matrix, struct chp_error *error) CHP_MUST_CHECK;
/* NULL is allowed. */
void chp_matrix_free(struct chp_matrix *matrix);

uint64_t chp_matrix_version(const struct chp_matrix *matrix);
/* Below, equal to or above 0: by version, then by SHA-256 of the canonical text. The one without
 * rows is below all others. */
int chp_matrix_compare(const struct chp_matrix *a, const struct chp_matrix *b);

/* The listed pair or the mirror that completed it; else take-one when either type is "delete", else
 * any order. The rule for "delete" is here and not in the canonical text, since it holds for types
 * that no matrix lists. */
enum chp_pair_rule chp_matrix_resolve(const struct chp_matrix *matrix, const char *before,
                                      const char *after);
/* The same in two steps for whoever resolves a type often: its number, valid for this matrix only
 * (all types that it does not know have the number 0), and the pair of numbers. */
unsigned chp_matrix_type(const struct chp_matrix *matrix, const char *type);
enum chp_pair_rule chp_matrix_resolve_types(const struct chp_matrix *matrix, unsigned before,
                                            unsigned after);

/* Whether the pair is taken to commute only because it is not listed. */
bool chp_matrix_assumes(const struct chp_matrix *matrix, const char *before, const char *after);

/* Types are numbered from 1 to this, sorted by name: those in rows, those that say something, and
 * "delete". */
unsigned chp_matrix_type_count(const struct chp_matrix *matrix);
const char *chp_matrix_type_name(const struct chp_matrix *matrix, unsigned type);

/* What a type says in "replace". */
enum chp_replace { CHP_REPLACE_UNSAID, CHP_REPLACE_NO, CHP_REPLACE_YES };

enum chp_replace chp_matrix_replace(const struct chp_matrix *matrix, const char *type);
/* Whether an operation of the type makes the whole state, whatever was before: as the type says
 * ("replace"), else whether it is take-one or reverse-order after every type that the matrix knows,
 * itself included. Never a type that the matrix does not know, except "delete". */
bool chp_matrix_establishes(const struct chp_matrix *matrix, const char *type);
/* As the type says; false when it says nothing. */
bool chp_matrix_idempotent(const struct chp_matrix *matrix, const char *type);

#endif
