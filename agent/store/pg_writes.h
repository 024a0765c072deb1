/* SPDX-License-Identifier: AGPL-3.0-only */
/* The writes of a batch as statements. Internal to the store. */
#ifndef CHP_STORE_PG_WRITES_H
#define CHP_STORE_PG_WRITES_H

#include "port/store.h"
#include "store/pg_pipeline.h"

enum { PG_WRITE_KIND_COUNT = CHP_WRITE_COUNT };

/* One statement for each kind of write, in the order in which they run. */
extern const struct pg_statement pg__write_statements[PG_WRITE_KIND_COUNT];
/* Gives the statements after it in the transaction more time. */
extern const struct pg_statement pg__write_patience;

/* Zero-initialise. */
struct pg_writes {
    struct pg_columns kinds[PG_WRITE_KIND_COUNT];
    uint64_t patience_ms; /* that the batch needs if it is more than usual; else 0 */
};

/* CHP_EINVAL when a write holds what cannot be stored. */
int pg__writes_encode(struct pg_writes *writes, const struct chp_batch *batch,
                      struct chp_error *error) CHP_MUST_CHECK;
void pg__writes_send(struct pg_writes *writes, struct pg_pipeline *pipeline);
void pg__writes_deinit(struct pg_writes *writes);

#endif
