/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/operation.h"
#include "cli/wait.h"

int cli__cmd_exec(struct cli *cli)
{
    struct cli_operation operation;
    int exit_code = cli__operation_begin(cli, &operation);
    json_t *command = exit_code == CLI_OK ? cli__command_json(cli) : NULL;
    if (exit_code == CLI_OK && command == NULL) {
        exit_code = CLI_USAGE;
    }
    if (exit_code == CLI_OK) {
        CHP_ASSERT(json_object_set_new(operation.body, "command", command) == 0);
        exit_code = cli__operation_undo(cli, operation.body, false);
    }
    if (exit_code == CLI_OK) {
        exit_code = cli__operation_files(cli, &operation);
    }
    if (exit_code == CLI_OK) {
        const char *key = cli__arg(&cli->args, OPT_KEY);
        exit_code = cli__submit(cli, operation.body, key == NULL ? cli__new_key(cli) : key, false);
    }
    cli__operation_deinit(&operation);
    return exit_code;
}
