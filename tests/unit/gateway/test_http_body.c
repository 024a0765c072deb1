/* SPDX-License-Identifier: AGPL-3.0-only */
/* What clients send: JSON, blobs, forms; bounds, and memory that does not follow sizes. */
#include "fixture.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PART(name, rest, content)                                                                  \
    "--XyZ\r\nContent-Disposition: form-data; name=\"" name "\"" rest "\r\n\r\n" content "\r\n"
#define FILE_PART(name, content) PART(name, "; filename=\"" name "\"", content)
#define END                      "--XyZ--\r\n"

static void post(struct fixture *f, const char *path, const char *type, const char *body,
                 int status, const char *text)
{
    struct chp_buf request = {0};
    chp_buf_printf(&request,
                   "POST %s HTTP/1.1\r\n" HEAD "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                   path, type, strlen(body), body);
    expect(f, chp_buf_text(&request), status, text);
    chp_buf_deinit(&request);
}

static void post_form(struct fixture *f, const char *path, const char *body, int status,
                      const char *text)
{
    post(f, path, "multipart/form-data; boundary=XyZ", body, status, text);
}

/* --- JSON -------------------------------------------------------------------------------- */

static void an_operation_is_submitted(void **state)
{
    struct fixture *f = *state;
    expect_json(
        f, "/v1/operations",
        "{\"resource\":\"web\",\"type\":\"set\",\"scope\":\"Nantes\",\"command\":[\"echo\",\"hi\"]"
        "}",
        202, "\"members\":[\"Nantes\",\"Paris\",\"Rennes\"],\"duplicate\":false,\"warning\":null}");
    assert_string_equal(f->agent.last.resource, "web");
    assert_string_equal(f->agent.last.scope, "Nantes");
    assert_string_equal(f->agent.last.principal, "alice");
    assert_false(f->agent.last.key_given);
    assert_int_equal(strlen(f->agent.last.key), 36);
    expect(f,
           "POST /v1/operations HTTP/1.1\r\n" HEAD
           "Content-Type: application/json; charset=utf-8\r\n"
           "Idempotency-Key: k1\r\nContent-Length: "
           "50\r\n\r\n{\"resource\":\"web\",\"type\":\"set\",\"command\":[\"true\"]}",
           202, "\"operation\":");
    assert_true(f->agent.last.key_given);
    assert_string_equal(f->agent.last.key, "k1");
}

static void what_the_agent_refuses_is_passed_on(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"resource\":\"web\",\"type\":\"set\",\"command\":[\"rm\"]}";
    f->agent.shell_refused = true;
    expect_json(f, "/v1/operations", body, 403, "rm is not on the allow-list");
    assert_int_equal(f->agent.submits, 0);
    f->agent.shell_refused = false;
    f->agent.reply_code = CHP_ECONFLICT;
    expect_json(f, "/v1/operations", body, 409, "the double says no");
    f->agent.reply_code = CHP_EUNAVAILABLE;
    expect_json(f, "/v1/operations?wait=true", body, 503, "Retry-After");
}

static void bad_json_is_refused(void **state)
{
    struct fixture *f = *state;
    post(f, "/v1/operations", "text/plain", "{}", 415, "must be application/json");
    expect(f, "POST /v1/operations HTTP/1.1\r\n" HEAD "Content-Length: 2\r\n\r\n{}", 415,
           "application/json");
    expect_json(f, "/v1/operations", "", 400, "the body is empty");
    expect_json(f, "/v1/operations", "{\"resource\":\n !}", 400, "line 2, column 2");
    expect_json(f, "/v1/operations", "[]", 400, "must be a JSON object");
    expect_json(f, "/v1/operations?wait=maybe", "{}", 400, "wait must be true or false");
    expect(f,
           "POST /v1/operations HTTP/1.1\r\n" HEAD
           "Content-Type: application/json\r\nIdempotency-Key: \r\n"
           "Content-Length: 2\r\n\r\n{}",
           400, "Idempotency-Key");
    assert_int_equal(f->agent.submits, 0);
}

static void a_body_over_the_bound_is_refused_unread(void **state)
{
    struct fixture *f = *state;
    expect(f,
           "POST /v1/operations HTTP/1.1\r\n" HEAD
           "Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n",
           413, "over the bound of 1048576");
    expect(f,
           "POST /v1/blobs HTTP/1.1\r\n" HEAD
           "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
           413, "over the bound");
    assert_null(strstr(client_text(f->client), "100 Continue"));
    /* Nor is one without a token, however much of it is on its way. */
    struct client *client = fixture_client(f);
    char *block = chp_alloc(256 * 1024);
    client_say(client,
               "POST /v1/blobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n");
    client_send(client, block, 256 * 1024);
    assert_true(client_sees(client, "401 ", 1000));
    assert_true(client_sees(client, "a token is needed", 1000));
    assert_int_equal(f->agent.blob_open, 0);
    free(block);
    client_free(client);
}

static void chunks_are_bounded_too(void **state)
{
    struct fixture *f = *state;
    expect(f,
           "POST /v1/blobs HTTP/1.1\r\n" HEAD
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
           413, "chunks cannot be read");
    expect(f,
           "POST /v1/blobs HTTP/1.1\r\n" HEAD
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
           201,
           "\"sha256\":\"36bbe50ed96841d10443bcb670d6554f0a34b761be67ec9c4a8ad2c0c44ca42c\","
           "\"size\":5}");
    expect(f, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\n100001\r\n",
           413, "more than 1048576 bytes");
    assert_int_equal(f->agent.blob_open, 0);
    /* Over the bound of the whole in the middle: answered at once, not at an end that may never
     * come. */
    struct client *client = fixture_client(f);
    char *block = chp_alloc(1024 * 1024);
    client_say(client, "POST /v1/operations HTTP/1.1\r\n" HEAD "Content-Type: application/json\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 2; i++) {
        client_say(client, "100000\r\n");
        client_send(client, block, 1024 * 1024);
        client_say(client, "\r\n");
    }
    assert_true(client_sees(client, "413 ", 1000));
    assert_true(client_sees(client, "over the bound of 1048576", 1000));
    free(block);
    client_free(client);
}

/* --- blobs ------------------------------------------------------------------------------- */

static size_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0;
    unsigned long resident = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
    (void)fclose(file);
    return resident * 4;
}

/* AddressSanitizer keeps freed memory. */
static void assert_flat(size_t before_kib, size_t after_kib)
{
#ifdef __SANITIZE_ADDRESS__
    (void)before_kib;
    (void)after_kib;
#else
    assert_true(after_kib < before_kib + 4096);
#endif
}

static void a_big_blob_streams_with_flat_memory(void **state)
{
    struct fixture *f = *state;
    enum { BLOCK = 256 * 1024, BLOCKS = 80 };
    char *block = chp_alloc(BLOCK);
    client_say(f->client,
               "POST /v1/blobs HTTP/1.1\r\n" HEAD
               "Content-Length: %d\r\nExpect: 100-continue\r\n\r\n",
               BLOCK * BLOCKS);
    assert_true(client_sees(f->client, "100 Continue", 1000));
    client_send(f->client, block, BLOCK);
    size_t before_kib = resident_kib();
    for (int i = 1; i < BLOCKS; i++) {
        client_send(f->client, block, BLOCK);
    }
    size_t after_kib = resident_kib();
    assert_true(client_sees(f->client, "201 ", 2000));
    assert_true(client_sees(f->client, "\"size\":20971520}", 1000));
    assert_int_equal(f->agent.blob_bytes, BLOCK * BLOCKS);
    assert_flat(before_kib, after_kib);
    free(block);
}

static void a_client_that_hangs_up_leaves_no_blob(void **state)
{
    struct fixture *f = *state;
    client_say(f->client, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Content-Length: 100\r\n\r\nabc");
    loop_run(f->base, 20);
    assert_int_equal(f->agent.blob_open, 1);
    client_free(f->client);
    loop_run(f->base, 20);
    assert_int_equal(f->agent.blob_open, 0);
    assert_int_equal(f->agent.blob_finished, 0);
    f->client = fixture_client(f);
    f->agent.blob_fails = true;
    expect(f, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Content-Length: 3\r\n\r\nabc", 500,
           "the disk is full");
}

/* --- forms ------------------------------------------------------------------------------- */

static void a_form_becomes_an_operation(void **state)
{
    struct fixture *f = *state;
    struct chp_command command;
    struct chp_error error;
    client_say(
        f->client,
        "POST /exec/web%%2D1 HTTP/1.1\r\n" HEAD
        "Content-Type: multipart/form-data; boundary=XyZ\r\n"
        "Content-Length: %zu\r\n\r\n",
        strlen(PART("command", "", "cat {a.txt}") PART("sites", "", "Nantes&Rennes") PART(
            "type", "", "set") PART("config", "; filename=m.json", "{\"ResolutionMatrix\": []}")
                   PART("undo", "", "rm note") FILE_PART("a.txt", "hello") FILE_PART("b", "") END));
    client_say(f->client, "%s",
               PART("command", "", "cat {a.txt}") PART("sites", "", "Nantes&Rennes")
                   PART("type", "", "set")
                       PART("config", "; filename=m.json", "{\"ResolutionMatrix\": []}")
                           PART("undo", "", "rm note") FILE_PART("a.txt", "hello")
                               FILE_PART("b", "") END);
    assert_true(client_sees(f->client, "HTTP/1.1 200 ", 1000));
    assert_string_equal(f->agent.last.resource, "web-1");
    assert_string_equal(f->agent.last.scope, "Nantes&Rennes");
    assert_string_equal(f->agent.last.type, "set");
    assert_string_equal(f->agent.last.config, "{\"ResolutionMatrix\":[]}");
    assert_int_equal(f->agent.last.file_count, 2);
    assert_string_equal(f->agent.last.files[0].name, "a.txt");
    assert_true(f->agent.last.files[0].is_inline);
    assert_memory_equal(f->agent.last.files[0].content.data, "hello", 5);
    assert_int_equal(f->agent.last.files[1].size, 0);
    assert_int_equal(chp_command_decode(f->agent.last.payload, &f->agent.arena, &command, &error),
                     0);
    assert_int_equal(command.argc, 3);
    assert_string_equal(command.argv[0], "sh");
    assert_string_equal(command.argv[2], "cat {a.txt}");
    assert_int_equal(chp_command_decode(f->agent.last.undo, &f->agent.arena, &command, &error), 0);
    assert_string_equal(command.argv[2], "rm note");
}

static void big_files_of_a_form_become_blobs(void **state)
{
    struct fixture *f = *state;
    enum { SMALL = 60 * 1024, BIG = 20 * 1024 * 1024 };
    static const char head[] = PART("command", "", "true") PART("type", "", "set");
    static const char begin[] =
        "--XyZ\r\nContent-Disposition: form-data; name=%s; filename=x\r\n\r\n";
    char *content = chp_alloc(BIG);
    size_t begin_len = strlen(begin) - 1;
    memset(content, 'x', BIG);
    client_say(f->client,
               "POST /exec/web HTTP/1.1\r\n" HEAD
               "Content-Type: multipart/form-data; boundary=XyZ\r\n"
               "Content-Length: %zu\r\n\r\n%s",
               strlen(head) + 4 * begin_len + 3 * (SMALL + 2) + BIG + 2 + strlen(END), head);
    for (int name = 'a'; name <= 'c'; name++) {
        client_say(f->client,
                   "--XyZ\r\nContent-Disposition: form-data; name=%c; filename=x\r\n\r\n", name);
        client_send(f->client, content, SMALL);
        client_say(f->client, "\r\n");
    }
    client_say(f->client, "--XyZ\r\nContent-Disposition: form-data; name=%c; filename=x\r\n\r\n",
               'd');
    size_t before_kib = resident_kib();
    client_send(f->client, content, BIG);
    size_t after_kib = resident_kib();
    client_say(f->client, "\r\n" END);
    assert_true(client_sees(f->client, "HTTP/1.1 200 ", 2000));
    assert_flat(before_kib, after_kib);
    assert_int_equal(f->agent.last.file_count, 4);
    assert_true(f->agent.last.files[0].is_inline && f->agent.last.files[1].is_inline);
    assert_false(f->agent.last.files[2].is_inline || f->agent.last.files[3].is_inline);
    assert_int_equal(f->agent.last.files[2].size, SMALL);
    assert_int_equal(f->agent.last.files[3].size, BIG);
    assert_int_equal(f->agent.blob_finished, 2);
    assert_int_equal(f->agent.blob_open, 0);
    free(content);
}

static void bad_forms_get_a_sentence(void **state)
{
    struct fixture *f = *state;
    static const char good[] = PART("command", "", "true") PART("type", "", "set");
    post(f, "/exec/web", "application/json", "{}", 415, "must be multipart/form-data");
    post(f, "/exec/web", "multipart/form-data", "{}", 400, "boundary");
    post_form(f, "/exec/web", "", 400, "before its closing boundary");
    post_form(f, "/exec/web", good, 400, "before its closing boundary");
    post_form(f, "/exec/web", PART("type", "", "set") END, 400,
              "\\\"command\\\" of the form is missing");
    post_form(f, "/exec/web", PART("command", "", " \n") PART("type", "", "set") END, 400,
              "missing");
    post_form(f, "/exec/web", PART("command", "", "true") END, 400,
              "\\\"type\\\" of the form is missing");
    post_form(f, "/exec/web", PART("command", "", "true") PART("command", "", "true") END, 400,
              "twice");
    post_form(f, "/exec/web", PART("command", "", "true\xff") END, 400, "UTF-8");
    post_form(f, "/exec/web", PART("site", "", "Nantes") END, 400,
              "field \\\"site\\\" of the form is not known");
    post_form(f, "/exec/web", FILE_PART("../x", "") END, 400, "name");
    post_form(f, "/exec/web", FILE_PART("/etc/passwd", "") END, 400, "name");
    post_form(f, "/exec/web", FILE_PART("a", "") FILE_PART("a", "") END, 400, "file a twice");
    post_form(f, "/exec/web",
              PART("command", "", "true") PART("type", "", "set") PART("config", "", "{]") END, 400,
              "config");
    post_form(f, "/exec/web",
              PART("command", "", "true") PART("type", "", "set") PART("config", "", "[]") END, 400,
              "object");
    post_form(f, "/exec/web",
              PART("undo", "", "forbidden") PART("command", "", "true") PART("type", "", "set") END,
              403, "its undo: forbidden is not on the allow-list");
    post_form(f, "/exec/%20", PART("command", "", "true") PART("type", "", "set") END, 400, "id");
    post_form(f, "/show/web", FILE_PART("a", "") PART("command", "", "true") END, 400, "no files");
    post_form(f, "/show/web", END, 400, "\\\"command\\\" of the form is missing");
    assert_int_equal(f->agent.submits, 0);
    assert_int_equal(f->agent.blob_open, 0);
}

/* Long before its end. */
static void a_bad_form_is_answered_at_once(void **state)
{
    struct fixture *f = *state;
    client_say(f->client, "POST /exec/web HTTP/1.1\r\n" HEAD
                          "Content-Type: multipart/form-data; boundary=XyZ\r\n"
                          "Content-Length: 9999999\r\n\r\n" FILE_PART("../x", "abc"));
    assert_true(client_sees(f->client, "400 ", 1000));
    assert_true(client_sees(f->client, "Connection: close", 1000));
    assert_true(client_closes(f->client, 4000));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_operation_is_submitted),
        TEST(what_the_agent_refuses_is_passed_on),
        TEST(bad_json_is_refused),
        TEST(a_body_over_the_bound_is_refused_unread),
        TEST(chunks_are_bounded_too),
        TEST(a_big_blob_streams_with_flat_memory),
        TEST(a_client_that_hangs_up_leaves_no_blob),
        TEST(a_form_becomes_an_operation),
        TEST(big_files_of_a_form_become_blobs),
        TEST(bad_forms_get_a_sentence),
        TEST(a_bad_form_is_answered_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
