/* SPDX-License-Identifier: AGPL-3.0-only */
/* Wiring: builds the agent's parts from the configuration and runs the loop until a signal ends it.
 */
#ifndef CHP_DAEMON_SETUP_H
#define CHP_DAEMON_SETUP_H

#include "config/config.h"

/* config is replaced on reload. program is argv[0], beside which cheops-runner lies. Returns the
 * exit status. */
int setup__run(struct chp_config *config, const char *path, const char *program);

#endif
