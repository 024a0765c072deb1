/* SPDX-License-Identifier: AGPL-3.0-only */
/* What doors get. */
#include "suite.h"

static json_t *must_ask(struct suite *suite, enum chp_query query, const char *a, const char *b,
                        const char *c, const char *d)
{
    json_t *json;
    assert_int_equal(suite_ask(suite, query, &json, a, b, c, d), 0);
    return json;
}

static const char *id_of(uint8_t last, char text[CHP_UUID_TEXT_BYTES])
{
    struct chp_uuid uuid = suite_uuid(last);
    chp_uuid_format(&uuid, text);
    return text;
}

static void an_operation_is_shown_whole(void **state)
{
    struct suite *suite = *state;
    char id[CHP_UUID_TEXT_BYTES];
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    struct chp_execution_row *row = suite_execution(commit, 1, "Nantes", 1, CHP_STATE_DONE);
    row->ack.output = chp_bytes_of("h\"i\n\té");
    row->ack.started_ms = 1790000000125;
    row->ack.duration_ms = 4;
    row->elapsed_ms = 6;
    row = suite_execution(commit, 1, "Paris", 2, CHP_STATE_FAILED);
    row->ack.output = chp_bytes("a\xff\0b", 4);
    row->ack.output_cut = true;
    row->ack.exit_code = 137;
    row->ack.reason = "killed";
    row->ack.unverified = true;
    (void)suite_execution(commit, 1, "Rennes", 0, CHP_STATE_QUEUED);
    suite_commit_ok(suite, commit);
    json_t *json = must_ask(suite, CHP_QUERY_OPERATION, id_of(1, id), NULL, NULL, NULL);
    suite_assert_json(
        json,
        "{'id':'01930000-0000-7000-8000-000000000001','resource':'web','type':'set','level':'"
        "eventual',"
        "'scope':'Nantes & Paris & "
        "Rennes','origin':'Nantes','dot':{'origin':'Nantes','incarnation':7,'n':1},"
        "'stamp':{'ms':1000,'counter':3},'clock_suspect':false,'principal':'alice','driver':'shell'"
        ",'summary':'echo "
        "\\u0027é\\u0027',"
        "'files':[{'name':'site.yml',"
        "'sha256':'2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881','size':1}],"
        "'entered_at':'2026-09-21T14:13:20.123Z','completed':false,'state':'queued',"
        "'members':['Nantes','Paris','Rennes'],'sites':["
        "{'site':'Nantes','state':'done','run':1,'exit_code':0,'output':'h\\\"i\\n\\té','output_"
        "cut':false,"
        "'reason':null,'unverified':false,'started_at':'2026-09-21T14:13:20.125Z','duration_ms':4,'"
        "elapsed_ms':6},"
        "{'site':'Paris','state':'failed','run':2,'exit_code':137,'output':'a\uFFFD\uFFFDb',"
        "'output_base64':'Yf8AYg==','output_cut':true,'reason':'killed','unverified':true,'started_"
        "at':null,"
        "'duration_ms':0,'elapsed_ms':0},"
        "{'site':'Rennes','state':'queued','run':0,'exit_code':0,'output':'','output_cut':false,'"
        "reason':null,"
        "'unverified':false,'started_at':null,'duration_ms':0,'elapsed_ms':0}]}");
    json_decref(json);
    assert_int_equal(suite_ask(suite, CHP_QUERY_OPERATION, &json, id_of(9, id), NULL, NULL, NULL),
                     0);
    assert_null(json);
}

static void long_output_is_one_line_of_base64(void **state)
{
    struct suite *suite = *state;
    static uint8_t bytes[1000];
    memset(bytes, 0xfe, sizeof bytes);
    char id[CHP_UUID_TEXT_BYTES];
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    suite_execution(commit, 1, "Nantes", 1, CHP_STATE_DONE)->ack.output =
        chp_bytes(bytes, sizeof bytes);
    suite_commit_ok(suite, commit);
    json_t *json = must_ask(suite, CHP_QUERY_OPERATION, id_of(1, id), NULL, NULL, NULL);
    const json_t *site = json_array_get(json_object_get(json, "sites"), 0);
    const char *text = json_string_value(json_object_get(site, "output_base64"));
    assert_int_equal(strlen(text), 1336);
    assert_int_equal(strspn(text, "/v7+"), 1333);
    json_decref(json);
}

static void assert_states(struct suite *suite, const char *whole, const char *nantes,
                          const char *paris)
{
    char id[CHP_UUID_TEXT_BYTES];
    json_t *json = must_ask(suite, CHP_QUERY_OPERATION, id_of(1, id), NULL, NULL, NULL);
    const json_t *sites = json_object_get(json, "sites");
    assert_string_equal(json_string_value(json_object_get(json_array_get(sites, 0), "state")),
                        nantes);
    assert_string_equal(json_string_value(json_object_get(json_array_get(sites, 1), "state")),
                        paris);
    assert_string_equal(json_string_value(json_object_get(json, "state")), whole);
    json_decref(json);
}

static void put_states(struct suite *suite, uint32_t run, enum chp_state nantes,
                       enum chp_state paris)
{
    struct commit *commit = suite_batch(suite);
    (void)suite_execution(commit, 1, "Nantes", run, nantes);
    suite_execution(commit, 1, "Paris", run, paris)->number = 5;
    suite_commit_ok(suite, commit);
}

static void delivered_is_what_the_mark_says(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    put_states(suite, 0, CHP_STATE_RUNNING, CHP_STATE_QUEUED);
    assert_states(suite, "queued", "running", "queued");
    struct commit *commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 4);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 6,
               9); /* of another life */
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_ACK, 7, 9);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Rennes", CHP_KEY_OPERATION, 7, 9);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_OPERATION, 7, 9);
    suite_commit_ok(suite, commit);
    assert_states(suite, "queued", "running", "queued");
    commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 5);
    suite_commit_ok(suite, commit);
    assert_states(suite, "delivered", "running", "delivered");
    /* The load tells what was written: the engine knows the marks itself. */
    struct chp_load asked = {.operation = suite_uuid(1)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.executions[1].ack.state, CHP_STATE_QUEUED);
    suite_release(commit);
}

static void the_whole_is_as_far_as_its_last_site(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    put_states(suite, 1, CHP_STATE_FAILED, CHP_STATE_RUNNING);
    assert_states(suite, "running", "failed", "running");
    put_states(suite, 2, CHP_STATE_IN_DOUBT, CHP_STATE_RUNNING);
    assert_states(suite, "running", "in-doubt", "running");
    put_states(suite, 3, CHP_STATE_FAILED, CHP_STATE_IN_DOUBT);
    assert_states(suite, "in-doubt", "failed", "in-doubt");
    put_states(suite, 4, CHP_STATE_DONE, CHP_STATE_REFUSED);
    assert_states(suite, "refused", "done", "refused");
    put_states(suite, 5, CHP_STATE_EXPIRED, CHP_STATE_FAILED);
    assert_states(suite, "expired", "expired", "failed");
    put_states(suite, 6, CHP_STATE_DONE, CHP_STATE_DONE);
    assert_states(suite, "done", "done", "done");
}

/* digits: the last of the operations' ids, in the order given. Takes json. */
static void assert_ids(json_t *json, const char *digits)
{
    const json_t *operations = json_object_get(json, "operations");
    char got[32] = "";
    for (size_t i = 0; i < json_array_size(operations); i++) {
        const char *id = json_string_value(json_object_get(json_array_get(operations, i), "id"));
        got[i] = id[35];
    }
    assert_string_equal(got, digits);
    json_decref(json);
}

static void assert_operations(struct suite *suite, enum chp_query query, const char *a,
                              const char *b, const char *c, const char *d, const char *digits)
{
    assert_ids(must_ask(suite, query, a, b, c, d), digits);
}

static void assert_listed(struct suite *suite, const char *resource, const char *state,
                          const char *before, const char *limit, const char *site,
                          const char *digits)
{
    const char *params[] = {resource, state, before, limit, site};
    json_t *json;
    assert_int_equal(suite_ask_with(suite, CHP_QUERY_OPERATIONS, &json, params, 5), 0);
    assert_ids(json, digits);
}

static void operations_are_listed_newest_first(void **state)
{
    struct suite *suite = *state;
    char id[CHP_UUID_TEXT_BYTES];
    suite_begin(suite, 5);
    struct commit *commit = suite_batch(suite);
    (void)suite_resource(commit, "it@s", CHP_LEVEL_EVENTUAL);
    (void)suite_operation(suite, commit, &(struct wanted){.resource = "it@s", .n = 1, .id = 6});
    (void)suite_execution(commit, 2, "Nantes", 1, CHP_STATE_DONE);
    (void)suite_execution(commit, 4, "Nantes", 1, CHP_STATE_FAILED);
    (void)suite_execution(commit, 5, "Nantes", 1, CHP_STATE_DONE);
    suite_commit_ok(suite, commit);
    assert_operations(suite, CHP_QUERY_OPERATIONS, "", "", "", "", "654321");
    assert_operations(suite, CHP_QUERY_OPERATIONS, NULL, NULL, NULL, NULL, "654321");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "web", "", "", "2", "54");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "web", "", id_of(4, id), "2", "32");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "it@s", "", "", "", "6");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "", "done", "", "", "52");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "web", "accepted", id_of(3, id), "5", "1");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "none", "", "", "", "");
    assert_operations(suite, CHP_QUERY_OPERATIONS, "", "", id_of(99, id), "", "");
}

static void operations_are_listed_by_their_state_at_a_site(void **state)
{
    struct suite *suite = *state;
    char id[CHP_UUID_TEXT_BYTES];
    suite_begin(suite, 5);
    struct commit *commit = suite_batch(suite);
    (void)suite_execution(commit, 1, "Nantes", 1, CHP_STATE_IN_DOUBT);
    (void)suite_execution(commit, 1, "Paris", 1, CHP_STATE_DONE);
    (void)suite_execution(commit, 2, "Nantes", 1, CHP_STATE_IN_DOUBT);
    (void)suite_execution(commit, 2, "Paris", 1, CHP_STATE_RUNNING);
    (void)suite_execution(commit, 3, "Paris", 1, CHP_STATE_IN_DOUBT);
    (void)suite_execution(commit, 4, "Nantes", 1, CHP_STATE_DONE);
    suite_commit_ok(suite, commit);
    assert_listed(suite, "", "in-doubt", "", "", "Nantes", "21");
    assert_listed(suite, "", "in-doubt", "", "", "Paris", "3");
    assert_listed(suite, "", "in-doubt", "", "", "Rennes", "");
    assert_listed(suite, "", "in-doubt", "", "", "", "1"); /* others have yet to end elsewhere */
    assert_listed(suite, "web", "in-doubt", id_of(2, id), "9", "Nantes", "1");
    assert_listed(suite, "other", "in-doubt", "", "", "Nantes", "");
    assert_listed(suite, "", "", "", "", "Nantes", "54321");
    assert_listed(suite, "", "", "", "", "Paris", "321");
    assert_listed(suite, "", "done", "", "", "Nantes", "4");
    assert_listed(suite, "", "queued", "", "", "Nantes", "");
}

static void history_is_the_sequence(void **state)
{
    struct suite *suite = *state;
    json_t *json;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .stamp_ms = 30, .id = 1});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2, .stamp_ms = 20, .id = 3});
    (void)suite_operation(suite, commit,
                          &(struct wanted){.n = 1, .stamp_ms = 20, .id = 4, .origin = "Angers"});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 3, .stamp_ms = 10, .id = 5});
    suite_commit_ok(suite, commit);
    assert_operations(suite, CHP_QUERY_HISTORY, "web", "", NULL, NULL, "5431");
    assert_operations(suite, CHP_QUERY_HISTORY, "web", "2", NULL, NULL, "31"); /* the end of it */
    commit = suite_batch(suite);
    (void)suite_resource(commit, "web", CHP_LEVEL_NONE);
    (void)suite_resource(commit, "empty", CHP_LEVEL_NONE);
    suite_commit_ok(suite, commit);
    assert_operations(suite, CHP_QUERY_HISTORY, "web", "", NULL, NULL,
                      "1345"); /* as they arrived */
    assert_operations(suite, CHP_QUERY_HISTORY, "empty", "", NULL, NULL, "");
    assert_int_equal(suite_ask(suite, CHP_QUERY_HISTORY, &json, "other", NULL, NULL, NULL), 0);
    assert_null(json);
}

static void a_suspect_operation_stays_one(void **state)
{
    struct suite *suite = *state;
    char id[CHP_UUID_TEXT_BYTES];
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .clock_suspect = true});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2});
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite); /* when it comes again, by another clock */
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2, .clock_suspect = true});
    suite_commit_ok(suite, commit);
    for (uint8_t n = 1; n <= 2; n++) {
        json_t *json = must_ask(suite, CHP_QUERY_OPERATION, id_of(n, id), NULL, NULL, NULL);
        const json_t *suspect = json_object_get(json, "clock_suspect");
        assert_true(n == 1 ? json_is_true(suspect) : json_is_false(suspect));
        json_decref(json);
    }
}

static void a_resource_is_shown_whole(void **state)
{
    struct suite *suite = *state;
    json_t *json;
    suite_begin(suite, 2);
    struct commit *commit = suite_batch(suite);
    struct chp_resource_row *row = suite_resource(commit, "web", CHP_LEVEL_EVENTUAL);
    row->config = "{\"ResolutionMatrix\":[]}";
    row->config_version = 3;
    row->merged = true;
    suite_commit_ok(suite, commit);
    json = must_ask(suite, CHP_QUERY_RESOURCE, "web", NULL, NULL, NULL);
    suite_assert_json(
        json,
        "{'id':'web','level':'eventual','scope':'Nantes & Paris & "
        "Rennes','members':['Nantes','Paris',"
        "'Rennes'],'config':{'ResolutionMatrix':[]},'config_version':3,"
        "'created_at':'2026-09-21T14:13:20.123Z','created_by':{'origin':'Nantes'},'merged':true,"
        "'operations':2,'last_operation':'01930000-0000-7000-8000-000000000002','state':'busy','"
        "diverged':null}");
    json_decref(json);
    assert_int_equal(suite_ask(suite, CHP_QUERY_RESOURCE, &json, "other", NULL, NULL, NULL), 0);
    assert_null(json);
}

static void assert_resource_state(struct suite *suite, const char *expected)
{
    json_t *json = must_ask(suite, CHP_QUERY_RESOURCE, "web", NULL, NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "state")), expected);
    json_decref(json);
}

static void a_resources_state_is_that_of_the_replica_here(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 2);
    assert_resource_state(suite, "busy");
    struct commit *commit = suite_batch(suite);
    (void)suite_execution(commit, 1, "Nantes", 1, CHP_STATE_IN_DOUBT);
    (void)suite_execution(commit, 2, "Nantes", 1, CHP_STATE_FAILED);
    suite_commit_ok(suite, commit);
    assert_resource_state(suite, "in-doubt");
    commit = suite_batch(suite);
    (void)suite_execution(commit, 1, "Nantes", 2, CHP_STATE_DONE);
    suite_execution(commit, 1, "Paris", 1, CHP_STATE_DONE)->ack.unverified = true; /* not here */
    (void)suite_execution(commit, 2, "Paris", 1, CHP_STATE_IN_DOUBT);
    suite_commit_ok(suite, commit);
    assert_resource_state(suite, "ready");
    static const struct {
        const char *state;
        struct chp_resource_row row;
    } shown[] = {
        {"order-assumed", {.order_assumed = true}},
        {"deleted", {.order_assumed = true, .deleted = true}},
        {"degraded", {.deleted = true, .degraded = true}},
        {"busy", {.degraded = true, .unsettled = true}},
        {"diverged", {.degraded = true, .unsettled = true, .diverged = "so"}},
    };
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        commit = suite_batch(suite);
        struct chp_resource_row *row = suite_resource(commit, "web", CHP_LEVEL_EVENTUAL);
        row->order_assumed = shown[i].row.order_assumed;
        row->deleted = shown[i].row.deleted;
        row->degraded = shown[i].row.degraded;
        row->unsettled = shown[i].row.unsettled;
        row->diverged = shown[i].row.diverged;
        suite_commit_ok(suite, commit);
        assert_resource_state(suite, shown[i].state);
    }
}

static void resources_are_paged_by_id(void **state)
{
    struct suite *suite = *state;
    static const char *const ids[] = {"b", "é", "a", "B"};
    struct commit *commit = suite_batch(suite);
    for (size_t i = 0; i < 4; i++) {
        (void)suite_resource(commit, ids[i], CHP_LEVEL_EVENTUAL);
    }
    suite_commit_ok(suite, commit);
    json_t *json = must_ask(suite, CHP_QUERY_RESOURCES, "B", "2", NULL, NULL);
    const json_t *resources = json_object_get(json, "resources");
    assert_int_equal(json_array_size(resources), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(resources, 0), "id")),
                        "a");
    assert_string_equal(json_string_value(json_object_get(json_array_get(resources, 1), "id")),
                        "b");
    assert_true(json_is_null(json_object_get(json_array_get(resources, 1), "last_operation")));
    assert_true(json_is_null(json_object_get(json_array_get(resources, 1), "config")));
    json_decref(json);
    json = must_ask(suite, CHP_QUERY_RESOURCES, "é", "", NULL, NULL);
    suite_assert_json(json, "{'resources':[]}");
    json_decref(json);
}

static void events_and_their_load_are_the_same_objects(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    for (uint64_t number = 1; number <= 3; number++) {
        struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_EVENT);
        write->event.number = number;
        write->event.at_ms = 1790000000000 + number;
        write->event.kind = "site.up";
        write->event.site = number == 2 ? NULL : "Paris";
        write->event.data = "{\"round_trip_ms\":1.5,\"text\":\"é\"}";
    }
    suite_commit_ok(suite, commit);
    json_t *json = must_ask(suite, CHP_QUERY_EVENTS, "1", "", NULL, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "last")), 3);
    struct chp_load asked = {.after = 1, .limit = 9};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_EVENTS, &asked);
    assert_int_equal(load->events.count, json_array_size(json_object_get(json, "events")));
    for (size_t i = 0; i < load->events.count; i++) {
        json_t *loaded = json_loads(load->events.rows[i].json, 0, NULL);
        assert_true(json_equal(loaded, json_array_get(json_object_get(json, "events"), i)));
        json_decref(loaded);
    }
    suite_release(commit);
    json_decref(json);
    json = must_ask(suite, CHP_QUERY_EVENTS, "", "2", NULL, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "last")), 2); /* where to go on */
    json_decref(json);
    json = must_ask(suite, CHP_QUERY_EVENTS, "9", NULL, NULL, NULL);
    suite_assert_json(json, "{'events':[],'last':9,'oldest':1}");
    json_decref(json);
}

static void sites_show_what_waits(void **state)
{
    struct suite *suite = *state;
    json_t *json = must_ask(suite, CHP_QUERY_SITES, NULL, NULL, NULL, NULL);
    suite_assert_json(json, "[]");
    json_decref(json);
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 1, 1, NULL);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 2, 1, NULL);
    suite_outbound(commit, "Paris", CHP_KEY_ACK, 1, 0, "ack");
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 1);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 6, 90);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Rennes", CHP_KEY_OPERATION, 3, 40);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Rennes", CHP_KEY_OPERATION, 4, 2);
    suite_commit_ok(suite, commit);
    json = must_ask(suite, CHP_QUERY_SITES, NULL, NULL, NULL, NULL);
    json_t *paris = json_array_get(json, 0);
    const char *oldest_at = json_string_value(json_object_get(paris, "oldest_at"));
    assert_int_equal(strlen(oldest_at), strlen("2026-09-21T14:13:20.123Z"));
    (void)json_object_set_new(paris, "oldest_at", json_string("then"));
    suite_assert_json(
        json,
        "[{'site':'Paris','waiting':2,'oldest_at':'then',"
        "'marks':{'out':{'ack':0,'operation':1},'in':{}}},"
        "{'site':'Rennes','waiting':0,'oldest_at':null,'marks':{'out':{},'in':{'operation':2}}}]");
    json_decref(json);
}

static void status_counts(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 3);
    struct commit *commit = suite_batch(suite);
    (void)suite_resource(commit, "idle", CHP_LEVEL_NONE);
    suite_commit_ok(suite, commit);
    json_t *json = must_ask(suite, CHP_QUERY_STATUS, NULL, NULL, NULL, NULL);
    assert_non_null(json_object_get(json, "schema_version"));
    (void)json_object_del(json, "schema_version"); /* the twin has no schema */
    suite_assert_json(
        json, "{'site':'Nantes','incarnation':7,'resources':2,'resources_busy':1,'operations':3,"
              "'event_last':0,'event_published':0}");
    json_decref(json);
}

static void assert_bad(struct suite *suite, enum chp_query query, const char *a, const char *b,
                       const char *c, const char *d)
{
    json_t *json;
    assert_int_equal(suite_ask(suite, query, &json, a, b, c, d), CHP_EINVAL);
    assert_null(json);
}

static void bad_parameters_are_refused(void **state)
{
    struct suite *suite = *state;
    assert_bad(suite, CHP_QUERY_OPERATION, "", NULL, NULL, NULL);
    assert_bad(suite, CHP_QUERY_OPERATION, "7", NULL, NULL, NULL);
    assert_bad(suite, CHP_QUERY_OPERATIONS, "", "ready", "", "");
    assert_bad(suite, CHP_QUERY_OPERATIONS, "", "", "x", "");
    assert_bad(suite, CHP_QUERY_OPERATIONS, "", "", "", "0");
    assert_bad(suite, CHP_QUERY_OPERATIONS, "", "", "", "1001");
    assert_bad(suite, CHP_QUERY_OPERATIONS, "", "", "", "18446744073709551617");
    assert_bad(suite, CHP_QUERY_OPERATIONS, "\xff", "", "", "");
    assert_bad(suite, CHP_QUERY_RESOURCES, "", "-1", NULL, NULL);
    assert_bad(suite, CHP_QUERY_HISTORY, "web", "1 ", NULL, NULL);
    assert_bad(suite, CHP_QUERY_EVENTS, "1e3", "", NULL, NULL);
    json_t *json = must_ask(suite, CHP_QUERY_EVENTS, "999999999999999999", "1000", NULL, NULL);
    json_decref(json);
}

static void count_on_answer(void *user, int code, const char *json, const struct chp_error *error)
{
    unsigned *calls = user;
    (void)json;
    (void)error;
    assert_int_equal(code, 0);
    (*calls)++;
}

static void canceled_queries_are_not_answered(void **state)
{
    struct suite *suite = *state;
    unsigned gone = 0;
    unsigned kept = 0;
    json_t *json;
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_on_answer,
                    &gone); /* may run already */
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_on_answer, &kept);
    chp_store_query(suite->store, CHP_QUERY_STATUS, NULL, 0, count_on_answer, &gone);
    chp_store_query_cancel(suite->store, &gone);
    chp_store_query_cancel(suite->store, suite); /* nobody's */
    assert_int_equal(suite_ask(suite, CHP_QUERY_STATUS, &json, NULL, NULL, NULL, NULL), 0);
    json_decref(json);
    assert_int_equal(gone, 0);
    assert_int_equal(kept, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

const struct CMUnitTest suite_answer_tests[] = {
    TEST(an_operation_is_shown_whole),
    TEST(long_output_is_one_line_of_base64),
    TEST(delivered_is_what_the_mark_says),
    TEST(the_whole_is_as_far_as_its_last_site),
    TEST(operations_are_listed_newest_first),
    TEST(operations_are_listed_by_their_state_at_a_site),
    TEST(history_is_the_sequence),
    TEST(a_suspect_operation_stays_one),
    TEST(a_resource_is_shown_whole),
    TEST(a_resources_state_is_that_of_the_replica_here),
    TEST(resources_are_paged_by_id),
    TEST(events_and_their_load_are_the_same_objects),
    TEST(sites_show_what_waits),
    TEST(status_counts),
    TEST(bad_parameters_are_refused),
    TEST(canceled_queries_are_not_answered),
};
const size_t suite_answer_test_count = sizeof suite_answer_tests / sizeof suite_answer_tests[0];
