/* SPDX-License-Identifier: AGPL-3.0-only */
/* The loads of a batch as statements, and their results as structs. Internal to the store. */
#ifndef CHP_STORE_PG_LOADS_H
#define CHP_STORE_PG_LOADS_H

#include "port/store.h"
#include "store/pg_pipeline.h"

extern const struct pg_statement pg__load_statements[];
extern const size_t pg__load_statement_count;

typedef void pg_load_read_fn(struct chp_load *const *loads, const PGresult *result,
                             struct chp_arena *arena);

/* One statement's part in the loads that it serves: one, or all of a kind in the batch. */
struct pg_load_part {
    struct chp_load *const *loads;
    pg_load_read_fn *read;
};

enum { PG_LOAD_PARTS_MAX = 5 }; /* of one load */

/* Sends the statements of the batch's loads; *parts, in the batch's arena, says how to read the
 * answers, in order. */
void pg__loads_send(struct chp_batch *batch, struct pg_pipeline *pipeline,
                    struct pg_load_part **parts, size_t *part_count);

#endif
