/* SPDX-License-Identifier: AGPL-3.0-only */
/* Payloads: commands, REST requests, their summaries. */
#include "samples.h"

#include "wire/payload.h"

static void a_command_comes_back(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_command command;
    const char *argv[] = {"sh", "-c", "", "caf\xc3\xa9 {x}\n", NULL};
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, 4}, &out, NULL), 0);
    assert_int_equal(chp_command_decode(chp_buf_bytes(&out), &arena, &command, NULL), 0);
    assert_int_equal(command.argc, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(command.argv[i], argv[i]);
    }
    assert_null(command.argv[4]);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void a_command_is_bounded(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_error error = {0};
    const char **argv = chp_arena_calloc(&arena, CHP_ARGV_MAX + 2, sizeof *argv);
    for (size_t i = 0; i <= CHP_ARGV_MAX; i++) {
        argv[i] = "x";
    }
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, CHP_ARGV_MAX}, &out, &error),
                     0);
    chp_buf_clear(&out);
    assert_int_equal(
        chp_command_encode(&(struct chp_command){argv, CHP_ARGV_MAX + 1}, &out, &error),
        CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "command.argv: 1025 elements"));
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, 0}, &out, &error),
                     CHP_EMALFORMED);
    argv[0] = "";
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, 1}, &out, &error), CHP_EINVAL);
    assert_non_null(strstr(error.text, "needs a program"));
    argv[0] = "\xff";
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, 1}, &out, &error), CHP_EINVAL);
    assert_non_null(strstr(error.text, "command.argv[0]: is not UTF-8"));
    char *half = chp_arena_alloc(&arena, CHP_PAYLOAD_MAX_BYTES / 2 + 1);
    memset(half, 'x', CHP_PAYLOAD_MAX_BYTES / 2);
    argv[0] = argv[1] = half;
    assert_int_equal(chp_command_encode(&(struct chp_command){argv, 2}, &out, &error), CHP_ETOOBIG);
    assert_int_equal(out.len, 0);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static const struct chp_rest sample_rest = {
    .service = "inventory",
    .method = "PUT",
    .path = "items/7?x=http://y/../z",
    .headers = (const char *[]){"Content-Type: application/json", "X-Empty:"},
    .header_count = 2,
    .body = {(const uint8_t *)"{\0}", 3},
};

static void a_rest_request_comes_back(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_error error = {0};
    struct chp_rest rest;
    if (chp_rest_encode(&sample_rest, &out, &error) != 0) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(chp_rest_decode(chp_buf_bytes(&out), &arena, &rest, NULL), 0);
    assert_string_equal(rest.service, "inventory");
    assert_string_equal(rest.method, "PUT");
    assert_string_equal(rest.path, sample_rest.path);
    assert_int_equal(rest.header_count, 2);
    assert_string_equal(rest.headers[1], "X-Empty:");
    assert_true(chp_bytes_equal(rest.body, chp_bytes("{\0}", 3)));
    assert_null(rest.body_file);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

/* Expects the request, with one field replaced, to be refused with the text; NULL: to be taken. */
static void tries(struct chp_rest rest, const char *text)
{
    struct chp_buf out = {0};
    struct chp_error error = {0};
    int code = chp_rest_encode(&rest, &out, &error);
    if (text == NULL) {
        if (code != 0) {
            fail_msg("%s", error.text);
        }
    } else {
        assert_int_equal(code, CHP_EINVAL);
        if (strstr(error.text, text) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", error.text, text);
        }
    }
    chp_buf_deinit(&out);
}

static void a_path_stays_inside_its_service(void **state)
{
    (void)state;
    static const char *const good[] = {"",     "items",    "a/b/",           "a..b/.x/...",
                                       "?q=1", "a?x=../y", "v1/items:batch", "a%20b",
                                       "%2fa", "~x",       "a?u=//host"};
    static const char *const absolute[] = {"/items", "//evil.example/x", "http://evil.example/",
                                           "a://b"};
    static const char *const climbing[] = {"..",         "../x",   "a/../b", "a/..",
                                           "a/%2e%2e/b", "a/.%2E", "%2e./x", "a/..?x"};
    static const char *const odd[] = {"a b",         "a\nb",     "a\rb", "a\tb",
                                      "caf\xc3\xa9", "a\\..\\b", "a#b",  "a\x7f"};
    struct chp_rest rest = sample_rest;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        rest.path = good[i];
        tries(rest, NULL);
    }
    for (size_t i = 0; i < sizeof absolute / sizeof absolute[0]; i++) {
        rest.path = absolute[i];
        tries(rest, "http.path: must be relative");
    }
    for (size_t i = 0; i < sizeof climbing / sizeof climbing[0]; i++) {
        rest.path = climbing[i];
        tries(rest, "http.path: has a '..' segment");
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        rest.path = odd[i];
        tries(rest, "http.path: has a space");
    }
}

static void methods_and_headers_have_rules(void **state)
{
    (void)state;
    static const char *const methods[] = {"", "get", "TRACE", "CONNECT", "GET /x", "GET\r\n"};
    static const char *shapeless[] = {"X", ": x", "X Y: z", "X\x01: y"};
    static const char *broken[] = {"X: a\r\nY: b", "X: a\nb", "X: \x7f"};
    static const char *reserved[] = {
        "Host: x",      "content-length: 3",          "CONNECTION: close",
        "TE: gzip",     "Transfer-Encoding: chunked", "upgrade: h2c",
        "Keep-Alive: 5"};
    struct chp_rest rest = sample_rest;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        rest.method = methods[i];
        tries(rest, "http.method: must be one of");
    }
    rest = sample_rest;
    rest.header_count = 1;
    for (size_t i = 0; i < sizeof shapeless / sizeof shapeless[0]; i++) {
        rest.headers = &shapeless[i];
        tries(rest, "http.headers[0]: must be \"Name: value\"");
    }
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        rest.headers = &broken[i];
        tries(rest, "control character");
    }
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        rest.headers = &reserved[i];
        tries(rest, "is set by the agent");
    }
    rest = sample_rest;
    rest.body_file = "body.json";
    tries(rest, "both body and body_file");
    rest.body.len = 0;
    tries(rest, NULL);
    rest.body_file = "../body";
    tries(rest, "http.body_file: file name \"../body\"");
}

static void summary_is(const char *expected, const char *const *argv, size_t argc)
{
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    assert_int_equal(
        chp_command_encode(&(struct chp_command){(const char **)argv, argc}, &out, NULL), 0);
    assert_string_equal(chp_payload_summary("shell", chp_buf_bytes(&out), &arena), expected);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void a_summary_is_one_line_that_a_shell_would_read(void **state)
{
    (void)state;
    summary_is("kubectl apply -f {deploy.yml}",
               (const char *[]){"kubectl", "apply", "-f", "{deploy.yml}"}, 4);
    summary_is("sh -c 'echo \"$X\" | it'\\''s'", (const char *[]){"sh", "-c", "echo \"$X\" | it's"},
               3);
    summary_is("x '' 'a b' '*'", (const char *[]){"x", "", "a b", "*"}, 4);
    summary_is("x $'a\\nb\\x1b\\'\\\\'", (const char *[]){"x", "a\nb\x1b'\\"}, 2);
}

static void a_summary_is_cut_at_a_character(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_buf text = {0};
    for (int shift = 0; shift < 3; shift++) {
        chp_buf_clear(&out);
        chp_buf_clear(&text);
        chp_buf_add(&text, "xx", (size_t)shift);
        for (int i = 0; i < 200; i++) {
            chp_buf_add_text(&text, "\xe2\x82\xac");
        }
        const char *argv[] = {"echo", chp_buf_text(&text), NULL};
        assert_int_equal(chp_command_encode(&(struct chp_command){argv, 2}, &out, NULL), 0);
        char *summary = chp_payload_summary("shell", chp_buf_bytes(&out), &arena);
        assert_in_range(strlen(summary), 197, 200);
        assert_true(chp_utf8_valid(summary, strlen(summary)));
        assert_string_equal(summary + strlen(summary) - 3, "...");
    }
    chp_buf_deinit(&text);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void a_summary_never_fails(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    assert_int_equal(chp_rest_encode(&sample_rest, &out, NULL), 0);
    assert_string_equal(chp_payload_summary("http", chp_buf_bytes(&out), &arena),
                        "PUT inventory/items/7?x=http://y/../z");
    assert_non_null(strstr(chp_payload_summary("shell", chp_bytes_of("?"), &arena), "cannot read"));
    assert_non_null(
        strstr(chp_payload_summary("later", chp_bytes(NULL, 0), &arena), "driver later"));
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_comes_back),
        cmocka_unit_test(a_command_is_bounded),
        cmocka_unit_test(a_rest_request_comes_back),
        cmocka_unit_test(a_path_stays_inside_its_service),
        cmocka_unit_test(methods_and_headers_have_rules),
        cmocka_unit_test(a_summary_is_one_line_that_a_shell_would_read),
        cmocka_unit_test(a_summary_is_cut_at_a_character),
        cmocka_unit_test(a_summary_never_fails),
    };
    return cmocka_run_group_tests_name("wire payload", tests, NULL, NULL);
}
