/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Rows are read, sorted by (before, after), checked against each other and completed with their
 * mirrors.
 *
 * What contradicts is what cannot be true at once: one pair with two results, a before b and b
 * before a. Mirrors that merely differ (b displaces an earlier a, but a after b keeps both) are a
 * policy that somebody may want: the engine looks a pair up in arbitration order, so it is well
 * defined; it is noted, since it is more often a slip. A type in reverse order with itself is
 * refused: whichever of two operations came first, the other would have to precede it.
 */
#include "matrix/matrix.h"

#include "base/limits.h"
#include "base/suggest.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum result { TAKE_ONE, ANY_ORDER, KEEP_ORDER, REVERSE_ORDER };
enum { RESULT_COUNT = REVERSE_ORDER + 1 };

static const char *const result_names[RESULT_COUNT] = {
    [TAKE_ONE] = "take-one",
    [ANY_ORDER] = "take-both-any-order",
    [KEEP_ORDER] = "take-both-keep-order",
    [REVERSE_ORDER] = "take-both-reverse-order",
};

/* The same statement about a pair, read from its other end. */
static const enum result mirrors[RESULT_COUNT] = {
    [TAKE_ONE] = TAKE_ONE,
    [ANY_ORDER] = ANY_ORDER,
    [KEEP_ORDER] = REVERSE_ORDER,
    [REVERSE_ORDER] = KEEP_ORDER,
};

struct row {
    const char *before;
    const char *after;
    enum result result;
    size_t number; /* in the JSON, from 1, for messages */
};

struct matrix {
    struct chp_arena *arena;
    struct chp_error *error;
    struct row *rows; /* room for a mirror of each */
    size_t row_count;
    json_int_t version;
    const char **notes;
    size_t note_count; /* wanted; kept are at most CHP_MATRIX_NOTES_MAX */
};

static void add_note(struct matrix *matrix, const char *note)
{
    if (matrix->note_count++ < CHP_MATRIX_NOTES_MAX) {
        matrix->notes[matrix->note_count - 1] = note;
    }
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *left = a;
    const struct row *right = b;
    int order = strcmp(left->before, right->before);
    return order != 0 ? order : strcmp(left->after, right->after);
}

/* Among the first count rows, which are sorted. */
static struct row *find_row(const struct matrix *matrix, size_t count, const char *before,
                            const char *after)
{
    const struct row key = {.before = before, .after = after};
    return bsearch(&key, matrix->rows, count, sizeof key, compare_rows);
}

/* Refuses members that nobody would look at: a misspelt one would change the policy silently. */
static int check_members(struct matrix *matrix, json_t *object, const char *const *allowed,
                         size_t allowed_count, const char *where)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < allowed_count; i++) {
            known = known || strcmp(key, allowed[i]) == 0;
        }
        if (!known) {
            struct chp_buf list = {0};
            chp_suggest_list(&list, allowed, allowed_count, SIZE_MAX);
            int code = chp_error_set(matrix->error, CHP_EMALFORMED,
                                     "%s has \"%.100s\", which is not known: allowed are %s", where,
                                     key, chp_buf_text(&list));
            chp_buf_deinit(&list);
            return code;
        }
    }
    return 0;
}

static int read_type(struct matrix *matrix, json_t *row_json, const char *member, size_t number,
                     const char **type)
{
    const char *text = json_string_value(json_object_get(row_json, member));
    if (text == NULL) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "row %zu of the resolution matrix: \"%s\" must be a string, the type "
                             "of an operation",
                             number, member);
    }
    size_t len = strlen(text);
    bool valid = len > 0 && len <= CHP_ID_MAX_BYTES;
    for (size_t i = 0; i < len && valid; i++) {
        valid = (unsigned char)text[i] >= ' ' && text[i] != 0x7f;
    }
    if (!valid) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "row %zu of the resolution matrix: \"%s\" must have 1 to %d bytes and "
                             "no control characters",
                             number, member, CHP_ID_MAX_BYTES);
    }
    *type = chp_arena_strdup(matrix->arena, text);
    return 0;
}

static int read_result(struct matrix *matrix, json_t *row_json, size_t number, enum result *result)
{
    const char *text = json_string_value(json_object_get(row_json, "Result"));
    for (size_t i = 0; i < RESULT_COUNT && text != NULL; i++) {
        if (strcmp(text, result_names[i]) == 0) {
            *result = (enum result)i;
            return 0;
        }
    }
    if (text == NULL) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "row %zu of the resolution matrix: \"Result\" must be a string: "
                             "take-one, take-both-any-order, take-both-keep-order or "
                             "take-both-reverse-order",
                             number);
    }
    const char *nearest = chp_suggest(text, result_names, RESULT_COUNT);
    return chp_error_set(matrix->error, CHP_EINVAL,
                         "row %zu of the resolution matrix: there is no result \"%.100s\"%s%s%s; "
                         "allowed are take-one, take-both-any-order, take-both-keep-order and "
                         "take-both-reverse-order",
                         number, text, nearest == NULL ? "" : ", did you mean \"",
                         nearest == NULL ? "" : nearest, nearest == NULL ? "" : "\"?");
}

static int read_row(struct matrix *matrix, json_t *row_json, struct row *row)
{
    static const char *const members[] = {"Before", "After", "Result"};
    char where[64];
    (void)snprintf(where, sizeof where, "row %zu of the resolution matrix", row->number);
    if (!json_is_object(row_json)) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "%s must be {\"Before\": type, \"After\": type, \"Result\": result}",
                             where);
    }
    int code = check_members(matrix, row_json, members, 3, where);
    if (code == 0) {
        code = read_type(matrix, row_json, "Before", row->number, &row->before);
    }
    if (code == 0) {
        code = read_type(matrix, row_json, "After", row->number, &row->after);
    }
    return code == 0 ? read_result(matrix, row_json, row->number, &row->result) : code;
}

static int read_matrix(struct matrix *matrix, json_t *root)
{
    static const char *const members[] = {"ResolutionMatrix", "version"};
    json_t *rows = json_object_get(root, "ResolutionMatrix");
    json_t *version = json_object_get(root, "version");
    if (!json_is_array(rows)) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "the configuration must be {\"ResolutionMatrix\": [{\"Before\": type, "
                             "\"After\": type, \"Result\": result}, ...]}");
    }
    int code = check_members(matrix, root, members, 2, "the configuration");
    if (code != 0) {
        return code;
    }
    matrix->version = version == NULL ? CHP_MATRIX_VERSION_DEFAULT : json_integer_value(version);
    if (matrix->version < 1 || matrix->version > INT32_MAX) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "\"version\" of the resolution matrix must be a whole number from 1 "
                             "to %d",
                             INT32_MAX);
    }
    if (json_array_size(rows) > CHP_MATRIX_ROWS_MAX) {
        return chp_error_set(matrix->error, CHP_ETOOBIG,
                             "the resolution matrix has %zu rows, at most %d are allowed",
                             json_array_size(rows), CHP_MATRIX_ROWS_MAX);
    }
    matrix->row_count = json_array_size(rows);
    matrix->rows = chp_arena_calloc(matrix->arena, 2 * matrix->row_count, sizeof(struct row));
    for (size_t i = 0; i < matrix->row_count && code == 0; i++) {
        matrix->rows[i].number = i + 1;
        code = read_row(matrix, json_array_get(rows, i), &matrix->rows[i]);
    }
    return code;
}

/* Sorts, and leaves out what says the same twice. */
static int merge_rows(struct matrix *matrix)
{
    struct row *rows = matrix->rows;
    CHP_ASSERT(rows != NULL);
    qsort(rows, matrix->row_count, sizeof *rows, compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < matrix->row_count; i++) {
        if (kept == 0 || compare_rows(&rows[kept - 1], &rows[i]) != 0) {
            rows[kept++] = rows[i];
            continue;
        }
        if (rows[kept - 1].result != rows[i].result) {
            return chp_error_set(matrix->error, CHP_EINVAL,
                                 "the resolution matrix contradicts itself: (%.60s, %.60s) is both "
                                 "%s and %s (rows %zu and %zu)",
                                 rows[i].before, rows[i].after, result_names[rows[kept - 1].result],
                                 result_names[rows[i].result], rows[kept - 1].number,
                                 rows[i].number);
        }
        add_note(matrix, chp_arena_printf(matrix->arena, "(%s, %s) is listed twice: once counts",
                                          rows[i].before, rows[i].after));
    }
    matrix->row_count = kept;
    return 0;
}

static bool is_order(enum result result)
{
    return result == KEEP_ORDER || result == REVERSE_ORDER;
}

static int check_mirror(struct matrix *matrix, const struct row *row, const struct row *mirror)
{
    if (is_order(row->result) && mirror->result == row->result) {
        bool keep = row->result == KEEP_ORDER;
        return chp_error_set(
            matrix->error, CHP_EINVAL,
            "the resolution matrix contradicts itself: %.60s before %.60s (row %zu) and %.60s "
            "before %.60s (row %zu)",
            keep ? row->before : row->after, keep ? row->after : row->before, row->number,
            keep ? row->after : row->before, keep ? row->before : row->after, mirror->number);
    }
    if (mirror->result != mirrors[row->result] && strcmp(row->before, row->after) < 0) {
        add_note(matrix,
                 chp_arena_printf(matrix->arena,
                                  "(%s, %s) is %s but (%s, %s) is %s: each is taken as listed",
                                  row->before, row->after, result_names[row->result], row->after,
                                  row->before, result_names[mirror->result]));
    }
    return 0;
}

static int complete_mirrors(struct matrix *matrix)
{
    size_t listed = matrix->row_count;
    for (size_t i = 0; i < listed; i++) {
        const struct row *row = &matrix->rows[i];
        if (strcmp(row->before, row->after) == 0) {
            if (row->result == REVERSE_ORDER) {
                return chp_error_set(matrix->error, CHP_EINVAL,
                                     "the resolution matrix contradicts itself: %.60s before "
                                     "itself in reverse (row %zu); for two operations of one type "
                                     "take-one, take-both-any-order and take-both-keep-order are "
                                     "allowed",
                                     row->before, row->number);
            }
            continue; /* its own mirror */
        }
        const struct row *mirror = find_row(matrix, listed, row->after, row->before);
        if (mirror != NULL) {
            int code = check_mirror(matrix, row, mirror);
            if (code != 0) {
                return code;
            }
            continue;
        }
        struct row *added = &matrix->rows[matrix->row_count++];
        *added = (struct row){.before = row->after,
                              .after = row->before,
                              .result = mirrors[row->result],
                              .number = row->number};
        add_note(matrix,
                 chp_arena_printf(matrix->arena, "(%s, %s) was added as %s, the mirror of row %zu",
                                  added->before, added->after, result_names[added->result],
                                  row->number));
    }
    if (matrix->row_count > CHP_MATRIX_ROWS_MAX) {
        return chp_error_set(matrix->error, CHP_ETOOBIG,
                             "the resolution matrix has %zu rows with the missing mirrors, at most "
                             "%d are allowed",
                             matrix->row_count, CHP_MATRIX_ROWS_MAX);
    }
    qsort(matrix->rows, matrix->row_count, sizeof *matrix->rows, compare_rows);
    return 0;
}

/* Every type stands as some row's before, once mirrors are complete; rows are sorted by it. */
static void note_assumed(struct matrix *matrix)
{
    const char **types = chp_arena_calloc(matrix->arena, matrix->row_count, sizeof(char *));
    size_t type_count = 0;
    for (size_t i = 0; i < matrix->row_count; i++) {
        if (type_count == 0 || strcmp(types[type_count - 1], matrix->rows[i].before) != 0) {
            types[type_count++] = matrix->rows[i].before;
        }
    }
    for (size_t i = 0; i < type_count; i++) {
        for (size_t j = i; j < type_count; j++) {
            bool deletes = strcmp(types[i], "delete") == 0 || strcmp(types[j], "delete") == 0;
            if (find_row(matrix, matrix->row_count, types[i], types[j]) != NULL) {
                continue;
            }
            if (matrix->note_count >= CHP_MATRIX_NOTES_MAX) {
                matrix->note_count++; /* only counted: no sentences for a million pairs */
                continue;
            }
            add_note(matrix,
                     chp_arena_printf(matrix->arena,
                                      deletes ? "(%s, %s) is not listed: delete is take-one with it"
                                              : "(%s, %s) is not listed: assumed to commute",
                                      types[i], types[j]));
        }
    }
}

static int print_canonical(struct matrix *matrix, const char **canonical_json)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < matrix->row_count; i++) {
        const struct row *row = &matrix->rows[i];
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "Before", row->before, "After",
                                              row->after, "Result", result_names[row->result]));
    }
    json_t *root = json_pack("{s:o, s:I}", "ResolutionMatrix", rows, "version", matrix->version);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    CHP_ASSERT(text != NULL);
    size_t text_bytes = strlen(text);
    *canonical_json = chp_arena_strdup(matrix->arena, text);
    free(text);
    if (text_bytes > CHP_CONFIG_MAX_BYTES) {
        return chp_error_set(
            matrix->error, CHP_ETOOBIG,
            "the resolution matrix has %zu bytes with the missing mirrors, at most "
            "%d are allowed",
            text_bytes, CHP_CONFIG_MAX_BYTES);
    }
    return 0;
}

static int check(struct matrix *matrix, json_t *root, const char **canonical_json)
{
    int code = read_matrix(matrix, root);
    if (code == 0) {
        code = merge_rows(matrix);
    }
    if (code == 0) {
        code = complete_mirrors(matrix);
    }
    if (code == 0) {
        note_assumed(matrix);
        code = print_canonical(matrix, canonical_json);
    }
    return code;
}

int chp_matrix_check(const char *json, struct chp_arena *arena, const char **canonical_json,
                     const char ***notes, size_t *note_count, struct chp_error *error)
{
    size_t json_bytes = strlen(json);
    if (json_bytes > CHP_CONFIG_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG,
                             "the resolution matrix has %zu bytes, at most %d are allowed",
                             json_bytes, CHP_CONFIG_MAX_BYTES);
    }
    json_error_t reason;
    json_t *root = json_loadb(json, json_bytes, JSON_REJECT_DUPLICATES, &reason);
    if (root == NULL) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the resolution matrix is not JSON: line %d, column %d: %s",
                             reason.line, reason.column, reason.text);
    }
    struct matrix matrix = {
        .arena = arena,
        .error = error,
        .notes = chp_arena_calloc(arena, CHP_MATRIX_NOTES_MAX, sizeof(char *)),
    };
    const char *canonical;
    int code = check(&matrix, root, &canonical);
    json_decref(root);
    if (code != 0) {
        return code;
    }
    *canonical_json = canonical;
    *notes = matrix.notes;
    *note_count = matrix.note_count;
    if (matrix.note_count > CHP_MATRIX_NOTES_MAX) {
        *note_count = CHP_MATRIX_NOTES_MAX;
        matrix.notes[CHP_MATRIX_NOTES_MAX - 1] = chp_arena_printf(
            arena, "and %zu more like these", matrix.note_count - CHP_MATRIX_NOTES_MAX + 1);
    }
    return 0;
}
