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
#include "matrix/internal.h"

#include "base/limits.h"
#include "base/suggest.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct matrix {
    struct chp_arena *arena;
    struct chp_error *error;
    struct matrix__row *rows; /* room for a mirror of each */
    size_t row_count;
    struct matrix__type *types; /* what types say, sorted by name */
    size_t type_count;
    const char **names; /* of all types in rows and types, sorted */
    size_t name_count;
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
    const struct matrix__row *left = a;
    const struct matrix__row *right = b;
    int order = strcmp(left->before, right->before);
    return order != 0 ? order : strcmp(left->after, right->after);
}

/* Among the first count rows, which are sorted. */
static struct matrix__row *find_row(const struct matrix *matrix, size_t count, const char *before,
                                    const char *after)
{
    const struct matrix__row key = {.before = before, .after = after};
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

static bool valid_name(const char *type)
{
    size_t len = strlen(type);
    bool valid = len > 0 && len <= CHP_ID_MAX_BYTES;
    for (size_t i = 0; i < len && valid; i++) {
        valid = (unsigned char)type[i] >= ' ' && type[i] != 0x7f;
    }
    return valid;
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
    if (!valid_name(text)) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "row %zu of the resolution matrix: \"%s\" must have 1 to %d bytes and "
                             "no control characters",
                             number, member, CHP_ID_MAX_BYTES);
    }
    *type = chp_arena_strdup(matrix->arena, text);
    return 0;
}

static int read_rule(struct matrix *matrix, json_t *row_json, size_t number,
                     enum chp_pair_rule *rule)
{
    const char *text = json_string_value(json_object_get(row_json, "Result"));
    for (size_t i = 0; i < MATRIX__RULE_COUNT && text != NULL; i++) {
        if (strcmp(text, matrix__rule_names[i]) == 0) {
            *rule = (enum chp_pair_rule)i;
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
    const char *nearest = chp_suggest(text, matrix__rule_names, MATRIX__RULE_COUNT);
    return chp_error_set(matrix->error, CHP_EINVAL,
                         "row %zu of the resolution matrix: there is no result \"%.100s\"%s%s%s; "
                         "allowed are take-one, take-both-any-order, take-both-keep-order and "
                         "take-both-reverse-order",
                         number, text, nearest == NULL ? "" : ", did you mean \"",
                         nearest == NULL ? "" : nearest, nearest == NULL ? "" : "\"?");
}

static int read_row(struct matrix *matrix, json_t *row_json, struct matrix__row *row)
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
    return code == 0 ? read_rule(matrix, row_json, row->number, &row->rule) : code;
}

static int read_says(struct matrix *matrix, json_t *member, const char *type, const char *name,
                     enum matrix__says *says)
{
    if (member == NULL) {
        *says = MATRIX__NOTHING;
        return 0;
    }
    *says = json_is_true(member) ? MATRIX__TRUE : MATRIX__FALSE;
    return json_is_boolean(member)
               ? 0
               : chp_error_set(matrix->error, CHP_EMALFORMED,
                               "\"%s\" of the type %.100s must be true or false", name, type);
}

static int compare_types(const void *a, const void *b)
{
    const struct matrix__type *left = a;
    const struct matrix__type *right = b;
    return strcmp(left->name, right->name);
}

/* What a type says of itself. One that says nothing is refused rather than dropped: somebody
 * expected it to mean something. */
static int read_types(struct matrix *matrix, json_t *types)
{
    static const char *const members[] = {"replace", "idempotent"};
    if (types != NULL && !json_is_object(types)) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "\"types\" of the resolution matrix must be {type: {\"replace\": "
                             "boolean, \"idempotent\": boolean}, ...}");
    }
    if (json_object_size(types) > CHP_MATRIX_TYPES_MAX) {
        return chp_error_set(matrix->error, CHP_ETOOBIG,
                             "the resolution matrix has %zu types, at most %d are allowed",
                             json_object_size(types), CHP_MATRIX_TYPES_MAX);
    }
    matrix->types = chp_arena_calloc(matrix->arena, json_object_size(types), sizeof *matrix->types);
    const char *name;
    json_t *says;
    json_object_foreach(types, name, says)
    {
        if (!valid_name(name)) {
            return chp_error_set(matrix->error, CHP_EMALFORMED,
                                 "a type in \"types\" of the resolution matrix must have 1 to %d "
                                 "bytes and no control characters",
                                 CHP_ID_MAX_BYTES);
        }
        if (json_object_size(says) == 0) {
            return chp_error_set(matrix->error, CHP_EMALFORMED,
                                 "the type %.100s must say something: {\"replace\": boolean, "
                                 "\"idempotent\": boolean}, one of them or both",
                                 name);
        }
        char where[128];
        (void)snprintf(where, sizeof where, "the type %.100s", name);
        struct matrix__type *type = &matrix->types[matrix->type_count++];
        type->name = chp_arena_strdup(matrix->arena, name);
        int code = check_members(matrix, says, members, 2, where);
        if (code == 0) {
            code = read_says(matrix, json_object_get(says, "replace"), name, "replace",
                             &type->replace);
        }
        if (code == 0) {
            code = read_says(matrix, json_object_get(says, "idempotent"), name, "idempotent",
                             &type->idempotent);
        }
        if (code != 0) {
            return code;
        }
    }
    qsort(matrix->types, matrix->type_count, sizeof *matrix->types, compare_types);
    return 0;
}

static int read_matrix(struct matrix *matrix, json_t *root)
{
    static const char *const members[] = {"ResolutionMatrix", "version", "types"};
    json_t *rows = json_object_get(root, "ResolutionMatrix");
    json_t *version = json_object_get(root, "version");
    if (!json_is_array(rows)) {
        return chp_error_set(matrix->error, CHP_EMALFORMED,
                             "the configuration must be {\"ResolutionMatrix\": [{\"Before\": type, "
                             "\"After\": type, \"Result\": result}, ...]}");
    }
    int code = check_members(matrix, root, members, 3, "the configuration");
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
    matrix->rows =
        chp_arena_calloc(matrix->arena, 2 * matrix->row_count, sizeof(struct matrix__row));
    for (size_t i = 0; i < matrix->row_count && code == 0; i++) {
        matrix->rows[i].number = i + 1;
        code = read_row(matrix, json_array_get(rows, i), &matrix->rows[i]);
    }
    return code == 0 ? read_types(matrix, json_object_get(root, "types")) : code;
}

/* Sorts, and leaves out what says the same twice. */
static int merge_rows(struct matrix *matrix)
{
    struct matrix__row *rows = matrix->rows;
    CHP_ASSERT(rows != NULL);
    qsort(rows, matrix->row_count, sizeof *rows, compare_rows);
    size_t kept = 0;
    for (size_t i = 0; i < matrix->row_count; i++) {
        if (kept == 0 || compare_rows(&rows[kept - 1], &rows[i]) != 0) {
            rows[kept++] = rows[i];
            continue;
        }
        if (rows[kept - 1].rule != rows[i].rule) {
            return chp_error_set(
                matrix->error, CHP_EINVAL,
                "the resolution matrix contradicts itself: (%.60s, %.60s) is both "
                "%s and %s (rows %zu and %zu)",
                rows[i].before, rows[i].after, matrix__rule_names[rows[kept - 1].rule],
                matrix__rule_names[rows[i].rule], rows[kept - 1].number, rows[i].number);
        }
        add_note(matrix, chp_arena_printf(matrix->arena, "(%s, %s) is listed twice: once counts",
                                          rows[i].before, rows[i].after));
    }
    matrix->row_count = kept;
    return 0;
}

static bool is_order(enum chp_pair_rule rule)
{
    return rule == CHP_TAKE_BOTH_KEEP_ORDER || rule == CHP_TAKE_BOTH_REVERSE_ORDER;
}

static int check_mirror(struct matrix *matrix, const struct matrix__row *row,
                        const struct matrix__row *mirror)
{
    if (is_order(row->rule) && mirror->rule == row->rule) {
        bool keep = row->rule == CHP_TAKE_BOTH_KEEP_ORDER;
        return chp_error_set(
            matrix->error, CHP_EINVAL,
            "the resolution matrix contradicts itself: %.60s before %.60s (row %zu) and %.60s "
            "before %.60s (row %zu)",
            keep ? row->before : row->after, keep ? row->after : row->before, row->number,
            keep ? row->after : row->before, keep ? row->before : row->after, mirror->number);
    }
    if (mirror->rule != matrix__mirror(row->rule) && strcmp(row->before, row->after) < 0) {
        add_note(matrix,
                 chp_arena_printf(matrix->arena,
                                  "(%s, %s) is %s but (%s, %s) is %s: each is taken as listed",
                                  row->before, row->after, matrix__rule_names[row->rule],
                                  row->after, row->before, matrix__rule_names[mirror->rule]));
    }
    return 0;
}

static int complete_mirrors(struct matrix *matrix)
{
    size_t listed = matrix->row_count;
    for (size_t i = 0; i < listed; i++) {
        const struct matrix__row *row = &matrix->rows[i];
        if (strcmp(row->before, row->after) == 0) {
            if (row->rule == CHP_TAKE_BOTH_REVERSE_ORDER) {
                return chp_error_set(matrix->error, CHP_EINVAL,
                                     "the resolution matrix contradicts itself: %.60s before "
                                     "itself in reverse (row %zu); for two operations of one type "
                                     "take-one, take-both-any-order and take-both-keep-order are "
                                     "allowed",
                                     row->before, row->number);
            }
            continue; /* its own mirror */
        }
        const struct matrix__row *mirror = find_row(matrix, listed, row->after, row->before);
        if (mirror != NULL) {
            int code = check_mirror(matrix, row, mirror);
            if (code != 0) {
                return code;
            }
            continue;
        }
        struct matrix__row *added = &matrix->rows[matrix->row_count++];
        *added = (struct matrix__row){.before = row->after,
                                      .after = row->before,
                                      .rule = matrix__mirror(row->rule),
                                      .number = row->number};
        add_note(matrix,
                 chp_arena_printf(matrix->arena, "(%s, %s) was added as %s, the mirror of row %zu",
                                  added->before, added->after, matrix__rule_names[added->rule],
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

/* Once mirrors are complete. */
static int collect_names(struct matrix *matrix)
{
    matrix->name_count = matrix__names(matrix->arena, matrix->rows, matrix->row_count,
                                       matrix->types, matrix->type_count, &matrix->names);
    if (matrix->name_count > CHP_MATRIX_TYPES_MAX) {
        return chp_error_set(matrix->error, CHP_ETOOBIG,
                             "the resolution matrix has %zu types, at most %d are allowed",
                             matrix->name_count, CHP_MATRIX_TYPES_MAX);
    }
    return 0;
}

static void note_assumed(struct matrix *matrix)
{
    const char *const *types = matrix->names;
    for (size_t i = 0; i < matrix->name_count; i++) {
        for (size_t j = i; j < matrix->name_count; j++) {
            bool deletes = strcmp(types[i], "delete") == 0 || strcmp(types[j], "delete") == 0;
            if (find_row(matrix, matrix->row_count, types[i], types[j]) != NULL) {
                continue;
            }
            if (matrix->note_count >= CHP_MATRIX_NOTES_MAX) {
                matrix->note_count++; /* only counted: no sentences for thousands of pairs */
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

static json_t *print_types(const struct matrix *matrix)
{
    json_t *types = json_object();
    for (size_t i = 0; i < matrix->type_count; i++) {
        const struct matrix__type *type = &matrix->types[i];
        json_t *says = json_object();
        if (type->replace != MATRIX__NOTHING) {
            json_object_set_new(says, "replace", json_boolean(type->replace == MATRIX__TRUE));
        }
        if (type->idempotent != MATRIX__NOTHING) {
            json_object_set_new(says, "idempotent", json_boolean(type->idempotent == MATRIX__TRUE));
        }
        json_object_set_new(types, type->name, says);
    }
    return types;
}

static int print_canonical(struct matrix *matrix, const char **canonical_json)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < matrix->row_count; i++) {
        const struct matrix__row *row = &matrix->rows[i];
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "Before", row->before, "After",
                                              row->after, "Result", matrix__rule_names[row->rule]));
    }
    json_t *root = json_pack("{s:o, s:I}", "ResolutionMatrix", rows, "version", matrix->version);
    if (matrix->type_count > 0) {
        json_object_set_new(root, "types", print_types(matrix));
    }
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
        code = collect_names(matrix);
    }
    if (code == 0) {
        note_assumed(matrix);
        code = print_canonical(matrix, canonical_json);
    }
    return code;
}

static int read_and_check(const char *json, struct matrix *matrix, const char **canonical_json)
{
    struct chp_error *error = matrix->error;
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
    int code = check(matrix, root, canonical_json);
    json_decref(root);
    return code;
}

static struct matrix matrix_in(struct chp_arena *arena, struct chp_error *error)
{
    return (struct matrix){
        .arena = arena,
        .error = error,
        .notes = chp_arena_calloc(arena, CHP_MATRIX_NOTES_MAX, sizeof(char *)),
    };
}

int chp_matrix_check(const char *json, struct chp_arena *arena, const char **canonical_json,
                     const char ***notes, size_t *note_count, struct chp_error *error)
{
    struct matrix matrix = matrix_in(arena, error);
    const char *canonical = NULL;
    int code = read_and_check(json, &matrix, &canonical);
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

int chp_matrix_new(const char *json, struct chp_matrix **matrix, struct chp_error *error)
{
    if (json == NULL) {
        *matrix = matrix__compile(NULL, 0, NULL, 0, 0, NULL);
        return 0;
    }
    struct chp_arena arena = {0};
    struct matrix checked = matrix_in(&arena, error);
    const char *canonical = NULL;
    int code = read_and_check(json, &checked, &canonical);
    if (code == 0) {
        *matrix = matrix__compile(checked.rows, checked.row_count, checked.types,
                                  checked.type_count, (uint64_t)checked.version, canonical);
    }
    chp_arena_deinit(&arena);
    return code;
}

int chp_matrix_of_rows(const struct chp_matrix_row *rows, size_t count, uint64_t version,
                       struct chp_matrix **matrix, struct chp_error *error)
{
    if (count > CHP_MATRIX_ROWS_MAX) {
        return chp_error_set(error, CHP_ETOOBIG,
                             "the resolution matrix has %zu rows, at most %d are allowed", count,
                             CHP_MATRIX_ROWS_MAX);
    }
    struct chp_arena arena = {0};
    struct matrix given = matrix_in(&arena, error);
    given.rows = chp_arena_calloc(&arena, count, sizeof *given.rows);
    given.version = (json_int_t)version;
    for (size_t i = 0; i < count; i++) {
        given.rows[i] = (struct matrix__row){
            .before = rows[i].before, .after = rows[i].after, .rule = rows[i].rule};
    }
    given.row_count = count;
    const char *text = NULL;
    int code = collect_names(&given);
    if (code == 0) {
        code = print_canonical(&given, &text);
    }
    if (code == 0) {
        *matrix = matrix__compile(given.rows, count, NULL, 0, version, text);
    }
    chp_arena_deinit(&arena);
    return code;
}
