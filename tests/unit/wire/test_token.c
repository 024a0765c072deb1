/* SPDX-License-Identifier: AGPL-3.0-only */
/* The scan: what it lets through is msgpack within bounds, and nothing else. */
#include "samples.h"

#include "wire/token.h"

static int scan_hex(const char *hex, struct chp_error *error)
{
    struct chp_arena arena = {0};
    int code = wire__scan(unhex(&arena, hex), error);
    chp_arena_deinit(&arena);
    return code;
}

static void every_kind_of_value_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum wire__token_kind kind;
        uint64_t number;
        size_t len;
    } values[] = {
        {"c0", WIRE_NIL, 0, 0},
        {"c2", WIRE_FALSE, 0, 0},
        {"c3", WIRE_TRUE, 0, 0},
        {"7f", WIRE_UNSIGNED, 127, 0},
        {"cc ff", WIRE_UNSIGNED, 255, 0},
        {"cd ffff", WIRE_UNSIGNED, 65535, 0},
        {"ce ffffffff", WIRE_UNSIGNED, UINT32_MAX, 0},
        {"cf ffffffffffffffff", WIRE_UNSIGNED, UINT64_MAX, 0},
        {"d0 7f", WIRE_UNSIGNED, 127, 0},
        {"d3 0000000000000001", WIRE_UNSIGNED, 1, 0},
        {"ff", WIRE_NEGATIVE, (uint64_t)-1, 0},
        {"e0", WIRE_NEGATIVE, (uint64_t)-32, 0},
        {"d0 80", WIRE_NEGATIVE, (uint64_t)-128, 0},
        {"d1 8000", WIRE_NEGATIVE, (uint64_t)-32768, 0},
        {"d2 80000000", WIRE_NEGATIVE, (uint64_t)INT32_MIN, 0},
        {"d3 8000000000000000", WIRE_NEGATIVE, (uint64_t)INT64_MIN, 0},
        {"ca 3f800000", WIRE_FLOAT, 0, 4},
        {"cb 3ff0000000000000", WIRE_FLOAT, 0, 8},
        {"a2 6162", WIRE_STR, 2, 2},
        {"d9 01 61", WIRE_STR, 1, 1},
        {"da 0001 61", WIRE_STR, 1, 1},
        {"db 00000001 61", WIRE_STR, 1, 1},
        {"c4 02 0001", WIRE_BIN, 2, 2},
        {"c5 0000", WIRE_BIN, 0, 0},
        {"c6 00000001 ff", WIRE_BIN, 1, 1},
        {"c7 01 05 ff", WIRE_EXT, 1, 2},
        {"c8 0001 05 ff", WIRE_EXT, 1, 2},
        {"c9 00000001 05 ff", WIRE_EXT, 1, 2},
        {"d4 05 ff", WIRE_EXT, 0, 2},
        {"d8 05 00112233445566778899aabbccddeeff", WIRE_EXT, 0, 17},
        {"90", WIRE_ARRAY, 0, 0},
        {"dc 0000", WIRE_ARRAY, 0, 0},
        {"dd 00000000", WIRE_ARRAY, 0, 0},
        {"80", WIRE_MAP, 0, 0},
        {"de 0000", WIRE_MAP, 0, 0},
        {"df 00000000", WIRE_MAP, 0, 0},
    };
    struct chp_arena arena = {0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct chp_bytes input = unhex(&arena, values[i].hex);
        struct chp_bytes at = input;
        struct chp_error error = {0};
        assert_int_equal(wire__scan(input, &error), 0);
        struct wire__token token = wire__next(&at);
        assert_int_equal(token.kind, values[i].kind);
        assert_int_equal(token.number, values[i].number);
        assert_int_equal(token.bytes.len, values[i].len);
        assert_int_equal(at.len, 0);
        /* Every prefix is cut off, and a byte behind it is one too many. */
        for (size_t len = 0; len < input.len; len++) {
            assert_int_equal(wire__scan(chp_bytes(input.data, len), &error), CHP_EMALFORMED);
        }
        uint8_t *longer = chp_arena_alloc(&arena, input.len + 1);
        memcpy(longer, input.data, input.len);
        assert_int_equal(wire__scan(chp_bytes(longer, input.len + 1), &error), CHP_EMALFORMED);
    }
    chp_arena_deinit(&arena);
}

static void what_is_not_msgpack_is_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "c1",    "91",          "81 01",
                                      "92 c0", "a5 61", "81 a1 61 c1", "c0 c0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chp_error error = {0};
        assert_int_equal(scan_hex(bad[i], &error), CHP_EMALFORMED);
        assert_true(error.text[0] != 0);
    }
}

static void counts_are_compared_with_what_is_left(void **state)
{
    (void)state;
    static const char *const bombs[] = {
        "dd 0fffffff", "dd ffffffff", "df 7fffffff", "df ffffffff", "df 80000000",
        "db ffffffff", "c6 ffffffff", "c9 ffffffff", "dc ffff c0",  "91 dd 10000000"};
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        struct chp_error error = {0};
        assert_int_equal(scan_hex(bombs[i], &error), CHP_EMALFORMED);
    }
}

static void depth_and_elements_are_bounded(void **state)
{
    (void)state;
    uint8_t nested[CHP_WIRE_DEPTH_MAX + 2];
    struct chp_error error = {0};
    memset(nested, 0x91, sizeof nested);
    nested[CHP_WIRE_DEPTH_MAX] = 0xc0;
    assert_int_equal(wire__scan(chp_bytes(nested, CHP_WIRE_DEPTH_MAX + 1), &error), 0);
    nested[CHP_WIRE_DEPTH_MAX] = 0x91;
    nested[CHP_WIRE_DEPTH_MAX + 1] = 0xc0;
    assert_int_equal(wire__scan(chp_bytes(nested, CHP_WIRE_DEPTH_MAX + 2), &error), CHP_ETOODEEP);

    static uint8_t wide[CHP_WIRE_ELEMENTS_MAX + 3];
    wide[0] = 0xdc;
    wide[1] = (CHP_WIRE_ELEMENTS_MAX - 1) >> 8;
    wide[2] = (CHP_WIRE_ELEMENTS_MAX - 1) & 0xff;
    assert_int_equal(wire__scan(chp_bytes(wide, CHP_WIRE_ELEMENTS_MAX + 2), &error), 0);
    wide[1] = CHP_WIRE_ELEMENTS_MAX >> 8;
    wide[2] = CHP_WIRE_ELEMENTS_MAX & 0xff;
    assert_int_equal(wire__scan(chp_bytes(wide, CHP_WIRE_ELEMENTS_MAX + 3), &error), CHP_ETOOBIG);
}

static void skip_passes_a_whole_value(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_bytes input = unhex(&arena, "93 82 a1 61 92 01 02 a1 62 80 d4 05 ff 07");
    struct chp_bytes at = input;
    assert_int_equal(wire__scan(input, NULL), 0);
    assert_int_equal(wire__next(&at).number, 3);
    wire__skip(&at);
    wire__skip(&at);
    assert_int_equal(wire__next(&at).number, 7);
    assert_int_equal(at.len, 0);
    chp_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(what_is_not_msgpack_is_malformed),
        cmocka_unit_test(counts_are_compared_with_what_is_left),
        cmocka_unit_test(depth_and_elements_are_bounded),
        cmocka_unit_test(skip_passes_a_whole_value),
    };
    return cmocka_run_group_tests_name("wire token", tests, NULL, NULL);
}
