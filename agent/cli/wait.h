/* SPDX-License-Identifier: AGPL-3.0-only */
/* Submitting an operation and waiting for its sites, for exec, http and op watch. */
#ifndef CHP_CLI_WAIT_H
#define CHP_CLI_WAIT_H

#include "cli/cli.h"

/* Submits body (POST /v1/operations) under key and, unless --no-wait, shows the answers. status:
 * exit codes are HTTP statuses. Returns the exit code. */
int cli__submit(struct cli *cli, const json_t *body, const char *key, bool status);
/* Shows what an operation's sites answer until it is complete; timeout_ms 0: for as long as it
 * takes. */
int cli__watch(struct cli *cli, const char *operation, uint64_t timeout_ms);
/* A new idempotency key, in the arena. */
const char *cli__new_key(struct cli *cli);

#endif
