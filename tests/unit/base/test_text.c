/* SPDX-License-Identifier: AGPL-3.0-only */
/* Buffers, UTF-8, hexadecimal. */
#include "test_base.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void buffer_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct chp_buf buf = {0};
    assert_string_equal(chp_buf_text(&buf), "");
    for (int i = 0; i < 1000; i++) {
        chp_buf_add_byte(&buf, 'x');
        assert_int_equal(buf.data[buf.len], 0);
    }
    chp_buf_printf(&buf, "%0200d|%s", 5, "end");
    assert_int_equal(buf.len, 1204);
    assert_string_equal(chp_buf_text(&buf) + 1198, "05|end");
    chp_buf_truncate(&buf, 2);
    assert_string_equal(chp_buf_text(&buf), "xx");
    chp_buf_add(&buf, NULL, 0);
    chp_buf_add_text(&buf, "y");
    assert_true(chp_bytes_equal(chp_buf_bytes(&buf), chp_bytes_of("xxy")));
    char *text = chp_buf_take(&buf);
    assert_string_equal(text, "xxy");
    assert_null(buf.data);
    free(text);
    text = chp_buf_take(&buf);
    assert_string_equal(text, "");
    free(text);
    chp_buf_clear(&buf);
    chp_buf_deinit(&buf);
}

static void bytes_are_compared_by_content(void **state)
{
    (void)state;
    assert_true(chp_bytes_equal(chp_bytes(NULL, 0), chp_bytes_of("")));
    assert_false(chp_bytes_equal(chp_bytes_of("ab"), chp_bytes_of("abc")));
    assert_false(chp_bytes_equal(chp_bytes("a\0b", 3), chp_bytes("a\0c", 3)));
    assert_int_equal(chp_bytes_of(NULL).len, 0);
}

static void utf8_is_told_from_what_is_not(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xe0\x9f\xbf",
                                      "\xe2\x82",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x90\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "a\xfe"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(chp_utf8_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(chp_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_false(chp_utf8_valid("a\0b", 3));
}

static void lossy_text_is_always_utf8(void **state)
{
    (void)state;
    struct chp_buf buf = {0};
    chp_buf_add_utf8_lossy(&buf, "a\xff\xc3\xa9\xe2\x82", 6);
    assert_string_equal(chp_buf_text(&buf), "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
    chp_buf_clear(&buf);
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            uint8_t pair[2] = {(uint8_t)first, (uint8_t)second};
            chp_buf_clear(&buf);
            chp_buf_add_utf8_lossy(&buf, pair, 2);
            assert_true(chp_utf8_valid(buf.data, buf.len));
        }
    }
    chp_buf_deinit(&buf);
}

static void hexadecimal_goes_both_ways(void **state)
{
    (void)state;
    char text[9];
    uint8_t data[4];
    chp_hex_encode("\x00\xff\x1a\x2b", 4, text);
    assert_string_equal(text, "00ff1a2b");
    assert_int_equal(chp_hex_decode("00FF1a2B", data, 4), 0);
    assert_memory_equal(data, "\x00\xff\x1a\x2b", 4);
    assert_int_equal(chp_hex_decode("00ff1a2", data, 4), CHP_EMALFORMED);
    assert_int_equal(chp_hex_decode("00ff1a2b0", data, 4), CHP_EMALFORMED);
    assert_int_equal(chp_hex_decode("00ff1a2g", data, 4), CHP_EMALFORMED);
    assert_int_equal(chp_hex_decode("", data, 0), 0);
}

int run_text_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_grows_and_stays_terminated),
        cmocka_unit_test(bytes_are_compared_by_content),
        cmocka_unit_test(utf8_is_told_from_what_is_not),
        cmocka_unit_test(lossy_text_is_always_utf8),
        cmocka_unit_test(hexadecimal_goes_both_ways),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
