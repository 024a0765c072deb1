/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * How long the sequence and the plan take, by matrix: microseconds for one operation in a sequence
 * of 10,000 that has seen all, for one that is concurrent with the last 1,000, and for two lists of
 * 1,000 that are concurrent, from nothing to sequence and to plan.
 *
 *     sequence_speed
 */
#include "base/clock.h"
#include "base/mem.h"
#include "sequence/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 10000, CONCURRENT = 1000, REPEATS = 200, TURNS = 5 };

struct workload {
    const char *name;
    const char *types[4];
    unsigned type_count;
    struct chp_matrix_row rows[4];
    size_t row_count;
};

static const struct workload workloads[] = {
    {"nothing listed", {"inc", "dec"}, 2, {{0}}, 0},
    {"set, add (keep)",
     {"add", "add", "add", "set"},
     4,
     {{"set", "add", CHP_TAKE_BOTH_KEEP_ORDER},
      {"set", "set", CHP_TAKE_ONE},
      {"add", "add", CHP_TAKE_BOTH_KEEP_ORDER}},
     3},
    {"two fields",
     {"setx", "sety"},
     2,
     {{"setx", "setx", CHP_TAKE_ONE}, {"sety", "sety", CHP_TAKE_ONE}},
     2},
    {"all of a before b", {"a", "b"}, 2, {{"a", "b", CHP_TAKE_BOTH_KEEP_ORDER}}, 1},
};

struct making {
    const struct workload *workload;
    struct chp_matrix *matrix;
    struct chp_arena arena;
    unsigned made;
};

static const struct chp_range *displaced_by(struct making *making, struct chp_sequence *sequence,
                                            const char *type, size_t *count)
{
    const struct chp_range *ranges;
    chp_sequence_displaces(sequence, type, making->matrix, &making->arena, &ranges, count);
    return ranges;
}

/* The n-th of origin, after those of A up to seen; added to its origin's sequence and returned. */
static struct chp_sequence_operation make(struct making *making, struct chp_sequence *at,
                                          const char *origin, uint64_t n, uint64_t seen)
{
    struct chp_sequence_operation made = {.dot = {origin, 1, n},
                                          .stamp = {2 * (seen + n) + (*origin == 'B'), 0},
                                          .matrix = making->matrix};
    struct chp_error error;
    made.type = making->workload->types[making->made++ % making->workload->type_count];
    made.id = chp_uuid_new();
    if (seen > 0) {
        chp_vector_set(&made.context, &making->arena, "A", 1, seen);
    }
    if (n > 1) {
        chp_vector_set(&made.context, &making->arena, origin, 1, n - 1);
    }
    made.displaces = displaced_by(making, at, made.type, &made.displaces_count);
    CHP_ASSERT(chp_sequence_add(at, &made, &error) == 0);
    return made;
}

static struct chp_sequence *grow(struct making *making, struct chp_sequence_operation *list,
                                 const char *origin, unsigned count)
{
    struct chp_sequence *sequence = chp_sequence_new();
    for (unsigned i = 0; i < count; i++) {
        list[i] = make(making, sequence, origin, i + 1, 0);
    }
    (void)chp_sequence_count(sequence);
    return sequence;
}

static void add(struct chp_sequence *sequence, const struct chp_sequence_operation *operation)
{
    struct chp_error error;
    CHP_ASSERT(chp_sequence_add(sequence, operation, &error) == 0);
}

/* Of one that has seen all: to make it, and to add it elsewhere. */
static void time_seen_all(struct making *making)
{
    struct chp_sequence_operation *list = chp_calloc(LENGTH + REPEATS, sizeof *list);
    struct chp_sequence *sequence = grow(making, list, "A", LENGTH);
    struct chp_sequence *other = chp_sequence_new();
    uint64_t making_us = 0;
    uint64_t adding_us = 0;
    for (unsigned i = 0; i < LENGTH; i++) {
        add(other, &list[i]);
    }
    (void)chp_sequence_count(other);
    for (unsigned i = LENGTH; i < LENGTH + REPEATS; i++) {
        uint64_t before_us = chp_clock_mono_us();
        list[i] = make(making, sequence, "A", i + 1, 0);
        (void)chp_sequence_count(sequence);
        uint64_t between_us = chp_clock_mono_us();
        add(other, &list[i]);
        (void)chp_sequence_count(other);
        adding_us += chp_clock_mono_us() - between_us;
        making_us += between_us - before_us;
    }
    (void)printf("  one that has seen all %u: made in %.1f us, added in %.1f us\n", LENGTH,
                 (double)making_us / REPEATS, (double)adding_us / REPEATS);
    chp_sequence_free(sequence);
    chp_sequence_free(other);
    free(list);
}

static void time_concurrent(struct making *making)
{
    struct chp_sequence_operation *list = chp_calloc(LENGTH, sizeof *list);
    uint64_t best_us = UINT64_MAX;
    for (int turn = 0; turn < TURNS; turn++) {
        struct chp_sequence *sequence = grow(making, list, "A", LENGTH);
        struct chp_sequence *there = chp_sequence_new();
        for (unsigned i = 0; i < LENGTH - CONCURRENT; i++) {
            add(there, &list[i]);
        }
        struct chp_sequence_operation made = make(making, there, "B", 1, LENGTH - CONCURRENT);
        uint64_t before_us = chp_clock_mono_us();
        add(sequence, &made);
        (void)chp_sequence_count(sequence);
        uint64_t took_us = chp_clock_mono_us() - before_us;
        best_us = took_us < best_us ? took_us : best_us;
        chp_sequence_free(sequence);
        chp_sequence_free(there);
    }
    (void)printf("  one that is concurrent with the last %u: added in %llu us\n", CONCURRENT,
                 (unsigned long long)best_us);
    free(list);
}

static void time_lists(struct making *making)
{
    struct chp_sequence_operation *a = chp_calloc(CONCURRENT, sizeof *a);
    struct chp_sequence_operation *b = chp_calloc(CONCURRENT, sizeof *b);
    struct chp_ran *ran = chp_calloc(CONCURRENT, sizeof *ran);
    uint64_t best_us = UINT64_MAX;
    uint64_t best_plan_us = UINT64_MAX;
    struct chp_plan plan;
    chp_sequence_free(grow(making, a, "A", CONCURRENT));
    chp_sequence_free(grow(making, b, "B", CONCURRENT));
    for (unsigned i = 0; i < CONCURRENT; i++) {
        ran[i].operation = b[i].id;
    }
    for (int turn = 0; turn < TURNS; turn++) {
        uint64_t before_us = chp_clock_mono_us();
        struct chp_sequence *sequence = chp_sequence_new();
        for (unsigned i = 0; i < CONCURRENT; i++) {
            add(sequence, &a[i]);
            add(sequence, &b[i]);
        }
        (void)chp_sequence_count(sequence);
        uint64_t between_us = chp_clock_mono_us();
        chp_plan_make(sequence, ran, CONCURRENT, NULL, 0, &making->arena, &plan);
        uint64_t plan_us = chp_clock_mono_us() - between_us;
        best_us = between_us - before_us < best_us ? between_us - before_us : best_us;
        best_plan_us = plan_us < best_plan_us ? plan_us : best_plan_us;
        chp_sequence_free(sequence);
    }
    (void)printf("  two lists of %u: sequence in %llu us, plan in %llu us (%zu run)\n", CONCURRENT,
                 (unsigned long long)best_us, (unsigned long long)best_plan_us, plan.run_count);
    free(a);
    free(b);
    free(ran);
}

int main(void)
{
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        struct making making = {.workload = &workloads[i]};
        struct chp_error error = {0};
        CHP_ASSERT(chp_matrix_of_rows(workloads[i].rows, workloads[i].row_count, 1, &making.matrix,
                                      &error) == 0);
        (void)printf("%s\n", workloads[i].name);
        time_seen_all(&making);
        time_concurrent(&making);
        time_lists(&making);
        chp_arena_deinit(&making.arena);
        chp_matrix_free(making.matrix);
    }
    return 0;
}
