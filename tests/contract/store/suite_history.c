/* SPDX-License-Identifier: AGPL-3.0-only */
/* What is read of a resource of level eventual: all its operations, and what became of them here.
 */
#include "suite.h"

static void a_history_comes_whole(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .stamp_ms = 30, .id = 1});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2, .stamp_ms = 20, .id = 2});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 3, .stamp_ms = 10, .id = 3});
    struct chp_execution_row *done = suite_execution(commit, 1, "Nantes", 2, CHP_STATE_DONE);
    done->effect = 7;
    suite_execution(commit, 2, "Nantes", 1, CHP_STATE_RUNNING)->undoing = true;
    (void)suite_execution(commit, 3, "Paris", 1, CHP_STATE_DONE);
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "web", .limit = 1};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    const struct chp_history_row *rows = load->resource_result.history;
    assert_int_equal(load->resource_result.history_count, 3);
    assert_int_equal(rows[0].operation->id.bytes[15], 1);
    assert_true(rows[0].executes && rows[0].state == CHP_STATE_DONE && rows[0].run == 2);
    assert_int_equal(rows[0].effect, 7);
    assert_false(rows[0].undoing);
    assert_true(rows[1].undoing && rows[1].state == CHP_STATE_RUNNING && rows[1].effect == 0);
    assert_false(rows[2].executes);
    assert_true(rows[2].item.len > 0);
    suite_release(commit);
}

static void what_failed_here_is_known_to_be_done_elsewhere(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 3);
    struct commit *commit = suite_batch(suite);
    (void)suite_execution(commit, 1, "Nantes", 1, CHP_STATE_FAILED);
    (void)suite_execution(commit, 1, "Paris", 1, CHP_STATE_DONE);
    (void)suite_execution(commit, 2, "Nantes", 1, CHP_STATE_FAILED);
    (void)suite_execution(commit, 2, "Paris", 1, CHP_STATE_FAILED);
    (void)suite_execution(commit, 3, "Nantes", 1, CHP_STATE_DONE);
    (void)suite_execution(commit, 3, "Paris", 1, CHP_STATE_DONE);
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "web", .limit = 1};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_true(load->resource_result.history[0].done_elsewhere);
    assert_false(load->resource_result.history[1].done_elsewhere);
    assert_false(load->resource_result.history[2].done_elsewhere);
    suite_release(commit);
    commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_VOIDED)->voided = suite_uuid(2);
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_int_equal(load->resource_result.history[0].state, CHP_STATE_FAILED);
    assert_int_equal(load->resource_result.history[1].state, CHP_STATE_VOIDED);
    suite_release(commit);
}

static void unsettled_and_degraded_resources_are_busy(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    suite_resource(commit, "a", CHP_LEVEL_EVENTUAL)->unsettled = true;
    suite_resource(commit, "b", CHP_LEVEL_EVENTUAL)->degraded = true;
    (void)suite_resource(commit, "c", CHP_LEVEL_EVENTUAL);
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "", .limit = 9};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_BUSY, &asked);
    assert_int_equal(load->busy.count, 2);
    assert_string_equal(load->busy.ids[0], "a");
    assert_string_equal(load->busy.ids[1], "b");
    suite_release(commit);
}

static void diverged_and_degraded_resources_are_counted_and_named(void **state)
{
    struct suite *suite = *state;
    json_t *json;
    suite_begin(suite, 0);
    assert_int_equal(suite_ask(suite, CHP_QUERY_TROUBLED, &json, NULL, NULL, NULL, NULL), 0);
    suite_assert_json(json, "{\"diverged\": 0, \"degraded\": 0, \"resources\": []}");
    json_decref(json);
    struct commit *commit = suite_batch(suite);
    suite_resource(commit, "a", CHP_LEVEL_EVENTUAL)->degraded = true;
    suite_resource(commit, "b", CHP_LEVEL_EVENTUAL)->unsettled = true;
    suite_resource(commit, "c", CHP_LEVEL_EVENTUAL)->diverged = "no undo";
    (void)suite_resource(commit, "d", CHP_LEVEL_EVENTUAL);
    struct chp_resource_row *both = suite_resource(commit, "e", CHP_LEVEL_EVENTUAL);
    both->degraded = true;
    both->diverged = "both";
    suite_commit_ok(suite, commit);
    assert_int_equal(suite_ask(suite, CHP_QUERY_TROUBLED, &json, NULL, NULL, NULL, NULL), 0);
    suite_assert_json(json, "{\"diverged\": 2, \"degraded\": 1, \"resources\": ["
                            "{\"id\": \"c\", \"diverged\": \"no undo\"},"
                            "{\"id\": \"e\", \"diverged\": \"both\"},"
                            "{\"id\": \"a\", \"diverged\": null}]}");
    json_decref(json);
    commit = suite_batch(suite);
    for (int i = 0; i < 30; i++) {
        const char *id = chp_arena_printf(&commit->batch.arena, "many-%02d", i);
        suite_resource(commit, id, CHP_LEVEL_EVENTUAL)->degraded = true;
    }
    suite_commit_ok(suite, commit);
    assert_int_equal(suite_ask(suite, CHP_QUERY_TROUBLED, &json, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(json_integer_value(json_object_get(json, "degraded")), 31);
    assert_int_equal(json_array_size(json_object_get(json, "resources")), 12); /* 2 and 10 */
    json_decref(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

const struct CMUnitTest suite_history_tests[] = {
    TEST(a_history_comes_whole),
    TEST(what_failed_here_is_known_to_be_done_elsewhere),
    TEST(unsettled_and_degraded_resources_are_busy),
    TEST(diverged_and_degraded_resources_are_counted_and_named),
};
const size_t suite_history_test_count = sizeof suite_history_tests / sizeof suite_history_tests[0];
