/* SPDX-License-Identifier: AGPL-3.0-only */
/* Queries of the doors: a queue in front of a connection of their own. Internal to the store. */
#ifndef CHP_STORE_PG_QUERY_H
#define CHP_STORE_PG_QUERY_H

#include "base/list.h"
#include "store/pg_pipeline.h"
#include "store/query_params.h"

extern const struct pg_statement pg__query_statements[CHP_QUERY_COUNT];

struct pg_query; /* one that waits or runs */

/* Zero-initialise conn; the owner starts and stops it and passes its callbacks on. */
struct pg_queries {
    struct pg_conn conn;
    struct pg_pipeline pipeline;
    struct chp_list waiting;
    size_t waiting_count; /* canceled ones not counted */
    size_t waiting_max;
    struct pg_query *running; /* or NULL */
    char *answer;             /* of the running one, or NULL */
};

void pg__queries_init(struct pg_queries *queries, size_t waiting_max);
void pg__queries_deinit(struct pg_queries *queries);
void pg__queries_ask(struct pg_queries *queries, enum chp_query query, const char *const *params,
                     size_t param_count, chp_query_fn *on_answer, void *user);
void pg__queries_cancel(struct pg_queries *queries, void *user);
/* From the connection. */
void pg__queries_ready(struct pg_queries *queries);
void pg__queries_lost(struct pg_queries *queries, const struct chp_error *error);

#endif
