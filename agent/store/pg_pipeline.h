/* SPDX-License-Identifier: AGPL-3.0-only */
/* Statements sent together as one transaction, and their answers in order. Internal to the store.
 */
#ifndef CHP_STORE_PG_PIPELINE_H
#define CHP_STORE_PG_PIPELINE_H

#include "store/pg_conn.h"
#include "store/pg_value.h"

struct pg_pipeline {
    struct pg_conn *conn;
    void *user;
    /* index: of the statement, in the order in which they were sent. */
    void (*on_result)(void *user, size_t index, const PGresult *result);
    /* Once per begin, never from inside begin, send or end: 0, CHP_EINVAL or CHP_EUNAVAILABLE. */
    void (*on_done)(void *user, int code, const struct chp_error *error);
    bool active;
    bool broken; /* libpq refused to send */
    size_t sent;
    size_t answered;
    struct chp_error error; /* the first */
};

void pg__pipeline_begin(struct pg_pipeline *pipeline);
/* A prepared statement with the columns' arrays as parameters. */
void pg__pipeline_send_columns(struct pg_pipeline *pipeline, const char *statement,
                               struct pg_columns *columns);
/* With text parameters; the answer is in binary format if binary. */
void pg__pipeline_send(struct pg_pipeline *pipeline, const char *statement,
                       const char *const *params, size_t count, bool binary);
void pg__pipeline_end(struct pg_pipeline *pipeline, uint64_t timeout_ms);
/* From the connection's on_input and on_lost. */
void pg__pipeline_read(struct pg_pipeline *pipeline);
void pg__pipeline_lost(struct pg_pipeline *pipeline, const struct chp_error *error);

#endif
