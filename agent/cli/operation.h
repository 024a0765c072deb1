/* SPDX-License-Identifier: AGPL-3.0-only */
/* The body of POST /v1/operations, from options. */
#ifndef CHP_CLI_OPERATION_H
#define CHP_CLI_OPERATION_H

#include "cli/cli.h"

struct cli_operation {
    json_t *body;
    size_t inline_bytes; /* of files so far */
};

/* Resource, type, scope, level, config, deadline. Nothing is sent. CLI_USAGE when something is
 * missing or bad. */
int cli__operation_begin(struct cli *cli, struct cli_operation *operation) CHP_MUST_CHECK;
void cli__operation_deinit(struct cli_operation *operation);
/* All of --file. Small files go inline, others are uploaded. */
int cli__operation_files(struct cli *cli, struct cli_operation *operation) CHP_MUST_CHECK;
/* The words after -- as a new JSON array; NULL after telling that one is not text. */
json_t *cli__command_json(struct cli *cli);
/* --undo into body: a command, or a REST request with the headers of --header. */
int cli__operation_undo(struct cli *cli, json_t *body, bool is_rest) CHP_MUST_CHECK;
/* METHOD service/path from the operand first on, --header and --data as a new JSON object.
 * operation is NULL for a show, whose body must be small text. NULL after telling what is wrong,
 * with *exit_code set. */
json_t *cli__rest_json(struct cli *cli, struct cli_operation *operation, size_t first,
                       int *exit_code);

#endif
