/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * JSON to requests, and answers to JSON. Jansson checks UTF-8 and refuses NUL in strings; depth is
 * counted before it parses, since it recurses. Fields that are not known are refused by name: a
 * misspelled "scope" must not become an operation somewhere else.
 */
#include "gateway/json.h"

#include "base/clock.h"
#include "base/suggest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* --- reading ----------------------------------------------------------------------------- */

static size_t depth_of(const char *text, size_t len)
{
    size_t depth = 0;
    size_t deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string) {
            i += text[i] == '\\';
            in_string = i >= len || text[i] != '"';
        } else if (text[i] == '"') {
            in_string = true;
        } else if (text[i] == '{' || text[i] == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (text[i] == '}' || text[i] == ']') {
            depth -= depth > 0;
        }
    }
    return deepest;
}

json_t *gateway__json_parse(const void *data, size_t len, struct chp_error *error)
{
    json_error_t detail;
    if (len == 0) {
        (void)chp_error_set(error, CHP_EMALFORMED, "the body is empty: a JSON object is expected");
        return NULL;
    }
    if (depth_of(data, len) > GATEWAY_JSON_DEPTH_MAX) {
        (void)chp_error_set(error, CHP_ETOODEEP, "the body nests deeper than %d levels",
                            GATEWAY_JSON_DEPTH_MAX);
        return NULL;
    }
    json_t *json = json_loadb(data, len, JSON_REJECT_DUPLICATES, &detail);
    if (json == NULL) {
        (void)chp_error_set(error, CHP_EMALFORMED, "the body is not JSON: line %d, column %d: %s",
                            detail.line, detail.column, detail.text);
        return NULL;
    }
    if (!json_is_object(json)) {
        (void)chp_error_set(error, CHP_EINVAL, "the body must be a JSON object");
        json_decref(json);
        return NULL;
    }
    return json;
}

int gateway__json_fields_check(const json_t *object, const char *what, const char *const *names,
                               size_t count, struct chp_error *error)
{
    const char *field;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, field, value)
    {
        bool known = false;
        for (size_t i = 0; i < count; i++) {
            known = known || strcmp(field, names[i]) == 0;
        }
        if (!known) {
            struct chp_buf allowed = {0};
            const char *near = chp_suggest(field, names, count);
            chp_suggest_list(&allowed, names, count, 300);
            int rc = chp_error_set(
                error, CHP_EINVAL, "field \"%.60s\" of %s is not known%s%s%s: allowed are %s",
                field, what, near != NULL ? ", did you mean \"" : "", near != NULL ? near : "",
                near != NULL ? "\"" : "", chp_buf_text(&allowed));
            chp_buf_deinit(&allowed);
            return rc;
        }
    }
    return 0;
}

#define FIELDS_CHECK(object, what, error, ...)                                                     \
    gateway__json_fields_check((object), (what), (const char *const[]){__VA_ARGS__},               \
                               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),        \
                               (error))

/* A string field, copied to arena; NULL when it is absent or null. */
static int read_string(const json_t *object, const char *field, struct chp_arena *arena,
                       const char **text, struct chp_error *error)
{
    const json_t *value = json_object_get(object, field);
    *text = NULL;
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    if (!json_is_string(value)) {
        return chp_error_set(error, CHP_EINVAL, "field \"%s\" must be a string", field);
    }
    *text = chp_arena_strdup(arena, json_string_value(value));
    return 0;
}

static int require_string(const json_t *object, const char *field, struct chp_arena *arena,
                          const char **text, struct chp_error *error)
{
    int rc = read_string(object, field, arena, text, error);
    if (rc == 0 && (*text == NULL || (*text)[0] == '\0')) {
        rc = chp_error_set(error, CHP_EINVAL, "field \"%s\" is missing", field);
    }
    return rc;
}

static int read_deadline(const json_t *object, uint64_t *deadline_ms, struct chp_error *error)
{
    const json_t *value = json_object_get(object, "timeout_ms");
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > CHP_DEADLINE_MAX_MS) {
        return chp_error_set(error, CHP_EINVAL,
                             "field \"timeout_ms\" must be a number from 1 to %d",
                             CHP_DEADLINE_MAX_MS);
    }
    *deadline_ms = (uint64_t)json_integer_value(value);
    return 0;
}

/* --- payloads ---------------------------------------------------------------------------- */

static struct chp_bytes to_arena(struct chp_buf *buf, struct chp_arena *arena)
{
    struct chp_bytes bytes = chp_arena_bytes(arena, chp_buf_bytes(buf));
    chp_buf_deinit(buf);
    return bytes;
}

static int encode_command(const char **argv, size_t argc, struct chp_arena *arena,
                          struct chp_bytes *payload, struct chp_error *error)
{
    struct chp_command command = {.argv = argv, .argc = argc};
    struct chp_buf out = {0};
    int rc = chp_command_encode(&command, &out, error);
    *payload = to_arena(&out, arena);
    return rc;
}

int gateway__payload_of_shell(const char *command, struct chp_arena *arena,
                              struct chp_bytes *payload, struct chp_error *error)
{
    const char *argv[] = {"sh", "-c", command, NULL};
    return encode_command(argv, 3, arena, payload, error);
}

static int read_command(const json_t *value, struct chp_arena *arena, struct chp_bytes *payload,
                        struct chp_error *error)
{
    size_t argc = json_array_size(value);
    if (!json_is_array(value) || argc == 0 || argc > CHP_ARGV_MAX) {
        return chp_error_set(
            error, CHP_EINVAL,
            "field \"command\" must be an array of 1 to %d strings, the program first",
            CHP_ARGV_MAX);
    }
    const char **argv = chp_arena_calloc(arena, argc + 1, sizeof *argv);
    for (size_t i = 0; i < argc; i++) {
        argv[i] = json_string_value(json_array_get(value, i));
        if (argv[i] == NULL) {
            return chp_error_set(error, CHP_EINVAL,
                                 "field \"command\" holds something that is no string");
        }
    }
    return encode_command(argv, argc, arena, payload, error);
}

/* {"Name": "value"} */
static int read_headers(const json_t *value, struct chp_arena *arena, struct chp_rest *rest,
                        struct chp_error *error)
{
    const char *name;
    json_t *text;
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    if (!json_is_object(value)) {
        return chp_error_set(error, CHP_EINVAL,
                             "field \"headers\" of \"http\" must be an object of names and values");
    }
    rest->headers = chp_arena_calloc(arena, json_object_size(value), sizeof *rest->headers);
    json_object_foreach((json_t *)(uintptr_t)value, name, text)
    {
        if (!json_is_string(text) || name[0] == '\0' || strpbrk(name, ":\r\n") != NULL ||
            strpbrk(json_string_value(text), "\r\n") != NULL) {
            return chp_error_set(
                error, CHP_EINVAL,
                "header \"%.60s\" must be a name without ':' and a value, each one line", name);
        }
        rest->headers[rest->header_count++] =
            chp_arena_printf(arena, "%s: %s", name, json_string_value(text));
    }
    return 0;
}

static int read_rest_body(const json_t *value, struct chp_arena *arena, struct chp_rest *rest,
                          struct chp_error *error)
{
    const char *text;
    const char *base64;
    int rc = read_string(value, "body", arena, &text, error);
    rc = rc != 0 ? rc : read_string(value, "body_base64", arena, &base64, error);
    rc = rc != 0 ? rc : read_string(value, "body_file", arena, &rest->body_file, error);
    if (rc != 0) {
        return rc;
    }
    if ((text != NULL) + (base64 != NULL) + (rest->body_file != NULL) > 1) {
        return chp_error_set(error, CHP_EINVAL,
                             "\"http\" takes one of body, body_base64 and body_file");
    }
    if (text != NULL) {
        rest->body = chp_bytes_of(text);
    } else if (base64 != NULL) {
        struct chp_buf out = {0};
        rc = gateway__base64_decode(base64, strlen(base64), &out);
        rest->body = to_arena(&out, arena);
        if (rc != 0) {
            return chp_error_set(error, CHP_EINVAL,
                                 "field \"body_base64\" of \"http\" is not base64");
        }
    }
    return 0;
}

static int read_http(const json_t *value, struct chp_arena *arena, struct chp_bytes *payload,
                     struct chp_error *error)
{
    struct chp_rest rest = {0};
    const char *method;
    if (!json_is_object(value)) {
        return chp_error_set(error, CHP_EINVAL, "field \"http\" must be an object");
    }
    int rc = FIELDS_CHECK(value, "\"http\"", error, "service", "method", "path", "headers", "body",
                          "body_base64", "body_file");
    rc = rc != 0 ? rc : require_string(value, "service", arena, &rest.service, error);
    rc = rc != 0 ? rc : require_string(value, "method", arena, &method, error);
    rc = rc != 0 ? rc : read_string(value, "path", arena, &rest.path, error);
    rc = rc != 0 ? rc : read_headers(json_object_get(value, "headers"), arena, &rest, error);
    rc = rc != 0 ? rc : read_rest_body(value, arena, &rest, error);
    if (rc != 0) {
        return rc;
    }
    char *upper = chp_arena_strdup(arena, method);
    for (char *at = upper; *at != '\0'; at++) {
        *at = (char)toupper((unsigned char)*at);
    }
    rest.method = upper;
    rest.path = rest.path != NULL ? rest.path + strspn(rest.path, "/") : "";
    struct chp_buf out = {0};
    rc = chp_rest_encode(&rest, &out, error);
    *payload = to_arena(&out, arena);
    return rc;
}

static int read_payload(const json_t *body, struct chp_arena *arena, const char **driver,
                        struct chp_bytes *payload, struct chp_error *error)
{
    const json_t *command = json_object_get(body, "command");
    const json_t *http = json_object_get(body, "http");
    if ((command != NULL) == (http != NULL)) {
        return chp_error_set(error, CHP_EINVAL,
                             "one of the fields \"command\" and \"http\" is needed");
    }
    *driver = command != NULL ? "shell" : "http";
    return command != NULL ? read_command(command, arena, payload, error)
                           : read_http(http, arena, payload, error);
}

/* {"command": [...]} or {"http": {...}}, as the body has. */
static int read_undo(const json_t *body, struct chp_arena *arena, struct chp_request *request,
                     struct chp_error *error)
{
    const json_t *undo = json_object_get(body, "undo");
    const char *driver = NULL;
    struct chp_error reason = {0};
    if (undo == NULL || json_is_null(undo)) {
        return 0;
    }
    if (!json_is_object(undo)) {
        return chp_error_set(error, CHP_EINVAL,
                             "field \"undo\" must be an object with \"command\" or \"http\"");
    }
    int rc = FIELDS_CHECK(undo, "\"undo\"", error, "command", "http");
    if (rc != 0) {
        return rc;
    }
    rc = read_payload(undo, arena, &driver, &request->undo, &reason);
    if (rc != 0) {
        return chp_error_set(error, rc, "in \"undo\": %s", reason.text);
    }
    CHP_ASSERT(driver != NULL && request->driver != NULL);
    if (strcmp(driver, request->driver) != 0) {
        return chp_error_set(error, CHP_EINVAL,
                             "\"undo\" must have the same of \"command\" and \"http\" as the body");
    }
    return chp_undo_check(request->undo, error);
}

/* --- files ------------------------------------------------------------------------------- */

static int store_blob(const struct chp_agent_port *port, struct chp_bytes content,
                      struct chp_file *file, struct chp_error *error)
{
    struct chp_blob_writer *writer = NULL;
    int rc = port->vtable->blob_begin(port->agent, &writer, error);
    if (rc != 0) {
        return rc;
    }
    rc = port->vtable->blob_write(writer, content.data, content.len, error);
    if (rc != 0) {
        port->vtable->blob_abort(writer);
        return rc;
    }
    return port->vtable->blob_finish(writer, &file->sha256, &file->size, error);
}

static int read_content(const struct chp_agent_port *port, const char *base64, size_t *inline_bytes,
                        struct chp_arena *arena, struct chp_file *file, struct chp_error *error)
{
    struct chp_buf out = {0};
    int rc = gateway__base64_decode(base64, strlen(base64), &out);
    if (rc != 0) {
        chp_buf_deinit(&out);
        return chp_error_set(error, CHP_EINVAL, "field \"content_base64\" of file %s is not base64",
                             file->name);
    }
    if (out.len > CHP_FILE_INLINE_MAX_BYTES ||
        out.len > CHP_FILES_INLINE_MAX_BYTES - *inline_bytes) {
        rc = store_blob(port, chp_buf_bytes(&out), file, error);
        chp_buf_deinit(&out);
        return rc;
    }
    *inline_bytes += out.len;
    file->is_inline = true;
    file->size = out.len;
    file->sha256 = chp_sha256_of(out.data, out.len);
    file->content = to_arena(&out, arena);
    return 0;
}

static int read_file(const struct chp_agent_port *port, const json_t *value, size_t *inline_bytes,
                     struct chp_arena *arena, struct chp_file *file, struct chp_error *error)
{
    const char *sha256 = NULL;
    const char *base64 = NULL;
    if (!json_is_object(value)) {
        return chp_error_set(error, CHP_EINVAL, "field \"files\" must be an array of objects");
    }
    int rc = FIELDS_CHECK(value, "a file", error, "name", "sha256", "content_base64");
    rc = rc != 0 ? rc : require_string(value, "name", arena, &file->name, error);
    rc = rc != 0 ? rc : chp_file_name_check(file->name, error);
    rc = rc != 0 ? rc : read_string(value, "sha256", arena, &sha256, error);
    rc = rc != 0 ? rc : read_string(value, "content_base64", arena, &base64, error);
    if (rc != 0) {
        return rc;
    }
    if ((sha256 != NULL) == (base64 != NULL)) {
        return chp_error_set(error, CHP_EINVAL, "file %s needs one of sha256 and content_base64",
                             file->name);
    }
    if (base64 != NULL) {
        return read_content(port, base64, inline_bytes, arena, file, error);
    }
    if (chp_sha256_parse(sha256, &file->sha256) != 0) {
        return chp_error_set(error, CHP_EINVAL, "sha256 of file %s must be 64 hexadecimal digits",
                             file->name);
    }
    if (!port->vtable->blob_have(port->agent, &file->sha256, &file->size)) {
        return chp_error_set(error, CHP_EINVAL,
                             "the content of file %s is not here: send it to POST /v1/blobs first",
                             file->name);
    }
    return 0;
}

static int read_files(const struct chp_agent_port *port, const json_t *value,
                      struct chp_arena *arena, struct chp_request *request, struct chp_error *error)
{
    size_t inline_bytes = 0;
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    if (!json_is_array(value) || json_array_size(value) > CHP_FILES_MAX) {
        return chp_error_set(error, CHP_EINVAL,
                             "field \"files\" must be an array of at most %d files", CHP_FILES_MAX);
    }
    request->files = chp_arena_calloc(arena, json_array_size(value), sizeof *request->files);
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct chp_file *file = &request->files[i];
        int rc = read_file(port, json_array_get(value, i), &inline_bytes, arena, file, error);
        if (rc != 0) {
            return rc;
        }
        CHP_ASSERT(file->name != NULL);
        for (size_t k = 0; k < request->file_count; k++) {
            if (strcmp(request->files[k].name, file->name) == 0) {
                return chp_error_set(error, CHP_EINVAL, "file %s is given twice", file->name);
            }
        }
        request->file_count++;
    }
    return 0;
}

/* --- requests ---------------------------------------------------------------------------- */

int gateway__config_text(const json_t *config, struct chp_arena *arena, const char **text,
                         struct chp_error *error)
{
    if (!json_is_object(config)) {
        return chp_error_set(error, CHP_EINVAL,
                             "config must be a JSON object, such as {\"ResolutionMatrix\": [...]}");
    }
    char *compact = json_dumps(config, JSON_COMPACT);
    CHP_ASSERT(compact != NULL);
    int rc = 0;
    if (strlen(compact) > CHP_CONFIG_MAX_BYTES) {
        rc = chp_error_set(error, CHP_ETOOBIG, "config has %zu bytes, over the bound of %d",
                           strlen(compact), CHP_CONFIG_MAX_BYTES);
    } else {
        *text = chp_arena_strdup(arena, compact);
    }
    free(compact);
    return rc;
}

static int read_level(const json_t *body, struct chp_arena *arena, struct chp_request *request,
                      struct chp_error *error)
{
    const char *level;
    int rc = read_string(body, "level", arena, &level, error);
    request->level = CHP_LEVEL_EVENTUAL;
    if (rc != 0 || level == NULL) {
        return rc;
    }
    request->level_given = true;
    if (chp_level_parse(level, &request->level) != 0) {
        return chp_error_set(
            error, CHP_EINVAL,
            "level \"%.60s\" is not known: allowed are none, eventual, transactional and "
            "strong",
            level);
    }
    return 0;
}

int gateway__request_from_json(const struct chp_agent_port *port, const json_t *body,
                               struct chp_arena *arena, struct chp_request *request,
                               struct chp_error *error)
{
    const json_t *config = json_object_get(body, "config");
    int rc = FIELDS_CHECK(body, "the body", error, "resource", "type", "scope", "level", "command",
                          "http", "undo", "files", "config", "timeout_ms");
    rc = rc != 0 ? rc : require_string(body, "resource", arena, &request->resource, error);
    rc = rc != 0 ? rc : chp_resource_id_check(request->resource, error);
    rc = rc != 0 ? rc : require_string(body, "type", arena, &request->type, error);
    rc = rc != 0 ? rc : chp_type_check(request->type, error);
    rc = rc != 0 ? rc : read_string(body, "scope", arena, &request->scope, error);
    rc = rc != 0 ? rc : read_level(body, arena, request, error);
    rc = rc != 0 ? rc : read_deadline(body, &request->deadline_ms, error);
    rc = rc != 0 ? rc : read_payload(body, arena, &request->driver, &request->payload, error);
    rc = rc != 0 ? rc : read_undo(body, arena, request, error);
    if (rc == 0 && config != NULL && !json_is_null(config)) {
        rc = gateway__config_text(config, arena, &request->config, error);
    }
    /* Last, since it may write blobs. */
    return rc != 0 ? rc : read_files(port, json_object_get(body, "files"), arena, request, error);
}

int gateway__request_check(const struct chp_agent_port *port, const struct chp_request *request,
                           struct chp_error *error)
{
    struct chp_error reason = {0};
    int rc = port->vtable->check(port->agent, request->driver, request->payload, request->files,
                                 request->file_count, error);
    if (rc != 0 || request->undo.len == 0) {
        return rc;
    }
    rc = port->vtable->check(port->agent, request->driver, request->undo, request->files,
                             request->file_count, &reason);
    return rc == 0 ? 0 : chp_error_set(error, rc, "its undo: %s", reason.text);
}

int gateway__show_from_json(const json_t *body, struct chp_arena *arena, struct chp_show *show,
                            struct chp_error *error)
{
    int rc = FIELDS_CHECK(body, "the body", error, "command", "http", "timeout_ms");
    rc = rc != 0 ? rc : read_deadline(body, &show->deadline_ms, error);
    return rc != 0 ? rc : read_payload(body, arena, &show->driver, &show->payload, error);
}

int gateway__ask_from_json(const json_t *body, uint64_t *deadline_ms, struct chp_error *error)
{
    int rc = FIELDS_CHECK(body, "the body", error, "command", "http", "timeout_ms");
    return rc != 0 ? rc : read_deadline(body, deadline_ms, error);
}

int gateway__plan_from_json(const json_t *body, struct chp_arena *arena,
                            struct chp_request *request, uint64_t *deadline_ms,
                            struct chp_error *error)
{
    int rc = FIELDS_CHECK(body, "the body", error, "type", "command", "http", "undo", "timeout_ms");
    rc = rc != 0 ? rc : require_string(body, "type", arena, &request->type, error);
    rc = rc != 0 ? rc : chp_type_check(request->type, error);
    rc = rc != 0 ? rc : read_deadline(body, deadline_ms, error);
    if (rc == 0 &&
        (json_object_get(body, "command") != NULL || json_object_get(body, "http") != NULL ||
         json_object_get(body, "undo") != NULL)) {
        rc = read_payload(body, arena, &request->driver, &request->payload, error);
        rc = rc != 0 ? rc : read_undo(body, arena, request, error);
    }
    return rc;
}

/* --- answers ----------------------------------------------------------------------------- */

json_t *gateway__json_text(const char *text)
{
    if (text == NULL) {
        return json_null();
    }
    struct chp_buf clean = {0};
    chp_buf_add_utf8_lossy(&clean, text, strlen(text));
    json_t *json = json_stringn(chp_buf_text(&clean), clean.len);
    chp_buf_deinit(&clean);
    return json;
}

json_t *gateway__json_strings(const char *const *texts, size_t count)
{
    json_t *json = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(json, gateway__json_text(texts[i]));
    }
    return json;
}

static json_t *json_of_time(uint64_t wall_ms)
{
    char text[CHP_TIME_TEXT_BYTES];
    if (wall_ms == 0) {
        return json_null();
    }
    chp_clock_format(wall_ms, text);
    return json_string(text);
}

/* Any bytes: as text, and when they are not text also as they are. */
static void set_output(json_t *json, struct chp_bytes output)
{
    struct chp_buf text = {0};
    chp_buf_add_utf8_lossy(&text, output.data, output.len);
    (void)json_object_set_new(json, "output", json_stringn(chp_buf_text(&text), text.len));
    if (!chp_utf8_valid(output.data, output.len)) {
        chp_buf_clear(&text);
        gateway__base64_encode(output.data, output.len, &text);
        (void)json_object_set_new(json, "output_base64",
                                  json_stringn(chp_buf_text(&text), text.len));
    }
    chp_buf_deinit(&text);
}

json_t *gateway__json_of_ack(const struct chp_ack *ack, uint64_t elapsed_ms)
{
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:i}", "site", ack->site, "state", chp_state_name(ack->state),
                  "run", (json_int_t)ack->run, "exit_code", (int)ack->exit_code);
    CHP_ASSERT(json != NULL);
    set_output(json, ack->output);
    (void)json_object_set_new(json, "output_cut", json_boolean(ack->output_cut));
    (void)json_object_set_new(json, "reason", gateway__json_text(ack->reason));
    (void)json_object_set_new(json, "unverified", json_boolean(ack->unverified));
    (void)json_object_set_new(json, "started_at", json_of_time(ack->started_ms));
    (void)json_object_set_new(json, "duration_ms", json_integer((json_int_t)ack->duration_ms));
    (void)json_object_set_new(json, "elapsed_ms", json_integer((json_int_t)elapsed_ms));
    return json;
}

json_t *gateway__json_of_answer(const struct chp_answer *answer)
{
    json_t *json = json_pack("{s:s, s:i}", "state", chp_state_name(answer->state), "exit_code",
                             (int)answer->exit_code);
    CHP_ASSERT(json != NULL);
    set_output(json, answer->output);
    (void)json_object_set_new(json, "output_cut", json_boolean(answer->output_cut));
    (void)json_object_set_new(json, "reason", gateway__json_text(answer->reason));
    (void)json_object_set_new(json, "duration_ms", json_integer((json_int_t)answer->duration_ms));
    return json;
}

json_t *gateway__json_of_reply(const struct chp_reply *reply)
{
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&reply->id, id);
    json_t *json = json_pack("{s:s}", "operation", id);
    (void)json_object_set_new(json, "resource", gateway__json_text(reply->resource));
    (void)json_object_set_new(json, "scope", gateway__json_text(reply->scope));
    (void)json_object_set_new(json, "members",
                              gateway__json_strings(reply->members, reply->member_count));
    (void)json_object_set_new(json, "duplicate", json_boolean(reply->duplicate));
    (void)json_object_set_new(json, "warning", gateway__json_text(reply->warning));
    return json;
}
