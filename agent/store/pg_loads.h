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

/* Of pg_held.c. The statements' own words come back: another value is a broken invariant, since the
 * columns are checked. */
enum chp_state pg__get_state(const PGresult *result, int row, int column);
/* NULL, with a line in the log, when the bytes are not (or no longer) an operation: what is stored
 * stays stored, and one bad row does not keep the site from working. */
struct chp_operation *pg__decode_operation(const struct chp_uuid *id, struct chp_bytes bytes,
                                           struct chp_arena *arena);
/* The load that row i is for. */
struct chp_load *pg__load_of(struct chp_load *const *loads, const PGresult *result, int i);
/* Of the statement load_held. */
pg_load_read_fn pg__read_held;

enum { PG_LOAD_PARTS_MAX = 5 }; /* of one load */

/* Sends the statements of the batch's loads; *parts, in the batch's arena, says how to read the
 * answers, in order. */
void pg__loads_send(struct chp_batch *batch, struct pg_pipeline *pipeline,
                    struct pg_load_part **parts, size_t *part_count);

#endif
