/* SPDX-License-Identifier: AGPL-3.0-only */
/* The AMQP door: requests, replies, the hash that tells a repeated request from another one. */
#include "samples.h"

#include "wire/payload.h"
#include "wire/request.h"

/* A request's map: fields are added by hand, count counts them. */
struct writer {
    struct chp_buf fields;
    msgpack_packer packer;
    uint8_t count;
};

static void begin(struct writer *writer)
{
    chp_buf_clear(&writer->fields);
    writer->packer = packer_to(&writer->fields);
    writer->count = 0;
}

static msgpack_packer *field(struct writer *writer, const char *name)
{
    writer->count++;
    pack(&writer->packer, name);
    return &writer->packer;
}

static void text_field(struct writer *writer, const char *name, const char *text)
{
    pack(field(writer, name), text);
}

static void command_field(struct writer *writer)
{
    msgpack_packer *packer = field(writer, "command");
    msgpack_pack_array(packer, 2);
    pack(packer, "echo");
    pack(packer, "hello");
}

static void file(msgpack_packer *packer, const char *name, size_t size)
{
    static const char zeros[CHP_FILE_INLINE_MAX_BYTES + 1];
    msgpack_pack_map(packer, 2);
    pack(packer, "name");
    pack(packer, name);
    pack(packer, "content");
    msgpack_pack_bin_with_body(packer, zeros, size);
}

static int decode(struct writer *writer, struct chp_arena *arena, struct chp_request *request,
                  struct chp_error *error)
{
    struct chp_buf body = {0};
    assert_true(writer->count <= 15);
    chp_buf_add_byte(&body, (uint8_t)(0x80 | writer->count));
    chp_buf_add(&body, writer->fields.data, writer->fields.len);
    int code =
        chp_request_decode(chp_arena_bytes(arena, chp_buf_bytes(&body)), arena, request, error);
    chp_buf_deinit(&body);
    return code;
}

static void accepts(struct writer *writer, struct chp_arena *arena, struct chp_request *request)
{
    struct chp_error error = {0};
    if (decode(writer, arena, request, &error) != 0) {
        fail_msg("%s", error.text);
    }
}

static void refuses(struct writer *writer, int code, const char *text)
{
    struct chp_arena arena = {0};
    struct chp_request request;
    struct chp_error error = {0};
    assert_int_equal(decode(writer, &arena, &request, &error), code);
    assert_null(request.resource);
    if (strstr(error.text, text) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", error.text, text);
    }
    chp_arena_deinit(&arena);
}

static void a_command_request_has_everything(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct writer writer = {0};
    struct chp_request request;
    struct chp_command command;
    begin(&writer);
    text_field(&writer, "key", "k-1");
    text_field(&writer, "resource", "greeting");
    text_field(&writer, "type", "set");
    text_field(&writer, "scope", "Nantes & Rennes");
    text_field(&writer, "level", "none");
    command_field(&writer);
    msgpack_packer *packer = field(&writer, "files");
    msgpack_pack_array(packer, 1);
    file(packer, "conf", 10);
    text_field(&writer, "config", "{}");
    msgpack_pack_int(field(&writer, "timeout_ms"), 5000);
    text_field(&writer, "later", "ignored");
    accepts(&writer, &arena, &request);
    assert_string_equal(request.key, "k-1");
    assert_true(request.key_given);
    assert_string_equal(request.resource, "greeting");
    assert_string_equal(request.type, "set");
    assert_string_equal(request.scope, "Nantes & Rennes");
    assert_true(request.level_given);
    assert_int_equal(request.level, CHP_LEVEL_NONE);
    assert_string_equal(request.driver, "shell");
    assert_int_equal(chp_command_decode(request.payload, &arena, &command, NULL), 0);
    assert_string_equal(command.argv[1], "hello");
    assert_int_equal(request.file_count, 1);
    assert_true(request.files[0].is_inline);
    assert_int_equal(request.files[0].size, 10);
    struct chp_sha256 sha256 = chp_sha256_of("\0\0\0\0\0\0\0\0\0\0", 10);
    assert_memory_equal(request.files[0].sha256.bytes, sha256.bytes, CHP_SHA256_BYTES);
    assert_string_equal(request.config, "{}");
    assert_int_equal(request.deadline_ms, 5000);
    chp_buf_deinit(&writer.fields);
    chp_arena_deinit(&arena);
}

static void a_short_request_leaves_the_rest_unset(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct writer writer = {0};
    struct chp_request request;
    begin(&writer);
    text_field(&writer, "resource", "greeting");
    text_field(&writer, "type", "set");
    msgpack_pack_nil(field(&writer, "scope"));
    msgpack_pack_nil(field(&writer, "level"));
    command_field(&writer);
    accepts(&writer, &arena, &request);
    assert_null(request.key);
    assert_false(request.key_given);
    assert_null(request.scope);
    assert_false(request.level_given);
    assert_int_equal(request.deadline_ms, 0);
    chp_buf_deinit(&writer.fields);
    chp_arena_deinit(&arena);
}

static void http_field(struct writer *writer, const char *path, const char *body_file)
{
    msgpack_packer *packer = field(writer, "http");
    msgpack_pack_map(packer, body_file == NULL ? 4 : 5);
    pack(packer, "service");
    pack(packer, "inventory");
    pack(packer, "method");
    pack(packer, "PUT");
    pack(packer, "path");
    pack(packer, path);
    pack(packer, "headers");
    msgpack_pack_array(packer, 1);
    pack(packer, "Content-Type: application/json");
    if (body_file != NULL) {
        pack(packer, "body_file");
        pack(packer, body_file);
    }
}

static void an_http_request_becomes_a_rest_payload(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct writer writer = {0};
    struct chp_request request;
    struct chp_rest rest;
    begin(&writer);
    text_field(&writer, "resource", "item-7");
    text_field(&writer, "type", "set");
    http_field(&writer, "items/7", "item.json");
    msgpack_packer *packer = field(&writer, "files");
    msgpack_pack_array(packer, 1);
    file(packer, "item.json", 3);
    accepts(&writer, &arena, &request);
    assert_string_equal(request.driver, "http");
    assert_int_equal(chp_rest_decode(request.payload, &arena, &rest, NULL), 0);
    assert_string_equal(rest.path, "items/7");
    assert_string_equal(rest.body_file, "item.json");
    chp_buf_deinit(&writer.fields);
    chp_arena_deinit(&arena);
}

/* undo: {"command": ["rm", word]} */
static void undo_field(struct writer *writer, const char *word)
{
    msgpack_packer *packer = field(writer, "undo");
    msgpack_pack_map(packer, 1);
    pack(packer, "command");
    msgpack_pack_array(packer, 2);
    pack(packer, "rm");
    pack(packer, word);
}

static void an_undo_becomes_a_payload_of_its_own(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct writer writer = {0};
    struct chp_request request;
    struct chp_command command;
    begin(&writer);
    text_field(&writer, "resource", "greeting");
    text_field(&writer, "type", "set");
    command_field(&writer);
    undo_field(&writer, "hello");
    accepts(&writer, &arena, &request);
    assert_int_equal(chp_command_decode(request.payload, &arena, &command, NULL), 0);
    assert_string_equal(command.argv[0], "echo");
    assert_int_equal(chp_command_decode(request.undo, &arena, &command, NULL), 0);
    assert_string_equal(command.argv[0], "rm");
    assert_string_equal(command.argv[1], "hello");
    chp_buf_deinit(&writer.fields);
    chp_arena_deinit(&arena);
}

static void start(struct writer *writer)
{
    begin(writer);
    text_field(writer, "resource", "greeting");
    text_field(writer, "type", "set");
}

static void errors_name_the_field(void **state)
{
    (void)state;
    struct writer writer = {0};
    begin(&writer);
    text_field(&writer, "type", "set");
    command_field(&writer);
    refuses(&writer, CHP_EMALFORMED, "request.resource: is missing");
    begin(&writer);
    text_field(&writer, "resource", "../x");
    refuses(&writer, CHP_EINVAL, "request.resource: resource id \"../x\" is not allowed");
    start(&writer);
    refuses(&writer, CHP_EINVAL, "either command or http");
    start(&writer);
    command_field(&writer);
    http_field(&writer, "items/7", NULL);
    refuses(&writer, CHP_EINVAL, "either command or http");
    start(&writer);
    http_field(&writer, "../items", NULL);
    refuses(&writer, CHP_EINVAL, "request.http.path: has a '..' segment");
    start(&writer);
    command_field(&writer);
    msgpack_pack_map(field(&writer, "undo"), 0);
    refuses(&writer, CHP_EINVAL, "request.undo: must have either command or http");
    start(&writer);
    command_field(&writer);
    msgpack_pack_array(field(&writer, "undo"), 0);
    refuses(&writer, CHP_EMALFORMED, "request.undo");
    start(&writer);
    http_field(&writer, "items", NULL);
    undo_field(&writer, "x");
    refuses(&writer, CHP_EINVAL, "request.undo: must have http, as the request has");
    start(&writer);
    command_field(&writer);
    static char big[CHP_UNDO_MAX_BYTES];
    memset(big, 'x', sizeof big - 1);
    undo_field(&writer, big);
    refuses(&writer, CHP_ETOOBIG, "undo: 16396 bytes, at most 16384 are allowed");
    start(&writer);
    http_field(&writer, "items", "none.json");
    refuses(&writer, CHP_EINVAL, "request.http.body_file: none of the files is called none.json");
    start(&writer);
    text_field(&writer, "command", "echo hello");
    refuses(&writer, CHP_EMALFORMED, "request.command: must be an array, is a string");
    start(&writer);
    msgpack_pack_array(field(&writer, "command"), 0);
    refuses(&writer, CHP_EMALFORMED, "request.command: 0 elements");
    start(&writer);
    command_field(&writer);
    text_field(&writer, "level", "weak");
    refuses(&writer, CHP_EMALFORMED, "request.level: is none of");
    start(&writer);
    command_field(&writer);
    msgpack_pack_int(field(&writer, "timeout_ms"), CHP_DEADLINE_MAX_MS + 1);
    refuses(&writer, CHP_EMALFORMED, "request.timeout_ms: 86400001 is not within 1 to 86400000");
    start(&writer);
    command_field(&writer);
    text_field(&writer, "key", "a\nb");
    refuses(&writer, CHP_EINVAL, "request.key: has a control character");
    chp_buf_deinit(&writer.fields);
}

static void files_are_checked_and_bounded(void **state)
{
    (void)state;
    struct writer writer = {0};
    start(&writer);
    command_field(&writer);
    msgpack_packer *packer = field(&writer, "files");
    msgpack_pack_array(packer, 2);
    file(packer, "ok", 1);
    file(packer, "/etc/passwd", 1);
    refuses(&writer, CHP_EINVAL, "request.files[1].name: file name \"/etc/passwd\"");
    start(&writer);
    command_field(&writer);
    packer = field(&writer, "files");
    msgpack_pack_array(packer, 1);
    file(packer, "big", CHP_FILE_INLINE_MAX_BYTES + 1);
    refuses(&writer, CHP_ETOOBIG, "request.files[0].content: 65537 bytes, at most 65536");
    start(&writer);
    command_field(&writer);
    packer = field(&writer, "files");
    msgpack_pack_array(packer, 3);
    file(packer, "a", CHP_FILE_INLINE_MAX_BYTES);
    file(packer, "b", CHP_FILE_INLINE_MAX_BYTES);
    file(packer, "c", 1);
    refuses(&writer, CHP_ETOOBIG, "request.files: the files have 131073 bytes together");
    start(&writer);
    command_field(&writer);
    packer = field(&writer, "files");
    msgpack_pack_array(packer, 2);
    file(packer, "a", 1);
    file(packer, "a", 2);
    refuses(&writer, CHP_EMALFORMED, "request.files: two files are called a");
    chp_buf_deinit(&writer.fields);
}

static void what_is_no_map_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "c0", "90", "a0", "81", "80 80", "c1"};
    struct chp_arena arena = {0};
    struct chp_request request;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chp_error error = {0};
        assert_int_equal(chp_request_decode(unhex(&arena, bad[i]), &arena, &request, &error),
                         CHP_EMALFORMED);
    }
    static const uint8_t big[CHP_MESSAGE_MAX_BYTES + 1];
    assert_int_equal(chp_request_decode(chp_bytes(big, sizeof big), &arena, &request, NULL),
                     CHP_ETOOBIG);
    chp_arena_deinit(&arena);
}

/* The text of one field of a map as the library reads it, "" when it is nil. */
static const char *value_of(struct chp_buf *out, struct chp_arena *arena, const char *name)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    const char *text = NULL;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)out->data, out->len, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, out->len);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < unpacked.data.via.map.size; i++) {
        const msgpack_object_kv *pair = &unpacked.data.via.map.ptr[i];
        if (strlen(name) == pair->key.via.str.size &&
            memcmp(pair->key.via.str.ptr, name, strlen(name)) == 0) {
            char printed[256];
            (void)msgpack_object_print_buffer(printed, sizeof printed, pair->val);
            text = chp_arena_strdup(arena, printed);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
    assert_non_null(text);
    return text;
}

static void replies_have_a_kind(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    const char *members[] = {"Nantes", "Rennes"};
    struct chp_reply reply = {
        .resource = "web", .scope = "Nantes & Rennes", .members = members, .member_count = 2};
    chp_reply_encode(&reply, &out);
    assert_string_equal(value_of(&out, &arena, "kind"), "\"accepted\"");
    assert_string_equal(value_of(&out, &arena, "operation"),
                        "\"00000000-0000-0000-0000-000000000000\"");
    assert_string_equal(value_of(&out, &arena, "members"), "[\"Nantes\", \"Rennes\"]");
    assert_string_equal(value_of(&out, &arena, "duplicate"), "false");
    assert_string_equal(value_of(&out, &arena, "warning"), "nil");
    chp_buf_clear(&out);
    chp_reply_encode(&(struct chp_reply){.code = CHP_EREFUSED, .error = "no"}, &out);
    assert_string_equal(value_of(&out, &arena, "kind"), "\"refused\"");
    assert_string_equal(value_of(&out, &arena, "error"), "\"no\"");
    assert_string_equal(value_of(&out, &arena, "code"), "\"refused\"");
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void notices_are_results_or_the_end(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_buf out = {0};
    sample_ack(&sample);
    struct chp_notice notice = {.resource = "web",
                                .answered = 1,
                                .member_count = 3,
                                .ack = sample.item.ack,
                                .elapsed_ms = 40};
    chp_notice_encode(&notice, &out);
    assert_string_equal(value_of(&out, &sample.arena, "kind"), "\"result\"");
    assert_string_equal(value_of(&out, &sample.arena, "site"), "\"Rennes\"");
    assert_string_equal(value_of(&out, &sample.arena, "state"), "\"in-doubt\"");
    assert_string_equal(value_of(&out, &sample.arena, "exit_code"), "-1");
    assert_string_equal(value_of(&out, &sample.arena, "answered"), "1");
    assert_string_equal(value_of(&out, &sample.arena, "members"), "3");
    assert_string_equal(value_of(&out, &sample.arena, "elapsed_ms"), "40");
    assert_string_equal(value_of(&out, &sample.arena, "output_cut"), "true");
    assert_string_equal(value_of(&out, &sample.arena, "unverified"), "true");
    assert_string_equal(value_of(&out, &sample.arena, "run"), "2");
    assert_string_equal(value_of(&out, &sample.arena, "duration_ms"), "12");
    notice.completed = true;
    notice.failed = true;
    chp_buf_clear(&out);
    chp_notice_encode(&notice, &out);
    assert_string_equal(value_of(&out, &sample.arena, "kind"), "\"completed\"");
    assert_string_equal(value_of(&out, &sample.arena, "state"), "\"failed\"");
    chp_buf_deinit(&out);
    sample_deinit(&sample);
}

static bool same_hash(const struct chp_request *a, const struct chp_request *b)
{
    struct chp_sha256 hash_a = chp_request_hash(a);
    struct chp_sha256 hash_b = chp_request_hash(b);
    return memcmp(hash_a.bytes, hash_b.bytes, CHP_SHA256_BYTES) == 0;
}

static void the_hash_is_of_what_was_asked(void **state)
{
    (void)state;
    struct chp_file one = {.name = "f", .sha256 = {{1}}};
    struct chp_file two = {.name = "f", .sha256 = {{2}}};
    const struct chp_request base = {.key = "k",
                                     .principal = "a",
                                     .resource = "r",
                                     .type = "t",
                                     .driver = "shell",
                                     .payload = chp_bytes_of("p"),
                                     .files = &one,
                                     .file_count = 1};
    struct chp_request other = base;
    other.key = "other";
    other.id.bytes[0] = 1;
    other.reply_to = "queue";
    assert_true(same_hash(&base, &other)); /* a redelivery has another id */
    struct chp_request others[11];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        others[i] = base;
    }
    others[0].resource = "r2";
    others[1].resource = "rt";
    others[1].type = "";
    others[2].driver = "http";
    others[3].payload = chp_bytes_of("q");
    others[4].files = &two;
    others[5].file_count = 0;
    others[6].scope = "";
    others[7].level_given = true;
    others[8].config = "{}";
    others[9].deadline_ms = 1;
    others[10].undo = chp_bytes_of("u");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(same_hash(&base, &others[i]));
        for (size_t j = 0; j < i; j++) {
            assert_false(same_hash(&others[i], &others[j]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_request_has_everything),
        cmocka_unit_test(a_short_request_leaves_the_rest_unset),
        cmocka_unit_test(an_http_request_becomes_a_rest_payload),
        cmocka_unit_test(an_undo_becomes_a_payload_of_its_own),
        cmocka_unit_test(errors_name_the_field),
        cmocka_unit_test(files_are_checked_and_bounded),
        cmocka_unit_test(what_is_no_map_is_refused),
        cmocka_unit_test(replies_have_a_kind),
        cmocka_unit_test(notices_are_results_or_the_end),
        cmocka_unit_test(the_hash_is_of_what_was_asked),
    };
    return cmocka_run_group_tests_name("wire request", tests, NULL, NULL);
}
