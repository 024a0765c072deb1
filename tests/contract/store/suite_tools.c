/* SPDX-License-Identifier: AGPL-3.0-only */
#include "suite.h"

#include "base/mem.h"

#include <stdlib.h>

enum { TURNS_MAX = 10000 };

static void suite_on_up(void *user)
{
    struct suite *suite = user;
    suite->ups++;
}

static void suite_on_down(void *user, const struct chp_error *error)
{
    struct suite *suite = user;
    suite->downs++;
    suite->down_error = *error;
}

struct chp_store_callbacks suite_callbacks(struct suite *suite)
{
    return (struct chp_store_callbacks){
        .user = suite, .on_up = suite_on_up, .on_down = suite_on_down};
}

static void commit_on_done(struct chp_batch *batch, int code, const struct chp_error *error)
{
    struct commit *commit = batch->user;
    assert_false(commit->done);
    commit->done = true;
    commit->code = code;
    if (error != NULL) {
        commit->error = *error;
    }
}

struct commit *suite_batch(struct suite *suite)
{
    (void)suite;
    struct commit *commit = chp_alloc(sizeof *commit);
    commit->batch.on_done = commit_on_done;
    commit->batch.user = commit;
    return commit;
}

int suite_commit(struct suite *suite, struct commit *commit)
{
    chp_store_submit(suite->store, &commit->batch);
    assert_false(commit->done); /* never from inside */
    for (int i = 0; i < TURNS_MAX && !commit->done; i++) {
        suite->turn(suite);
    }
    assert_true(commit->done);
    return commit->code;
}

void suite_commit_ok(struct suite *suite, struct commit *commit)
{
    if (suite_commit(suite, commit) != 0) {
        fail_msg("the batch failed: %s", commit->error.text);
    }
    suite_release(commit);
}

void suite_release(struct commit *commit)
{
    chp_batch_deinit(&commit->batch);
    free(commit);
}

struct chp_uuid suite_uuid(uint8_t last)
{
    struct chp_uuid uuid = {{0x01, 0x93, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, last}};
    return uuid;
}

static void set_payload(struct suite *suite, struct chp_operation *operation)
{
    const char *argv[] = {"echo", "é", NULL};
    struct chp_command command = {.argv = argv, .argc = 2};
    struct chp_buf payload = {0};
    assert_int_equal(chp_command_encode(&command, &payload, NULL), 0);
    operation->payload = chp_arena_bytes(&suite->arena, chp_buf_bytes(&payload));
    operation->summary = chp_payload_summary("shell", operation->payload, &suite->arena);
    chp_buf_deinit(&payload);
}

struct chp_operation *suite_make(struct suite *suite, const struct wanted *wanted,
                                 struct chp_bytes *bytes)
{
    static const char *members[] = {"Nantes", "Paris", "Rennes"};
    struct chp_operation *operation = chp_arena_alloc(&suite->arena, sizeof *operation);
    uint64_t n = wanted->n == 0 ? 1 : wanted->n;
    operation->id = suite_uuid(wanted->id == 0 ? (uint8_t)n : wanted->id);
    operation->resource = wanted->resource == NULL ? "web" : wanted->resource;
    operation->dot = (struct chp_dot){
        .origin = wanted->origin == NULL ? "Nantes" : wanted->origin, .incarnation = 7, .n = n};
    operation->stamp.ms = wanted->stamp_ms == 0 ? 1000 * n : wanted->stamp_ms;
    operation->stamp.counter = 3;
    operation->type = "set";
    operation->level = wanted->level;
    operation->scope = "Nantes & Paris & Rennes";
    operation->members = members;
    operation->member_count = 3;
    operation->creates = n == 1;
    operation->driver = "shell";
    set_payload(suite, operation);
    operation->files = chp_arena_alloc(&suite->arena, sizeof *operation->files);
    operation->file_count = 1;
    operation->files[0] = (struct chp_file){.name = "site.yml",
                                            .sha256 = chp_sha256_of("x", 1),
                                            .size = 1,
                                            .is_inline = true,
                                            .content = chp_bytes("x", 1)};
    operation->key = "key";
    operation->principal = "alice";
    operation->entered_ms = 1790000000123;
    operation->deadline_ms = 60000;
    struct chp_item item = {.kind = CHP_ITEM_OPERATION, .operation = *operation};
    struct chp_buf buf = {0};
    struct chp_error error = {0};
    if (chp_item_encode(&item, &buf, &error) != 0) {
        fail_msg("%s", error.text);
    }
    *bytes = chp_arena_bytes(&suite->arena, chp_buf_bytes(&buf));
    chp_buf_deinit(&buf);
    return operation;
}

struct chp_operation *suite_operation(struct suite *suite, struct commit *commit,
                                      const struct wanted *wanted)
{
    struct chp_bytes item;
    struct chp_operation *operation = suite_make(suite, wanted, &item);
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_OPERATION);
    write->operation.operation = operation;
    write->operation.item = item;
    write->operation.received_ms = 1790000000200;
    write->operation.clock_suspect = wanted->clock_suspect;
    return operation;
}

void suite_self(struct commit *commit, const char *site, uint64_t incarnation)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_SELF);
    write->self.site = site;
    write->self.incarnation = incarnation;
}

struct chp_resource_row *suite_resource(struct commit *commit, const char *id, enum chp_level level)
{
    static const char *members[] = {"Nantes", "Paris", "Rennes"};
    struct chp_resource_row *row = &chp_batch_write(&commit->batch, CHP_WRITE_RESOURCE)->resource;
    *row = (struct chp_resource_row){.id = id,
                                     .level = level,
                                     .scope = "Nantes & Paris & Rennes",
                                     .members = members,
                                     .member_count = 3,
                                     .created_origin = "Nantes",
                                     .created_id = suite_uuid(1),
                                     .created_ms = 1790000000123};
    return row;
}

struct chp_execution_row *suite_execution(struct commit *commit, uint8_t operation,
                                          const char *site, uint32_t run, enum chp_state state)
{
    struct chp_execution_row *row =
        &chp_batch_write(&commit->batch, CHP_WRITE_EXECUTION)->execution;
    row->ack.operation = suite_uuid(operation);
    row->ack.resource = "web";
    row->ack.site = site;
    row->ack.incarnation = 7;
    row->ack.run = run;
    row->ack.state = state;
    return row;
}

void suite_key(struct commit *commit, const char *key, uint8_t operation, uint64_t at_ms)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_KEY);
    write->key.principal = "alice";
    write->key.key = key;
    write->key.hash = chp_sha256_of(&operation, 1);
    write->key.operation = suite_uuid(operation);
    write->key.at_ms = at_ms;
}

void suite_assert_key(struct suite *suite, const char *principal, const char *key,
                      uint8_t operation)
{
    struct commit *commit;
    struct chp_load asked = {.resource = "none", .principal = principal, .key = key};
    struct chp_load *load = suite_load(suite, &commit, CHP_LOAD_KEY, &asked);
    assert_false(load->found);
    assert_int_equal(load->resource_result.key_found, operation != 0);
    if (operation != 0) {
        struct chp_sha256 hash = chp_sha256_of(&operation, 1);
        assert_memory_equal(&load->resource_result.key_hash, &hash, sizeof hash);
        assert_int_equal(load->resource_result.key_operation.bytes[15], operation);
    }
    suite_release(commit);
}

void suite_outbound(struct commit *commit, const char *site, enum chp_key key, uint64_t number,
                    uint8_t operation, const char *item)
{
    struct chp_write *write = chp_batch_write(&commit->batch, CHP_WRITE_OUTBOUND);
    write->outbound.site = site;
    write->outbound.key = key;
    write->outbound.number = number;
    if (item == NULL) {
        write->outbound.is_operation = true;
        write->outbound.operation = suite_uuid(operation);
    } else {
        write->outbound.item = chp_bytes_of(item);
    }
}

void suite_mark(struct commit *commit, enum chp_write_kind kind, const char *site, enum chp_key key,
                uint64_t incarnation, uint64_t mark)
{
    struct chp_write *write = chp_batch_write(&commit->batch, kind);
    write->stream.site = site;
    write->stream.key = key;
    write->stream.incarnation = incarnation;
    write->stream.mark = mark;
}

void suite_begin(struct suite *suite, uint8_t count)
{
    struct commit *commit = suite_batch(suite);
    suite_self(commit, "Nantes", 7);
    (void)suite_resource(commit, "web", CHP_LEVEL_EVENTUAL);
    for (uint8_t n = 1; n <= count; n++) {
        (void)suite_operation(suite, commit, &(struct wanted){.n = n, .level = CHP_LEVEL_EVENTUAL});
        (void)suite_execution(commit, n, "Nantes", 0, CHP_STATE_ACCEPTED);
    }
    suite_commit_ok(suite, commit);
}

struct chp_load *suite_load(struct suite *suite, struct commit **commit, enum chp_load_kind kind,
                            const struct chp_load *asked)
{
    *commit = suite_batch(suite);
    struct chp_load *load = chp_batch_load(&(*commit)->batch, kind);
    if (asked != NULL) {
        *load = *asked;
    }
    load->kind = kind;
    load->token = 42;
    if (suite_commit(suite, *commit) != 0) {
        fail_msg("the load failed: %s", (*commit)->error.text);
    }
    assert_int_equal(load->token, 42);
    return load;
}

struct answer {
    bool done;
    int code;
    json_t *json;
};

static void query_on_answer(void *user, int code, const char *json, const struct chp_error *error)
{
    struct answer *answer = user;
    assert_false(answer->done);
    answer->done = true;
    answer->code = code;
    if (json != NULL) {
        assert_null(strchr(json, '\n')); /* doors put it on one line */
        answer->json = json_loads(json, JSON_DECODE_ANY, NULL);
        assert_non_null(answer->json);
    }
    if (code != 0) {
        assert_int_equal(error->code, code);
        assert_true(error->text[0] != 0);
    }
}

int suite_ask(struct suite *suite, enum chp_query query, json_t **json, const char *a,
              const char *b, const char *c, const char *d)
{
    const char *params[] = {a, b, c, d};
    size_t count = 0;
    while (count < 4 && params[count] != NULL) {
        count++;
    }
    return suite_ask_with(suite, query, json, params, count);
}

int suite_ask_with(struct suite *suite, enum chp_query query, json_t **json,
                   const char *const *params, size_t count)
{
    struct answer answer = {0};
    chp_store_query(suite->store, query, params, count, query_on_answer, &answer);
    for (int i = 0; i < TURNS_MAX && !answer.done; i++) {
        suite->turn(suite);
    }
    assert_true(answer.done);
    *json = answer.json;
    return answer.code;
}

void suite_assert_json(const json_t *json, const char *expected)
{
    char *text = chp_strdup(expected);
    for (char *c = text; *c != 0; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    json_error_t error;
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, &error);
    if (wanted == NULL) {
        fail_msg("the expectation is not JSON: %s", error.text);
    }
    if (!json_equal(json, wanted)) {
        char *got = json_dumps(json, JSON_ENCODE_ANY);
        fail_msg("expected %s\n     got %s", text, got);
    }
    json_decref(wanted);
    free(text);
}
