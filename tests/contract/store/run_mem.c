/* SPDX-License-Identifier: AGPL-3.0-only */
/* The suite against the twin, and what its knobs do. */
#include "suite.h"

#include "base/mem.h"
#include "store/mem_store.h"

#include <stdlib.h>

static void turn(struct suite *suite)
{
    (void)chp_mem_store_run(suite->store);
}

int suite_setup(void **state)
{
    struct suite *suite = chp_alloc(sizeof *suite);
    struct chp_store_callbacks callbacks = suite_callbacks(suite);
    suite->turn = turn;
    suite->store = chp_mem_store_new(&callbacks);
    turn(suite);
    assert_int_equal(suite->ups, 1);
    *state = suite;
    return 0;
}

int suite_teardown(void **state)
{
    struct suite *suite = *state;
    chp_store_free(suite->store);
    chp_arena_deinit(&suite->arena);
    free(suite);
    return 0;
}

/* applied decides whether a batch whose outcome is unknown was committed. */
static void down_with_batch(struct suite *suite, bool applied)
{
    struct commit *commit = suite_batch(suite);
    suite_self(commit, "Nantes", applied ? 2 : 1);
    chp_store_submit(suite->store, &commit->batch);
    chp_mem_store_set_up(suite->store, false, applied);
    assert_false(chp_store_up(suite->store));
    turn(suite);
    assert_true(commit->done);
    assert_int_equal(commit->code, CHP_EUNAVAILABLE);
    suite_release(commit);
    commit = suite_batch(suite);
    suite_self(commit, "Nantes", 9);
    assert_int_equal(suite_commit(suite, commit), CHP_EUNAVAILABLE);
    suite_release(commit);
    json_t *json;
    assert_int_equal(suite_ask(suite, CHP_QUERY_STATUS, &json, NULL, NULL, NULL, NULL),
                     CHP_EUNAVAILABLE);
    chp_mem_store_set_up(suite->store, true, false);
    turn(suite);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->found, applied);
    suite_release(commit);
}

static void going_down_leaves_the_outcome_to_the_test(void **state)
{
    struct suite *suite = *state;
    down_with_batch(suite, false);
    down_with_batch(suite, true);
    assert_int_equal(suite->ups, 3);
    assert_int_equal(suite->downs, 2);
}

static void a_snapshot_does_not_follow(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    struct chp_store *snapshot = chp_mem_store_snapshot(suite->store);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2});
    (void)suite_execution(commit, 1, "Nantes", 1, CHP_STATE_DONE);
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 5;
    suite_commit_ok(suite, commit);
    chp_store_free(suite->store);
    suite->store = snapshot;
    chp_mem_store_set_database(snapshot, "2/2");
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(suite->ups, 2);
    assert_string_equal(load->start.site, "Nantes");
    assert_string_equal(load->start.database, "2/2");
    assert_int_equal(load->start.serial, 0);
    assert_int_equal(load->start.received_last, 1);
    suite_release(commit);
    struct chp_load asked = {.resource = "web", .limit = 5};
    load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_int_equal(load->resource_result.history_count, 1);
    suite_release(commit);
}

static void refused(struct suite *suite, struct commit *commit)
{
    assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
    suite_release(commit);
}

/* The real store trusts its one writer, whose tests run on the twin. */
static void what_refers_to_nothing_is_refused(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    (void)suite_execution(commit, 50, "Nantes", 1, CHP_STATE_DONE);
    refused(suite, commit);
    commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 1, 50, NULL);
    refused(suite, commit);
    commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.resource = "nowhere", .n = 9});
    refused(suite, commit);
    commit = suite_batch(suite);
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_LISTENER);
    write->listener.operation = suite_uuid(50);
    write->listener.place = 1;
    write->listener.to.reply_to = "of none";
    write->listener.to.correlation_id = "";
    refused(suite, commit);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

int main(void)
{
    const struct CMUnitTest own[] = {TEST(going_down_leaves_the_outcome_to_the_test),
                                     TEST(a_snapshot_does_not_follow),
                                     TEST(what_refers_to_nothing_is_refused)};
    int failed = cmocka_run_group_tests_name("twin", own, NULL, NULL);
    failed += _cmocka_run_group_tests("store", suite_tests, suite_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("answers", suite_answer_tests, suite_answer_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("history", suite_history_tests, suite_history_test_count,
                                      NULL, NULL);
    failed += _cmocka_run_group_tests("lives", suite_life_tests, suite_life_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("replies", suite_reply_tests, suite_reply_test_count, NULL, NULL);
    failed +=
        _cmocka_run_group_tests("forget", suite_forget_tests, suite_forget_test_count, NULL, NULL);
    return failed;
}
