/* SPDX-License-Identifier: AGPL-3.0-only */
#include "double.h"
#include "gateway/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "\"resource\": \"web\", \"type\": \"set\""

struct made {
    struct chp_agent agent;
    struct chp_arena arena;
    struct chp_request request;
    struct chp_error error;
    int rc;
};

static int setup(void **state)
{
    static struct made made;
    memset(&made, 0, sizeof made);
    *state = &made;
    return 0;
}

static int teardown(void **state)
{
    struct made *made = *state;
    chp_arena_deinit(&made->arena);
    double_deinit(&made->agent);
    return 0;
}

static void make(struct made *made, const char *text)
{
    struct chp_agent_port port = {&made->agent, double_vtable()};
    made->request = (struct chp_request){0};
    json_t *body = gateway__json_parse(text, strlen(text), &made->error);
    made->rc = body == NULL ? made->error.code
                            : gateway__request_from_json(&port, body, &made->arena, &made->request,
                                                         &made->error);
    json_decref(body);
}

static void expect_made(struct made *made, const char *text)
{
    make(made, text);
    if (made->rc != 0) {
        fail_msg("%s: %s", text, made->error.text);
    }
}

static void expect_refused(struct made *made, const char *text, int code, const char *sentence)
{
    make(made, text);
    if (made->rc != code || strstr(made->error.text, sentence) == NULL) {
        fail_msg("wanted %d \"%s\", got %d \"%s\"", code, sentence, made->rc, made->error.text);
    }
}

static void a_command(void **state)
{
    struct made *made = *state;
    struct chp_command command;
    expect_made(made, "{" HEAD ", \"command\": [\"echo\", \"a b\"], \"timeout_ms\": 5}");
    assert_string_equal(made->request.resource, "web");
    assert_string_equal(made->request.type, "set");
    assert_string_equal(made->request.driver, "shell");
    assert_null(made->request.scope);
    assert_int_equal(made->request.level, CHP_LEVEL_EVENTUAL);
    assert_false(made->request.level_given);
    assert_int_equal(made->request.deadline_ms, 5);
    assert_int_equal(
        chp_command_decode(made->request.payload, &made->arena, &command, &made->error), 0);
    assert_int_equal(command.argc, 2);
    assert_string_equal(command.argv[1], "a b");
}

static void a_rest_request(void **state)
{
    struct made *made = *state;
    struct chp_rest rest;
    expect_made(
        made,
        "{" HEAD
        ", \"level\": \"none\", \"scope\": \"Nantes\", \"http\": {\"service\": \"inventory\", "
        "\"method\": \"put\", \"path\": \"/items/7?x=1\", \"headers\": {\"X-A\": \"b\"}, "
        "\"body_base64\": \"/wA=\"}}");
    assert_string_equal(made->request.driver, "http");
    assert_true(made->request.level_given);
    assert_int_equal(made->request.level, CHP_LEVEL_NONE);
    assert_int_equal(chp_rest_decode(made->request.payload, &made->arena, &rest, &made->error), 0);
    assert_string_equal(rest.method, "PUT");
    assert_string_equal(rest.path, "items/7?x=1");
    assert_int_equal(rest.header_count, 1);
    assert_string_equal(rest.headers[0], "X-A: b");
    assert_int_equal(rest.body.len, 2);
}

static void an_undo(void **state)
{
    struct made *made = *state;
    struct chp_command command;
    struct chp_rest rest;
    expect_made(made, "{" HEAD ", \"command\": [\"touch\", \"a\"], "
                      "\"undo\": {\"command\": [\"rm\", \"a\"]}}");
    assert_int_equal(chp_command_decode(made->request.undo, &made->arena, &command, &made->error),
                     0);
    assert_string_equal(command.argv[0], "rm");
    expect_made(
        made,
        "{" HEAD ", \"http\": {\"service\": \"s\", \"method\": \"PUT\", \"path\": \"a\"}, "
        "\"undo\": {\"http\": {\"service\": \"s\", \"method\": \"DELETE\", \"path\": \"a\"}}}");
    assert_int_equal(chp_rest_decode(made->request.undo, &made->arena, &rest, &made->error), 0);
    assert_string_equal(rest.method, "DELETE");
    expect_made(made, "{" HEAD ", \"command\": [\"touch\", \"a\"], \"undo\": null}");
    assert_int_equal(made->request.undo.len, 0);
    expect_refused(made, "{" HEAD ", \"command\": [\"a\"], \"undo\": \"rm a\"}", CHP_EINVAL,
                   "\"undo\" must be an object");
    expect_refused(made, "{" HEAD ", \"command\": [\"a\"], \"undo\": {}}", CHP_EINVAL,
                   "in \"undo\": one of the fields");
    expect_refused(made, "{" HEAD ", \"command\": [\"a\"], \"undo\": {\"comand\": [\"a\"]}}",
                   CHP_EINVAL, "did you mean \"command\"");
    expect_refused(made,
                   "{" HEAD ", \"command\": [\"a\"], \"undo\": {\"http\": {\"service\": \"s\", "
                   "\"method\": \"PUT\", \"path\": \"a\"}}}",
                   CHP_EINVAL, "the same of");
}

static void what_takes_back_is_checked_as_well(void **state)
{
    struct made *made = *state;
    struct chp_agent_port port = {&made->agent, double_vtable()};
    expect_made(made, "{" HEAD ", \"command\": [\"touch\", \"a\"], "
                      "\"undo\": {\"command\": [\"forbidden\", \"a\"]}}");
    assert_int_equal(gateway__request_check(&port, &made->request, &made->error), CHP_EFORBIDDEN);
    assert_string_equal(made->error.text, "its undo: forbidden is not on the allow-list");
    expect_made(made, "{" HEAD ", \"command\": [\"touch\", \"a\"], "
                      "\"undo\": {\"command\": [\"rm\", \"a\"]}}");
    assert_int_equal(gateway__request_check(&port, &made->request, &made->error), 0);
}

static void files_inline_and_by_hash(void **state)
{
    struct made *made = *state;
    made->agent.blob_known = true;
    expect_made(made, "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"a\", "
                      "\"content_base64\": \"aGk=\"}, {\"name\": "
                      "\"b\", \"sha256\": "
                      "\"8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4\"}]}");
    assert_int_equal(made->request.file_count, 2);
    assert_true(made->request.files[0].is_inline);
    assert_memory_equal(made->request.files[0].content.data, "hi", 2);
    assert_false(made->request.files[1].is_inline);
    assert_int_equal(made->request.files[1].size, 123456);
    char hash[CHP_SHA256_TEXT_BYTES];
    chp_sha256_format(&made->request.files[0].sha256, hash);
    assert_string_equal(hash, "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4");
}

static void big_files_become_blobs(void **state)
{
    struct made *made = *state;
    struct chp_buf text = {0};
    chp_buf_add_text(
        &text,
        "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"a\", \"content_base64\": \"");
    for (size_t i = 0; i < CHP_FILE_INLINE_MAX_BYTES / 3 + 1; i++) {
        chp_buf_add_text(&text, "AAAA");
    }
    chp_buf_add_text(&text, "\"}]}");
    expect_made(made, chp_buf_text(&text));
    assert_false(made->request.files[0].is_inline);
    assert_int_equal(made->agent.blob_finished, 1);
    made->agent.blob_fails = true;
    expect_refused(made, chp_buf_text(&text), CHP_EIO, "the disk is full");
    assert_int_equal(made->agent.blob_open, 0);
    chp_buf_deinit(&text);
}

static void what_is_wrong_is_named(void **state)
{
    struct made *made = *state;
    expect_refused(made, "{\"type\": \"set\", \"command\": [\"x\"]}", CHP_EINVAL,
                   "\"resource\" is missing");
    expect_refused(made, "{\"resource\": \"web\", \"command\": [\"x\"]}", CHP_EINVAL,
                   "\"type\" is missing");
    expect_refused(made, "{\"resource\": 7}", CHP_EINVAL, "\"resource\" must be a string");
    expect_refused(made, "{\"resource\": \"../x\"}", CHP_EINVAL, "resource id");
    expect_refused(made, "{" HEAD "}", CHP_EINVAL, "\"command\" and \"http\"");
    expect_refused(made, "{" HEAD ", \"command\": [\"x\"], \"http\": {}}", CHP_EINVAL,
                   "\"command\" and \"http\"");
    expect_refused(made, "{" HEAD ", \"command\": \"x\"}", CHP_EINVAL, "array");
    expect_refused(made, "{" HEAD ", \"command\": []}", CHP_EINVAL, "array");
    expect_refused(made, "{" HEAD ", \"command\": [\"x\", 1]}", CHP_EINVAL, "no string");
    expect_refused(made, "{" HEAD ", \"scop\": \"Nantes\"}", CHP_EINVAL, "did you mean \"scope\"");
    expect_refused(made, "{" HEAD ", \"level\": \"strongest\"}", CHP_EINVAL, "none, eventual");
    expect_refused(made, "{" HEAD ", \"timeout_ms\": 0}", CHP_EINVAL, "timeout_ms");
    expect_refused(made, "{" HEAD ", \"timeout_ms\": 1.5}", CHP_EINVAL, "timeout_ms");
    expect_refused(made, "{" HEAD ", \"command\": [\"x\"], \"config\": []}", CHP_EINVAL,
                   "config must be");
    expect_refused(made, "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"../x\"}]}",
                   CHP_EINVAL, "../x");
    expect_refused(made, "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"x\"}]}",
                   CHP_EINVAL, "one of sha256");
    expect_refused(made,
                   "{" HEAD
                   ", \"command\": [\"x\"], \"files\": [{\"name\": \"x\", \"sha256\": \"12\"}]}",
                   CHP_EINVAL, "64 hexadecimal");
    expect_refused(made,
                   "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"x\", \"sha256\": "
                   "\"8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4\"}]}",
                   CHP_EINVAL, "POST /v1/blobs first");
    expect_refused(made,
                   "{" HEAD ", \"command\": [\"x\"], \"files\": [{\"name\": \"x\", "
                   "\"content_base64\": \"\"}, {\"name\": "
                   "\"x\", \"content_base64\": \"\"}]}",
                   CHP_EINVAL, "twice");
    expect_refused(
        made,
        "{" HEAD
        ", \"command\": [\"x\"], \"files\": [{\"name\": \"x\", \"content_base64\": \"a\"}]}",
        CHP_EINVAL, "not base64");
    expect_refused(made, "{" HEAD ", \"http\": {\"service\": \"a\"}}", CHP_EINVAL,
                   "\"method\" is missing");
    expect_refused(made,
                   "{" HEAD ", \"http\": {\"service\": \"a\", \"method\": \"GET\", \"headers\": "
                   "{\"A\": \"b\\r\\nC: d\"}}}",
                   CHP_EINVAL, "header \"A\"");
    expect_refused(made,
                   "{" HEAD ", \"http\": {\"service\": \"a\", \"method\": \"GET\", \"body\": \"\", "
                   "\"body_file\": \"x\"}}",
                   CHP_EINVAL, "one of body");
}

static void what_is_not_json_is_refused(void **state)
{
    struct made *made = *state;
    expect_refused(made, "", CHP_EMALFORMED, "empty");
    expect_refused(made, "{} {}", CHP_EMALFORMED, "line 1");
    expect_refused(made, "{\"resource\": \"a\", \"resource\": \"b\"}", CHP_EMALFORMED, "duplicate");
    expect_refused(made, "{\"resource\": \"a\\u0000b\"}", CHP_EMALFORMED, "NUL");
    expect_refused(made, "{\"resource\": \"\xff\"}", CHP_EMALFORMED, "byte 0xff");
    expect_refused(made, "7", CHP_EMALFORMED, "not JSON");
    struct chp_buf deep = {0};
    for (int i = 0; i < 100000; i++) {
        chp_buf_add_text(&deep, "[");
    }
    expect_refused(made, chp_buf_text(&deep), CHP_ETOODEEP, "deeper than 32");
    chp_buf_deinit(&deep);
    expect_refused(made, "{\"x\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\"}",
                   CHP_EINVAL, "\"x\"");
}

static void base64_goes_both_ways(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *encoded;
    } pairs[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};
    static const char *const wrong[] = {
        "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm 9", "Zm9v\n"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct chp_buf out = {0};
        gateway__base64_encode(pairs[i].text, strlen(pairs[i].text), &out);
        assert_string_equal(chp_buf_text(&out), pairs[i].encoded);
        chp_buf_clear(&out);
        assert_int_equal(gateway__base64_decode(pairs[i].encoded, strlen(pairs[i].encoded), &out),
                         0);
        assert_string_equal(chp_buf_text(&out), pairs[i].text);
        chp_buf_deinit(&out);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct chp_buf out = {0};
        assert_int_equal(gateway__base64_decode(wrong[i], strlen(wrong[i]), &out), CHP_EMALFORMED);
        chp_buf_deinit(&out);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command),
        TEST(a_rest_request),
        TEST(an_undo),
        TEST(what_takes_back_is_checked_as_well),
        TEST(files_inline_and_by_hash),
        TEST(big_files_become_blobs),
        TEST(what_is_wrong_is_named),
        TEST(what_is_not_json_is_refused),
        TEST(base64_goes_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
