/* SPDX-License-Identifier: AGPL-3.0-only */
/* The in-memory twin of the store, for tests: same contract, no I/O, nothing survives it. */
#ifndef CHP_STORE_MEM_STORE_H
#define CHP_STORE_MEM_STORE_H

#include "port/store.h"

struct chp_store *chp_mem_store_new(const struct chp_store_callbacks *callbacks);
/* Completes what was submitted and answers queries; returns whether there was anything. The test
 * drives it. */
bool chp_mem_store_run(struct chp_store *store);
/* Down: batches in flight and later ones fail with CHP_EUNAVAILABLE; applied says whether the one
 * in flight was. */
void chp_mem_store_set_up(struct chp_store *store, bool up, bool applied);

#endif
