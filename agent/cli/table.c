/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/table.h"

#include "cli/text.h"

#include <string.h>

enum { NOTE_INDENT = 4 };

void cli__table_init(struct cli_table *table, struct cli *cli, const char *headers)
{
    *table = (struct cli_table){.cli = cli};
    char *rest = chp_arena_strdup(&cli->arena, headers);
    for (char *next = rest; next != NULL;) {
        CHP_ASSERT(table->columns < CLI_TABLE_COLUMNS_MAX);
        table->headers[table->columns++] = strsep(&next, "|");
    }
}

void cli__table_add(struct cli_table *table, const char *text)
{
    if (table->count == table->cap) {
        size_t cap = table->cap == 0 ? 64 : table->cap * 2;
        const char **grown = chp_arena_calloc(&table->cli->arena, cap, sizeof *grown);
        if (table->count > 0) {
            memcpy(grown, table->cells, table->count * sizeof *grown);
        }
        table->cells = grown;
        table->cap = cap;
    }
    bool empty = text == NULL || text[0] == 0;
    table->cells[table->count++] = empty ? "-" : cli__clean(table->cli, text);
}

void cli__table_note(struct cli_table *table, const char *text)
{
    struct chp_arena *arena = &table->cli->arena;
    CHP_ASSERT(table->count > 0);
    size_t row = (table->count - 1) / table->columns;
    if (row >= table->note_cap) {
        size_t cap = row + 64;
        const char **grown = chp_arena_calloc(arena, cap, sizeof *grown);
        if (table->note_cap > 0) {
            memcpy(grown, table->notes, table->note_cap * sizeof *grown);
        }
        table->notes = grown;
        table->note_cap = cap;
    }
    const char *before = table->notes[row] == NULL ? "" : table->notes[row];
    table->notes[row] =
        chp_arena_printf(arena, "%s%*s%s\n", before, NOTE_INDENT, "", cli__clean(table->cli, text));
}

static const char *header_text(const char *header)
{
    return header[0] == '>' ? header + 1 : header;
}

static void print_row(const struct cli_table *table, const char *const *cells, bool headers,
                      const size_t *widths, size_t columns_max)
{
    struct chp_buf line = {0};
    struct chp_buf fitted = {0};
    for (size_t i = 0; i < table->columns; i++) {
        bool last = i + 1 == table->columns;
        bool right = table->headers[i][0] == '>';
        cli__text_pad(&line, headers ? header_text(cells[i]) : cells[i],
                      last && !right ? 0 : widths[i], right);
        chp_buf_add_text(&line, last ? "" : "  ");
    }
    cli__text_fit(&fitted, chp_buf_text(&line), columns_max);
    (void)printf("%s\n", chp_buf_text(&fitted));
    chp_buf_deinit(&fitted);
    chp_buf_deinit(&line);
}

void cli__table_print(const struct cli_table *table)
{
    CHP_ASSERT(table->count % table->columns == 0);
    size_t widths[CLI_TABLE_COLUMNS_MAX];
    for (size_t i = 0; i < table->columns; i++) {
        widths[i] = cli__text_width(header_text(table->headers[i]));
    }
    for (size_t i = 0; i < table->count; i++) {
        size_t width = cli__text_width(table->cells[i]);
        size_t column = i % table->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    size_t columns_max = table->cli->tty ? cli__columns(NULL) : SIZE_MAX;
    (void)fputs(cli__color(table->cli, CLI_BOLD), stdout);
    print_row(table, table->headers, true, widths, columns_max);
    (void)fputs(cli__color(table->cli, CLI_PLAIN), stdout);
    for (size_t i = 0; i < table->count; i += table->columns) {
        size_t row = i / table->columns;
        print_row(table, table->cells + i, false, widths, columns_max);
        if (row < table->note_cap && table->notes[row] != NULL) {
            (void)printf("%s%s%s", cli__color(table->cli, CLI_DIM), table->notes[row],
                         cli__color(table->cli, CLI_PLAIN));
        }
    }
}
