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
/* What is committed in store at this moment, as a store of its own with the same callbacks: up, and
 * not announced yet. It may take the place of the original: then a database has gone back in time.
 */
struct chp_store *chp_mem_store_snapshot(const struct chp_store *store);
/* Which database answers (chp_load.start.database); "1/1" at first. */
void chp_mem_store_set_database(struct chp_store *store, const char *database);

#endif
