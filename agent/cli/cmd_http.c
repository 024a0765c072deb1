/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/operation.h"
#include "cli/wait.h"

int cli__cmd_http(struct cli *cli)
{
    struct cli_operation operation;
    int exit_code = cli__operation_begin(cli, &operation);
    exit_code = exit_code == CLI_OK ? cli__operation_undo(cli, operation.body, true) : exit_code;
    json_t *rest = exit_code == CLI_OK ? cli__rest_json(cli, &operation, 0, &exit_code) : NULL;
    if (rest != NULL) {
        CHP_ASSERT(json_object_set_new(operation.body, "http", rest) == 0);
        const char *key = cli__arg(&cli->args, OPT_KEY);
        exit_code = cli__submit(cli, operation.body, key == NULL ? cli__new_key(cli) : key, true);
    }
    cli__operation_deinit(&operation);
    return exit_code;
}
