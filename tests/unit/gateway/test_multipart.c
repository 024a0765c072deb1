/* SPDX-License-Identifier: AGPL-3.0-only */
#include "gateway/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TYPE "multipart/form-data; boundary=XyZ"
#define PART(name, rest, content)                                                                  \
    "--XyZ\r\nContent-Disposition: form-data; name=" name rest "\r\n\r\n" content "\r\n"

struct seen {
    struct chp_buf text; /* [name|filename]content; */
    int refuse_data;
};

static int seen_on_part(void *user, const char *name, const char *filename, struct chp_error *error)
{
    struct seen *seen = user;
    (void)error;
    chp_buf_printf(&seen->text, "[%s|%s]", name, filename != NULL ? filename : "-");
    return 0;
}

static int seen_on_data(void *user, const void *data, size_t len, struct chp_error *error)
{
    struct seen *seen = user;
    assert_true(len > 0);
    chp_buf_add(&seen->text, data, len);
    return seen->refuse_data != 0 ? chp_error_set(error, seen->refuse_data, "refused by the test")
                                  : 0;
}

static int seen_on_end(void *user, struct chp_error *error)
{
    struct seen *seen = user;
    (void)error;
    chp_buf_add_text(&seen->text, ";");
    return 0;
}

/* Parses in pieces of a size; returns the code, the sentence in error. */
static int parse(const char *type, const char *body, size_t len, size_t piece, struct seen *seen,
                 struct chp_error *error)
{
    struct gateway_multipart_callbacks callbacks = {seen, seen_on_part, seen_on_data, seen_on_end};
    struct gateway_multipart *parser;
    int rc = gateway__multipart_new(type, &callbacks, &parser, error);
    for (size_t at = 0; rc == 0 && at < len; at += piece) {
        rc = gateway__multipart_feed(parser, body + at, piece < len - at ? piece : len - at, error);
    }
    rc = rc != 0 ? rc : gateway__multipart_finish(parser, error);
    gateway__multipart_free(parser);
    return rc;
}

/* The same, whatever the pieces. */
static void expect_parts(const char *type, const char *body, size_t len, const char *wanted,
                         size_t wanted_len)
{
    for (size_t piece = 1; piece <= len; piece++) {
        struct seen seen = {0};
        struct chp_error error = {0};
        int rc = parse(type, body, len, piece, &seen, &error);
        if (rc != 0) {
            fail_msg("pieces of %zu: %s", piece, error.text);
        }
        assert_int_equal(seen.text.len, wanted_len);
        assert_memory_equal(seen.text.data, wanted, wanted_len);
        chp_buf_deinit(&seen.text);
    }
}

#define EXPECT(type, body, wanted)                                                                 \
    expect_parts(type, body, sizeof(body) - 1, wanted, sizeof(wanted) - 1)

static void expect_error(const char *type, const char *body, int code, const char *sentence)
{
    for (size_t piece = 1; piece <= strlen(body) + 1; piece += 3) {
        struct seen seen = {0};
        struct chp_error error = {0};
        assert_int_equal(parse(type, body, strlen(body), piece, &seen, &error), code);
        if (strstr(error.text, sentence) == NULL) {
            fail_msg("wanted \"%s\", got \"%s\"", sentence, error.text);
        }
        chp_buf_deinit(&seen.text);
    }
}

static void reads_fields_and_files(void **state)
{
    (void)state;
    EXPECT(TYPE,
           PART("\"command\"", "", "echo hello")
               PART("\"a.txt\"", "; filename=\"a.txt\"", "one\r\ntwo\n") "--XyZ--\r\n",
           "[command|-]echo hello;[a.txt|a.txt]one\r\ntwo\n;");
    EXPECT("Multipart/Form-Data; charset=utf-8; boundary=\"X y\"",
           "--X y\r\ncontent-disposition:form-data;name=a\r\nContent-Type: "
           "text/plain\r\n\r\nb\r\n--X y--",
           "[a|-]b;");
}

static void content_may_look_like_a_boundary(void **state)
{
    (void)state;
    EXPECT(TYPE, PART("a", "", "\r\r\n\r\n--Xy\r\n--XyY\r\n-\r\n--") "--XyZ--",
           "[a|-]\r\r\n\r\n--Xy\r\n--XyY\r\n-\r\n--;");
    EXPECT(TYPE, PART("a", "", "-") PART("b", "", "--Xy") PART("c", "", "\r") "--XyZ--",
           "[a|-]-;[b|-]--Xy;[c|-]\r;");
    EXPECT(TYPE, PART("a", "", "zero\0byte\xff") "--XyZ--", "[a|-]zero\0byte\xff;");
}

static void empty_parts_and_forms(void **state)
{
    (void)state;
    EXPECT(TYPE, PART("a", "", "") PART("b", "; filename=\"\"", "") "--XyZ--", "[a|-];[b|];");
    EXPECT(TYPE, "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\n--XyZ--", "[a|-];");
    EXPECT(TYPE, "--XyZ--", "");
}

static void preamble_epilogue_and_padding(void **state)
{
    (void)state;
    EXPECT(TYPE,
           "to be ignored\r\n--XyZ \t\r\nContent-Disposition: form-data; "
           "name=a\r\n\r\nb\r\n--XyZ--\r\nso is this",
           "[a|-]b;");
}

static void names_are_unquoted(void **state)
{
    (void)state;
    EXPECT(TYPE, PART("\"a\\\"b;c=d\"", " ; filename = \"C:\\\\x\\y\" ;", "1") "--XyZ--",
           "[a\"b;c=d|C:\\x\\y]1;");
}

static void bad_forms_are_refused(void **state)
{
    (void)state;
    expect_error("multipart/form-data", "", CHP_EINVAL, "boundary");
    expect_error("multipart/form-data; boundary=", "", CHP_EINVAL, "boundary");
    expect_error("multipart/form-data; boundary=\"a", "", CHP_EINVAL, "boundary");
    expect_error("multipart/form-data; boundary=a; boundary=b", "", CHP_EINVAL, "boundary");
    expect_error("multipart/mixed; boundary=a", "", CHP_EINVAL, "boundary");
    expect_error("multipart/form-data; boundary=\"a \"", "", CHP_EINVAL, "boundary");
    expect_error("multipart/form-data; boundary="
                 "12345678901234567890123456789012345678901234567890123456789012345678901",
                 "", CHP_EINVAL, "1 to 70");
    expect_error(TYPE, "", CHP_EMALFORMED, "before its closing boundary");
    expect_error(TYPE, PART("a", "", "b"), CHP_EMALFORMED, "before its closing boundary");
    expect_error(TYPE, "--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\nbc\r\n--XyZ-",
                 CHP_EMALFORMED, "before its closing boundary");
    expect_error(TYPE, "--XyZzz\r\n", CHP_EMALFORMED, "other text");
    expect_error(TYPE, "--XyZ\r\n\r\nb\r\n--XyZ--", CHP_EMALFORMED, "Content-Disposition");
    expect_error(TYPE, "--XyZ\r\nContent-Disposition: form-data\r\n\r\nb\r\n--XyZ--",
                 CHP_EMALFORMED, "Content-Disposition");
    expect_error(TYPE, PART("\"a", "", "b") "--XyZ--", CHP_EMALFORMED, "Content-Disposition");
    expect_error(TYPE, PART("a", "; name=b", "b") "--XyZ--", CHP_EMALFORMED, "Content-Disposition");
    expect_error(TYPE, PART("\"\xff\"", "", "b") "--XyZ--", CHP_EMALFORMED, "UTF-8");
    expect_error(TYPE, PART("a", "\r\nContent-Transfer-Encoding: base64", "b") "--XyZ--",
                 CHP_EINVAL, "binary");
}

static void bounds_hold(void **state)
{
    (void)state;
    struct chp_buf body = {0};
    chp_buf_add_text(&body, "--XyZ\r\nX: ");
    for (size_t i = 0; i < GATEWAY_MULTIPART_HEADER_MAX_BYTES; i++) {
        chp_buf_add_byte(&body, 'x');
    }
    struct seen seen = {0};
    struct chp_error error = {0};
    assert_int_equal(parse(TYPE, chp_buf_text(&body), body.len, 1000, &seen, &error),
                     CHP_EMALFORMED);
    chp_buf_clear(&body);
    for (size_t i = 0; i <= GATEWAY_MULTIPART_PARTS_MAX; i++) {
        chp_buf_add_text(&body, PART("a", "", "b"));
    }
    assert_int_equal(parse(TYPE, chp_buf_text(&body), body.len, 1000, &seen, &error), CHP_ETOOBIG);
    chp_buf_clear(&body);
    for (size_t i = 0; i <= GATEWAY_MULTIPART_PREAMBLE_MAX_BYTES; i++) {
        chp_buf_add_text(&body, "\r\n");
    }
    assert_int_equal(parse(TYPE, chp_buf_text(&body), body.len, 1000, &seen, &error),
                     CHP_EMALFORMED);
    chp_buf_deinit(&body);
    chp_buf_deinit(&seen.text);
}

static void the_callers_error_ends_it(void **state)
{
    (void)state;
    struct seen seen = {.refuse_data = CHP_EIO};
    struct gateway_multipart_callbacks callbacks = {&seen, seen_on_part, seen_on_data, seen_on_end};
    struct gateway_multipart *parser;
    struct chp_error error = {0};
    static const char body[] = PART("a", "", "b") "--XyZ--";
    assert_int_equal(gateway__multipart_new(TYPE, &callbacks, &parser, &error), 0);
    assert_int_equal(gateway__multipart_feed(parser, body, sizeof body - 1, &error), CHP_EIO);
    assert_string_equal(error.text, "refused by the test");
    assert_int_equal(gateway__multipart_feed(parser, "x", 1, &error), CHP_EIO);
    assert_int_equal(gateway__multipart_finish(parser, &error), CHP_EIO);
    gateway__multipart_free(parser);
    chp_buf_deinit(&seen.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_fields_and_files),
        cmocka_unit_test(content_may_look_like_a_boundary),
        cmocka_unit_test(empty_parts_and_forms),
        cmocka_unit_test(preamble_epilogue_and_padding),
        cmocka_unit_test(names_are_unquoted),
        cmocka_unit_test(bad_forms_are_refused),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(the_callers_error_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
