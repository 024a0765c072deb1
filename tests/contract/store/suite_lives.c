/* SPDX-License-Identifier: AGPL-3.0-only */
/* A database's lives, and what sites tell each other about what they hold. */
#include "suite.h"

static void reincarnate(struct commit *commit, uint64_t incarnation)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_REINCARNATE);
    write->reincarnate.site = "Nantes";
    write->reincarnate.incarnation = incarnation;
    write->reincarnate.database = "5/7";
}

static void start_tells_serial_and_database(void **state)
{
    struct suite *suite = *state;
    struct commit *commit;
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_false(load->found);
    assert_non_null(load->start.database); /* to be known by the first write */
    assert_null(load->start.database_known);
    suite_release(commit);
    commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 4; /* of no site */
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    suite_self(commit, "Nantes", 7);
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.serial, 0);
    assert_null(load->start.database_known);
    suite_release(commit);
    commit = suite_batch(suite);
    suite_self(commit, "Nantes", 7);
    commit->batch.writes[0].self.database = "1/2";
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 5;
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 3;
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 4; /* never goes back */
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.serial, 5);
    assert_string_equal(load->start.database_known, "1/2");
    suite_release(commit);
}

static void gap(struct commit *commit, const char *site, bool open, uint64_t mark)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_GAP);
    write->gap.site = site;
    write->gap.open = open;
    write->gap.mark = mark;
}

static void reported(struct commit *commit, const char *site, uint64_t incarnation,
                     uint64_t arrival)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_REPORTED);
    write->reported.site = site;
    write->reported.incarnation = incarnation;
    write->reported.arrival = arrival;
}

static void assert_peer(const struct chp_peer_row *row, const char *site, bool open, uint64_t mark,
                        uint64_t incarnation, uint64_t arrival)
{
    assert_string_equal(row->site, site);
    assert_int_equal(row->gap_open, open);
    assert_int_equal(row->gap_mark, mark);
    assert_int_equal(row->reported_incarnation, incarnation);
    assert_int_equal(row->reported_arrival, arrival);
}

static void peers_are_told_at_start(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    gap(commit, "Rennes", true, 3);
    gap(commit, "Paris", true, 12);
    gap(commit, "Paris", false, 13);
    reported(commit, "Angers", 4, 40);
    reported(commit, "Paris", 5, 50);
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    reported(commit, "Rennes", 6, 60);
    reported(commit, "Rennes", 7, 2); /* of another life */
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_PEER);
    write->peer.site = "Paris";
    write->peer.up = true;
    suite_commit_ok(suite, commit);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.peer_count, 3);
    assert_peer(&load->start.peers[0], "Angers", false, 0, 4, 40);
    assert_peer(&load->start.peers[1], "Paris", false, 13, 5, 50);
    assert_peer(&load->start.peers[2], "Rennes", true, 3, 7, 2);
    suite_release(commit);
}

static void a_new_life_needs_no_earlier_one(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    reincarnate(commit, 9);
    chp_batch_write(&commit->batch, CHP_WRITE_SERIAL)->serial = 2;
    struct chp_load *load = chp_batch_load(&commit->batch, CHP_LOAD_START);
    assert_int_equal(suite_commit(suite, commit), 0);
    assert_true(load->found);
    assert_string_equal(load->start.site, "Nantes");
    assert_int_equal(load->start.incarnation, 9);
    assert_int_equal(load->start.serial, 2);
    assert_string_equal(load->start.database_known, "5/7");
    assert_int_equal(load->start.stream_count, 0);
    suite_release(commit);
}

static void put(struct commit *commit, uint8_t operation, const char *site, uint64_t number,
                enum chp_state state)
{
    suite_execution(commit, operation, site, state == CHP_STATE_QUEUED ? 0 : 1, state)->number =
        number;
    suite_outbound(commit, site, CHP_KEY_OPERATION, number, operation, NULL);
}

/* Operations 1 to 5 of this origin and 6 of another; Paris has committed up to 2. */
static void fill_life(struct suite *suite)
{
    suite_begin(suite, 5);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .origin = "Rennes", .id = 6});
    (void)suite_execution(commit, 6, "Nantes", 1, CHP_STATE_DONE);
    put(commit, 2, "Paris", 1, CHP_STATE_QUEUED); /* delivered, as the mark says */
    put(commit, 1, "Paris", 2, CHP_STATE_DONE);
    put(commit, 3, "Paris", 3, CHP_STATE_RUNNING);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 4, 6, NULL); /* that it had lacked */
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 5, 0, "past");
    put(commit, 4, "Paris", 6, CHP_STATE_QUEUED);
    put(commit, 5, "Paris", 7, CHP_STATE_SUPERSEDED); /* ended, but it still must know */
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 8, 3, NULL); /* again */
    suite_outbound(commit, "Paris", CHP_KEY_ACK, 17, 0, "first ack");
    suite_outbound(commit, "Paris", CHP_KEY_ACK, 18, 0, "second ack");
    (void)suite_execution(commit, 1, "Rennes", 1, CHP_STATE_DONE); /* number 0: nothing waits */
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 2);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_ACK, 7, 16);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_ACK, 3, 30);
    suite_commit_ok(suite, commit);
}

/* The items of the stream to Paris: last digits of operations, '-' for what is none. */
static void assert_waiting(struct suite *suite, enum chp_key key, const char *expected)
{
    struct commit *commit;
    struct chp_load asked = {.site = "Paris", .stream_key = key, .limit = 10};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OUTBOUND, &asked);
    char got[16] = "";
    for (size_t i = 0; i < load->items.count; i++) {
        uint8_t last = load->items.rows[i].operation.bytes[15];
        assert_int_equal(load->items.rows[i].number, i + 1);
        assert_true(load->items.rows[i].item.len > 0);
        got[i] = (char)(last == 0 ? '-' : '0' + last);
    }
    assert_string_equal(got, expected);
    suite_release(commit);
}

static void assert_execution(struct suite *suite, uint8_t operation, uint64_t number,
                             enum chp_state stored, const char *shown)
{
    struct commit *commit;
    struct chp_load asked = {.operation = suite_uuid(operation)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_true(load->operation_result.execution_count >= 2);
    const struct chp_execution_row *row = &load->operation_result.executions[1];
    assert_string_equal(row->ack.site, "Paris");
    assert_int_equal(row->ack.state, stored);
    if (!chp_state_final(stored)) {
        assert_int_equal(row->number, number);
    }
    suite_release(commit);
    json_t *json;
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&asked.operation, id);
    assert_int_equal(suite_ask(suite, CHP_QUERY_OPERATION, &json, id, NULL, NULL, NULL), 0);
    json_t *site = json_array_get(json_object_get(json, "sites"), 1);
    assert_string_equal(json_string_value(json_object_get(site, "state")), shown);
    json_decref(json);
}

static void assert_life(struct suite *suite)
{
    assert_waiting(suite, CHP_KEY_OPERATION, "2346-5");
    assert_waiting(suite, CHP_KEY_ACK, "--");
    assert_execution(suite, 1, 0, CHP_STATE_DONE, "done");
    assert_execution(suite, 2, 1, CHP_STATE_DELIVERED, "delivered"); /* what is shown stays */
    assert_execution(suite, 3, 2, CHP_STATE_RUNNING, "running");
    assert_execution(suite, 4, 3, CHP_STATE_QUEUED, "queued");
    assert_execution(suite, 5, 0, CHP_STATE_SUPERSEDED, "superseded");
}

static void a_new_life_numbers_what_waits_anew(void **state)
{
    struct suite *suite = *state;
    fill_life(suite);
    assert_execution(suite, 2, 1, CHP_STATE_QUEUED, "delivered");
    struct commit *commit = suite_batch(suite);
    reincarnate(commit, 9);
    suite_commit_ok(suite, commit);
    assert_life(suite);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.incarnation, 9);
    size_t current = 0;
    for (size_t i = 0; i < load->start.stream_count; i++) {
        const struct chp_stream_row *row = &load->start.streams[i];
        if (row->out && row->incarnation == 9) {
            current++;
            assert_string_equal(row->site, "Paris");
            assert_int_equal(row->mark, 0);
            assert_int_equal(row->last, row->key == CHP_KEY_ACK ? 2 : 6);
        } else if (!row->out) {
            assert_int_equal(row->mark, 30);
        }
    }
    assert_int_equal(current, 2);
    suite_release(commit);
    commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 6); /* late */
    suite_commit_ok(suite, commit);
    assert_life(suite);
    commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 7, 0, "goes on");
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 9, 6);
    suite_commit_ok(suite, commit);
    assert_execution(suite, 4, 3, CHP_STATE_QUEUED, "delivered");
    commit = suite_batch(suite);
    reincarnate(commit, 10); /* and again */
    suite_commit_ok(suite, commit);
    assert_waiting(suite, CHP_KEY_OPERATION, "234-");
    assert_execution(suite, 4, 3, CHP_STATE_DELIVERED, "delivered");
}

static void redot(struct suite *suite, struct commit *commit, uint8_t id, uint64_t incarnation,
                  uint64_t n)
{
    struct chp_bytes item;
    struct chp_operation *operation = suite_make(suite, &(struct wanted){.n = n, .id = id}, &item);
    operation->dot.incarnation = incarnation;
    struct chp_item again = {.kind = CHP_ITEM_OPERATION, .operation = *operation};
    struct chp_buf buf = {0};
    assert_int_equal(chp_item_encode(&again, &buf, NULL), 0);
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_REDOT);
    write->redot.operation = operation->id;
    write->redot.incarnation = incarnation;
    write->redot.n = n;
    write->redot.item = chp_arena_bytes(&suite->arena, chp_buf_bytes(&buf));
    chp_buf_deinit(&buf);
}

static void an_operation_gets_another_dot(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 3);
    struct commit *commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 1, 2, NULL);
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    redot(suite, commit, 2, 9, 1);
    redot(suite, commit, 99, 9, 5); /* not there: nothing */
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2, .id = 20}); /* whose the dot is */
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.operation = suite_uuid(2)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.row->dot.incarnation, 9);
    assert_int_equal(load->operation_result.row->dot.n, 1);
    struct chp_bytes item = chp_arena_bytes(&suite->arena, load->operation_result.item);
    suite_release(commit);
    asked = (struct chp_load){.site = "Paris", .stream_key = CHP_KEY_OPERATION, .limit = 5};
    load = suite_load(suite, &commit, CHP_LOAD_OUTBOUND, &asked);
    assert_int_equal(load->items.count, 1);
    assert_true(chp_bytes_equal(load->items.rows[0].item, item));
    suite_release(commit);
    for (uint64_t incarnation = 7; incarnation <= 9; incarnation += 2) {
        asked = (struct chp_load){
            .resource = "web",
            .range = {.origin = "Nantes", .incarnation = incarnation, .first = 1, .last = 3},
            .limit = 5};
        load = suite_load(suite, &commit, CHP_LOAD_RANGE, &asked);
        assert_int_equal(load->items.count, incarnation == 7 ? 3 : 1);
        assert_int_equal(load->items.rows[incarnation == 7 ? 1 : 0].operation.bytes[15],
                         incarnation == 7 ? 20 : 2);
        suite_release(commit);
    }
    commit = suite_batch(suite);
    redot(suite, commit, 3, 9, 1); /* taken */
    assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
    suite_release(commit);
}

static void a_range_tells_executions(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 2);
    struct commit *commit = suite_batch(suite);
    struct chp_execution_row *row = suite_execution(commit, 1, "Paris", 3, CHP_STATE_FAILED);
    row->number = 12;
    row->ack.reason = "why";
    row->ack.output = chp_bytes("a\xff", 2);
    suite_execution(commit, 1, "Nantes", 1, CHP_STATE_DONE)->ack.output = chp_bytes_of("out");
    (void)suite_operation(suite, commit, &(struct wanted){.n = 3}); /* nothing known of it */
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "web",
                             .site = "Paris",
                             .range = {.origin = "Nantes", .incarnation = 7, .first = 1, .last = 9},
                             .limit = 5};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RANGE, &asked);
    assert_int_equal(load->items.count, 3);
    const struct chp_item_row *rows = load->items.rows;
    assert_string_equal(rows[0].theirs->ack.site, "Paris");
    assert_int_equal(rows[0].theirs->ack.state, CHP_STATE_FAILED);
    assert_int_equal(rows[0].theirs->ack.run, 3);
    assert_int_equal(rows[0].theirs->number, 12);
    assert_string_equal(rows[0].theirs->ack.reason, "why");
    assert_true(chp_bytes_equal(rows[0].theirs->ack.output, chp_bytes("a\xff", 2)));
    assert_string_equal(rows[0].own->ack.site, "Nantes");
    assert_string_equal(rows[0].own->ack.resource, "web");
    assert_true(chp_bytes_equal(rows[0].own->ack.output, chp_bytes_of("out")));
    assert_null(rows[1].theirs);
    assert_int_equal(rows[1].own->ack.state, CHP_STATE_ACCEPTED);
    assert_null(rows[2].theirs);
    assert_null(rows[2].own);
    suite_release(commit);
}

static void pending_operations_tell_their_incarnation(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    suite_execution(commit, 1, "Nantes", 1, CHP_STATE_RUNNING)->ack.incarnation = 11;
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "web", .limit = 5};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_int_equal(load->resource_result.history_count, 1);
    assert_int_equal(load->resource_result.history[0].incarnation, 11);
    suite_release(commit);
}

/* By arrival: web of Nantes, web of Rennes, what Paris is no member of, web of Paris, Api,2 of
 * Rennes, web of Rennes. */
static void fill_report(struct suite *suite)
{
    static const char *alone[] = {"Nantes", "Rennes"};
    static struct chp_dot dots[] = {{"Nantes", 7, 1}, {"Rennes", 7, 2}};
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    suite_resource(commit, "web", CHP_LEVEL_EVENTUAL)->vector = (struct chp_vector){dots, 2};
    struct chp_resource_row *here = suite_resource(commit, "here", CHP_LEVEL_EVENTUAL);
    here->members = alone;
    here->member_count = 2;
    (void)suite_resource(commit, "Api,2", CHP_LEVEL_EVENTUAL);
    (void)suite_operation(suite, commit, &(struct wanted){.origin = "Rennes", .id = 2});
    (void)suite_operation(suite, commit,
                          &(struct wanted){.resource = "here", .origin = "Rennes", .id = 3});
    (void)suite_operation(suite, commit, &(struct wanted){.origin = "Paris", .id = 4});
    (void)suite_operation(suite, commit,
                          &(struct wanted){.resource = "Api,2", .origin = "Rennes", .id = 5});
    (void)suite_operation(suite, commit, &(struct wanted){.origin = "Rennes", .n = 2, .id = 6});
    suite_commit_ok(suite, commit);
}

/* Returns upto relative to the first arrival less one. */
static uint64_t assert_report(struct suite *suite, uint64_t after, size_t limit, bool all,
                              const char *ids, bool end)
{
    struct commit *commit;
    struct chp_load asked = {.site = "Paris", .after = after, .limit = limit, .all = all};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_REPORT, &asked);
    char got[64] = "";
    for (size_t i = 0; i < load->vectors.count; i++) {
        const struct chp_vector_row *row = &load->vectors.rows[i];
        bool web = strcmp(row->resource, "web") == 0;
        strcat(got, row->resource);
        strcat(got, " ");
        assert_int_equal(row->vector.count, web ? 2 : 0);
        if (web) {
            assert_string_equal(row->vector.entries[1].origin, "Rennes");
            assert_int_equal(row->vector.entries[1].n, 2);
        }
    }
    assert_string_equal(got, ids);
    assert_int_equal(load->vectors.end, end);
    assert_int_equal(load->found, ids[0] != 0);
    uint64_t upto = load->vectors.upto;
    suite_release(commit);
    return upto;
}

static void a_report_has_what_arrived_of_others(void **state)
{
    struct suite *suite = *state;
    fill_report(suite);
    struct commit *commit;
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    uint64_t last = load->start.received_last;
    uint64_t first = last - 6;
    suite_release(commit);
    assert_int_equal(assert_report(suite, first, 100, false, "Api,2 web ", true), last);
    assert_int_equal(assert_report(suite, first, 1, false, "", false), first + 1);
    assert_int_equal(assert_report(suite, first + 1, 1, false, "web ", false), first + 2);
    assert_int_equal(assert_report(suite, first + 2, 2, false, "", false), first + 4);
    assert_int_equal(assert_report(suite, first + 4, 2, false, "Api,2 web ", false), last);
    assert_int_equal(assert_report(suite, last, 2, false, "", true), last);
    assert_int_equal(assert_report(suite, first, 1, true, "web ", false), first + 1);
    assert_int_equal(assert_report(suite, first + 2, 2, true, "web ", false), first + 4);
}

static void vectors_of_known_resources(void **state)
{
    struct suite *suite = *state;
    static const char *ids[] = {"web", "nowhere", "Api,2", "NULL", "", "web\\"};
    fill_report(suite);
    struct commit *commit;
    struct chp_load asked = {.ids = ids, .id_count = 6};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_VECTORS, &asked);
    assert_int_equal(load->vectors.count, 2);
    assert_string_equal(load->vectors.rows[0].resource, "Api,2");
    assert_string_equal(load->vectors.rows[1].resource, "web");
    assert_int_equal(load->vectors.rows[1].vector.count, 2);
    suite_release(commit);
    asked = (struct chp_load){.ids = NULL, .id_count = 0};
    load = suite_load(suite, &commit, CHP_LOAD_VECTORS, &asked);
    assert_int_equal(load->vectors.count, 0);
    assert_false(load->found);
    suite_release(commit);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

const struct CMUnitTest suite_life_tests[] = {
    TEST(start_tells_serial_and_database),
    TEST(peers_are_told_at_start),
    TEST(a_new_life_needs_no_earlier_one),
    TEST(a_new_life_numbers_what_waits_anew),
    TEST(an_operation_gets_another_dot),
    TEST(a_range_tells_executions),
    TEST(pending_operations_tell_their_incarnation),
    TEST(a_report_has_what_arrived_of_others),
    TEST(vectors_of_known_resources),
};
const size_t suite_life_test_count = sizeof suite_life_tests / sizeof suite_life_tests[0];
