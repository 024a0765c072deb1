/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Everything up to one sync is one implicit transaction. BEGIN and COMMIT of our own would leave
 * the session in an aborted transaction after an error; this way the server skips to the sync and
 * the next transaction is clean.
 *
 * Data that the database refused is the caller's to deal with. After any other error the connection
 * is dropped, even if it still stands: one rule, "unavailable is always followed by on_up", is
 * easier to live with than two.
 */
#include "store/pg_pipeline.h"

void pg__pipeline_begin(struct pg_pipeline *pipeline)
{
    CHP_ASSERT(!pipeline->active && pipeline->conn->state == PG_CONN_READY);
    pipeline->active = true;
    pipeline->broken = false;
    pipeline->sent = 0;
    pipeline->answered = 0;
    pipeline->error = (struct chp_error){0};
}

void pg__pipeline_send_columns(struct pg_pipeline *pipeline, const char *statement,
                               struct pg_columns *columns)
{
    const char *values[PG_COLUMNS_MAX];
    int lengths[PG_COLUMNS_MAX];
    int formats[PG_COLUMNS_MAX];
    CHP_ASSERT(pipeline->active);
    pg__columns_params(columns, values, lengths, formats);
    pipeline->broken |=
        PQsendQueryPrepared(pipeline->conn->pg, statement, (int)columns->column_count, values,
                            lengths, formats, 1) != 1;
    pipeline->sent++;
}

void pg__pipeline_send(struct pg_pipeline *pipeline, const char *statement,
                       const char *const *params, size_t count, bool binary)
{
    CHP_ASSERT(pipeline->active);
    pipeline->broken |= PQsendQueryPrepared(pipeline->conn->pg, statement, (int)count, params, NULL,
                                            NULL, binary ? 1 : 0) != 1;
    pipeline->sent++;
}

void pg__pipeline_end(struct pg_pipeline *pipeline, uint64_t timeout_ms)
{
    CHP_ASSERT(pipeline->active);
    pipeline->broken |= PQpipelineSync(pipeline->conn->pg) != 1;
    /* A broken connection is reported by the timer, not from in here. */
    pg__conn_flush(pipeline->conn, pipeline->broken ? 0 : timeout_ms);
}

static void take_result(struct pg_pipeline *pipeline, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_PIPELINE_ABORTED || pipeline->error.code != 0) {
        return;
    }
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        pipeline->on_result(pipeline->user, pipeline->answered, result);
    } else {
        (void)pg__error_of(result, pipeline->conn->pg, &pipeline->error);
    }
}

void pg__pipeline_read(struct pg_pipeline *pipeline)
{
    while (pipeline->active) {
        PGresult *result;
        switch (pg__conn_next(pipeline->conn, &result)) {
        case PG_NEXT_WAIT:
            return;
        case PG_NEXT_RESULT:
            take_result(pipeline, result);
            PQclear(result);
            break;
        case PG_NEXT_END:
            pipeline->answered++;
            CHP_ASSERT(pipeline->answered <= pipeline->sent);
            break;
        case PG_NEXT_LOST:
            if (pipeline->error.code == 0) {
                (void)pg__error_of(NULL, pipeline->conn->pg, &pipeline->error);
            }
            pg__conn_lose(pipeline->conn, &pipeline->error);
            return;
        case PG_NEXT_SYNC:
            if (pipeline->error.code != 0 && pipeline->error.code != CHP_EINVAL) {
                pg__conn_lose(pipeline->conn, &pipeline->error);
                return;
            }
            CHP_ASSERT(pipeline->error.code != 0 || pipeline->answered == pipeline->sent);
            pg__conn_idle(pipeline->conn);
            pipeline->active = false;
            pipeline->on_done(pipeline->user, pipeline->error.code, &pipeline->error);
            return;
        }
    }
}

void pg__pipeline_lost(struct pg_pipeline *pipeline, const struct chp_error *error)
{
    if (!pipeline->active) {
        return;
    }
    pipeline->active = false;
    struct chp_error lost = *error;
    lost.code = CHP_EUNAVAILABLE; /* also when the first thing that went wrong was refused data */
    pipeline->on_done(pipeline->user, lost.code, &lost);
}
