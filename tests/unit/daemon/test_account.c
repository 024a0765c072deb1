/* SPDX-License-Identifier: AGPL-3.0-only */
/* What a site tells of a resource: from rows of its database to JSON. */
#include "daemon/account.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS_MAX = 32 };

static const char matrix[] =
    "{\"ResolutionMatrix\":[{\"Before\":\"add\",\"After\":\"add\",\"Result\":\"take-both-keep-"
    "order\"},"
    "{\"Before\":\"add\",\"After\":\"set\",\"Result\":\"take-one\"},"
    "{\"Before\":\"set\",\"After\":\"add\",\"Result\":\"take-both-keep-order\"},"
    "{\"Before\":\"set\",\"After\":\"set\",\"Result\":\"take-one\"}]}";

/* A site's rows. */
struct site {
    struct chp_arena arena;
    struct chp_operation operations[ROWS_MAX];
    struct chp_history_row rows[ROWS_MAX];
    struct chp_load load;
    struct account *account;
};

static int setup(void **state)
{
    static const char *members[] = {"Nantes", "Rennes"};
    struct site *site = chp_alloc(sizeof *site);
    site->load.kind = CHP_LOAD_RESOURCE;
    site->load.found = true;
    site->load.resource_result.history = site->rows;
    site->load.resource_result.row = (struct chp_resource_row){.id = "web",
                                                               .level = CHP_LEVEL_EVENTUAL,
                                                               .scope = "Nantes & Rennes",
                                                               .members = members,
                                                               .member_count = 2};
    *state = site;
    return 0;
}

static int teardown(void **state)
{
    struct site *site = *state;
    account__free(site->account);
    chp_arena_deinit(&site->arena);
    free(site);
    return 0;
}

static struct chp_uuid id_of(unsigned number)
{
    return (struct chp_uuid){.bytes = {0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, [15] = (uint8_t)number}};
}

/* The n-th of an origin at ms, which had seen nantes and rennes operations of the two. effect: of
 * its execution here. */
static struct chp_history_row *add(struct site *site, const char *origin, const char *type,
                                   uint64_t n, uint64_t ms, uint64_t nantes, uint64_t rennes,
                                   uint64_t effect)
{
    struct chp_resource_row *row = &site->load.resource_result.row;
    size_t i = site->load.resource_result.history_count++;
    struct chp_operation *operation = &site->operations[i];
    *operation = (struct chp_operation){.id = id_of((unsigned)i + 1),
                                        .resource = "web",
                                        .dot = {.origin = origin, .incarnation = 1, .n = n},
                                        .stamp = {.ms = ms},
                                        .type = type,
                                        .level = CHP_LEVEL_EVENTUAL,
                                        .driver = "shell",
                                        .summary = "true",
                                        .principal = "anna",
                                        .creates = i == 0,
                                        .config = i == 0 ? matrix : NULL,
                                        .entered_ms = ms};
    if (nantes > 0) {
        chp_vector_set(&operation->context, &site->arena, "Nantes", 1, nantes);
    }
    if (rennes > 0) {
        chp_vector_set(&operation->context, &site->arena, "Rennes", 1, rennes);
    }
    chp_vector_set(&row->vector, &site->arena, origin, 1, n);
    row->highest.ms = ms > row->highest.ms ? ms : row->highest.ms;
    site->rows[i] =
        (struct chp_history_row){.operation = operation,
                                 .arrival = i + 1,
                                 .executes = true,
                                 .state = effect > 0 ? CHP_STATE_DONE : CHP_STATE_DELIVERED,
                                 .run = effect > 0,
                                 .effect = effect};
    return &site->rows[i];
}

static struct account *account(struct site *site)
{
    account__free(site->account);
    site->account = account__new(&site->load, "Nantes");
    return site->account;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* A cut in which Nantes ran set 1, add 3, and Rennes set 2, which is later than what it displaces.
 */
static void cut_and_healed(struct site *site)
{
    add(site, "Nantes", "set", 1, 10, 0, 0, 1);
    add(site, "Nantes", "add", 2, 20, 1, 0, 2);
    add(site, "Rennes", "set", 1, 30, 1, 0, 0);
}

static void a_history_has_places_and_reasons(void **state)
{
    struct site *site = *state;
    cut_and_healed(site);
    site->rows[1].state = CHP_STATE_SUPERSEDED;
    json_t *history = account__history(account(site), 10);
    const json_t *operations = json_object_get(history, "operations");
    assert_string_equal(text_of(history, "resource"), "web");
    assert_string_equal(text_of(history, "site"), "Nantes");
    assert_int_equal(number_of(history, "total"), 3);
    assert_int_equal(number_of(history, "left_out"), 0);
    assert_int_equal(json_array_size(operations), 3);
    const json_t *set = json_array_get(operations, 0);
    assert_int_equal(number_of(set, "place"), 1);
    assert_string_equal(text_of(set, "id"), "00000000-0000-7000-8000-000000000001");
    assert_string_equal(text_of(set, "entered_at"), "1970-01-01T00:00:00.010Z");
    assert_true(json_is_true(json_object_get(set, "applied")));
    assert_true(json_is_null(json_object_get(set, "reason")));
    const json_t *later = json_array_get(operations, 1);
    assert_string_equal(text_of(later, "origin"), "Rennes");
    assert_string_equal(text_of(later, "state"), "delivered");
    assert_false(json_is_true(json_object_get(later, "applied")));
    const json_t *displaced = json_array_get(operations, 2);
    assert_true(json_is_null(json_object_get(displaced, "place")));
    assert_string_equal(text_of(displaced, "state"), "superseded");
    assert_string_equal(text_of(displaced, "reason"),
                        "superseded by 00000000-0000-7000-8000-000000000003 (take-one add/set)");
    json_decref(history);
}

static void what_is_forgotten_is_counted(void **state)
{
    struct site *site = *state;
    struct chp_resource_row *row = &site->load.resource_result.row;
    chp_vector_set(&row->forgotten, &site->arena, "Nantes", 1, 7);
    chp_vector_set(&row->forgotten, &site->arena, "Rennes", 1, 5);
    row->base_config = matrix;
    add(site, "Nantes", "set", 8, 100, 7, 5, 1);
    chp_vector_set(&row->vector, &site->arena, "Rennes", 1, 5);
    site->operations[0].creates = false;
    json_t *history = account__history(account(site), 10);
    json_t *knows = account__knowledge(site->account);
    assert_int_equal(number_of(history, "total"), 1);
    assert_int_equal(number_of(history, "forgotten"), 12);
    assert_int_equal(number_of(json_array_get(json_object_get(history, "operations"), 0), "place"),
                     1);
    assert_int_equal(number_of(knows, "forgotten"), 12);
    assert_string_not_equal(text_of(knows, "forgotten_digest"), text_of(knows, "vector_digest"));
    json_decref(history);
    json_decref(knows);
}

static void a_history_is_of_the_newest(void **state)
{
    struct site *site = *state;
    cut_and_healed(site);
    json_t *history = account__history(account(site), 2);
    const json_t *operations = json_object_get(history, "operations");
    assert_int_equal(number_of(history, "total"), 3);
    assert_int_equal(number_of(history, "left_out"), 1);
    assert_int_equal(json_array_size(operations), 2);
    assert_int_equal(number_of(json_array_get(operations, 0), "place"), 2);
    json_decref(history);
}

static void what_arrived_before_its_cause_counts_the_same(void **state)
{
    struct site *site = *state;
    cut_and_healed(site);
    json_t *before = account__knowledge(account(site));
    struct chp_history_row creation = site->rows[0];
    site->rows[0] = site->rows[2];
    site->rows[2] = creation;
    json_t *after = account__knowledge(account(site));
    assert_true(json_equal(before, after));
    assert_int_equal(number_of(before, "operations"), 3);
    assert_int_equal(number_of(before, "sequence"), 2);
    json_decref(before);
    json_decref(after);
}

static void reordered_ones_are_explained(void **state)
{
    struct site *site = *state;
    add(site, "Nantes", "set", 1, 10, 0, 0, 1);
    site->operations[0].config =
        "{\"ResolutionMatrix\":[{\"Before\":\"b\",\"After\":\"a\",\"Result\":"
        "\"take-both-reverse-order\"},{\"Before\":\"a\",\"After\":\"b\",\"Result\":"
        "\"take-both-keep-order\"}]}";
    add(site, "Nantes", "b", 2, 20, 1, 0, 2);
    add(site, "Rennes", "a", 1, 30, 1, 0, 3);
    json_t *history = account__history(account(site), 10);
    const json_t *second = json_array_get(json_object_get(history, "operations"), 1);
    assert_string_equal(text_of(second, "type"), "a");
    assert_string_equal(text_of(second, "reason"),
                        "reordered before 00000000-0000-7000-8000-000000000002 "
                        "(take-both-reverse-order b/a)");
    json_decref(history);
}

static void knowledge_tells_what_is_to_be_done(void **state)
{
    struct site *site = *state;
    cut_and_healed(site);
    json_t *knows = account__knowledge(account(site));
    uint8_t ids[2 * CHP_UUID_BYTES];
    char digest[CHP_SHA256_TEXT_BYTES];
    memcpy(ids, site->operations[0].id.bytes, CHP_UUID_BYTES);
    memcpy(ids + CHP_UUID_BYTES, site->operations[2].id.bytes, CHP_UUID_BYTES);
    struct chp_sha256 sha256 = chp_sha256_of(ids, sizeof ids);
    chp_sha256_format(&sha256, digest);
    assert_string_equal(text_of(knows, "digest"), digest);
    assert_int_equal(number_of(knows, "vector_entries"), 2);
    assert_int_equal(number_of(knows, "forgotten"), 0);
    assert_int_equal(number_of(json_array_get(json_object_get(knows, "vector"), 0), "n"), 2);
    assert_string_equal(text_of(knows, "plan"), "append");
    assert_int_equal(number_of(knows, "to_run"), 1);
    assert_true(json_is_null(json_object_get(knows, "diverged")));
    json_decref(knows);
    site->load.resource_result.row.diverged = "it can't be undone";
    knows = account__knowledge(account(site));
    assert_string_equal(text_of(knows, "plan"), "diverged");
    assert_string_equal(text_of(knows, "diverged"), "it can't be undone");
    json_decref(knows);
}

static json_t *plan(struct site *site, const char *type, bool has_undo)
{
    struct chp_operation operation;
    struct chp_error error = {0};
    const struct account_new made = {
        .principal = "anna", .type = type, .has_undo = has_undo, .incarnation = 1, .wall_ms = 5};
    assert_int_equal(account__operation(account(site), &made, &site->arena, &operation, &error), 0);
    json_t *json = account__plan(site->account, &operation, &error);
    if (json == NULL) {
        fail_msg("%s", error.text);
    }
    return json;
}

static void a_plan_names_what_would_go(void **state)
{
    struct site *site = *state;
    add(site, "Nantes", "set", 1, 10, 0, 0, 1);
    add(site, "Nantes", "add", 2, 20, 1, 0, 2);
    json_t *appended = plan(site, "add", false);
    assert_string_equal(text_of(appended, "plan"), "append");
    assert_string_equal(text_of(appended, "now"), "nothing");
    assert_int_equal(number_of(appended, "place"), 3);
    assert_int_equal(number_of(appended, "displaces_count"), 0);
    assert_int_equal(number_of(appended, "run_count"), 1);
    const json_t *step = json_array_get(json_object_get(appended, "run"), 0);
    assert_true(json_is_null(json_object_get(step, "operation")));
    assert_true(json_is_true(json_object_get(step, "new")));
    json_decref(appended);
    json_t *replaced = plan(site, "set", false);
    assert_int_equal(number_of(replaced, "displaces_count"), 2);
    assert_string_equal(
        text_of(json_array_get(json_object_get(replaced, "displaces"), 0), "operation"),
        "00000000-0000-7000-8000-000000000001");
    assert_int_equal(number_of(replaced, "place"), 1);
    assert_int_equal(number_of(replaced, "again"), 0);
    json_decref(replaced);
}

static void a_plan_says_what_runs_again_elsewhere(void **state)
{
    struct site *site = *state;
    struct chp_operation operation;
    struct chp_error error = {0};
    const struct account_new made = {.principal = "anna", .type = "a", .incarnation = 1};
    add(site, "Nantes", "set", 1, 10, 0, 0, 1);
    site->operations[0].config =
        "{\"ResolutionMatrix\":[{\"Before\":\"b\",\"After\":\"a\",\"Result\":"
        "\"take-both-reverse-order\"},{\"Before\":\"a\",\"After\":\"b\",\"Result\":"
        "\"take-both-keep-order\"}],\"types\":{\"a\":{\"replace\":false}}}";
    assert_int_equal(account__operation(account(site), &made, &site->arena, &operation, &error), 0);
    /* A member that has something of which the origin knows nothing. */
    add(site, "Rennes", "b", 1, 11, 1, 0, 2);
    json_t *json = account__plan(account(site), &operation, &error);
    assert_non_null(json);
    assert_string_equal(text_of(json, "plan"), "diverged");
    assert_non_null(strstr(text_of(json, "why"), "can't be undone"));
    json_decref(json);
    operation.dot.n = 7;
    chp_vector_set(&operation.context, &site->arena, "Nantes", 1, 6);
    json = account__plan(account(site), &operation, &error);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "place")));
    assert_string_equal(text_of(json, "reason"), "waits for an operation that it depends on");
    json_decref(json);
}

static void level_none_has_no_plan(void **state)
{
    struct site *site = *state;
    struct chp_operation operation;
    struct chp_error error = {0};
    const struct account_new made = {.principal = "anna", .type = "set", .incarnation = 1};
    site->load.resource_result.row.level = CHP_LEVEL_NONE;
    assert_int_equal(account__operation(account(site), &made, &site->arena, &operation, &error),
                     CHP_EREFUSED);
    assert_non_null(strstr(error.text, "is of level none"));
    assert_null(account__plan(site->account, &operation, &error));
    json_t *knows = account__knowledge(site->account);
    assert_true(json_is_null(json_object_get(knows, "digest")));
    json_decref(knows);
}

static void a_history_of_level_none_is_what_the_database_says(void **state)
{
    (void)state;
    json_t *answer =
        json_loads("{\"operations\":[{\"id\":\"x\",\"type\":\"set\",\"origin\":\"Nantes\","
                   "\"entered_at\":\"t\",\"principal\":\"anna\",\"summary\":\"true\","
                   "\"sites\":[{\"site\":\"Rennes\",\"state\":\"failed\",\"run\":3},"
                   "{\"site\":\"Nantes\",\"state\":\"done\",\"run\":1}]}]}",
                   0, NULL);
    json_t *history = account__history_of_none("web", "Nantes", answer);
    const json_t *entry = json_array_get(json_object_get(history, "operations"), 0);
    assert_true(json_is_null(json_object_get(history, "total")));
    assert_string_equal(text_of(entry, "state"), "done");
    assert_int_equal(number_of(entry, "run"), 1);
    assert_true(json_is_true(json_object_get(entry, "applied")));
    json_decref(history);
    json_decref(answer);
}

/* Everything at its bound fits into what one site may answer. */
static void answers_are_bounded(void **state)
{
    struct site *site = *state;
    cut_and_healed(site);
    struct chp_vector *vector = &site->load.resource_result.row.vector;
    for (size_t i = 0; i < CHP_VECTOR_MAX - 2; i++) {
        char name[CHP_SITE_MAX_BYTES + 1];
        memset(name, 'x', sizeof name - 1);
        name[sizeof name - 1] = 0;
        chp_hex_encode(&i, sizeof i, name);
        name[2 * sizeof i] = 'x';
        chp_vector_set(vector, &site->arena, chp_arena_strdup(&site->arena, name), 1, 1);
    }
    json_t *knows = account__knowledge(account(site));
    char *text = json_dumps(knows, JSON_COMPACT);
    assert_int_equal(number_of(knows, "vector_entries"), CHP_VECTOR_MAX);
    assert_int_equal(json_array_size(json_object_get(knows, "vector")), ACCOUNT_LIST_MAX);
    assert_in_range(strlen(text), 1, CHP_OUTPUT_MAX_BYTES);
    free(text);
    json_decref(knows);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_history_has_places_and_reasons),
        TEST(what_is_forgotten_is_counted),
        TEST(a_history_is_of_the_newest),
        TEST(what_arrived_before_its_cause_counts_the_same),
        TEST(reordered_ones_are_explained),
        TEST(knowledge_tells_what_is_to_be_done),
        TEST(a_plan_names_what_would_go),
        TEST(a_plan_says_what_runs_again_elsewhere),
        TEST(level_none_has_no_plan),
        TEST(a_history_of_level_none_is_what_the_database_says),
        TEST(answers_are_bounded),
    };
    return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
