/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * An operation's way through its sites, as people and machines see it: rows that change in place on
 * a terminal, one plain line per answer elsewhere, result lines with -o json. Fed with the agent's
 * objects, whichever call they came from.
 */
#ifndef CHP_CLI_PROGRESS_H
#define CHP_CLI_PROGRESS_H

#include "cli/cli.h"

struct cli_progress;

/* operation: its id, NULL when the agent has yet to give it. status: it is a REST request, whose
 * exit code is an HTTP status. */
struct cli_progress *cli__progress_new(struct cli *cli, const char *operation, bool status);
void cli__progress_free(struct cli_progress *progress);

/* An accepted line, a result line, a completed line or a timeout line; or an operation with its
 * sites. What is known already is not shown again. False when nothing more can follow. */
bool cli__progress_feed(struct cli_progress *progress, json_t *object);
/* Redraws what changes with time. */
void cli__progress_tick(struct cli_progress *progress);
/* The operation's id as text, NULL before it is known. */
const char *cli__progress_operation(const struct cli_progress *progress);
bool cli__progress_completed(const struct cli_progress *progress);
/* No more feeds: draws the last state and the outputs. Returns CLI_OK, CLI_FAILED, or CLI_TIMEOUT
 * when it has not completed. */
int cli__progress_end(struct cli_progress *progress);
/* Sites that have not answered, as "Paris and Rennes"; in the arena. */
const char *cli__progress_waiting(struct cli_progress *progress);

#endif
