/* SPDX-License-Identifier: AGPL-3.0-only */
/* Aligned columns. */
#ifndef CHP_CLI_TABLE_H
#define CHP_CLI_TABLE_H

#include "cli/cli.h"

enum { CLI_TABLE_COLUMNS_MAX = 12 };

struct cli_table {
    struct cli *cli;
    const char *headers[CLI_TABLE_COLUMNS_MAX]; /* one that begins with '>' is aligned right */
    size_t columns;
    const char **cells;
    size_t count;
    size_t cap;
    const char **notes; /* of each row, lines that stand below it; or NULL */
    size_t note_cap;
};

/* headers: one string, columns separated by '|'. Lives as long as the invocation's arena. */
void cli__table_init(struct cli_table *table, struct cli *cli, const char *headers);
/* The next cell, row by row; copied, control characters escaped; NULL and "" become "-". */
void cli__table_add(struct cli_table *table, const char *text);
/* A line below the row that was begun last, indented and as long as it is; copied, escaped. */
void cli__table_note(struct cli_table *table, const char *text);
/* To standard output. On a terminal the last column is cut at its width. Only the headers when
 * there is no row. */
void cli__table_print(const struct cli_table *table);

#endif
