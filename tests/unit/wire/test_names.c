/* SPDX-License-Identifier: AGPL-3.0-only */
/* Names, states, rules for names, order of stamps, vectors. */
#include "samples.h"

static void every_enum_value_has_a_name_that_parses_back(void **state)
{
    (void)state;
    for (int i = 0; i < CHP_STATE_COUNT; i++) {
        enum chp_state parsed = CHP_STATE_ACCEPTED;
        assert_int_equal(chp_state_parse(chp_state_name((enum chp_state)i), &parsed), 0);
        assert_int_equal(parsed, i);
    }
    for (int i = 0; i < CHP_KEY_COUNT; i++) {
        enum chp_key parsed = CHP_KEY_REQUEST;
        assert_int_equal(chp_key_parse(chp_key_name((enum chp_key)i), &parsed), 0);
        assert_int_equal(parsed, i);
    }
    for (int i = 0; i <= CHP_LEVEL_STRONG; i++) {
        enum chp_level parsed = CHP_LEVEL_NONE;
        assert_int_equal(chp_level_parse(chp_level_name((enum chp_level)i), &parsed), 0);
        assert_int_equal(parsed, i);
    }
    for (int i = 0; i < CHP_RESOLUTION_COUNT; i++) {
        enum chp_resolution parsed = CHP_RESOLVE_DONE;
        assert_int_equal(chp_resolution_parse(chp_resolution_name((enum chp_resolution)i), &parsed),
                         0);
        assert_int_equal(parsed, i);
    }
    enum chp_resolution undecided = CHP_RESOLVE_RERUN;
    assert_int_equal(chp_resolution_parse("in-doubt", &undecided), CHP_EINVAL);
    assert_int_equal(undecided, CHP_RESOLVE_RERUN);
    enum chp_state unchanged = CHP_STATE_DONE;
    assert_int_equal(chp_state_parse("Done", &unchanged), CHP_EINVAL);
    assert_int_equal(unchanged, CHP_STATE_DONE);
    assert_string_equal(chp_state_name(CHP_STATE_IN_DOUBT), "in-doubt");
}

static void final_states_are_those_that_nothing_follows(void **state)
{
    (void)state;
    for (int i = 0; i < CHP_STATE_COUNT; i++) {
        bool expected = i >= CHP_STATE_DONE && i != CHP_STATE_IN_DOUBT;
        assert_int_equal(chp_state_final((enum chp_state)i), expected);
    }
}

typedef int check_fn(const char *name, struct chp_error *error);

static void check_all(check_fn *check, const char *const *good, const char *const *bad)
{
    for (; *good != NULL; good++) {
        struct chp_error error = {0};
        if (check(*good, &error) != 0) {
            fail_msg("refused \"%s\": %s", *good, error.text);
        }
    }
    for (; *bad != NULL; bad++) {
        struct chp_error error = {0};
        if (check(*bad, &error) != CHP_EINVAL) {
            fail_msg("accepted \"%s\"", *bad);
        }
        assert_int_equal(error.code, CHP_EINVAL);
        assert_non_null(strstr(error.text, "is not allowed: 1 to"));
        assert_true(chp_utf8_valid(error.text, strlen(error.text)));
    }
}

/* size characters 'a' */
static const char *long_name(struct chp_arena *arena, size_t size)
{
    char *name = chp_arena_alloc(arena, size + 1);
    memset(name, 'a', size);
    return name;
}

static void names_are_bounded_and_of_known_characters(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    check_all(chp_resource_id_check,
              (const char *[]){"a", "web", "a.b_c-d:e@f+g=h~i,j", "7", "_x", "@",
                               long_name(&arena, 200), NULL},
              (const char *[]){"", "-x", ".x", "a b", "a/b", "../x", "a\nb", "caf\xc3\xa9", "a\"b",
                               "a;b", "a{b}", long_name(&arena, 201), long_name(&arena, 5000),
                               NULL});
    check_all(
        chp_type_check,
        (const char *[]){"set", "add-1", "apply.v1", "_", ".", "-", long_name(&arena, 64), NULL},
        (const char *[]){"", "a b", "a:b", "caf\xc3\xa9", "*", long_name(&arena, 65), NULL});
    check_all(chp_file_name_check,
              (const char *[]){"x", "deploy.yml", "a_b-c.d", "a..b", long_name(&arena, 200), NULL},
              (const char *[]){"", "../x", "/etc/passwd", "..", ".", ".hidden", "-rf", "a/b",
                               "a\\b", "a b", "a{b", "a\nb", long_name(&arena, 201), NULL});
    check_all(chp_site_name_check,
              (const char *[]){"Nantes", "fr.nantes-1", "Saint Malo", "Saint-\xc3\x89tienne", "a&b",
                               long_name(&arena, 100), NULL},
              (const char *[]){"", "*", "a*", "#", "a#b", "a/b", "a\"b", "a\\b", " a", "a ", "a\nb",
                               "a\x7f", "\xff", "a\xc3", long_name(&arena, 101), NULL});
    chp_arena_deinit(&arena);
}

static void a_refused_name_is_shown_harmlessly(void **state)
{
    (void)state;
    struct chp_error error = {0};
    assert_int_equal(chp_file_name_check("../x\n\"\xff", &error), CHP_EINVAL);
    assert_non_null(strstr(error.text, "file name \"../x???\" is not allowed"));
}

static void arbitration_is_by_stamp_then_origin_then_id(void **state)
{
    (void)state;
    struct chp_stamp early = {.ms = 1, .counter = 9};
    struct chp_stamp late = {.ms = 2, .counter = 0};
    struct chp_stamp later = {.ms = 2, .counter = 1};
    struct chp_uuid low = {{1}};
    struct chp_uuid high = {{2}};
    assert_true(chp_stamp_compare(early, late) < 0);
    assert_true(chp_stamp_compare(later, late) > 0);
    assert_int_equal(chp_stamp_compare(late, late), 0);
    assert_true(chp_arbitration_compare(early, "Z", &high, late, "A", &low) < 0);
    assert_true(chp_arbitration_compare(late, "B", &low, late, "A", &high) > 0);
    assert_true(chp_arbitration_compare(late, "A", &low, late, "A", &high) < 0);
    assert_int_equal(chp_arbitration_compare(late, "A", &low, late, "A", &low), 0);
}

static void vectors_stay_sorted_and_answer_what_they_include(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_vector vector = {0};
    static const struct chp_dot dots[] = {
        {"Rennes", 2, 5}, {"Nantes", 9, 1}, {"Nantes", 2, 3}, {"Paris", 1, 4}, {"Rennes", 1, 7}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(chp_vector_get(&vector, dots[i].origin, dots[i].incarnation), 0);
        chp_vector_set(&vector, &arena, dots[i].origin, dots[i].incarnation, dots[i].n);
    }
    assert_int_equal(vector.count, 5);
    assert_string_equal(vector.entries[0].origin, "Nantes");
    assert_int_equal(vector.entries[0].incarnation, 2);
    assert_string_equal(vector.entries[4].origin, "Rennes");
    assert_int_equal(vector.entries[4].n, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(chp_vector_get(&vector, dots[i].origin, dots[i].incarnation), dots[i].n);
    }
    chp_vector_set(&vector, &arena, "Paris", 1, 6);
    assert_int_equal(vector.count, 5);
    assert_int_equal(chp_vector_get(&vector, "Paris", 1), 6);
    struct chp_vector context = {0};
    assert_true(chp_vector_includes(&vector, &context));
    assert_true(chp_vector_includes(&context, &context));
    chp_vector_set(&context, &arena, "Paris", 1, 6);
    assert_true(chp_vector_includes(&vector, &context));
    chp_vector_set(&context, &arena, "Paris", 1, 7);
    assert_false(chp_vector_includes(&vector, &context));
    chp_vector_set(&context, &arena, "Paris", 1, 1);
    chp_vector_set(&context, &arena, "Brest", 1, 1);
    assert_false(chp_vector_includes(&vector, &context));
    chp_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_enum_value_has_a_name_that_parses_back),
        cmocka_unit_test(final_states_are_those_that_nothing_follows),
        cmocka_unit_test(names_are_bounded_and_of_known_characters),
        cmocka_unit_test(a_refused_name_is_shown_harmlessly),
        cmocka_unit_test(arbitration_is_by_stamp_then_origin_then_id),
        cmocka_unit_test(vectors_stay_sorted_and_answer_what_they_include),
    };
    return cmocka_run_group_tests_name("wire names", tests, NULL, NULL);
}
