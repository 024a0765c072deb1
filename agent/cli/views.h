/* SPDX-License-Identifier: AGPL-3.0-only */
/* How single things are shown: one line per field. */
#ifndef CHP_CLI_VIEWS_H
#define CHP_CLI_VIEWS_H

#include "cli/cli.h"

struct cli_field {
    const char *label;
    const char *key;
};

/* "label      value", "-" for none; control characters escaped. */
void cli__view_line(struct cli *cli, const char *label, const char *value);
/* Text or number members of an object. */
void cli__view_fields(struct cli *cli, const json_t *object, const struct cli_field *fields,
                      size_t count);
/* Of each site where the operation is in doubt: why, and what to do. */
void cli__view_doubts(struct cli *cli, const json_t *operation);
/* Operations as a table. */
void cli__view_operations(struct cli *cli, const json_t *operations);

#endif
