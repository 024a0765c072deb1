/* SPDX-License-Identifier: AGPL-3.0-only */
/* Errors, uuids, hashes, clocks, log lines, metrics. */
#include "test_base.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/sha256.h"
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const int codes[] = {
#define X(name, value, text, http) CHP_##name,
    CHP_ERRORS(X)
#undef X
};

static void every_code_has_its_own_text_and_an_error_status(void **state)
{
    (void)state;
    size_t count = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < count; i++) {
        assert_true(codes[i] < 0);
        assert_string_not_equal(chp_error_name(codes[i]), "unknown error");
        assert_in_range(chp_error_http_status(codes[i]), 400, 599);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(codes[i], codes[j]);
            assert_string_not_equal(chp_error_name(codes[i]), chp_error_name(codes[j]));
        }
    }
    assert_string_equal(chp_error_name(-999), "unknown error");
    assert_string_equal(chp_error_name(0), "ok");
    assert_int_equal(chp_error_http_status(-999), 500);
}

static void error_text_is_cut_to_fit(void **state)
{
    (void)state;
    struct chp_error error = {0};
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    assert_int_equal(chp_error_set(&error, CHP_ETOOBIG, "%s", big), CHP_ETOOBIG);
    assert_int_equal(error.code, CHP_ETOOBIG);
    assert_int_equal(strlen(error.text), CHP_ERROR_TEXT_BYTES - 1);
    assert_int_equal(chp_error_set(NULL, CHP_EIO, "%s", big), CHP_EIO);
}

static void uuid_carries_time_version_and_variant(void **state)
{
    (void)state;
    const uint8_t random[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct chp_uuid uuid = chp_uuid_v7(0x0123456789ab, random);
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&uuid, text);
    assert_string_equal(text, "01234567-89ab-7fff-bfff-ffffffffffff");
    struct chp_uuid again;
    assert_int_equal(chp_uuid_parse("01234567-89AB-7FFF-BFFF-FFFFFFFFFFFF", &again), 0);
    assert_true(chp_uuid_equal(&uuid, &again));
    struct chp_uuid later = chp_uuid_v7(0x0123456789ac, (const uint8_t[10]){0});
    assert_true(chp_uuid_compare(&uuid, &later) < 0);
    struct chp_uuid a = chp_uuid_new();
    struct chp_uuid b = chp_uuid_new();
    assert_false(chp_uuid_equal(&a, &b));
}

static void uuid_text_that_is_not_one_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "01234567-89ab-7fff-bfff-fffffffffff",
        "01234567-89ab-7fff-bfff-fffffffffffff",
        "0123456789ab-7fff-bfff-ffffffffffff-",
        "01234567-89ab-7fff-bfff-ffffffffffg0",
        "01234567089ab07fff0bfff0ffffffffffff",
        "----------------------------------- ",
    };
    struct chp_uuid uuid;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(chp_uuid_parse(bad[i], &uuid), CHP_EMALFORMED);
    }
}

static void sha256_agrees_with_the_standard_whole_and_in_pieces(void **state)
{
    (void)state;
    /* FIPS 180-2, appendix B.1 */
    static const char expected[] =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char text[CHP_SHA256_TEXT_BYTES];
    struct chp_sha256 whole = chp_sha256_of("abc", 3);
    chp_sha256_format(&whole, text);
    assert_string_equal(text, expected);
    struct chp_sha256_state *pieces = chp_sha256_new();
    chp_sha256_update(pieces, "a", 1);
    chp_sha256_update(pieces, "", 0);
    chp_sha256_update(pieces, "bc", 2);
    struct chp_sha256 joined = chp_sha256_finish(pieces);
    assert_memory_equal(joined.bytes, whole.bytes, CHP_SHA256_BYTES);
    struct chp_sha256 parsed;
    assert_int_equal(chp_sha256_parse(expected, &parsed), 0);
    assert_memory_equal(parsed.bytes, whole.bytes, CHP_SHA256_BYTES);
    assert_int_equal(chp_sha256_parse(expected + 1, &parsed), CHP_EMALFORMED);
}

static void time_is_formatted_in_utc_with_milliseconds(void **state)
{
    (void)state;
    char text[CHP_TIME_TEXT_BYTES];
    chp_clock_format(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    chp_clock_format(951782400007, text);
    assert_string_equal(text, "2000-02-29T00:00:00.007Z");
    chp_clock_format(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

/* What a log call writes to standard error. */
static char *logged(enum chp_log_level level, const char *message,
                    const struct chp_log_field *fields, size_t count)
{
    static char line[1024];
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    int saved = dup(STDERR_FILENO);
    assert_true(saved >= 0 && dup2(pipe_fds[1], STDERR_FILENO) >= 0);
    chp_log_write(level, message, fields, count);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(pipe_fds[1]);
    ssize_t len = read(pipe_fds[0], line, sizeof line - 1);
    (void)close(pipe_fds[0]);
    line[len < 0 ? 0 : len] = 0;
    return line;
}

static void log_values_are_quoted_so_that_a_line_stays_one_line(void **state)
{
    (void)state;
    chp_log_setup(CHP_LOG_INFO, "Saint Malo");
    const struct chp_log_field fields[] = {
        CHP_S("plain", "a-b_c/d"),
        CHP_S("empty", ""),
        CHP_S("spaces", "a b"),
        CHP_S("quote", "say \"x\""),
        CHP_S("lines", "a\nb level=error"),
        CHP_S("escape", "\x1b[2J"),
        CHP_S("backslash", "a\\b"),
        CHP_I("number", -5),
        CHP_S("utf8", "caf\xc3\xa9"),
        CHP_S("null", NULL),
    };
    const char *line =
        logged(CHP_LOG_INFO, "it happened", fields, sizeof fields / sizeof fields[0]);
    const char *rest = strstr(line, " level=");
    assert_non_null(rest);
    assert_string_equal(
        rest, " level=info site=\"Saint Malo\" msg=\"it happened\" plain=a-b_c/d empty=\"\""
              " spaces=\"a b\" quote=\"say \\\"x\\\"\" lines=\"a\\nb level=error\""
              " escape=\"\\x1b[2J\" backslash=\"a\\\\b\" number=-5 utf8=\"caf\xc3\xa9\""
              " null=\"\"\n");
    assert_string_equal(logged(CHP_LOG_DEBUG, "hidden", NULL, 0), "");
    enum chp_log_level level = CHP_LOG_INFO;
    assert_int_equal(chp_log_level_parse("warn", &level), 0);
    assert_int_equal(level, CHP_LOG_WARN);
    assert_int_equal(chp_log_level_parse("Warn", &level), CHP_EINVAL);
}

static void metrics_are_all_there_with_help_and_type(void **state)
{
    (void)state;
    struct chp_metrics metrics = {.operations_accepted_total = 3, .store_up = 1};
    struct chp_buf out = {0};
    chp_metrics_render(&metrics, "a\"b\\c", &out);
    const char *text = chp_buf_text(&out);
    assert_non_null(strstr(text, "\ncheops_operations_accepted_total{site=\"a\\\"b\\\\c\"} 3\n"));
    assert_non_null(strstr(text, "# TYPE cheops_operations_accepted_total counter\n"));
    assert_non_null(
        strstr(text, "# TYPE cheops_store_up gauge\ncheops_store_up{site=\"a\\\"b\\\\c\"} 1\n"));
#define X(name, type, help) assert_non_null(strstr(text, "# HELP cheops_" #name " " help "\n"));
    CHP_METRICS(X)
#undef X
    chp_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_text_and_an_error_status),
        cmocka_unit_test(error_text_is_cut_to_fit),
        cmocka_unit_test(uuid_carries_time_version_and_variant),
        cmocka_unit_test(uuid_text_that_is_not_one_is_refused),
        cmocka_unit_test(sha256_agrees_with_the_standard_whole_and_in_pieces),
        cmocka_unit_test(time_is_formatted_in_utc_with_milliseconds),
        cmocka_unit_test(log_values_are_quoted_so_that_a_line_stays_one_line),
        cmocka_unit_test(metrics_are_all_there_with_help_and_type),
    };
    int failures = cmocka_run_group_tests_name("base", tests, NULL, NULL);
    failures += run_backoff_tests();
    failures += run_container_tests();
    failures += run_text_tests();
    return failures;
}
