/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The store in PostgreSQL: batches on one connection, queries on another (port/store.h is the
 * contract).
 *
 * The store is up when the batches' connection is ready. What was sent when it is lost may or may
 * not have been committed; only the database knows, so the batch ends with CHP_EUNAVAILABLE and the
 * engine starts again from what is there. Answers of submit that are known at once (away, data that
 * cannot be sent) wait for the next turn of the loop.
 */
#include "store/pg_store.h"

#include "base/mem.h"
#include "store/pg_loads.h"
#include "store/pg_query.h"
#include "store/pg_writes.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_STATEMENT_TIMEOUT_MS = 30 * 1000,
    BATCH_TIMEOUT_MS = 60 * 1000, /* of all statements together, here */
    QUERY_STATEMENT_TIMEOUT_MS = 10 * 1000,
    STATEMENTS_MAX = 64,
};

struct pg_store {
    struct chp_store store;
    struct chp_store_callbacks callbacks;
    char *dsn;
    struct pg_conn conn; /* of batches */
    struct pg_pipeline pipeline;
    struct pg_queries queries;
    struct chp_batch *batch; /* in flight, or NULL */
    size_t write_statements; /* of it */
    struct pg_load_part *parts;
    size_t part_count;
    bool told_down;
    struct event *deferred; /* ends batch with error */
    struct chp_error error;
    struct pg_statement statements[STATEMENTS_MAX];
};

static struct pg_store *from(struct chp_store *store)
{
    return CHP_CONTAINER(store, struct pg_store, store);
}

static void end_batch(struct pg_store *store, int code, const struct chp_error *error)
{
    struct chp_batch *batch = store->batch;
    CHP_ASSERT(batch != NULL);
    store->batch = NULL;
    store->parts = NULL;
    store->part_count = 0;
    batch->on_done(batch, code, error);
}

static void batch_on_result(void *user, size_t index, const PGresult *result)
{
    struct pg_store *store = user;
    if (index >= store->write_statements) {
        CHP_ASSERT(index - store->write_statements < store->part_count);
        struct pg_load_part *part = &store->parts[index - store->write_statements];
        part->read(part->loads, result, &store->batch->arena);
    }
}

static void batch_on_done(void *user, int code, const struct chp_error *error)
{
    end_batch(user, code, error);
}

static void store_on_deferred(evutil_socket_t fd, short what, void *user)
{
    struct pg_store *store = user;
    (void)fd;
    (void)what;
    struct chp_error error = store->error;
    end_batch(store, error.code, &error);
}

static void batches_on_ready(void *user)
{
    struct pg_store *store = user;
    store->told_down = false;
    store->callbacks.on_up(store->callbacks.user);
}

static void batches_on_input(void *user)
{
    struct pg_store *store = user;
    pg__pipeline_read(&store->pipeline);
}

static void batches_on_lost(void *user, const struct chp_error *error)
{
    struct pg_store *store = user;
    pg__pipeline_lost(&store->pipeline, error);
    if (!store->told_down) { /* not again for each attempt that fails */
        store->told_down = true;
        store->callbacks.on_down(store->callbacks.user, error);
    }
}

static void queries_on_ready(void *user)
{
    struct pg_store *store = user;
    pg__queries_ready(&store->queries);
}

static void queries_on_input(void *user)
{
    struct pg_store *store = user;
    pg__pipeline_read(&store->queries.pipeline);
}

static void queries_on_lost(void *user, const struct chp_error *error)
{
    struct pg_store *store = user;
    pg__queries_lost(&store->queries, error);
}

static void submit(struct chp_store *base, struct chp_batch *batch)
{
    struct pg_store *store = from(base);
    CHP_ASSERT(store->batch == NULL);
    store->batch = batch;
    struct pg_writes *writes = chp_alloc(sizeof *writes);
    store->error = (struct chp_error){0};
    if (store->conn.state != PG_CONN_READY) {
        (void)chp_error_set(&store->error, CHP_EUNAVAILABLE, "%s",
                            store->conn.error.code == 0 ? "the database has not answered yet"
                                                        : store->conn.error.text);
        event_active(store->deferred, EV_TIMEOUT, 1);
    } else if (pg__writes_encode(writes, batch, &store->error) != 0) {
        event_active(store->deferred, EV_TIMEOUT, 1);
    } else {
        pg__pipeline_begin(&store->pipeline);
        pg__writes_send(writes, &store->pipeline);
        store->write_statements = store->pipeline.sent;
        pg__loads_send(batch, &store->pipeline, &store->parts, &store->part_count);
        pg__pipeline_end(&store->pipeline, BATCH_TIMEOUT_MS + writes->patience_ms);
    }
    pg__writes_deinit(writes);
    free(writes);
}

static void query(struct chp_store *base, enum chp_query query, const char *const *params,
                  size_t param_count, chp_query_fn *on_answer, void *user)
{
    struct pg_store *store = from(base);
    pg__queries_ask(&store->queries, query, params, param_count, on_answer, user);
}

static void query_cancel(struct chp_store *base, void *user)
{
    pg__queries_cancel(&from(base)->queries, user);
}

static bool up(const struct chp_store *base)
{
    return from((struct chp_store *)base)->conn.state == PG_CONN_READY;
}

static void store_free(struct chp_store *base)
{
    struct pg_store *store = from(base);
    pg__conn_stop(&store->conn);
    pg__conn_stop(&store->queries.conn);
    pg__queries_deinit(&store->queries);
    event_free(store->deferred);
    free(store->dsn);
    free(store);
}

static const struct chp_store_vtable vtable = {
    .submit = submit, .query = query, .query_cancel = query_cancel, .up = up, .free = store_free};

static void collect_statements(struct pg_store *store)
{
    CHP_ASSERT(PG_WRITE_KIND_COUNT + pg__load_statement_count + 1 <= STATEMENTS_MAX);
    memcpy(store->statements, pg__write_statements, sizeof pg__write_statements);
    memcpy(store->statements + PG_WRITE_KIND_COUNT, pg__load_statements,
           pg__load_statement_count * sizeof *pg__load_statements);
    store->statements[PG_WRITE_KIND_COUNT + pg__load_statement_count] = pg__write_patience;
}

static void start_connections(struct pg_store *store, const struct chp_pg_config *config)
{
    struct pg_conn_config conn = {
        .name = "cheops-agent batches",
        .dsn = store->dsn,
        .base = config->base,
        .retry_min_ms = config->retry_min_ms,
        .retry_max_ms = config->retry_max_ms,
        .statement_timeout_ms = BATCH_STATEMENT_TIMEOUT_MS,
        .plan_cache_mode = "auto",
        .statements = store->statements,
        .statement_count = PG_WRITE_KIND_COUNT + pg__load_statement_count + 1,
        .user = store,
        .on_ready = batches_on_ready,
        .on_input = batches_on_input,
        .on_lost = batches_on_lost,
    };
    pg__conn_start(&store->conn, &conn);
    conn.name = "cheops-agent queries";
    conn.statement_timeout_ms = QUERY_STATEMENT_TIMEOUT_MS;
    conn.plan_cache_mode = "force_custom_plan"; /* filters that are not given should cost nothing */
    conn.statements = pg__query_statements;
    conn.statement_count = CHP_QUERY_COUNT;
    conn.on_ready = queries_on_ready;
    conn.on_input = queries_on_input;
    conn.on_lost = queries_on_lost;
    pg__conn_start(&store->queries.conn, &conn);
}

struct chp_store *chp_pg_store_new(const struct chp_pg_config *config,
                                   const struct chp_store_callbacks *callbacks,
                                   struct chp_error *error)
{
    if (pg__dsn_check(config->dsn, error) != 0) {
        return NULL;
    }
    struct pg_store *store = chp_alloc(sizeof *store);
    store->store.vtable = &vtable;
    store->callbacks = *callbacks;
    store->dsn = chp_strdup(config->dsn);
    store->pipeline = (struct pg_pipeline){.conn = &store->conn,
                                           .user = store,
                                           .on_result = batch_on_result,
                                           .on_done = batch_on_done};
    store->deferred = event_new(config->base, -1, 0, store_on_deferred, store);
    CHP_ASSERT(store->deferred != NULL);
    pg__queries_init(&store->queries, config->queries_max);
    collect_statements(store);
    start_connections(store, config);
    return &store->store;
}
