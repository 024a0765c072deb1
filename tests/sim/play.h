/* SPDX-License-Identifier: AGPL-3.0-only */
/* Runs in processes of their own, since what fails may abort or hang. */
#ifndef CHP_TESTS_SIM_PLAY_H
#define CHP_TESTS_SIM_PLAY_H

#include "sim/world.h"

enum { SIM_PLAY_SECONDS = 15 }; /* of real time that one run may take */

/* As sim_run; an abort, a crash and a hang are failures, too. The trace goes to stdout. */
bool sim_play_apart(const struct sim_schedule *schedule, struct sim_totals *totals, bool trace,
                    struct chp_buf *why);
/* Takes away what the failure does not need; prints what is left, and its trace. failure: what
 * sim_play_apart said. */
void sim_shrink(struct sim_schedule *schedule, const char *failure);

#endif
