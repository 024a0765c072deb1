/* SPDX-License-Identifier: AGPL-3.0-only */
/* A resolution matrix, checked and shown before any agent sees it. */
#include "cli/cli.h"
#include "cli/source.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/views.h"
#include "matrix/matrix.h"

#include <string.h>

enum { GAP = 2 };

static int read_file(struct cli *cli, const char *path, const char **json)
{
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    struct chp_error error = {0};
    struct chp_buf text = {0};
    int code = cli__source_read_matrix(path, name, &text, &error);
    if (code == 0 && strlen(chp_buf_text(&text)) != text.len) {
        code = chp_error_set(&error, CHP_EMALFORMED, "%s is not JSON: it has a byte 0", name);
    }
    *json = code == 0 ? chp_arena_strdup(&cli->arena, chp_buf_text(&text)) : NULL;
    chp_buf_deinit(&text);
    return code == 0 ? CLI_OK : cli__fail(CLI_USAGE, "%s", error.text);
}

static const char *cell(const struct chp_matrix *matrix, unsigned before, unsigned after)
{
    const char *names[] = {chp_matrix_type_name(matrix, before),
                           chp_matrix_type_name(matrix, after)};
    switch (chp_matrix_resolve_types(matrix, before, after)) {
    case CHP_TAKE_BOTH_ANY_ORDER:
        return chp_matrix_assumes(matrix, names[0], names[1]) ? "(any)" : "any";
    case CHP_TAKE_ONE:
        return "one";
    case CHP_TAKE_BOTH_KEEP_ORDER:
        return "keep";
    case CHP_TAKE_BOTH_REVERSE_ORDER:
        return "rev";
    }
    CHP_ASSERT(!"the rule is one of these");
    return "";
}

/* Columns of the type's name, and at least of a cell. */
static size_t type_width(struct cli *cli, const struct chp_matrix *matrix, unsigned type)
{
    size_t width = cli__text_width(cli__clean(cli, chp_matrix_type_name(matrix, type)));
    return width < sizeof "(any)" - 1 ? sizeof "(any)" - 1 : width;
}

static void print_grid(struct cli *cli, const struct chp_matrix *matrix, size_t first_width)
{
    unsigned count = chp_matrix_type_count(matrix);
    struct chp_buf out = {0};
    for (unsigned before = 0; before <= count; before++) {
        const char *type = before == 0 ? "BEFORE" : chp_matrix_type_name(matrix, before);
        cli__text_pad(&out, cli__clean(cli, type), first_width, false);
        for (unsigned after = 1; after <= count; after++) {
            const char *text = before == 0 ? cli__clean(cli, chp_matrix_type_name(matrix, after))
                                           : cell(matrix, before, after);
            size_t width = after == count ? 0 : type_width(cli, matrix, after); /* no blanks last */
            chp_buf_printf(&out, "%*s", GAP, "");
            cli__text_pad(&out, text, width, false);
        }
        chp_buf_add_text(&out, "\n");
    }
    (void)fputs(chp_buf_text(&out), stdout);
    chp_buf_deinit(&out);
    (void)printf("\none: take-one; any, keep, rev: take-both-any-order, -keep-order, "
                 "-reverse-order\n(any): not listed, assumed to commute\n");
}

static void print_rows(struct cli *cli, const json_t *rows)
{
    struct cli_table table;
    cli__table_init(&table, cli, "BEFORE|AFTER|RESULT");
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        cli__table_add(&table, cli__text(row, "Before"));
        cli__table_add(&table, cli__text(row, "After"));
        cli__table_add(&table, cli__text(row, "Result"));
    }
    cli__table_print(&table);
}

/* Types by types where that fits into a terminal, row by row otherwise. */
static void print_pairs(struct cli *cli, const struct chp_matrix *matrix, const json_t *rows)
{
    size_t first_width = sizeof "BEFORE" - 1;
    size_t width = 0;
    for (unsigned i = 1; i <= chp_matrix_type_count(matrix); i++) {
        size_t type = type_width(cli, matrix, i);
        first_width = type > first_width ? type : first_width;
        width += GAP + type;
    }
    if (first_width + width <= cli__columns(NULL)) {
        print_grid(cli, matrix, first_width);
    } else {
        print_rows(cli, rows);
    }
}

/* Names of the types for which is() holds. */
static json_t *types_that(const struct chp_matrix *matrix,
                          bool (*is)(const struct chp_matrix *matrix, const char *type))
{
    json_t *names = json_array();
    for (unsigned i = 1; i <= chp_matrix_type_count(matrix); i++) {
        const char *name = chp_matrix_type_name(matrix, i);
        if (is(matrix, name)) {
            json_array_append_new(names, json_string(name));
        }
    }
    return names;
}

static void print_checked(struct cli *cli, const struct chp_matrix *matrix, const json_t *checked)
{
    const json_t *canonical = json_object_get(checked, "matrix");
    cli__view_line(cli, "version", cli__number(cli, canonical, "version"));
    cli__view_line(cli, "establish", cli__joined(cli, json_object_get(checked, "establish"), ", "));
    cli__view_line(cli, "idempotent",
                   cli__joined(cli, json_object_get(checked, "idempotent"), ", "));
    size_t i;
    json_t *note;
    json_array_foreach(json_object_get(checked, "notes"), i, note)
    {
        cli__view_line(cli, i == 0 ? "notes" : "", json_string_value(note));
    }
    (void)printf("\n");
    print_pairs(cli, matrix, json_object_get(canonical, "ResolutionMatrix"));
}

int cli__cmd_matrix_check(struct cli *cli)
{
    struct chp_error error = {0};
    const char *json;
    const char *canonical;
    const char **notes;
    size_t note_count;
    int exit_code = read_file(cli, cli->args.operands[0], &json);
    if (exit_code != CLI_OK) {
        return exit_code;
    }
    struct chp_matrix *matrix;
    if (chp_matrix_check(json, &cli->arena, &canonical, &notes, &note_count, &error) != 0 ||
        chp_matrix_new(canonical, &matrix, &error) != 0) {
        return cli__fail(CLI_USAGE, "%s", error.text);
    }
    json_t *sentences = json_array();
    for (size_t i = 0; i < note_count; i++) {
        json_array_append_new(sentences, json_string(notes[i]));
    }
    json_t *checked =
        json_pack("{s:o, s:o, s:o, s:o}", "matrix", json_loads(canonical, 0, NULL), "establish",
                  types_that(matrix, chp_matrix_establishes), "idempotent",
                  types_that(matrix, chp_matrix_idempotent), "notes", sentences);
    CHP_ASSERT(checked != NULL);
    if (cli->json) {
        cli__print_json(checked);
    } else {
        print_checked(cli, matrix, checked);
    }
    json_decref(checked);
    chp_matrix_free(matrix);
    return CLI_OK;
}
