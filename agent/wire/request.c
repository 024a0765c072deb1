/* SPDX-License-Identifier: AGPL-3.0-only */
/* The AMQP door's messages: a request, and what goes back to its reply_to. Meant for foreign
 * clients: every field has a full name, ids are text, and what has no value is nil instead of
 * absent. */
#include "wire/request.h"

#include "wire/payload.h"
#include "wire/schemas.h"

#include <string.h>

/* What a driver is to do: one of the two. */
struct task {
    struct chp_command command;
    bool has_command;
    struct chp_rest http;
    bool has_http;
};

/* A request's map before it is a request. */
struct body {
    struct chp_request request;
    struct task task;
    struct task undo;
    bool has_undo;
};

#define AT(member)   offsetof(struct body, request.member)
#define TASK(member) offsetof(struct task, member)

static const struct wire__field argument = {.type = WIRE_TYPE_TEXT, .max = CHP_PAYLOAD_MAX_BYTES};

static const struct wire__field file_fields[] = {
    {.name = "name",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_file, name),
     .min = 1,
     .max = CHP_FILE_NAME_MAX_BYTES,
     .check = chp_file_name_check},
    {.name = "content",
     .type = WIRE_TYPE_BYTES,
     .offset = offsetof(struct chp_file, content),
     .max = CHP_FILE_INLINE_MAX_BYTES},
};
static const struct wire__schema file_schema = {.fields = file_fields,
                                                .field_count = WIRE_LENGTH(file_fields)};
static const struct wire__field file_element = {.type = WIRE_TYPE_STRUCT, .schema = &file_schema};

#define COMMAND_FIELD(where)                                                                       \
    {                                                                                              \
        .name = "command", .type = WIRE_TYPE_LIST, .offset = (where) + TASK(command.argv),         \
        .optional = true, .count = (where) + TASK(command.argc),                                   \
        .given = (where) + TASK(has_command), .element = &argument,                                \
        .element_bytes = sizeof(const char *), .min = 1, .max = CHP_ARGV_MAX                       \
    }
#define HTTP_FIELD(where)                                                                          \
    {                                                                                              \
        .name = "http", .type = WIRE_TYPE_STRUCT, .offset = (where) + TASK(http),                  \
        .optional = true, .given = (where) + TASK(has_http), .schema = &wire__rest_schema          \
    }

static const struct wire__field undo_fields[] = {
    COMMAND_FIELD(0),
    HTTP_FIELD(0),
};
static const struct wire__schema undo_schema = {.fields = undo_fields,
                                                .field_count = WIRE_LENGTH(undo_fields)};

static const struct wire__field fields[] = {
    {.name = "key",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(key),
     .optional = true,
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(resource),
     .max = CHP_SCOPE_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "type",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(type),
     .max = CHP_SCOPE_MAX_BYTES,
     .check = chp_type_check},
    {.name = "scope",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(scope),
     .optional = true,
     .min = 1,
     .max = CHP_SCOPE_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "level",
     .type = WIRE_TYPE_LEVEL,
     .offset = AT(level),
     .optional = true,
     .given = AT(level_given)},
    COMMAND_FIELD(offsetof(struct body, task)),
    HTTP_FIELD(offsetof(struct body, task)),
    {.name = "undo",
     .type = WIRE_TYPE_STRUCT,
     .offset = offsetof(struct body, undo),
     .optional = true,
     .given = offsetof(struct body, has_undo),
     .schema = &undo_schema},
    {.name = "files",
     .type = WIRE_TYPE_LIST,
     .offset = AT(files),
     .optional = true,
     .count = AT(file_count),
     .element = &file_element,
     .element_bytes = sizeof(struct chp_file),
     .max = CHP_FILES_MAX},
    {.name = "config",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(config),
     .optional = true,
     .min = 1,
     .max = CHP_CONFIG_MAX_BYTES},
    {.name = "timeout_ms",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(deadline_ms),
     .optional = true,
     .min = 1,
     .max = CHP_DEADLINE_MAX_MS},
};
static const struct wire__schema request_schema = {.fields = fields,
                                                   .field_count = WIRE_LENGTH(fields)};

static int finish_files(struct chp_request *request, struct chp_error *error)
{
    for (size_t i = 0; i < request->file_count; i++) {
        struct chp_file *file = &request->files[i];
        file->is_inline = true;
        file->size = file->content.len;
        file->sha256 = chp_sha256_of(file->content.data, file->content.len);
    }
    struct chp_error reason = {0};
    int code = wire__files_check(request->files, request->file_count, &reason);
    return code == 0 ? 0 : chp_error_set(error, code, "request.files: %s", reason.text);
}

/* what: "request" or "request.undo". */
static int check_task(const struct task *task, const struct chp_request *request, const char *what,
                      struct chp_error *error)
{
    if (task->has_command == task->has_http) {
        return chp_error_set(error, CHP_EINVAL, "%s: must have either command or http", what);
    }
    const char *name = task->http.body_file;
    if (!task->has_http || name == NULL) {
        return 0;
    }
    for (size_t i = 0; i < request->file_count; i++) {
        if (strcmp(request->files[i].name, name) == 0) {
            return 0;
        }
    }
    return chp_error_set(error, CHP_EINVAL, "%s.http.body_file: none of the files is called %s",
                         what, name);
}

static int check_tasks(const struct body *body, struct chp_error *error)
{
    int code = check_task(&body->task, &body->request, "request", error);
    if (code != 0 || !body->has_undo) {
        return code;
    }
    code = check_task(&body->undo, &body->request, "request.undo", error);
    if (code == 0 && body->undo.has_command != body->task.has_command) {
        code = chp_error_set(error, CHP_EINVAL, "request.undo: must have %s, as the request has",
                             body->task.has_command ? "a command" : "http");
    }
    return code;
}

static int encode_task(const struct task *task, struct chp_arena *arena, struct chp_bytes *payload,
                       struct chp_error *error)
{
    struct chp_buf out = {0};
    int code = task->has_command ? chp_command_encode(&task->command, &out, error)
                                 : chp_rest_encode(&task->http, &out, error);
    *payload = chp_arena_bytes(arena, chp_buf_bytes(&out));
    chp_buf_deinit(&out);
    return code;
}

static int finish_payloads(struct body *body, struct chp_arena *arena, struct chp_error *error)
{
    struct chp_request *request = &body->request;
    request->driver = body->task.has_command ? "shell" : "http";
    int code = encode_task(&body->task, arena, &request->payload, error);
    if (code == 0 && body->has_undo) {
        code = encode_task(&body->undo, arena, &request->undo, error);
        code = code != 0 ? code : chp_undo_check(request->undo, error);
    }
    return code;
}

int chp_request_decode(struct chp_bytes body_bytes, struct chp_arena *arena,
                       struct chp_request *request, struct chp_error *error)
{
    struct body body = {0};
    *request = body.request;
    if (body_bytes.len > CHP_MESSAGE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "a request of %zu bytes, at most %d are allowed",
                             body_bytes.len, CHP_MESSAGE_MAX_BYTES);
    }
    int code = wire__scan(body_bytes, error);
    if (code == 0) {
        code = wire__read(&request_schema, "request", &body_bytes, arena, &body, error);
    }
    if (code == 0) {
        code = finish_files(&body.request, error);
    }
    if (code == 0) {
        code = check_tasks(&body, error);
    }
    if (code == 0) {
        code = finish_payloads(&body, arena, error);
    }
    if (code == 0) {
        body.request.key_given = body.request.key != NULL;
        *request = body.request;
    }
    return code;
}

/* Replies. */

static void pack_pair(msgpack_packer *packer, const char *name, const char *text)
{
    wire__pack_text(packer, name);
    wire__pack_text(packer, text);
}

static void pack_number(msgpack_packer *packer, const char *name, uint64_t number)
{
    wire__pack_text(packer, name);
    (void)msgpack_pack_uint64(packer, number);
}

static void pack_bool(msgpack_packer *packer, const char *name, bool value)
{
    wire__pack_text(packer, name);
    (void)(value ? msgpack_pack_true(packer) : msgpack_pack_false(packer));
}

static void pack_uuid(msgpack_packer *packer, const char *name, const struct chp_uuid *uuid)
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(uuid, text);
    pack_pair(packer, name, text);
}

void chp_reply_encode(const struct chp_reply *reply, struct chp_buf *out)
{
    msgpack_packer packer = wire__packer(out);
    if (reply->code != 0) {
        (void)msgpack_pack_map(&packer, 3);
        pack_pair(&packer, "kind", "refused");
        pack_pair(&packer, "error", reply->error);
        pack_pair(&packer, "code", chp_error_name(reply->code));
        return;
    }
    (void)msgpack_pack_map(&packer, 7);
    pack_pair(&packer, "kind", "accepted");
    pack_uuid(&packer, "operation", &reply->id);
    pack_pair(&packer, "resource", reply->resource);
    pack_pair(&packer, "scope", reply->scope);
    wire__pack_text(&packer, "members");
    (void)msgpack_pack_array(&packer, reply->member_count);
    for (size_t i = 0; i < reply->member_count; i++) {
        wire__pack_text(&packer, reply->members[i]);
    }
    pack_bool(&packer, "duplicate", reply->duplicate);
    pack_pair(&packer, "warning", reply->warning);
}

void chp_notice_encode(const struct chp_notice *notice, struct chp_buf *out)
{
    msgpack_packer packer = wire__packer(out);
    const struct chp_ack *ack = &notice->ack;
    (void)msgpack_pack_map(&packer, notice->completed ? 6 : 15);
    pack_pair(&packer, "kind", notice->completed ? "completed" : "result");
    pack_uuid(&packer, "operation", &notice->operation);
    pack_pair(&packer, "resource", notice->resource);
    pack_number(&packer, "answered", notice->answered);
    pack_number(&packer, "members", notice->member_count);
    if (notice->completed) {
        pack_pair(&packer, "state", notice->failed ? "failed" : "done");
        return;
    }
    pack_pair(&packer, "site", ack->site);
    pack_pair(&packer, "state", chp_state_name(ack->state));
    pack_number(&packer, "run", ack->run);
    wire__pack_text(&packer, "exit_code");
    (void)msgpack_pack_int32(&packer, ack->exit_code);
    wire__pack_text(&packer, "output");
    wire__pack_bytes(&packer, ack->output);
    pack_bool(&packer, "output_cut", ack->output_cut);
    pack_pair(&packer, "reason", ack->reason);
    pack_bool(&packer, "unverified", ack->unverified);
    pack_number(&packer, "duration_ms", ack->duration_ms);
    pack_number(&packer, "elapsed_ms", notice->elapsed_ms);
}

/* Hash. Each part goes in with its length (absent: the greatest one), so that no two requests give
 * the same bytes. */

static void hash_number(struct chp_sha256_state *state, uint64_t number)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    }
    chp_sha256_update(state, bytes, sizeof bytes);
}

static void hash_text(struct chp_sha256_state *state, const char *text)
{
    hash_number(state, text == NULL ? UINT64_MAX : strlen(text));
    if (text != NULL) {
        chp_sha256_update(state, text, strlen(text));
    }
}

struct chp_sha256 chp_request_hash(const struct chp_request *request)
{
    struct chp_sha256_state *state = chp_sha256_new();
    hash_text(state, request->resource);
    hash_text(state, request->type);
    hash_text(state, request->scope);
    hash_text(state, request->level_given ? chp_level_name(request->level) : NULL);
    hash_text(state, request->driver);
    hash_number(state, request->payload.len);
    chp_sha256_update(state, request->payload.data, request->payload.len);
    hash_number(state, request->file_count);
    for (size_t i = 0; i < request->file_count; i++) {
        hash_text(state, request->files[i].name);
        chp_sha256_update(state, request->files[i].sha256.bytes, CHP_SHA256_BYTES);
    }
    hash_text(state, request->config);
    hash_number(state, request->deadline_ms);
    if (request->undo.len > 0) { /* keys outlive agents that did not know it */
        hash_number(state, request->undo.len);
        chp_sha256_update(state, request->undo.data, request->undo.len);
    }
    return chp_sha256_finish(state);
}
