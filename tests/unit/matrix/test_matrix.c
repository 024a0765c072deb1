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
     "ResolutionMatrix, version, types"},
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
    {"{\"ResolutionMatrix\":[],\"types\":[]}", CHP_EMALFORMED,
     "\"types\" of the resolution matrix must be {type: {\"replace\": boolean"},
    {"{\"ResolutionMatrix\":[],\"types\":{\"a\":{}}}", CHP_EMALFORMED,
     "the type a must say something: {\"replace\": boolean, \"idempotent\": boolean}"},
    {"{\"ResolutionMatrix\":[],\"types\":{\"a\":true}}", CHP_EMALFORMED, "the type a must say"},
    {"{\"ResolutionMatrix\":[],\"types\":{\"a\":{\"replaces\":true}}}", CHP_EMALFORMED,
     "the type a has \"replaces\", which is not known: allowed are replace, idempotent"},
    {"{\"ResolutionMatrix\":[],\"types\":{\"a\":{\"idempotent\":1}}}", CHP_EMALFORMED,
     "\"idempotent\" of the type a must be true or false"},
    {"{\"ResolutionMatrix\":[],\"types\":{\"\":{\"replace\":true}}}", CHP_EMALFORMED,
     "a type in \"types\" of the resolution matrix must have 1 to 200 bytes"},
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

/* count types that say something, beside one row. */
static char *many_types(size_t count)
{
    struct chp_buf json = {0};
    chp_buf_add_text(&json, "{\"ResolutionMatrix\":[{\"Before\":\"a\",\"After\":\"a\","
                            "\"Result\":\"take-one\"}],\"types\":{");
    for (size_t i = 0; i < count; i++) {
        chp_buf_printf(&json, "%s\"%04zu\":{\"replace\":true}", i == 0 ? "" : ",", i);
    }
    chp_buf_add_text(&json, "}}");
    return chp_buf_take(&json);
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
    assert_int_equal(check_free(many_rows(CHP_MATRIX_TYPES_MAX, 4, false), &error, &count), 0);
    assert_int_equal(count, CHP_MATRIX_NOTES_MAX);
    assert_int_equal(check_free(many_rows(CHP_MATRIX_TYPES_MAX + 1, 4, false), &error, &count),
                     CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "has 257 types, at most 256 are allowed"));
    assert_int_equal(check_free(many_types(CHP_MATRIX_TYPES_MAX - 1), &error, &count), 0);
    assert_int_equal(check_free(many_types(CHP_MATRIX_TYPES_MAX), &error, &count), CHP_ETOOBIG);
    assert_int_equal(check_free(many_types(1000), &error, &count), CHP_ETOOBIG);
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

static struct chp_matrix *compiled(const char *json)
{
    struct chp_error error = {0};
    struct chp_matrix *matrix;
    if (chp_matrix_new(json, &matrix, &error) != 0) {
        fail_msg("%s: %s", json, error.text);
    }
    return matrix;
}

/* rows as matrix_json has them, then what the types say, or NULL. */
static struct chp_matrix *compiled_of(const char *rows, const char *types)
{
    char *json = matrix_json(rows, types == NULL ? NULL : "1");
    struct chp_buf text = {0};
    chp_buf_add(&text, json, strlen(json) - 1);
    chp_buf_printf(&text, "%s%s}", types == NULL ? "" : ",\"types\":", types == NULL ? "" : types);
    struct chp_matrix *matrix = compiled(chp_buf_text(&text));
    chp_buf_deinit(&text);
    free(json);
    return matrix;
}

struct resolve_case {
    const char *rows;
    const char *before;
    const char *after;
    enum chp_pair_rule rule;
};

static const struct resolve_case resolved[] = {
    {"", "a", "b", CHP_TAKE_BOTH_ANY_ORDER},
    {"", "a", "a", CHP_TAKE_BOTH_ANY_ORDER},
    {"", "delete", "a", CHP_TAKE_ONE},
    {"", "a", "delete", CHP_TAKE_ONE},
    {"", "delete", "delete", CHP_TAKE_ONE},
    {"a,a,one", "a", "a", CHP_TAKE_ONE},
    {"a,a,one", "a", "b", CHP_TAKE_BOTH_ANY_ORDER},
    {"a,a,one", "b", "a", CHP_TAKE_BOTH_ANY_ORDER},
    {"a,a,one", "b", "b", CHP_TAKE_BOTH_ANY_ORDER},
    {"a,b,keep", "a", "b", CHP_TAKE_BOTH_KEEP_ORDER},
    {"a,b,keep", "b", "a", CHP_TAKE_BOTH_REVERSE_ORDER},
    {"b,a,reverse", "a", "b", CHP_TAKE_BOTH_KEEP_ORDER},
    {"b,a,one", "a", "b", CHP_TAKE_ONE},
    {"a,b,any", "b", "a", CHP_TAKE_BOTH_ANY_ORDER},
    {"a,b,keep;b,a,one", "a", "b", CHP_TAKE_BOTH_KEEP_ORDER},
    {"a,b,keep;b,a,one", "b", "a", CHP_TAKE_ONE},
    {"a,delete,keep", "a", "delete", CHP_TAKE_BOTH_KEEP_ORDER},
    {"a,delete,keep", "delete", "a", CHP_TAKE_BOTH_REVERSE_ORDER},
    {"a,delete,keep", "b", "delete", CHP_TAKE_ONE},
    {"delete,delete,any", "delete", "delete", CHP_TAKE_BOTH_ANY_ORDER},
};

static void pairs_are_decided_by_row_mirror_or_default(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(resolved); i++) {
        const struct resolve_case *c = &resolved[i];
        struct chp_matrix *matrix = compiled_of(c->rows, NULL);
        enum chp_pair_rule got = chp_matrix_resolve(matrix, c->before, c->after);
        bool default_any = strcmp(c->rows, "") == 0 || strchr(c->rows, *c->before) == NULL ||
                           strchr(c->rows, *c->after) == NULL;
        bool assumed = default_any && got == CHP_TAKE_BOTH_ANY_ORDER;
        assert_int_equal(chp_matrix_assumes(matrix, c->before, c->after), assumed);
        if (got != c->rule) {
            fail_msg("%s: (%s, %s) is %s, not %s", c->rows, c->before, c->after,
                     chp_pair_rule_name(got), chp_pair_rule_name(c->rule));
        }
        chp_matrix_free(matrix);
    }
}

struct establish_case {
    const char *rows;
    const char *types; /* what they say, or NULL */
    const char *type;
    bool establishes;
    bool idempotent;
};

static const struct establish_case establishing[] = {
    {"", NULL, "set", false, false},
    {"", NULL, "delete", true, false},
    {"set,set,one", NULL, "set", true, false},
    {"set,set,one", NULL, "other", false, false},
    {"set,set,any", NULL, "set", false, false},
    {"set,set,keep", NULL, "set", false, false},
    {"set,set,one;add,add,any", NULL, "set", false, false}, /* (add, set) commutes */
    {"set,set,one;set,add,keep", NULL, "set", true, false},
    {"set,set,one;set,add,keep", NULL, "add", false, false},
    {"set,set,one;set,add,one", NULL, "set", true, false},
    {"set,set,one;set,delete,keep", NULL, "set", true, false},
    {"set,set,one;set,delete,keep", NULL, "delete", false, false},
    {"set,set,one;delete,set,keep", NULL, "set", false, false},
    {"set,set,one", "{\"set\":{\"replace\":false}}", "set", false, false},
    {"set,set,one", "{\"set\":{\"idempotent\":true}}", "set", true, true},
    {"set,set,one", "{\"set\":{\"idempotent\":false}}", "set", true, false},
    {"set,set,one", "{\"put\":{\"replace\":true,\"idempotent\":true}}", "put", true, true},
    {"set,set,one", "{\"put\":{\"idempotent\":true}}", "set", false, false}, /* (put, set) */
    {"", "{\"delete\":{\"replace\":false}}", "delete", false, false},
};

static void types_establish_as_rows_or_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(establishing); i++) {
        const struct establish_case *c = &establishing[i];
        struct chp_matrix *matrix = compiled_of(c->rows, c->types);
        bool says_yes = c->types != NULL && strstr(c->types, "\"replace\":true") != NULL;
        bool says_no = c->types != NULL && strstr(c->types, "\"replace\":false") != NULL;
        assert_int_equal(chp_matrix_replace(matrix, c->type), says_yes  ? CHP_REPLACE_YES
                                                              : says_no ? CHP_REPLACE_NO
                                                                        : CHP_REPLACE_UNSAID);
        if (chp_matrix_establishes(matrix, c->type) != c->establishes ||
            chp_matrix_idempotent(matrix, c->type) != c->idempotent) {
            fail_msg("%s %s: %s", c->rows, c->types == NULL ? "" : c->types, c->type);
        }
        chp_matrix_free(matrix);
    }
}

static void what_types_say_stays_in_the_canonical_text(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    const char *canonical;
    const char *again;
    const char **notes;
    size_t count;
    assert_int_equal(
        chp_matrix_check("{\"types\": {\"b\": {\"idempotent\": false, \"replace\": true},"
                         " \"a\": {\"idempotent\": true}}, \"ResolutionMatrix\": []}",
                         &arena, &canonical, &notes, &count, &error),
        0);
    assert_string_equal(canonical,
                        "{\"ResolutionMatrix\":[],\"version\":1,\"types\":{\"a\":{"
                        "\"idempotent\":true},\"b\":{\"replace\":true,\"idempotent\":false}}}");
    assert_int_equal(count, 3); /* (a, a), (a, b), (b, b) */
    assert_int_equal(chp_matrix_check(canonical, &arena, &again, &notes, &count, &error), 0);
    assert_string_equal(again, canonical);
    assert_int_equal(chp_matrix_check("{\"ResolutionMatrix\":[],\"types\":{}}", &arena, &again,
                                      &notes, &count, &error),
                     0);
    assert_string_equal(again, "{\"ResolutionMatrix\":[],\"version\":1}");
    chp_arena_deinit(&arena);
}

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

static void the_higher_version_then_hash_decides(void **state)
{
    (void)state;
    struct chp_matrix *none = compiled(NULL);
    struct chp_matrix *empty = compiled("{\"ResolutionMatrix\":[]}");
    struct chp_matrix *one = compiled_of("a,b,keep", NULL);
    struct chp_matrix *same = compiled_of("b,a,reverse;a,b,keep", NULL);
    char *json = matrix_json("", "2");
    struct chp_matrix *second = compiled(json);
    assert_int_equal(chp_matrix_version(none), 0);
    assert_int_equal(chp_matrix_version(second), 2);
    struct chp_matrix *const all[] = {none, empty, one, same, second};
    for (size_t i = 0; i < COUNT(all); i++) {
        assert_int_equal(chp_matrix_compare(all[i], all[i]), 0);
        for (size_t j = 0; j < COUNT(all); j++) {
            assert_int_equal(sign(chp_matrix_compare(all[i], all[j])),
                             -sign(chp_matrix_compare(all[j], all[i])));
        }
        assert_true(i == 0 || chp_matrix_compare(none, all[i]) < 0);
        assert_true(i == 4 || chp_matrix_compare(all[i], second) < 0);
    }
    assert_int_equal(chp_matrix_compare(one, same), 0);
    assert_int_not_equal(chp_matrix_compare(one, empty), 0);
    for (size_t i = 0; i < COUNT(all); i++) {
        chp_matrix_free(all[i]);
    }
    chp_matrix_free(NULL);
    free(json);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * UINT32_C(1664525) + UINT32_C(1013904223);
    return *seed >> 16;
}

/* Random rows, also contradictory ones, against the definition read row by row. */
static void rows_as_they_are_agree_with_the_definition(void **state)
{
    (void)state;
    static const char *const types[] = {"d", "a", "c", "b", "unlisted"};
    static const enum chp_pair_rule mirrors[] = {CHP_TAKE_BOTH_ANY_ORDER, CHP_TAKE_ONE,
                                                 CHP_TAKE_BOTH_REVERSE_ORDER,
                                                 CHP_TAKE_BOTH_KEEP_ORDER};
    uint32_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        struct chp_matrix_row rows[16];
        size_t count = 0;
        int expected[5][5];
        for (size_t i = 0; i < 25; i++) {
            expected[i / 5][i % 5] = -1;
        }
        for (size_t i = 0; i < 16; i++) {
            if (next_random(&seed) % 5 != 0) {
                enum chp_pair_rule rule = (enum chp_pair_rule)(next_random(&seed) % 4);
                rows[count++] = (struct chp_matrix_row){types[i / 4], types[i % 4], rule};
                expected[i / 4][i % 4] = (int)rule;
            }
        }
        struct chp_error error = {0};
        struct chp_matrix *matrix;
        assert_int_equal(chp_matrix_of_rows(rows, count, 1, &matrix, &error), 0);
        for (size_t i = 0; i < 5; i++) {
            for (size_t j = 0; j < 5; j++) {
                int other = expected[j][i] < 0 ? -1 : (int)mirrors[expected[j][i]];
                int wanted = expected[i][j] >= 0 ? expected[i][j] : other;
                assert_int_equal(chp_matrix_assumes(matrix, types[i], types[j]), wanted < 0);
                assert_int_equal(chp_matrix_resolve(matrix, types[i], types[j]),
                                 wanted < 0 ? CHP_TAKE_BOTH_ANY_ORDER : wanted);
            }
        }
        chp_matrix_free(matrix);
    }
}

static void the_largest_matrix_compiles(void **state)
{
    (void)state;
    char *json = many_types(CHP_MATRIX_TYPES_MAX - 1);
    struct chp_matrix *matrix = compiled(json);
    assert_int_equal(chp_matrix_type_count(matrix), CHP_MATRIX_TYPES_MAX + 1); /* and delete */
    for (unsigned i = 1; i <= chp_matrix_type_count(matrix); i++) {
        assert_int_equal(chp_matrix_type(matrix, chp_matrix_type_name(matrix, i)), i);
    }
    assert_int_equal(chp_matrix_type(matrix, "zzz"), 0);
    chp_matrix_free(matrix);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_matrices_are_completed_and_noted),
        cmocka_unit_test(refused_matrices_say_what_and_where),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(long_names_leave_the_sentence_valid),
        cmocka_unit_test(published_matrices_are_accepted),
        cmocka_unit_test(pairs_are_decided_by_row_mirror_or_default),
        cmocka_unit_test(types_establish_as_rows_or_they_say),
        cmocka_unit_test(what_types_say_stays_in_the_canonical_text),
        cmocka_unit_test(the_higher_version_then_hash_decides),
        cmocka_unit_test(rows_as_they_are_agree_with_the_definition),
        cmocka_unit_test(the_largest_matrix_compiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
