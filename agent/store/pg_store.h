/* SPDX-License-Identifier: AGPL-3.0-only */
/* The store in PostgreSQL: one pipelined connection for batches, one for queries. See port/store.h.
 */
#ifndef CHP_STORE_PG_STORE_H
#define CHP_STORE_PG_STORE_H

#include "port/store.h"

#include <event2/event.h>

struct chp_pg_config {
    const char *dsn; /* libpq connection string or URI; a host name other than a path or an address
                        is refused, since resolving it would block (platform facts: C7) */
    struct event_base *base;
    size_t queries_max; /* waiting; more are CHP_EBUSY */
    uint64_t retry_min_ms;
    uint64_t retry_max_ms;
};

/* Connects in the background; callbacks tell when. *error when the dsn is unusable. */
struct chp_store *chp_pg_store_new(const struct chp_pg_config *config,
                                   const struct chp_store_callbacks *callbacks,
                                   struct chp_error *error);

/* Blocking, for `cheops-agent migrate` and start: applies the migrations that are missing, in
 * order, each in its own transaction, under an advisory lock; *from and *to tell the versions. A
 * schema newer than this program is CHP_EVERSION. CHP_EUNAVAILABLE when the database cannot be
 * reached. */
int chp_pg_migrate(const char *dsn, unsigned *from, unsigned *to,
                   struct chp_error *error) CHP_MUST_CHECK;

/* Highest migration that this program brings. */
unsigned chp_pg_schema_version(void);

#endif
