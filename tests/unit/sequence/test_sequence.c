/* SPDX-License-Identifier: AGPL-3.0-only */
/* The sequence against a plain implementation of the rules on histories too long for pairs by hand;
 * the published cases; what is refused; voids. */
#include "history.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_verdict(const struct history *history, const bool *in,
                           struct chp_sequence *sequence)
{
    struct verdict verdict;
    size_t left_out_count = 0;
    history_judge(history, in, &verdict);
    assert_int_equal(chp_sequence_count(sequence), verdict.count);
    for (unsigned i = 0; i < verdict.count; i++) {
        assert_int_equal(history_find(history, chp_sequence_at(sequence, i)), verdict.sequence[i]);
    }
    for (unsigned i = 0; i < history->count; i++) {
        struct chp_fate fate;
        const struct history_operation *operation = &history->operations[i];
        assert_int_equal(chp_sequence_fate(sequence, &operation->id, &fate), in[i]);
        if (!in[i] || operation->is_void) {
            continue;
        }
        assert_int_equal(fate.displaced == CHP_DISPLACED_NOT, verdict.by[i] == UINT32_MAX);
        if (fate.displaced != CHP_DISPLACED_NOT) {
            assert_int_equal(history_find(history, &fate.by), verdict.by[i]);
            assert_int_equal(fate.displaced == CHP_DISPLACED_PAST, verdict.past[i]);
        }
    }
    const struct chp_left_out *left_out = chp_sequence_left_out(sequence, &left_out_count);
    assert_int_equal(left_out_count, verdict.left_out_count);
    for (size_t i = 0; i < left_out_count; i++) {
        assert_int_equal(history_find(history, &left_out[i].first), verdict.left_out[i][0]);
        assert_int_equal(history_find(history, &left_out[i].second), verdict.left_out[i][1]);
    }
    verdict_free(&verdict);
}

static unsigned *shuffled(unsigned count, uint64_t *random)
{
    unsigned *order = chp_calloc(count, sizeof *order);
    for (unsigned i = 0; i < count; i++) {
        unsigned j = (unsigned)(history_random(random) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

/* In any order of arrival, at any time in between, with voids. */
static void play(uint64_t seed)
{
    struct history history;
    uint64_t random = seed * 2654435761U + 1;
    unsigned count = 10 + (unsigned)(history_random(&random) % 90);
    unsigned sites = 1 + (unsigned)(history_random(&random) % 6);
    history_make(&history, seed, sites, 1 + (unsigned)(history_random(&random) % 5), count);
    bool in_order = history_random(&random) % 2 == 0;
    history.brief = history_random(&random) % 2 == 0;
    unsigned *order = shuffled(count, &random);
    bool *in = chp_alloc(count);
    struct chp_sequence *sequence = chp_sequence_new();
    for (unsigned i = 0; i < count; i++) {
        unsigned next = in_order ? i : order[i];
        history_add(&history, next, sequence);
        in[next] = true;
        if (!history.brief && history_random(&random) % 20 == 0) {
            unsigned chosen = in_order ? (unsigned)(history_random(&random) % (i + 1)) : next;
            history.operations[chosen].is_void = true;
            assert_true(chp_sequence_void(sequence, &history.operations[chosen].id));
        }
        if ((in_order || !history.brief) && history_random(&random) % 8 == 0) {
            assert_verdict(&history, in, sequence);
        }
    }
    assert_int_equal(chp_sequence_known(sequence), count);
    assert_verdict(&history, in, sequence);
    chp_sequence_free(sequence);
    free(order);
    free(in);
    history_free(&history);
}

static void rules_hold_on_random_histories(void **state)
{
    (void)state;
    const char *seeds = getenv("CHEOPS_SEQUENCE_SEEDS");
    uint64_t count = seeds == NULL ? 400 : strtoull(seeds, NULL, 10);
    for (uint64_t seed = 1; seed <= count; seed++) {
        play(seed);
    }
}

/* ---- published cases ---- */

struct list {
    struct chp_sequence_operation operations[64];
    unsigned count;
};

static struct chp_matrix *matrix_of(json_t *rows)
{
    struct chp_matrix_row list[32];
    struct chp_matrix *matrix = NULL;
    struct chp_error error = {0};
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        list[i].before = json_string_value(json_array_get(row, 0));
        list[i].after = json_string_value(json_array_get(row, 1));
        for (int rule = 0; rule < 4; rule++) {
            const char *name = chp_pair_rule_name((enum chp_pair_rule)rule);
            if (strcmp(name, json_string_value(json_array_get(row, 2))) == 0) {
                list[i].rule = (enum chp_pair_rule)rule;
            }
        }
    }
    assert_int_equal(chp_matrix_of_rows(list, json_array_size(rows), 1, &matrix, &error), 0);
    return matrix;
}

/* Makes the operation type:name at origin, which has seen those in list from its own or before
 * shared. */
static void grow(struct list *list, const char *name, const char *origin, unsigned shared,
                 uint64_t stamp_ms, const struct chp_matrix *matrix, struct chp_arena *arena)
{
    struct chp_sequence *sequence = chp_sequence_new();
    struct chp_sequence_operation *made = &list->operations[list->count];
    struct chp_error error = {0};
    *made = (struct chp_sequence_operation){.dot = {origin, 1, 1}, .stamp = {stamp_ms, 0}};
    made->matrix = matrix;
    made->type = chp_arena_strndup(arena, name, strcspn(name, ":"));
    (void)snprintf((char *)made->id.bytes, CHP_UUID_BYTES, "%s", name);
    for (unsigned i = 0; i < list->count; i++) {
        const struct chp_dot *dot = &list->operations[i].dot;
        if (i < shared || strcmp(dot->origin, origin) == 0) {
            assert_int_equal(chp_sequence_add(sequence, &list->operations[i], &error), 0);
            chp_vector_set(&made->context, arena, dot->origin, 1, dot->n);
            made->dot.n = strcmp(dot->origin, origin) == 0 ? dot->n + 1 : made->dot.n;
        }
    }
    const struct chp_range *ranges;
    chp_sequence_displaces(sequence, made->type, matrix, arena, &ranges, &made->displaces_count);
    made->displaces = ranges;
    list->count++;
    chp_sequence_free(sequence);
}

/* Whether got is want, up to neighbours that commute: each pair that does not is in order. */
static void assert_commuting(struct chp_sequence *sequence, json_t *want,
                             const struct chp_matrix *matrix)
{
    size_t count = chp_sequence_count(sequence);
    size_t places[64];
    assert_int_equal(count, json_array_size(want));
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(want, i));
        places[i] = SIZE_MAX;
        for (size_t j = 0; j < count; j++) {
            if (strcmp((const char *)chp_sequence_at(sequence, j)->bytes, name) == 0) {
                places[i] = j;
            }
        }
        assert_int_not_equal(places[i], SIZE_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i + 1; j < count; j++) {
            struct chp_fate before;
            struct chp_fate after;
            assert_true(chp_sequence_fate(sequence, chp_sequence_at(sequence, places[j]), &before));
            assert_true(chp_sequence_fate(sequence, chp_sequence_at(sequence, places[i]), &after));
            assert_true(places[i] < places[j] ||
                        chp_matrix_resolve(matrix, before.type, after.type) ==
                            CHP_TAKE_BOTH_ANY_ORDER);
        }
    }
}

static void assert_list(const struct list *list, json_t *want, const struct chp_matrix *matrix)
{
    struct chp_sequence *sequence = chp_sequence_new();
    struct chp_error error = {0};
    for (unsigned i = 0; i < list->count; i++) {
        assert_int_equal(chp_sequence_add(sequence, &list->operations[i], &error), 0);
    }
    assert_commuting(sequence, want, matrix);
    chp_sequence_free(sequence);
}

static const char *item(json_t *list, size_t i)
{
    return json_string_value(json_array_get(list, i));
}

static void append_case(json_t *one, const struct chp_matrix *matrix)
{
    struct chp_arena arena = {0};
    struct list list = {.count = 0};
    json_t *have = json_object_get(one, "have");
    for (size_t i = 0; i < json_array_size(have); i++) {
        grow(&list, item(have, i), "A", list.count, 2 * (i + 1), matrix, &arena);
    }
    grow(&list, json_string_value(json_object_get(one, "new")), "A", list.count, 1000, matrix,
         &arena);
    assert_list(&list, json_object_get(one, "want"), matrix);
    chp_arena_deinit(&arena);
}

static void merge_case(json_t *one, const struct chp_matrix *matrix, uint64_t start)
{
    struct chp_arena arena = {0};
    struct list list = {.count = 0};
    json_t *winner = json_object_get(one, "winner");
    json_t *other = json_object_get(one, "other");
    unsigned shared = 0;
    while (shared < json_array_size(winner) && shared < json_array_size(other) &&
           strcmp(item(winner, shared), item(other, shared)) == 0) {
        grow(&list, item(winner, shared), "A", shared, 2 * (shared + 1), matrix, &arena);
        shared++;
    }
    for (size_t i = shared; i < json_array_size(winner); i++) {
        grow(&list, item(winner, i), "A", shared, start + 2 * i, matrix, &arena);
    }
    for (size_t i = shared; i < json_array_size(other); i++) {
        grow(&list, item(other, i), "B", shared, 12 + 2 * i, matrix, &arena);
    }
    assert_list(&list, json_object_get(one, "want"), matrix);
    chp_arena_deinit(&arena);
}

static void published_cases_hold(void **state)
{
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(CASES, 0, &error);
    json_t *matrices = json_object_get(root, "matrices");
    size_t i;
    json_t *one;
    size_t count = 0;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "append"), i, one)
    {
        const char *name = json_string_value(json_object_get(one, "matrix"));
        struct chp_matrix *matrix =
            matrix_of(name == NULL ? NULL : json_object_get(matrices, name));
        append_case(one, matrix);
        chp_matrix_free(matrix);
        count++;
    }
    json_array_foreach(json_object_get(root, "merge"), i, one)
    {
        const char *name = json_string_value(json_object_get(one, "matrix"));
        struct chp_matrix *matrix =
            matrix_of(name == NULL ? NULL : json_object_get(matrices, name));
        merge_case(one, matrix, 101); /* all later */
        merge_case(one, matrix, 13);  /* interleaved */
        chp_matrix_free(matrix);
        count++;
    }
    assert_int_equal(count, 11); /* as many as are published */
    json_decref(root);
}

/* ---- refusals ---- */

static void impossible_operations_are_refused(void **state)
{
    (void)state;
    struct chp_sequence *sequence = chp_sequence_new();
    struct chp_matrix *matrix = matrix_of(NULL);
    struct chp_error error = {0};
    struct chp_dot seen = {"A", 1, 1};
    struct chp_sequence_operation first = {
        .id = {"first"}, .dot = {"A", 1, 1}, .stamp = {10, 0}, .type = "t", .matrix = matrix};
    struct chp_sequence_operation same_dot = first;
    struct chp_sequence_operation early = {.id = {"early"},
                                           .dot = {"B", 1, 1},
                                           .stamp = {10, 0},
                                           .type = "t",
                                           .matrix = matrix,
                                           .context = {&seen, 1}};
    struct chp_sequence_operation late = early;
    same_dot.id.bytes[0] = 'F';
    late.id.bytes[0] = 'l';
    late.stamp.counter = 1;
    assert_int_equal(chp_sequence_add(sequence, &first, &error), 0);
    assert_int_equal(chp_sequence_add(sequence, &first, &error), 0);
    assert_int_equal(chp_sequence_add(sequence, &same_dot, &error), CHP_EINVAL);
    assert_string_equal(error.text, "its dot is that of another operation");
    assert_int_equal(chp_sequence_add(sequence, &early, &error), CHP_EINVAL);
    assert_string_equal(error.text, "its stamp is not above those of its causes");
    assert_int_equal(chp_sequence_known(sequence), 1);
    assert_int_equal(chp_sequence_add(sequence, &late, &error), 0);
    assert_int_equal(chp_sequence_count(sequence), 2);
    chp_sequence_free(sequence);

    sequence = chp_sequence_new(); /* the effect came first */
    first.stamp = late.stamp;
    assert_int_equal(chp_sequence_add(sequence, &late, &error), 0);
    assert_int_equal(chp_sequence_add(sequence, &first, &error), CHP_EINVAL);
    chp_sequence_free(sequence);
    chp_matrix_free(matrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_hold_on_random_histories),
        cmocka_unit_test(published_cases_hold),
        cmocka_unit_test(impossible_operations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
