/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const names[] = {"Nantes", "Rennes", "Paris", "A"};

static void slips_are_told_from_other_words(void **state)
{
    (void)state;
    static const struct {
        const char *typed;
        const char *nearest;
    } cases[] = {
        {"Nante", "Nantes"},  {"nantes", "Nantes"}, {"NANTSE", "Nantes"}, {"Nanntess", "Nantes"},
        {"aNntes", "Nantes"}, {"Rnenes", "Rennes"}, {"Pari", "Paris"},    {"Lyon", NULL},
        {"", NULL},           {"B", NULL},          {"a", "A"},           {"Vladivostok", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *nearest = chp_suggest(cases[i].typed, names, COUNT(names));
        if (cases[i].nearest == NULL) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, cases[i].nearest);
        }
    }
    assert_null(chp_suggest("Nantes", names, 0));
}

static void long_names_are_not_compared(void **state)
{
    (void)state;
    char fits[129];
    char too_long[130];
    memset(fits, 'x', sizeof fits);
    memset(too_long, 'x', sizeof too_long);
    fits[128] = too_long[129] = '\0';
    const char *const both[] = {too_long, fits};
    assert_null(chp_suggest(too_long, both, 2));
    fits[0] = 'y';
    char typed[129];
    memcpy(typed, fits, sizeof typed);
    typed[0] = 'x';
    assert_ptr_equal(chp_suggest(typed, both, 2), fits);
}

static void lists_are_cut_at_a_name(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        size_t max_bytes;
        const char *list;
    } cases[] = {
        {0, 10, "none"},
        {4, SIZE_MAX, "Nantes, Rennes, Paris, A"},
        {4, 15, "Nantes, Rennes and 2 more"},
        {4, 0, "Nantes and 3 more"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct chp_buf list = {0};
        chp_suggest_list(&list, names, cases[i].count, cases[i].max_bytes);
        assert_string_equal(chp_buf_text(&list), cases[i].list);
        chp_buf_deinit(&list);
    }
}

static void error_sentences_are_utf8(void **state)
{
    (void)state;
    struct chp_error error = {0};
    assert_int_equal(chp_error_set(&error, CHP_EINVAL, "%s|%.3s|%s", "é\xff", "éé", "\xc3|"),
                     CHP_EINVAL);
    assert_string_equal(error.text, "é?|é?|?|");
    char long_text[CHP_ERROR_TEXT_BYTES + 2] = "x"; /* so that the cut splits a character */
    for (size_t i = 1; i + 1 < sizeof long_text; i += 2) {
        memcpy(long_text + i, "é", 2);
    }
    long_text[sizeof long_text - 1] = '\0';
    (void)chp_error_set(&error, CHP_EINVAL, "x%s", long_text + 1);
    assert_true(chp_utf8_valid(error.text, strlen(error.text)));
    (void)chp_error_set(&error, CHP_EINVAL, "%s", long_text + 1);
    assert_true(chp_utf8_valid(error.text, strlen(error.text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slips_are_told_from_other_words),
        cmocka_unit_test(long_names_are_not_compared),
        cmocka_unit_test(lists_are_cut_at_a_name),
        cmocka_unit_test(error_sentences_are_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
