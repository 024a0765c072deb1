/* SPDX-License-Identifier: AGPL-3.0-only */
/* Writes and loads. */
#include "suite.h"

static void a_new_store_is_empty_until_self_is_written(void **state)
{
    struct suite *suite = *state;
    struct commit *commit;
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_false(load->found);
    assert_null(load->start.site);
    assert_int_equal(load->start.stream_count, 0);
    suite_release(commit);
    commit = suite_batch(suite);
    suite_self(commit, "Nantes", 6);
    suite_self(commit, "Nantes", 7);
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_true(load->found);
    assert_string_equal(load->start.site, "Nantes");
    assert_int_equal(load->start.incarnation, 7);
    assert_int_equal(load->start.event_last, 0);
    assert_int_equal(load->start.received_last, 0);
    suite_release(commit);
}

static void an_empty_batch_commits(void **state)
{
    struct suite *suite = *state;
    suite_commit_ok(suite, suite_batch(suite));
}

static void loads_see_the_writes_of_their_batch(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    suite_self(commit, "Nantes", 7);
    struct chp_load *load = chp_batch_load(&commit->batch, CHP_LOAD_START);
    assert_int_equal(suite_commit(suite, commit), 0);
    assert_true(load->found);
    assert_int_equal(load->start.incarnation, 7);
    suite_release(commit);
}

static struct chp_load of_resource(const char *id, size_t limit)
{
    return (struct chp_load){.resource = id, .limit = limit};
}

static void assert_rich_resource(const struct chp_resource_row *row)
{
    assert_string_equal(row->id, "web");
    assert_int_equal(row->level, CHP_LEVEL_EVENTUAL);
    assert_string_equal(row->scope, "\"a\\b\" & Nantes");
    assert_int_equal(row->member_count, 3);
    assert_string_equal(row->members[0], "Nantes");
    assert_string_equal(row->members[1], "a\"b\\c{},é");
    assert_string_equal(row->members[2], "");
    assert_int_equal(row->vector.count, 2);
    assert_string_equal(row->vector.entries[0].origin, "a\"b\\");
    assert_int_equal(row->vector.entries[0].incarnation, INT64_MAX);
    assert_int_equal(row->vector.entries[0].n, 12);
    assert_int_equal(row->vector.entries[1].n, 5);
    assert_int_equal(row->highest.ms, (1ULL << 48) - 1);
    assert_int_equal(row->highest.counter, UINT32_MAX);
    assert_int_equal(row->created.ms, 11);
    assert_int_equal(row->created.counter, 12);
    assert_string_equal(row->created_origin, "Nantes");
    assert_true(chp_uuid_equal(&row->created_id, &(struct chp_uuid){{1, 0x93, 0, 0, 0, 0, 0x70, 0,
                                                                     0x80, 0, 0, 0, 0, 0, 0, 1}}));
    assert_int_equal(row->created_ms, 1790000000123);
    assert_string_equal(row->config,
                        "{ \"ResolutionMatrix\" : [ ] }"); /* as it was: its hash counts */
    assert_int_equal(row->config_version, 4);
    assert_true(row->merged);
    assert_string_equal(row->diverged, "it's \"so\"");
    assert_int_equal(row->forgotten.count, 1);
    assert_int_equal(row->forgotten.entries[0].n, 4);
    assert_string_equal(row->base_config, "{ \"version\" : 2 }");
    assert_true(row->degraded && row->order_assumed && row->deleted && row->unsettled);
}

static void a_resource_comes_back_whole_and_is_replaced(void **state)
{
    struct suite *suite = *state;
    const char *members[] = {"Nantes", "a\"b\\c{},é", ""};
    struct chp_dot dots[] = {{"a\"b\\", INT64_MAX, 12}, {"b", 7, 5}};
    struct commit *commit = suite_batch(suite);
    (void)suite_resource(commit, "web", CHP_LEVEL_NONE);
    struct chp_resource_row *row =
        suite_resource(commit, "web", CHP_LEVEL_EVENTUAL); /* the last one stays */
    row->scope = "\"a\\b\" & Nantes";
    row->members = members;
    row->vector = (struct chp_vector){dots, 2};
    row->highest = (struct chp_stamp){(1ULL << 48) - 1, UINT32_MAX};
    row->created = (struct chp_stamp){11, 12};
    row->config = "{ \"ResolutionMatrix\" : [ ] }";
    row->config_version = 4;
    row->merged = true;
    row->diverged = "it's \"so\"";
    row->forgotten = (struct chp_vector){&(struct chp_dot){"b", 7, 4}, 1};
    row->base_config = "{ \"version\" : 2 }";
    row->degraded = row->order_assumed = row->deleted = row->unsettled = true;
    suite_commit_ok(suite, commit);
    struct chp_load asked = of_resource("web", 10);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_true(load->found);
    assert_rich_resource(&load->resource_result.row);
    suite_release(commit);
    commit = suite_batch(suite);
    (void)suite_resource(commit, "web", CHP_LEVEL_STRONG);
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_int_equal(load->resource_result.row.level, CHP_LEVEL_STRONG);
    assert_null(load->resource_result.row.config);
    assert_null(load->resource_result.row.diverged);
    assert_false(load->resource_result.row.degraded);
    assert_int_equal(load->resource_result.row.vector.count, 0);
    assert_false(load->resource_result.key_found);
    suite_release(commit);
    asked = of_resource("other", 10);
    load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_false(load->found);
    assert_int_equal(load->resource_result.pending_count, 0);
    suite_release(commit);
}

static void a_resource_whose_creation_is_not_known_yet(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    struct chp_resource_row *row = suite_resource(commit, "web", CHP_LEVEL_EVENTUAL);
    row->created_origin = NULL;
    row->created_id = (struct chp_uuid){0};
    suite_commit_ok(suite, commit);
    struct chp_load asked = of_resource("web", 10);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_true(load->found);
    assert_null(load->resource_result.row.created_origin);
    suite_release(commit);
    commit = suite_batch(suite);
    (void)suite_resource(commit, "web", CHP_LEVEL_EVENTUAL);
    suite_commit_ok(suite, commit);
    load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_string_equal(load->resource_result.row.created_origin, "Nantes");
    suite_release(commit);
}

static void an_operation_is_stored_once(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    struct chp_bytes item;
    struct chp_operation *operation =
        suite_make(suite, &(struct wanted){.level = CHP_LEVEL_EVENTUAL}, &item);
    for (int i = 0; i < 2; i++) {
        struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_OPERATION);
        write->operation.operation = operation;
        write->operation.item = item;
        write->operation.reply_to = i == 0 ? "amq.gen-1" : "second";
        write->operation.correlation_id = i == 0 ? "c-1" : NULL;
    }
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    (void)suite_operation(suite, commit,
                          &(struct wanted){.level = CHP_LEVEL_EVENTUAL}); /* again, later */
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.operation = suite_uuid(1)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_true(load->found);
    assert_true(chp_bytes_equal(load->operation_result.item, item));
    assert_string_equal(load->operation_result.row->resource, "web");
    assert_int_equal(load->operation_result.row->stamp.counter, 3);
    assert_string_equal(load->operation_result.row->summary, operation->summary);
    assert_int_equal(load->operation_result.listener_count, 1);
    assert_string_equal(load->operation_result.listeners[0].reply_to, "amq.gen-1");
    assert_string_equal(load->operation_result.listeners[0].correlation_id, "c-1");
    assert_false(load->operation_result.completed);
    assert_int_equal(load->operation_result.execution_count, 0);
    suite_release(commit);
    asked.operation = suite_uuid(99);
    load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_false(load->found);
    suite_release(commit);
}

/* Refused data: nothing of the batch is stored, and the next batch works. */
static void assert_refused(struct suite *suite, struct commit *commit)
{
    (void)suite_resource(commit, "beside", CHP_LEVEL_EVENTUAL);
    assert_int_equal(suite_commit(suite, commit), CHP_EINVAL);
    assert_int_equal(commit->error.code, CHP_EINVAL);
    assert_true(commit->error.text[0] != 0);
    suite_release(commit);
    struct chp_load asked = of_resource("beside", 1);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_false(load->found);
    suite_release(commit);
}

static void a_dot_belongs_to_one_operation(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .id = 77});
    assert_refused(suite, commit);
}

struct step {
    uint32_t run;
    enum chp_state state;
    bool wins;
};

/* exit_code tells the writes apart. */
static void run_steps(struct suite *suite, const struct step *steps, size_t count, bool one_batch)
{
    int32_t expected = -1;
    struct commit *commit = suite_batch(suite);
    for (size_t i = 0; i < count; i++) {
        suite_execution(commit, 1, "Paris", steps[i].run, steps[i].state)->ack.exit_code =
            (int32_t)i;
        expected = steps[i].wins ? (int32_t)i : expected;
        if (!one_batch) {
            suite_commit_ok(suite, commit);
            commit = suite_batch(suite);
        }
    }
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.operation = suite_uuid(1)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.execution_count, 2);
    const struct chp_execution_row *row = &load->operation_result.executions[1];
    assert_string_equal(row->ack.site, "Paris");
    assert_int_equal(row->ack.exit_code, expected);
    assert_int_equal(row->ack.run, steps[expected].run);
    assert_int_equal(row->ack.state, steps[expected].state);
    suite_release(commit);
}

static const struct step steps[] = {
    {0, CHP_STATE_QUEUED, true},   {1, CHP_STATE_RUNNING, true}, {1, CHP_STATE_DONE, true},
    {1, CHP_STATE_RUNNING, false}, {0, CHP_STATE_FAILED, false}, {1, CHP_STATE_IN_DOUBT, false},
    {1, CHP_STATE_FAILED, true},   {2, CHP_STATE_RUNNING, true}, {1, CHP_STATE_DONE, false},
    {2, CHP_STATE_IN_DOUBT, true}, {2, CHP_STATE_RUNNING, true},
};

static void the_highest_run_wins_one_by_one(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    run_steps(suite, steps, sizeof steps / sizeof steps[0], false);
}

static void the_highest_run_wins_in_one_batch(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 1);
    for (size_t count = 1; count <= sizeof steps / sizeof steps[0]; count++) {
        if (steps[count - 1].wins) {
            run_steps(suite, steps, count, true);
        }
    }
}

static void an_execution_comes_back_whole(void **state)
{
    static const uint8_t bytes[] = {'a', 0, 0xff, 'b', '\n'};
    struct suite *suite = *state;
    suite_begin(suite, 1);
    struct commit *commit = suite_batch(suite);
    struct chp_execution_row *row =
        suite_execution(commit, 1, "Rennes", UINT32_MAX, CHP_STATE_FAILED);
    row->ack.exit_code = -1;
    row->ack.reason = "it \"broke\"";
    row->ack.output = chp_bytes(bytes, sizeof bytes);
    row->ack.output_cut = true;
    row->ack.unverified = true;
    row->ack.started_ms = 5;
    row->ack.duration_ms = 6;
    row->number = 8;
    row->updated_ms = 9;
    row->elapsed_ms = 10;
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.operation = suite_uuid(1)};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
    assert_int_equal(load->operation_result.execution_count, 2);
    assert_null(load->operation_result.executions[0].ack.reason);
    assert_int_equal(load->operation_result.executions[0].ack.output.len, 0);
    row = &load->operation_result.executions[1];
    assert_int_equal(row->ack.run, UINT32_MAX);
    assert_int_equal(row->ack.incarnation, 7);
    assert_int_equal(row->ack.exit_code, -1);
    assert_string_equal(row->ack.resource, "web");
    assert_string_equal(row->ack.reason, "it \"broke\"");
    assert_true(chp_bytes_equal(row->ack.output, chp_bytes(bytes, sizeof bytes)));
    assert_true(row->ack.output_cut && row->ack.unverified);
    assert_int_equal(row->ack.started_ms, 5);
    assert_int_equal(row->ack.duration_ms, 6);
    assert_int_equal(row->number, 8);
    assert_int_equal(row->updated_ms, 9);
    assert_int_equal(row->elapsed_ms, 10);
    suite_release(commit);
}

/* Ids of the pending operations as digits. */
static void assert_pending(struct suite *suite, size_t limit, const char *ids, size_t total)
{
    struct commit *commit;
    struct chp_load asked = of_resource("web", limit);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    char got[16] = "";
    for (size_t i = 0; i < load->resource_result.pending_count; i++) {
        const struct chp_pending_row *row = &load->resource_result.pending[i];
        assert_true(row->item.len > 0);
        assert_true(row->arrival > 0);
        got[i] = (char)('0' + row->operation->id.bytes[15]);
    }
    assert_string_equal(got, ids);
    assert_int_equal(load->resource_result.pending_total, total);
    suite_release(commit);
}

static void pending_operations_come_in_order(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 1, .stamp_ms = 30, .id = 1});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 2, .stamp_ms = 20, .id = 3});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 3, .stamp_ms = 20, .id = 2});
    (void)suite_operation(suite, commit,
                          &(struct wanted){.n = 1, .stamp_ms = 20, .id = 4, .origin = "Angers"});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 4, .stamp_ms = 10, .id = 5});
    (void)suite_operation(suite, commit, &(struct wanted){.n = 5, .stamp_ms = 10, .id = 6});
    (void)suite_execution(commit, 1, "Nantes", 1, CHP_STATE_RUNNING);
    (void)suite_execution(commit, 2, "Nantes", 0, CHP_STATE_ACCEPTED);
    (void)suite_execution(commit, 3, "Nantes", 1, CHP_STATE_IN_DOUBT);
    (void)suite_execution(commit, 4, "Nantes", 0, CHP_STATE_ACCEPTED);
    (void)suite_execution(commit, 5, "Nantes", 1, CHP_STATE_DONE);  /* ended */
    (void)suite_execution(commit, 6, "Paris", 0, CHP_STATE_QUEUED); /* not here */
    suite_commit_ok(suite, commit);
    assert_pending(suite, 10, "", 0); /* of a level with a sequence all is read */
    commit = suite_batch(suite);
    (void)suite_resource(commit, "web", CHP_LEVEL_NONE);
    suite_commit_ok(suite, commit);
    assert_pending(suite, 10, "1324", 4);
    assert_pending(suite, 2, "13", 4);
    struct chp_load asked = of_resource("web", 1);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RESOURCE, &asked);
    assert_int_equal(load->resource_result.pending[0].state, CHP_STATE_RUNNING);
    assert_int_equal(load->resource_result.pending[0].run, 1);
    suite_release(commit);
}

static void busy_resources_are_paged_by_id(void **state)
{
    struct suite *suite = *state;
    static const char *const ids[] = {"b", "a", "~", "B"};
    struct commit *commit = suite_batch(suite);
    suite_self(commit, "Nantes", 7);
    for (uint8_t i = 0; i < 4; i++) {
        (void)suite_resource(commit, ids[i], CHP_LEVEL_EVENTUAL);
        (void)suite_operation(suite, commit,
                              &(struct wanted){.resource = ids[i], .n = 1, .id = (uint8_t)(i + 1)});
        suite_execution(commit, (uint8_t)(i + 1), "Nantes", 0, CHP_STATE_ACCEPTED)->ack.resource =
            ids[i];
        (void)suite_operation(
            suite, commit, &(struct wanted){.resource = ids[i], .n = 2, .id = (uint8_t)(i + 11)});
        suite_execution(commit, (uint8_t)(i + 11), "Nantes", 0, CHP_STATE_ACCEPTED)->ack.resource =
            ids[i];
    }
    for (uint8_t n = 2; n <= 12; n += 10) { /* "a" has ended here and goes on elsewhere */
        suite_execution(commit, n, "Nantes", 1, CHP_STATE_DONE)->ack.resource = "a";
        suite_execution(commit, n, "Paris", 0, CHP_STATE_QUEUED)->ack.resource = "a";
    }
    suite_commit_ok(suite, commit);
    struct chp_load asked = of_resource("", 2);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_BUSY, &asked);
    assert_int_equal(load->busy.count, 2);
    assert_string_equal(load->busy.ids[0], "B"); /* bytewise */
    assert_string_equal(load->busy.ids[1], "b");
    suite_release(commit);
    asked = of_resource("b", 2);
    load = suite_load(suite, &commit, CHP_LOAD_BUSY, &asked);
    assert_int_equal(load->busy.count, 1);
    assert_string_equal(load->busy.ids[0], "~");
    suite_release(commit);
    asked = of_resource("~", 2);
    load = suite_load(suite, &commit, CHP_LOAD_BUSY, &asked);
    assert_int_equal(load->busy.count, 0);
    assert_false(load->found);
    suite_release(commit);
}

static void assert_outbound(struct suite *suite, const char *site, enum chp_key key, uint64_t after,
                            const uint64_t *numbers, size_t count)
{
    struct commit *commit;
    struct chp_load asked = {.site = site, .stream_key = key, .after = after, .limit = 3};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OUTBOUND, &asked);
    assert_int_equal(load->items.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(load->items.rows[i].number, numbers[i]);
        assert_true(load->items.rows[i].item.len > 0);
    }
    suite_release(commit);
}

static void fill_outbound(struct suite *suite)
{
    suite_begin(suite, 2);
    struct commit *commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 1, 1, NULL);
    suite_outbound(commit, "Rennes", CHP_KEY_OPERATION, 1, 1, NULL);
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 2, 2, NULL);
    suite_outbound(commit, "Paris", CHP_KEY_ACK, 1, 0, "an ack\xff");
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 3, 0, "again");
    suite_outbound(commit, "Paris", CHP_KEY_OPERATION, 4, 1, NULL);
    suite_commit_ok(suite, commit);
}

static void items_wait_until_the_mark_passes_them(void **state)
{
    struct suite *suite = *state;
    fill_outbound(suite);
    assert_outbound(suite, "Paris", CHP_KEY_OPERATION, 0, (const uint64_t[]){1, 2, 3}, 3);
    assert_outbound(suite, "Paris", CHP_KEY_OPERATION, 3, (const uint64_t[]){4}, 1);
    assert_outbound(suite, "Paris", CHP_KEY_ACK, 0, (const uint64_t[]){1}, 1);
    assert_outbound(suite, "Angers", CHP_KEY_ACK, 0, NULL, 0);
    struct commit *commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 2);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7,
               1); /* late: goes nowhere */
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 6,
               4); /* of another life */
    suite_commit_ok(suite, commit);
    assert_outbound(suite, "Paris", CHP_KEY_OPERATION, 0, (const uint64_t[]){3, 4}, 2);
    assert_outbound(suite, "Paris", CHP_KEY_ACK, 0, (const uint64_t[]){1}, 1);
    assert_outbound(suite, "Rennes", CHP_KEY_OPERATION, 0, (const uint64_t[]){1}, 1);
    commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 4);
    suite_commit_ok(suite, commit);
    assert_outbound(suite, "Paris", CHP_KEY_OPERATION, 0, NULL, 0);
}

static void outbound_items_are_what_was_written(void **state)
{
    struct suite *suite = *state;
    struct chp_bytes item;
    fill_outbound(suite);
    (void)suite_make(suite, &(struct wanted){.n = 2, .level = CHP_LEVEL_EVENTUAL}, &item);
    struct commit *commit;
    struct chp_load asked = {
        .site = "Paris", .stream_key = CHP_KEY_OPERATION, .after = 1, .limit = 2};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OUTBOUND, &asked);
    assert_int_equal(load->items.rows[0].operation.bytes[15], 2);
    assert_true(chp_bytes_equal(load->items.rows[0].item, item));
    assert_int_equal(load->items.rows[1].operation.bytes[15], 0);
    assert_true(chp_bytes_equal(load->items.rows[1].item, chp_bytes_of("again")));
    suite_release(commit);
    commit = suite_batch(suite);
    suite_outbound(commit, "Paris", CHP_KEY_ACK, 1, 0, "the number is taken");
    assert_refused(suite, commit);
}

static void assert_stream(const struct chp_stream_row *row, const char *site, enum chp_key key,
                          bool out, uint64_t incarnation, uint64_t mark, uint64_t last)
{
    assert_string_equal(row->site, site);
    assert_int_equal(row->key, key);
    assert_int_equal(row->out, out);
    assert_int_equal(row->incarnation, incarnation);
    assert_int_equal(row->mark, mark);
    assert_int_equal(row->last, last);
}

static void streams_are_told_at_start(void **state)
{
    struct suite *suite = *state;
    fill_outbound(suite);
    struct commit *commit = suite_batch(suite);
    suite_mark(commit, CHP_WRITE_STREAM_OUT, "Paris", CHP_KEY_OPERATION, 7, 4);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_OPERATION, 3, 40);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_OPERATION, 3, 50);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_OPERATION, 3, 45);
    suite_mark(commit, CHP_WRITE_STREAM_IN, "Paris", CHP_KEY_OPERATION, 4, 2);
    suite_commit_ok(suite, commit);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.stream_count, 5);
    assert_stream(&load->start.streams[0], "Paris", CHP_KEY_ACK, true, 7, 0, 1);
    assert_stream(&load->start.streams[1], "Paris", CHP_KEY_OPERATION, false, 3, 50, 50);
    assert_stream(&load->start.streams[2], "Paris", CHP_KEY_OPERATION, false, 4, 2, 2);
    assert_stream(&load->start.streams[3], "Paris", CHP_KEY_OPERATION, true, 7, 4,
                  4); /* nothing waits */
    assert_stream(&load->start.streams[4], "Rennes", CHP_KEY_OPERATION, true, 7, 0, 1);
    assert_int_equal(load->start.received_last, 2);
    suite_release(commit);
}

static void write_events(struct commit *commit, uint64_t first, uint64_t last)
{
    static const struct chp_uuid operation = {
        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    for (uint64_t number = first; number <= last; number++) {
        struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_EVENT);
        write->event.number = number;
        write->event.at_ms = 1790000000000 + number;
        write->event.kind = number == 1 ? "site.down" : "operation.accepted";
        write->event.site = "Nantes";
        write->event.resource = number == 1 ? NULL : "w\"eb";
        write->event.operation = number == 1 ? NULL : &operation;
        write->event.data = number == 1 ? "{}" : "{\"type\":\"set\",\"members\":[\"Nantes\"]}";
    }
}

static void events_are_numbered_and_read_from_a_number(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    write_events(commit, 1, 3);
    chp_batch_write(&commit->batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published = 2;
    chp_batch_write(&commit->batch, CHP_WRITE_EVENTS_PUBLISHED)->events_published = 1;
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.after = 0, .limit = 2};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_EVENTS, &asked);
    assert_int_equal(load->events.count, 2);
    assert_int_equal(load->events.rows[1].number, 2);
    assert_int_equal(load->events.rows[1].at_ms, 1790000000002);
    assert_string_equal(load->events.rows[1].kind, "operation.accepted");
    json_t *event = json_loads(load->events.rows[1].json, 0, NULL);
    suite_assert_json(
        event,
        "{'number':2,'at':'2026-09-21T14:13:20.002Z','kind':'operation.accepted','site':'Nantes',"
        "'resource':'w\\\"eb','operation':'01020304-0506-0708-090a-0b0c0d0e0f10',"
        "'data':{'type':'set','members':['Nantes']}}");
    json_decref(event);
    suite_release(commit);
    load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.event_last, 3);
    assert_int_equal(load->start.event_published, 2);
    suite_release(commit);
    commit = suite_batch(suite);
    write_events(commit, 3, 4);
    assert_refused(suite, commit); /* 3 is taken: 4 is not stored either */
    commit = suite_batch(suite);
    write_events(commit, 4, 4);
    write_events(commit, 4, 4);
    assert_refused(suite, commit);
}

static void keys_stay_as_they_were_first(void **state)
{
    struct suite *suite = *state;
    struct commit *commit = suite_batch(suite);
    suite_key(commit, "k", 1, 1000);
    suite_key(commit, "k", 2, 1000);
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    suite_key(commit, "k", 3, 365ULL * 24 * 3600 * 1000); /* a clock that jumps costs nothing */
    suite_key(commit, "other", 4, 1000);
    suite_commit_ok(suite, commit);
    suite_assert_key(suite, "alice", "k", 1);
    suite_assert_key(suite, "bob", "k", 0);
    suite_assert_key(suite, "alice", "other", 4);
}

static void add_load(struct commit *commit, enum chp_load_kind kind, const char *resource,
                     const char *key)
{
    struct chp_load *load = chp_batch_load(&commit->batch, kind);
    load->resource = resource;
    load->principal = key == NULL ? NULL : "alice";
    load->key = key;
    load->limit = 1;
}

/* However they are sent to the database, each gets what it asked for. */
static void loads_of_a_batch_get_their_own_rows(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 5);
    struct commit *commit = suite_batch(suite);
    suite_key(commit, "k", 1, 1000);
    suite_commit_ok(suite, commit);
    commit = suite_batch(suite);
    add_load(commit, CHP_LOAD_KEY, "web", "unknown");
    add_load(commit, CHP_LOAD_RESOURCE, "absent", NULL);
    add_load(commit, CHP_LOAD_KEY, "web", "k");
    add_load(commit, CHP_LOAD_RESOURCE, "web", NULL);
    add_load(commit, CHP_LOAD_KEY, "absent", "k");
    add_load(commit, CHP_LOAD_RESOURCE, "web", NULL);
    assert_int_equal(suite_commit(suite, commit), 0);
    const struct chp_load *loads = commit->batch.loads;
    static const bool found[] = {false, false, true, true, false, true};
    static const bool key_found[] = {false, false, true, false, true, false};
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(loads[i].found, found[i]);
        assert_int_equal(loads[i].resource_result.key_found, key_found[i]);
        if (found[i]) {
            assert_string_equal(loads[i].resource_result.row.id, "web");
        }
    }
    assert_int_equal(loads[1].resource_result.pending_count, 0);
    assert_int_equal(loads[2].resource_result.key_operation.bytes[15], 1);
    assert_int_equal(loads[4].resource_result.key_operation.bytes[15], 1);
    assert_int_equal(loads[3].resource_result.pending_count, 0);
    assert_int_equal(loads[3].resource_result.history_count, 5);
    assert_int_equal(loads[5].resource_result.history[0].operation->dot.n, 1);
    suite_release(commit);
}

static void a_range_of_dots_is_read(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 5);
    struct commit *commit = suite_batch(suite);
    (void)suite_operation(suite, commit, &(struct wanted){.n = 3, .origin = "Paris", .id = 30});
    suite_commit_ok(suite, commit);
    struct chp_load asked = {.resource = "web",
                             .range = {.origin = "Nantes", .incarnation = 7, .first = 2, .last = 9},
                             .limit = 3};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_RANGE, &asked);
    assert_int_equal(load->items.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(load->items.rows[i].number, i + 2);
        assert_int_equal(load->items.rows[i].operation.bytes[15], i + 2);
        assert_true(load->items.rows[i].item.len > 0);
    }
    suite_release(commit);
    asked.range.incarnation = 6;
    load = suite_load(suite, &commit, CHP_LOAD_RANGE, &asked);
    assert_int_equal(load->items.count, 0);
    suite_release(commit);
}

static void completion_is_kept(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 2);
    struct commit *commit = suite_batch(suite);
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_COMPLETED);
    write->completed.operation = suite_uuid(2);
    write->completed.completed_ms = 5;
    suite_commit_ok(suite, commit);
    for (uint8_t n = 1; n <= 2; n++) {
        struct chp_load asked = {.operation = suite_uuid(n)};
        struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_OPERATION, &asked);
        assert_int_equal(load->operation_result.completed, n == 2);
        suite_release(commit);
    }
}

static void undecoded(struct commit *commit, const char *site, uint64_t number, const char *item)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_UNDECODED);
    write->undecoded.site = site;
    write->undecoded.key = number % 2 == 0 ? CHP_KEY_ACK : CHP_KEY_OPERATION;
    write->undecoded.incarnation = 7;
    write->undecoded.number = number;
    write->undecoded.item = chp_bytes_of(item);
}

static void undecoded_items_wait_until_they_are_decoded(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 0);
    struct commit *commit = suite_batch(suite);
    undecoded(commit, "Rennes", 1, "one");
    undecoded(commit, "Paris", 1, "three");
    undecoded(commit, "Rennes", 2, "three");
    undecoded(commit, "Rennes", 1, "again, which says nothing new");
    suite_commit_ok(suite, commit);
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_START, NULL);
    assert_int_equal(load->start.undecoded_count, 2);
    assert_string_equal(load->start.undecoded[0].site, "Paris");
    assert_int_equal(load->start.undecoded[0].rows, 1);
    assert_int_equal(load->start.undecoded[0].bytes, 5);
    assert_string_equal(load->start.undecoded[1].site, "Rennes");
    assert_int_equal(load->start.undecoded[1].rows, 2);
    assert_int_equal(load->start.undecoded[1].bytes, 8);
    suite_release(commit);
    struct chp_load asked = {.limit = 2};
    load = suite_load(suite, &commit, CHP_LOAD_UNDECODED, &asked);
    assert_int_equal(load->undecoded.count, 2); /* a page of them, in the order of arrival */
    const struct chp_undecoded_row *row = &load->undecoded.rows[0];
    assert_string_equal(row->site, "Rennes");
    assert_int_equal(row->key, CHP_KEY_OPERATION);
    assert_int_equal(row->incarnation, 7);
    assert_int_equal(row->number, 1);
    assert_true(chp_bytes_equal(row->item, chp_bytes_of("one")));
    assert_true(row->arrival > 0);
    uint64_t first = row->arrival;
    assert_string_equal(row[1].site, "Paris");
    asked.after = row[1].arrival;
    suite_release(commit);
    load = suite_load(suite, &commit, CHP_LOAD_UNDECODED, &asked);
    assert_int_equal(load->undecoded.count, 1);
    assert_int_equal(load->undecoded.rows[0].key, CHP_KEY_ACK);
    suite_release(commit);
    commit = suite_batch(suite);
    chp_batch_write(&commit->batch, CHP_WRITE_DECODED)->decoded = first;
    chp_batch_write(&commit->batch, CHP_WRITE_DECODED)->decoded = asked.after;
    suite_commit_ok(suite, commit);
    asked.after = 0;
    load = suite_load(suite, &commit, CHP_LOAD_UNDECODED, &asked);
    assert_int_equal(load->undecoded.count, 1);
    assert_int_equal(load->undecoded.rows[0].number, 2);
    suite_release(commit);
}

static void several_loads_in_one_batch_do_not_mix(void **state)
{
    struct suite *suite = *state;
    suite_begin(suite, 3);
    struct commit *commit = suite_batch(suite);
    for (uint8_t n = 1; n <= 40; n++) { /* more than the array's first size */
        struct chp_load *load =
            chp_batch_load(&commit->batch, n % 2 == 0 ? CHP_LOAD_OPERATION : CHP_LOAD_RESOURCE);
        load->operation = suite_uuid(n);
        load->resource = n < 20 ? "web" : "none";
        load->limit = n;
    }
    assert_int_equal(suite_commit(suite, commit), 0);
    for (uint8_t n = 1; n <= 40; n++) {
        const struct chp_load *load = &commit->batch.loads[n - 1];
        assert_int_equal(load->found, n % 2 == 0 ? n <= 3 : n < 20);
        if (n % 2 != 0 && n < 20) {
            assert_int_equal(load->resource_result.history_count, 3);
        }
    }
    suite_release(commit);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, suite_setup, suite_teardown)

const struct CMUnitTest suite_tests[] = {
    TEST(a_new_store_is_empty_until_self_is_written),
    TEST(an_empty_batch_commits),
    TEST(loads_see_the_writes_of_their_batch),
    TEST(a_resource_comes_back_whole_and_is_replaced),
    TEST(a_resource_whose_creation_is_not_known_yet),
    TEST(an_operation_is_stored_once),
    TEST(a_dot_belongs_to_one_operation),
    TEST(the_highest_run_wins_one_by_one),
    TEST(the_highest_run_wins_in_one_batch),
    TEST(an_execution_comes_back_whole),
    TEST(pending_operations_come_in_order),
    TEST(busy_resources_are_paged_by_id),
    TEST(items_wait_until_the_mark_passes_them),
    TEST(outbound_items_are_what_was_written),
    TEST(streams_are_told_at_start),
    TEST(events_are_numbered_and_read_from_a_number),
    TEST(keys_stay_as_they_were_first),
    TEST(loads_of_a_batch_get_their_own_rows),
    TEST(a_range_of_dots_is_read),
    TEST(completion_is_kept),
    TEST(undecoded_items_wait_until_they_are_decoded),
    TEST(several_loads_in_one_batch_do_not_mix),
};
const size_t suite_test_count = sizeof suite_tests / sizeof suite_tests[0];
