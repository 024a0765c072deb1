/* SPDX-License-Identifier: AGPL-3.0-only */
/* The plan: the published cases, one of each kind, and model applications whose state after the
 * plan must be that of the whole sequence run from empty, whatever came in which order. */
#include "history.h"

#include "base/mem.h"
#include "sequence/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LIST_MAX = 128 };

/* ---- model applications ---- */

struct state {
    unsigned base; /* who set the value, operation + 1 */
    int sum;       /* since then */
    unsigned label;
    unsigned x;
    unsigned y;
    unsigned list[LIST_MAX]; /* what was appended since it was set */
    unsigned length;
};

struct application {
    const char *name;
    unsigned type_count;
    const char *types[4];
    struct chp_matrix_row rows[8];
    size_t row_count;
};

/* One run, with what is needed to take it back. */
struct run {
    unsigned operation;
    struct state before;
};

static const struct application applications[] = {
    {"map",
     2,
     {"setx", "sety"},
     {{"setx", "setx", CHP_TAKE_ONE}, {"sety", "sety", CHP_TAKE_ONE}},
     2},
    {"counter",
     3,
     {"set", "inc", "dec"},
     {{"set", "inc", CHP_TAKE_BOTH_KEEP_ORDER},
      {"set", "dec", CHP_TAKE_BOTH_KEEP_ORDER},
      {"set", "set", CHP_TAKE_ONE}},
     3},
    {"labelled",
     3,
     {"set", "inc", "label"},
     {{"set", "inc", CHP_TAKE_BOTH_KEEP_ORDER},
      {"set", "set", CHP_TAKE_ONE},
      {"label", "label", CHP_TAKE_ONE}},
     3},
    {"log",
     2,
     {"set", "add"},
     {{"set", "set", CHP_TAKE_ONE},
      {"set", "add", CHP_TAKE_BOTH_KEEP_ORDER},
      {"add", "add", CHP_TAKE_BOTH_KEEP_ORDER}},
     3},
    {"appended", 1, {"add"}, {{"add", "add", CHP_TAKE_BOTH_KEEP_ORDER}}, 1},
};
enum { APPLICATIONS = sizeof applications / sizeof applications[0] };

static void apply(struct state *state, const char *type, unsigned operation)
{
    if (strcmp(type, "set") == 0) {
        state->base = operation + 1;
        state->sum = 0;
        state->length = 0;
    } else if (strcmp(type, "inc") == 0) {
        state->sum++;
    } else if (strcmp(type, "dec") == 0) {
        state->sum--;
    } else if (strcmp(type, "label") == 0) {
        state->label = operation + 1;
    } else if (strcmp(type, "setx") == 0) {
        state->x = operation + 1;
    } else if (strcmp(type, "sety") == 0) {
        state->y = operation + 1;
    } else {
        assert_true(state->length < LIST_MAX);
        state->list[state->length++] = operation + 1;
    }
}

/* Only what the operation itself changed. */
static void take_back(struct state *state, const char *type, const struct run *run)
{
    if (strcmp(type, "set") == 0) {
        state->base = run->before.base;
        state->sum = run->before.sum;
        state->length = run->before.length;
        memcpy(state->list, run->before.list, sizeof state->list);
    } else if (strcmp(type, "inc") == 0) {
        state->sum--;
    } else if (strcmp(type, "dec") == 0) {
        state->sum++;
    } else if (strcmp(type, "label") == 0) {
        state->label = run->before.label;
    } else if (strcmp(type, "setx") == 0) {
        state->x = run->before.x;
    } else if (strcmp(type, "sety") == 0) {
        state->y = run->before.y;
    } else {
        assert_true(state->length > 0);
        assert_int_equal(state->list[state->length - 1], run->operation + 1);
        state->length--;
    }
}

static void assert_same_state(const struct state *a, const struct state *b)
{
    assert_int_equal(a->base, b->base);
    assert_int_equal(a->sum, b->sum);
    assert_int_equal(a->label, b->label);
    assert_int_equal(a->x, b->x);
    assert_int_equal(a->y, b->y);
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->list, b->list, a->length * sizeof a->list[0]);
}

/* ---- a site that follows its plans ---- */

struct site {
    const struct history *history;
    struct chp_sequence *sequence;
    bool has_undo;
    struct state state;
    struct run *runs;
    size_t count;
    unsigned kinds[CHP_PLAN_DIVERGED + 1];
};

static const char *type_of(const struct site *site, unsigned operation)
{
    return site->history->types[site->history->operations[operation].type];
}

static void run_one(struct site *site, unsigned operation)
{
    assert_true(site->count < 4096);
    site->runs[site->count++] = (struct run){operation, site->state};
    apply(&site->state, type_of(site, operation), operation);
}

static void undo_one(struct site *site, unsigned operation)
{
    size_t at = site->count;
    while (at > 0 && site->runs[at - 1].operation != operation) {
        at--;
    }
    assert_true(at > 0);
    take_back(&site->state, type_of(site, operation), &site->runs[at - 1]);
    memmove(&site->runs[at - 1], &site->runs[at], (site->count - at) * sizeof *site->runs);
    site->count--;
}

static void make_plan(const struct site *site, struct chp_arena *arena, struct chp_plan *plan)
{
    struct chp_ran *ran = chp_arena_calloc(arena, site->count, sizeof *ran);
    for (size_t i = 0; i < site->count; i++) {
        ran[i].operation = site->history->operations[site->runs[i].operation].id;
        ran[i].has_undo = site->has_undo;
    }
    chp_plan_make(site->sequence, ran, site->count, NULL, 0, arena, plan);
}

/* Follows the plan; the state is then that of the sequence, and there is nothing left to do. */
static void converge(struct site *site)
{
    struct chp_arena arena = {0};
    struct chp_plan plan;
    struct state wanted = {0};
    make_plan(site, &arena, &plan);
    site->kinds[plan.kind]++;
    if (plan.kind == CHP_PLAN_DIVERGED) {
        assert_false(site->has_undo);
        assert_non_null(plan.reason);
        site->state = (struct state){0}; /* as a person rebuilds it */
        site->count = 0;
        make_plan(site, &arena, &plan);
        assert_true(plan.kind == CHP_PLAN_APPEND || plan.kind == CHP_PLAN_NOTHING);
    }
    for (size_t i = 0; i < plan.undo_count; i++) {
        undo_one(site, history_find(site->history, &plan.undo[i]));
    }
    for (size_t i = 0; i < plan.run_count; i++) {
        run_one(site, history_find(site->history, &plan.run[i]));
    }
    for (size_t i = 0; i < chp_sequence_count(site->sequence); i++) {
        unsigned operation = history_find(site->history, chp_sequence_at(site->sequence, i));
        apply(&wanted, type_of(site, operation), operation);
    }
    assert_same_state(&site->state, &wanted);
    make_plan(site, &arena, &plan);
    assert_int_equal(plan.kind, CHP_PLAN_NOTHING);
    chp_arena_deinit(&arena);
}

/* All of a history in the order in which it was made, or shuffled, planned now and then. */
static void follow(struct site *site, bool shuffle, uint64_t *random)
{
    unsigned count = site->history->count;
    unsigned *order = chp_calloc(count, sizeof *order);
    for (unsigned i = 0; i < count; i++) {
        unsigned j = shuffle ? (unsigned)(history_random(random) % (i + 1)) : i;
        order[i] = order[j];
        order[j] = i;
    }
    for (unsigned i = 0; i < count; i++) {
        history_add(site->history, order[i], site->sequence);
        if (history_random(random) % 3 != 0) {
            converge(site);
        }
    }
    converge(site);
    free(order);
}

static void states_follow_the_sequence(void **state)
{
    (void)state;
    unsigned kinds[2][APPLICATIONS][CHP_PLAN_DIVERGED + 1] = {{{0}}};
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        uint64_t random = seed * 0x9e3779b97f4a7c15U;
        const struct application *application = &applications[seed % APPLICATIONS];
        struct history history;
        history_make_for(&history, seed, 1 + (unsigned)(seed / 7 % 4), application->types,
                         application->type_count, application->rows, application->row_count,
                         2 + (unsigned)(history_random(&random) % 24));
        struct site site = {.history = &history,
                            .sequence = chp_sequence_new(),
                            .has_undo = history_random(&random) % 2 == 0,
                            .runs = chp_calloc(4096, sizeof(struct run))};
        bool shuffle = history_random(&random) % 2 == 0;
        follow(&site, shuffle, &random);
        for (int kind = 0; kind <= CHP_PLAN_DIVERGED; kind++) {
            kinds[shuffle][seed % APPLICATIONS][kind] += site.kinds[kind];
        }
        free(site.runs);
        chp_sequence_free(site.sequence);
        history_free(&history);
    }
    for (int i = 0; i < 2 * APPLICATIONS; i++) {
        const unsigned *of = kinds[i / APPLICATIONS][i % APPLICATIONS];
        print_message("%s%s: nothing %u, append %u, replay %u, compensate %u, diverged %u\n",
                      applications[i % APPLICATIONS].name,
                      i < APPLICATIONS ? "" : ", causes missing", of[0], of[1], of[2], of[3],
                      of[4]);
    }
    /* With causes first, what a later one of the same type replaces needs no more than that; what
     * nothing ever sets anew needs undo, or a person. */
    assert_int_equal(kinds[0][0][CHP_PLAN_REPLAY] + kinds[0][0][CHP_PLAN_COMPENSATE], 0);
    assert_int_equal(kinds[0][1][CHP_PLAN_COMPENSATE] + kinds[0][1][CHP_PLAN_DIVERGED], 0);
    assert_true(kinds[0][1][CHP_PLAN_REPLAY] > 0);
    assert_true(kinds[0][4][CHP_PLAN_COMPENSATE] > 0);
    assert_true(kinds[0][4][CHP_PLAN_DIVERGED] > 0);
}

/* ---- published cases, and one of each kind ---- */

struct plan_case {
    const char *application; /* of those above */
    const char *sequence;    /* types, made one after the other on one site, '|': by another, which
                                has seen none of them */
    const char *ran;         /* places in what was made, from 0 */
    bool has_undo;
    enum chp_plan_kind kind;
    const char *undo;
    const char *run;
    bool order_assumed;
};

static const struct plan_case cases[] = {
    {"counter", "set inc inc", "012", false, CHP_PLAN_NOTHING, "", "", false},
    {"counter", "set inc inc", "", false, CHP_PLAN_APPEND, "", "012", false},
    {"counter", "set inc inc", "01", false, CHP_PLAN_APPEND, "", "2", false},
    {"counter", "set inc inc", "02", false, CHP_PLAN_APPEND, "", "1", true},
    {"counter", "inc inc inc", "12", false, CHP_PLAN_APPEND, "", "0", true},
    {"counter", "set inc set", "012", false, CHP_PLAN_NOTHING, "", "", false},
    {"counter", "set inc set", "01", false, CHP_PLAN_APPEND, "", "2", false},
    {"counter", "set inc inc", "12", false, CHP_PLAN_REPLAY, "", "012", false},
    {"counter", "inc|set", "0", false, CHP_PLAN_REPLAY, "", "10", false},
    {"counter", "inc|set", "1", false, CHP_PLAN_APPEND, "", "0", false},
    {"labelled", "inc label|set", "01", false, CHP_PLAN_REPLAY, "", "20", true},
    {"appended", "add add add", "02", true, CHP_PLAN_COMPENSATE, "2", "12", false},
    {"appended", "add add add", "02", false, CHP_PLAN_DIVERGED, "", "", false},
    {"appended", "add add add", "021", true, CHP_PLAN_COMPENSATE, "12", "12", false},
    {"log", "set add add", "021", false, CHP_PLAN_REPLAY, "", "012", false},
};

static void make_case(struct history *history, const struct plan_case *one)
{
    const struct application *application = NULL;
    unsigned types[8];
    unsigned sites[8];
    unsigned count = 0;
    unsigned site = 0;
    for (int i = 0; i < APPLICATIONS; i++) {
        application =
            strcmp(applications[i].name, one->application) == 0 ? &applications[i] : application;
    }
    for (const char *at = one->sequence; *at != 0;) {
        size_t len = strcspn(at, " |");
        for (unsigned t = 0; t < application->type_count; t++) {
            if (strlen(application->types[t]) == len &&
                strncmp(application->types[t], at, len) == 0) {
                types[count] = t;
            }
        }
        sites[count++] = site;
        site += at[len] == '|';
        at += len + (at[len] != 0);
    }
    history_make_as(history, application->types, application->type_count, application->rows,
                    application->row_count, types, sites, count);
}

static void assert_ids(const struct history *history, const struct chp_uuid *ids, size_t count,
                       const char *expected)
{
    char got[16] = "";
    for (size_t i = 0; i < count; i++) {
        got[i] = (char)('0' + history_find(history, &ids[i]));
    }
    assert_string_equal(got, expected);
}

static void each_case_has_its_plan(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct plan_case *one = &cases[i];
        struct history history;
        struct chp_arena arena = {0};
        struct chp_plan plan;
        struct chp_ran ran[8];
        size_t count = strlen(one->ran);
        make_case(&history, one);
        struct chp_sequence *sequence = chp_sequence_new();
        for (unsigned j = 0; j < history.count; j++) {
            history_add(&history, j, sequence);
        }
        for (size_t j = 0; j < count; j++) {
            ran[j] = (struct chp_ran){history.operations[one->ran[j] - '0'].id, one->has_undo};
        }
        print_message("%s: %s, ran %s\n", one->application, one->sequence, one->ran);
        chp_plan_make(sequence, ran, count, NULL, 0, &arena, &plan);
        assert_int_equal(plan.kind, one->kind);
        assert_ids(&history, plan.undo, plan.undo_count, one->undo);
        assert_ids(&history, plan.run, plan.run_count, one->run);
        assert_int_equal(plan.order_assumed, one->order_assumed);
        chp_sequence_free(sequence);
        chp_arena_deinit(&arena);
        history_free(&history);
    }
}

/* An origin that nobody disturbs only ever appends: what it displaces is wiped by what it runs. */
static void alone_everything_is_appended(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        const struct application *application = &applications[seed % APPLICATIONS];
        struct history history;
        history_make_for(&history, seed, 1, application->types, application->type_count,
                         application->rows, application->row_count, 30);
        struct site site = {.history = &history,
                            .sequence = chp_sequence_new(),
                            .runs = chp_calloc(4096, sizeof(struct run))};
        for (unsigned i = 0; i < history.count; i++) {
            history_add(&history, i, site.sequence);
            converge(&site);
        }
        assert_int_equal(site.kinds[CHP_PLAN_APPEND], history.count);
        assert_int_equal(site.count, history.count);
        free(site.runs);
        chp_sequence_free(site.sequence);
        history_free(&history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_has_its_plan),
        cmocka_unit_test(states_follow_the_sequence),
        cmocka_unit_test(alone_everything_is_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
