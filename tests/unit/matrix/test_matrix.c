/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/limits.h"
#include "base/mem.h"
#include "matrix/matrix.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* "a,b,result;..." with results one, any, keep, reverse -> the JSON. */
static char *matrix_json(const char *rows, const char *version)
{
    static const char *const names[][2] = {{"one", "take-one"},
                                           {"any", "take-both-any-order"},
                                           {"keep", "take-both-keep-order"},
                                           {"reverse", "take-both-reverse-order"}};
    struct chp_buf json = {0};
    char *copy = chp_strdup(rows);
    char *rest;
    chp_buf_add_text(&json, "{\"ResolutionMatrix\":[");
    for (char *row = strtok_r(copy, ";", &rest); row != NULL; row = strtok_r(NULL, ";", &rest)) {
        char *inner;
        const char *before = strtok_r(row, ",", &inner);
        const char *after = strtok_r(NULL, ",", &inner);
        const char *result = strtok_r(NULL, ",", &inner);
        for (size_t i = 0; i < COUNT(names); i++) {
            result = strcmp(result, names[i][0]) == 0 ? names[i][1] : result;
        }
        chp_buf_printf(&json, "%s{\"Before\":\"%s\",\"After\":\"%s\",\"Result\":\"%s\"}",
                       row == copy ? "" : ",", before, after, result);
    }
    chp_buf_printf(&json, "]%s%s}",
                   version == NULL ? "" : ",\"version\":", version == NULL ? "" : version);
    free(copy);
    return chp_buf_take(&json);
}

struct accepted_case {
    const char *rows;
    const char *canonical;
    const char *notes; /* joined by '|' */
};

static const struct accepted_case accepted[] = {
    {"", "", ""},
    {"set,set,one", "set,set,one", ""},
    {"add,add,keep", "add,add,keep", ""},
    {"set,set,one;set,add,keep;add,set,reverse", "add,set,reverse;set,add,keep;set,set,one",
     "(add, add) is not listed: assumed to commute"},
    {"set,add,keep;set,set,one;add,add,any", "add,add,any;add,set,reverse;set,add,keep;set,set,one",
     "(add, set) was added as take-both-reverse-order, the mirror of row 1"},
    {"a,a,any;b,b,any;a,b,one", "a,a,any;a,b,one;b,a,one;b,b,any",
     "(b, a) was added as take-one, the mirror of row 3"},
    {"a,a,any;b,b,any;a,b,reverse", "a,a,any;a,b,reverse;b,a,keep;b,b,any",
     "(b, a) was added as take-both-keep-order, the mirror of row 3"},
    {"a,a,any;b,b,any;b,a,any", "a,a,any;a,b,any;b,a,any;b,b,any",
     "(a, b) was added as take-both-any-order, the mirror of row 3"},
    {"a,a,any;a,a,any", "a,a,any", "(a, a) is listed twice: once counts"},
    {"a,a,any;b,b,any;a,b,keep;b,a,one", "a,a,any;a,b,keep;b,a,one;b,b,any",
     "(a, b) is take-both-keep-order but (b, a) is take-one: each is taken as listed"},
    {"a,a,any;b,b,any", "a,a,any;b,b,any", "(a, b) is not listed: assumed to commute"},
    {"delete,delete,one;a,a,one", "a,a,one;delete,delete,one",
     "(a, delete) is not listed: delete is take-one with it"},
};

static void accepted_matrices_are_completed_and_noted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(accepted); i++) {
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        struct chp_buf joined = {0};
        const char *canonical;
        const char **notes;
        size_t count;
        char *json = matrix_json(accepted[i].rows, NULL);
        char *expected = matrix_json(accepted[i].canonical, "1");
        if (chp_matrix_check(json, &arena, &canonical, &notes, &count, &error) != 0) {
            fail_msg("%s: %s", accepted[i].rows, error.text);
        }
        assert_string_equal(canonical, expected);
        for (size_t j = 0; j < count; j++) {
            chp_buf_printf(&joined, "%s%s", j == 0 ? "" : "|", notes[j]);
        }
        assert_string_equal(chp_buf_text(&joined), accepted[i].notes);
        const char *again;
        assert_int_equal(chp_matrix_check(canonical, &arena, &again, &notes, &count, &error), 0);
        assert_string_equal(again, canonical);
        chp_buf_deinit(&joined);
        chp_arena_deinit(&arena);
        free(json);
        free(expected);
    }
}

struct refused_case {
    const char *rows; /* or the JSON, when it starts with '{' or '[' */
    int code;
    const char *sentence;
};

static const struct refused_case refused[] = {
    {"a,b,keep;b,a,keep", CHP_EINVAL,
     "the resolution matrix contradicts itself: a before b (row 1) and b before a (row 2)"},
    {"b,a,reverse;c,c,any;a,b,reverse", CHP_EINVAL,
     "the resolution matrix contradicts itself: b before a (row 3) and a before b (row 1)"},
    {"a,b,keep;c,c,any;a,b,one", CHP_EINVAL, "(a, b) is both take-"},
    {"a,a,reverse", CHP_EINVAL, "a before itself in reverse (row 1)"},
    {"a,b,take-both-in-order", CHP_EINVAL,
     "row 1 of the resolution matrix: there is no result \"take-both-in-order\", did you mean "
     "\"take-both-any-order\"?; allowed are take-one, take-both-any-order, take-both-keep-order "
     "and take-both-reverse-order"},
    {"a,a,one;a,b,Take-One", CHP_EINVAL,
     "row 2 of the resolution matrix: there is no result \"Take-One\", did you mean \"take-one\"?"},
    {"a,b,x", CHP_EINVAL, "there is no result \"x\"; allowed are take-one"},
    {"{", CHP_EMALFORMED, "the resolution matrix is not JSON: line 1"},
    {"{}", CHP_EMALFORMED, "the configuration must be {\"ResolutionMatrix\""},
    {"[]", CHP_EMALFORMED, "the configuration must be {\"ResolutionMatrix\""},
    {"{\"ResolutionMatrix\":{}}", CHP_EMALFORMED, "the configuration must be"},
    {"{\"ResolutionMatrix\":[],\"resolutionMatrix\":[]}", CHP_EMALFORMED,
     "the configuration has \"resolutionMatrix\", which is not known: allowed are "
     "ResolutionMatrix, version"},
    {"{\"ResolutionMatrix\":[],\"version\":0}", CHP_EMALFORMED, "\"version\" of the resolution"},
    {"{\"ResolutionMatrix\":[],\"version\":\"1\"}", CHP_EMALFORMED, "\"version\" of the"},
    {"{\"ResolutionMatrix\":[],\"version\":1.5}", CHP_EMALFORMED, "\"version\" of the"},
    {"{\"ResolutionMatrix\":[],\"version\":2147483648}", CHP_EMALFORMED, "\"version\" of the"},
    {"{\"ResolutionMatrix\":[],\"ResolutionMatrix\":[]}", CHP_EMALFORMED, "is not JSON"},
    {"{\"ResolutionMatrix\":[1]}", CHP_EMALFORMED, "row 1 of the resolution matrix must be {"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"a\"}]}", CHP_EMALFORMED,
     "row 1 of the resolution matrix: \"After\" must be a string"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"\",\"After\":\"a\",\"Result\":\"take-one\"}]}",
     CHP_EMALFORMED, "row 1 of the resolution matrix: \"Before\" must have 1 to 200 bytes"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"a\\nb\",\"After\":\"a\",\"Result\":\"take-one\"}]}",
     CHP_EMALFORMED, "no control characters"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"a\\u0000b\",\"After\":\"a\",\"Result\":\"take-one\"}]}",
     CHP_EMALFORMED, "is not JSON"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"a\",\"After\":\"a\",\"Result\":7}]}", CHP_EMALFORMED,
     "\"Result\" must be a string"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"a\",\"After\":\"a\",\"Result\":\"take-one\","
     "\"replace\":true}]}",
     CHP_EMALFORMED, "row 1 of the resolution matrix has \"replace\", which is not known"},
    {"{\"ResolutionMatrix\":[{\"Before\":\"\xff\"}]}", CHP_EMALFORMED, "is not JSON"},
};

static void refused_matrices_say_what_and_where(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct chp_arena arena = {0};
        struct chp_error error = {0};
        const char *canonical;
        const char **notes;
        size_t count;
        bool literal = refused[i].rows[0] == '{' || refused[i].rows[0] == '[';
        char *json = literal ? chp_strdup(refused[i].rows) : matrix_json(refused[i].rows, NULL);
        int code = chp_matrix_check(json, &arena, &canonical, &notes, &count, &error);
        if (code != refused[i].code || strstr(error.text, refused[i].sentence) == NULL) {
            fail_msg("%s: %d \"%s\", not \"%s\"", json, code, error.text, refused[i].sentence);
        }
        assert_true(chp_utf8_valid(error.text, strlen(error.text)));
        chp_arena_deinit(&arena);
        free(json);
    }
}

/* count types, each listed with itself, or with the next one only so that mirrors are missing. */
static char *many_rows(size_t count, size_t name_bytes, bool mirrors_missing)
{
    struct chp_buf rows = {0};
    for (size_t i = 0; i < count; i++) {
        chp_buf_printf(&rows, "%0*zu,%0*zu,one;", (int)name_bytes, i, (int)name_bytes,
                       mirrors_missing ? i + 1 : i);
    }
    char *json = matrix_json(chp_buf_text(&rows), NULL);
    chp_buf_deinit(&rows);
    return json;
}

static int check_free(char *json, struct chp_error *error, size_t *note_count)
{
    struct chp_arena arena = {0};
    const char *canonical;
    const char **notes = NULL;
    int code = chp_matrix_check(json, &arena, &canonical, &notes, note_count, error);
    if (code == 0 && *note_count == CHP_MATRIX_NOTES_MAX) {
        assert_non_null(strstr(notes[CHP_MATRIX_NOTES_MAX - 1], " more like these"));
    }
    chp_arena_deinit(&arena);
    free(json);
    return code;
}

static void bounds_hold(void **state)
{
    (void)state;
    struct chp_error error = {0};
    size_t count = 0;
    assert_int_equal(check_free(many_rows(CHP_MATRIX_ROWS_MAX, 4, false), &error, &count), 0);
    assert_int_equal(count, CHP_MATRIX_NOTES_MAX);
    assert_int_equal(check_free(many_rows(CHP_MATRIX_ROWS_MAX + 1, 4, false), &error, &count),
                     CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "has 1025 rows, at most 1024"));
    assert_int_equal(check_free(many_rows(600, 4, true), &error, &count), CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "has 1200 rows with the missing mirrors"));
    assert_int_equal(check_free(many_rows(250, 80, true), &error, &count), CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "bytes with the missing mirrors, at most 65536"));
    assert_int_equal(check_free(many_rows(1000, 100, true), &error, &count), CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "bytes, at most 65536"));
    char *deep = chp_alloc(60001);
    memset(deep, '[', 60000);
    assert_int_equal(check_free(deep, &error, &count), CHP_EMALFORMED);
}

static void long_names_leave_the_sentence_valid(void **state)
{
    (void)state;
    struct chp_buf name = {0};
    struct chp_buf rows = {0};
    struct chp_error error = {0};
    size_t count = 0;
    chp_buf_add_text(&name, "x"); /* so that a cut at an even number of bytes splits a character */
    for (int i = 0; i < 99; i++) {
        chp_buf_add_text(&name, "é");
    }
    chp_buf_printf(&rows, "%s,b,keep;b,%s,keep", chp_buf_text(&name), chp_buf_text(&name));
    assert_int_equal(check_free(matrix_json(chp_buf_text(&rows), NULL), &error, &count),
                     CHP_EINVAL);
    assert_true(chp_utf8_valid(error.text, strlen(error.text)));
    chp_buf_deinit(&name);
    chp_buf_deinit(&rows);
}

/* The published matrices: accepted, and equal however their rows are turned. */
static void published_matrices_are_accepted(void **state)
{
    (void)state;
    char path[4096];
    json_error_t reason;
    (void)snprintf(path, sizeof path, "%s/tests/data/consistency.json",
                   getenv("CHEOPS_SOURCE_DIR"));
    json_t *vectors = json_load_file(path, 0, &reason);
    assert_non_null(vectors);
    const char *name;
    json_t *rows;
    size_t matrix_count = 0;
    json_object_foreach(json_object_get(vectors, "matrices"), name, rows)
    {
        char *canonical_first = NULL;
        for (size_t turn = 0; turn < json_array_size(rows); turn++) {
            json_t *turned = json_array();
            for (size_t i = 0; i < json_array_size(rows); i++) {
                json_t *row = json_array_get(rows, (i + turn) % json_array_size(rows));
                json_array_append_new(
                    turned, json_pack("{s:O,s:O,s:O}", "Before", json_array_get(row, 0), "After",
                                      json_array_get(row, 1), "Result", json_array_get(row, 2)));
            }
            json_t *root = json_pack("{s:o}", "ResolutionMatrix", turned);
            char *json = json_dumps(root, JSON_INDENT(2));
            struct chp_arena arena = {0};
            struct chp_error error = {0};
            const char *canonical;
            const char **notes;
            size_t count;
            if (chp_matrix_check(json, &arena, &canonical, &notes, &count, &error) != 0) {
                fail_msg("%s: %s", name, error.text);
            }
            if (canonical_first == NULL) {
                canonical_first = chp_strdup(canonical);
            }
            assert_string_equal(canonical, canonical_first);
            chp_arena_deinit(&arena);
            json_decref(root);
            free(json);
        }
        free(canonical_first);
        matrix_count++;
    }
    assert_int_equal(matrix_count, 4);
    json_decref(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_matrices_are_completed_and_noted),
        cmocka_unit_test(refused_matrices_say_what_and_where),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(long_names_leave_the_sentence_valid),
        cmocka_unit_test(published_matrices_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
