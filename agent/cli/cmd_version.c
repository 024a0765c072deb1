/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cli/cli.h"

int cli__cmd_version(struct cli *cli)
{
    (void)printf(cli->json ? "{\"version\":\"%s\"}\n" : "cheops %s\n", CHEOPS_VERSION);
    return CLI_OK;
}
