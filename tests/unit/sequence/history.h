/* SPDX-License-Identifier: AGPL-3.0-only */
/* Histories for tests of the sequence: operations with what they have seen, and what a plain
 * implementation of the rules makes of them. */
#ifndef CHEOPS_TESTS_SEQUENCE_HISTORY_H
#define CHEOPS_TESTS_SEQUENCE_HISTORY_H

#include "sequence/sequence.h"

#include <jansson.h>

enum { SITES_MAX = 8, TYPES_MAX = 8, OPERATIONS_MAX = 4096 };

struct history_operation {
    struct chp_uuid id;
    unsigned site;
    uint64_t n;
    uint64_t stamp_ms;
    unsigned type;
    uint64_t seen[SITES_MAX];
    uint64_t *displaced; /* all of its past that is not in its sequence, 64 in each word */
    uint64_t *brief;     /* without what others of its past have displaced */
    bool is_void;
};

struct history {
    bool brief; /* for history_add: which of the two */
    unsigned count;
    unsigned type_count;
    const char *types[TYPES_MAX];
    enum chp_pair_rule table[TYPES_MAX][TYPES_MAX]; /* before, after */
    struct chp_matrix *matrix;
    struct history_operation *operations; /* in the order in which they were made */
    struct chp_arena arena;
};

/* What the rules make of a history. */
struct verdict {
    unsigned *sequence; /* operations */
    unsigned count;
    unsigned *by; /* by operation: who displaced it, UINT_MAX: nobody */
    bool *past;   /* by rule 1 */
    unsigned (*left_out)[2];
    unsigned left_out_count;
};

/* Makes a history of count operations on sites that now and then learn what another one knows. */
void history_make(struct history *history, uint64_t seed, unsigned sites, unsigned types,
                  unsigned count);
/* The same for an application: its types and the rows of its matrix. */
void history_make_for(struct history *history, uint64_t seed, unsigned sites,
                      const char *const *types, unsigned type_count,
                      const struct chp_matrix_row *rows, size_t row_count, unsigned count);
/* Operations of these types, one after the other, each made at its site, which has seen its own. */
void history_make_as(struct history *history, const char *const *types, unsigned type_count,
                     const struct chp_matrix_row *rows, size_t row_count,
                     const unsigned *operation_types, const unsigned *sites, unsigned count);
/* Reads one as JSON (matrix, operations); false when it is not one. */
bool history_read(struct history *history, json_t *root);
void history_free(struct history *history);

/* Adds an operation to a sequence; fails the program when it is refused. */
void history_add(const struct history *history, unsigned operation, struct chp_sequence *sequence);
/* The operation with this id. */
unsigned history_find(const struct history *history, const struct chp_uuid *id);

/* By pairs, as the design has it: quadratic and more. Only of the operations that are in. */
void history_judge(const struct history *history, const bool *in, struct verdict *verdict);
void verdict_free(struct verdict *verdict);

uint64_t history_random(uint64_t *state);

#endif
