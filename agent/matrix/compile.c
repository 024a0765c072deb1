/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The compiled matrix: types are numbered in the order of their names, and a table has a byte for
 * each pair of numbers. Number 0 stands for every type that the matrix does not know, and "delete"
 * always has a number, so that no pair is a special case when it is looked up.
 */
#include "matrix/internal.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/sha256.h"

#include <stdlib.h>
#include <string.h>

/* In the table while it is made. */
enum { UNLISTED = 0xff };

/* Bits of a cell: the rule, and whether it is one because nothing says otherwise. */
enum { RULE = 3, ASSUMED = 4 };
_Static_assert((int)MATRIX__RULE_COUNT == RULE + 1, "a rule fits its bits");

const char *const matrix__rule_names[MATRIX__RULE_COUNT] = {
    [CHP_TAKE_BOTH_ANY_ORDER] = "take-both-any-order",
    [CHP_TAKE_ONE] = "take-one",
    [CHP_TAKE_BOTH_KEEP_ORDER] = "take-both-keep-order",
    [CHP_TAKE_BOTH_REVERSE_ORDER] = "take-both-reverse-order",
};

struct chp_matrix {
    struct chp_arena arena;
    uint64_t version;
    struct chp_sha256 sha256; /* zero without rows */
    const char **names;       /* of number i + 1 */
    size_t type_count;
    uint8_t *table; /* cells of (before, after), row by row from number 0 */
    enum chp_replace *replaces;
    bool *establishes;
    bool *idempotent;
};

const char *chp_pair_rule_name(enum chp_pair_rule rule)
{
    CHP_ASSERT((size_t)rule < MATRIX__RULE_COUNT);
    return matrix__rule_names[rule];
}

enum chp_pair_rule matrix__mirror(enum chp_pair_rule rule)
{
    static const enum chp_pair_rule mirrors[MATRIX__RULE_COUNT] = {
        [CHP_TAKE_BOTH_ANY_ORDER] = CHP_TAKE_BOTH_ANY_ORDER,
        [CHP_TAKE_ONE] = CHP_TAKE_ONE,
        [CHP_TAKE_BOTH_KEEP_ORDER] = CHP_TAKE_BOTH_REVERSE_ORDER,
        [CHP_TAKE_BOTH_REVERSE_ORDER] = CHP_TAKE_BOTH_KEEP_ORDER,
    };
    CHP_ASSERT((size_t)rule < MATRIX__RULE_COUNT);
    return mirrors[rule];
}

static const enum chp_replace replace_of[] = {
    [MATRIX__NOTHING] = CHP_REPLACE_UNSAID,
    [MATRIX__FALSE] = CHP_REPLACE_NO,
    [MATRIX__TRUE] = CHP_REPLACE_YES,
};

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;
    return strcmp(*left, *right);
}

/* Sorts, and keeps each once; returns how many. */
static size_t sort_names(const char **names, size_t count)
{
    size_t kept = 0;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0) {
            names[kept++] = names[i];
        }
    }
    return kept;
}

size_t matrix__names(struct chp_arena *arena, const struct matrix__row *rows, size_t row_count,
                     const struct matrix__type *types, size_t type_count, const char ***names)
{
    size_t count = 0;
    const char **all = chp_arena_calloc(arena, 2 * row_count + type_count + 1, sizeof *all);
    for (size_t i = 0; i < row_count; i++) {
        all[count++] = rows[i].before;
        all[count++] = rows[i].after;
    }
    for (size_t i = 0; i < type_count; i++) {
        all[count++] = types[i].name;
    }
    *names = all;
    return sort_names(all, count);
}

static uint8_t *cell(const struct chp_matrix *matrix, size_t before, size_t after)
{
    CHP_ASSERT(before <= matrix->type_count && after <= matrix->type_count);
    return &matrix->table[before * (matrix->type_count + 1) + after];
}

static void fill_table(struct chp_matrix *matrix, const struct matrix__row *rows, size_t row_count)
{
    size_t side = matrix->type_count + 1;
    matrix->table = chp_arena_alloc(&matrix->arena, side * side);
    memset(matrix->table, UNLISTED, side * side);
    for (size_t i = 0; i < row_count; i++) {
        *cell(matrix, chp_matrix_type(matrix, rows[i].before),
              chp_matrix_type(matrix, rows[i].after)) = (uint8_t)rows[i].rule;
    }
    unsigned deletes = chp_matrix_type(matrix, "delete");
    for (size_t i = 0; i < side; i++) {
        for (size_t j = i; j < side; j++) {
            uint8_t *forth = cell(matrix, i, j);
            uint8_t *back = cell(matrix, j, i);
            if (*forth == UNLISTED && *back == UNLISTED) {
                bool one = i == deletes || j == deletes;
                *forth = *back = one ? CHP_TAKE_ONE : CHP_TAKE_BOTH_ANY_ORDER | ASSUMED;
            } else if (*forth == UNLISTED) {
                *forth = (uint8_t)matrix__mirror((enum chp_pair_rule) * back);
            } else if (*back == UNLISTED) {
                *back = (uint8_t)matrix__mirror((enum chp_pair_rule) * forth);
            }
        }
    }
}

/* Whether nothing of what was before is left: for every type, itself included. */
static bool displaces_all(const struct chp_matrix *matrix, size_t type)
{
    bool all = true;
    for (size_t i = 1; i <= matrix->type_count && all; i++) {
        int rule = *cell(matrix, i, type) & RULE;
        all = rule == CHP_TAKE_ONE || rule == CHP_TAKE_BOTH_REVERSE_ORDER;
    }
    return all;
}

struct chp_matrix *matrix__compile(const struct matrix__row *rows, size_t row_count,
                                   const struct matrix__type *types, size_t type_count,
                                   uint64_t version, const char *canonical_json)
{
    struct chp_matrix *matrix = chp_calloc(1, sizeof *matrix);
    size_t count =
        matrix__names(&matrix->arena, rows, row_count, types, type_count, &matrix->names);
    CHP_ASSERT(count <= CHP_MATRIX_TYPES_MAX);
    for (size_t i = 0; i < count; i++) {
        matrix->names[i] = chp_arena_strdup(&matrix->arena, matrix->names[i]);
    }
    matrix->names[count] = "delete";
    matrix->type_count = sort_names(matrix->names, count + 1);
    matrix->version = version;
    if (canonical_json != NULL) {
        matrix->sha256 = chp_sha256_of(canonical_json, strlen(canonical_json));
    }
    fill_table(matrix, rows, row_count);
    size_t side = matrix->type_count + 1;
    matrix->replaces = chp_arena_calloc(&matrix->arena, side, sizeof *matrix->replaces);
    matrix->establishes = chp_arena_calloc(&matrix->arena, side, sizeof(bool));
    matrix->idempotent = chp_arena_calloc(&matrix->arena, side, sizeof(bool));
    for (size_t i = 1; i < side; i++) {
        matrix->establishes[i] = displaces_all(matrix, i);
    }
    for (size_t i = 0; i < type_count; i++) {
        unsigned type = chp_matrix_type(matrix, types[i].name);
        matrix->replaces[type] = replace_of[types[i].replace];
        if (types[i].replace != MATRIX__NOTHING) {
            matrix->establishes[type] = types[i].replace == MATRIX__TRUE;
        }
        matrix->idempotent[type] = types[i].idempotent == MATRIX__TRUE;
    }
    return matrix;
}

void chp_matrix_free(struct chp_matrix *matrix)
{
    if (matrix != NULL) {
        chp_arena_deinit(&matrix->arena);
        free(matrix);
    }
}

uint64_t chp_matrix_version(const struct chp_matrix *matrix)
{
    return matrix->version;
}

int chp_matrix_compare(const struct chp_matrix *a, const struct chp_matrix *b)
{
    if (a->version != b->version) {
        return a->version < b->version ? -1 : 1;
    }
    return memcmp(a->sha256.bytes, b->sha256.bytes, sizeof a->sha256.bytes);
}

unsigned chp_matrix_type(const struct chp_matrix *matrix, const char *type)
{
    const char *const *found =
        bsearch(&type, matrix->names, matrix->type_count, sizeof *matrix->names, compare_names);
    return found == NULL ? 0 : (unsigned)(found - (const char *const *)matrix->names) + 1;
}

enum chp_pair_rule chp_matrix_resolve_types(const struct chp_matrix *matrix, unsigned before,
                                            unsigned after)
{
    return (enum chp_pair_rule)(*cell(matrix, before, after) & RULE);
}

enum chp_pair_rule chp_matrix_resolve(const struct chp_matrix *matrix, const char *before,
                                      const char *after)
{
    return chp_matrix_resolve_types(matrix, chp_matrix_type(matrix, before),
                                    chp_matrix_type(matrix, after));
}

bool chp_matrix_assumes(const struct chp_matrix *matrix, const char *before, const char *after)
{
    return (*cell(matrix, chp_matrix_type(matrix, before), chp_matrix_type(matrix, after)) &
            ASSUMED) != 0;
}

unsigned chp_matrix_type_count(const struct chp_matrix *matrix)
{
    return (unsigned)matrix->type_count;
}

const char *chp_matrix_type_name(const struct chp_matrix *matrix, unsigned type)
{
    CHP_ASSERT(type >= 1 && type <= matrix->type_count);
    return matrix->names[type - 1];
}

enum chp_replace chp_matrix_replace(const struct chp_matrix *matrix, const char *type)
{
    return matrix->replaces[chp_matrix_type(matrix, type)];
}

bool chp_matrix_establishes(const struct chp_matrix *matrix, const char *type)
{
    return matrix->establishes[chp_matrix_type(matrix, type)];
}

bool chp_matrix_idempotent(const struct chp_matrix *matrix, const char *type)
{
    return matrix->idempotent[chp_matrix_type(matrix, type)];
}
