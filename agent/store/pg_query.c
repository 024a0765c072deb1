/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Queries run one at a time on their own connection, so that a slow one delays other queries and
 * never a batch. The JSON is PostgreSQL's (schema/002_answers.sql): what a door shows is committed
 * state, never the engine's memory. A running query that is canceled runs to its end, bounded by
 * the statement timeout; PQcancel would block.
 */
#include "store/pg_query.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_TIMEOUT_MS = 20 * 1000 };

const struct pg_statement pg__query_statements[CHP_QUERY_COUNT] = {
    [CHP_QUERY_OPERATION] =
        {"query_operation", "SELECT answer::text FROM cheops.operation_answer WHERE id = $1::uuid"},
    /* The page is chosen before the answers are made: they cost more than the choice. */
    [CHP_QUERY_OPERATIONS] =
        {"query_operations",
         "SELECT '{\"operations\":[' || coalesce(string_agg(a.answer::text, ',' ORDER BY a.arrival "
         "DESC), '')"
         " || ']}'"
         " FROM (SELECT o.id FROM cheops.operation o WHERE ($1::text = '' OR o.resource = $1)"
         " AND CASE WHEN $5::text = '' THEN $2::text = '' OR coalesce((SELECT s.state"
         " FROM cheops.site_answer s WHERE s.operation = o.id ORDER BY s.rank, s.site LIMIT 1),"
         " 'accepted') = $2"
         " ELSE EXISTS (SELECT FROM cheops.site_answer s WHERE s.operation = o.id AND s.site = $5"
         " AND ($2 = '' OR s.state = $2)) END"
         /* Few are in doubt, and an index knows them. */
         " AND ($2 <> 'in-doubt' OR o.id IN (SELECT e.operation FROM cheops.execution e"
         " WHERE e.state = 'in-doubt'))"
         " AND ($3::text = '' OR o.arrival < (SELECT b.arrival FROM cheops.operation b"
         " WHERE b.id = nullif($3, '')::uuid))"
         " ORDER BY o.arrival DESC LIMIT $4::bigint) page"
         " JOIN cheops.operation_answer a ON a.id = page.id"},
    [CHP_QUERY_RESOURCE] = {"query_resource",
                            "SELECT answer::text FROM cheops.resource_answer WHERE id = $1::text"},
    [CHP_QUERY_RESOURCES] = {"query_resources",
                             "SELECT '{\"resources\":[' || coalesce(string_agg(a.answer::text, ',' "
                             "ORDER BY a.id), '') || ']}'"
                             " FROM (SELECT r.id FROM cheops.resource r WHERE r.id > $1::text "
                             "ORDER BY r.id LIMIT $2::bigint) page"
                             " JOIN cheops.resource_answer a ON a.id = page.id"},
    [CHP_QUERY_HISTORY] =
        {"query_history",
         "SELECT '{\"operations\":[' || coalesce((SELECT string_agg(a.answer::text, ',' ORDER BY "
         "page.place"
         " DESC) FROM (SELECT o.id, row_number() OVER (ORDER BY CASE r.level WHEN 'none' THEN "
         "o.arrival END"
         " DESC, o.stamp_ms DESC, o.stamp_counter DESC, o.origin DESC, o.id DESC) AS place"
         " FROM cheops.operation o WHERE o.resource = r.id) page"
         " JOIN cheops.operation_answer a ON a.id = page.id WHERE page.place <= $2::bigint), '') "
         "|| ']}'"
         " FROM cheops.resource r WHERE r.id = $1::text"},
    [CHP_QUERY_EVENTS] =
        {"query_events",
         "SELECT '{\"events\":[' || coalesce(string_agg(a.answer::text, ',' ORDER BY a.number), '')"
         " || '],\"last\":' || coalesce(max(a.number), $1::bigint) || ',\"oldest\":'"
         " || (SELECT coalesce(min(number), 0) FROM cheops.event) || '}'"
         " FROM (SELECT number, answer FROM cheops.event_answer WHERE number > $1::bigint"
         " ORDER BY number LIMIT $2::bigint) a"},
    [CHP_QUERY_SITES] = {"query_sites",
                         "SELECT '[' || coalesce(string_agg(answer::text, ',' ORDER BY site), '')"
                         " || ']' FROM cheops.site_streams_answer"},
    [CHP_QUERY_STATUS] = {"query_status", "SELECT answer::text FROM cheops.status_answer"},
    /* Partial indexes know them: the conditions are theirs. */
    [CHP_QUERY_TROUBLED] =
        {"query_troubled",
         "SELECT json_build_object("
         "'diverged', (SELECT count(*) FROM cheops.resource WHERE diverged IS NOT NULL),"
         "'degraded', (SELECT count(*) FROM cheops.resource WHERE (unsettled OR degraded)"
         " AND degraded AND diverged IS NULL),"
         "'resources', (SELECT coalesce(json_agg(json_build_object('id', r.id, 'diverged',"
         " r.diverged) ORDER BY r.diverged IS NULL, r.id), '[]') FROM ("
         "(SELECT id, diverged FROM cheops.resource WHERE diverged IS NOT NULL ORDER BY id LIMIT "
         "10)"
         " UNION ALL (SELECT id, diverged FROM cheops.resource WHERE (unsettled OR degraded)"
         " AND degraded AND diverged IS NULL ORDER BY id LIMIT 10)) r))::text"},
};

struct pg_query {
    struct chp_list link;
    enum chp_query query;
    struct query_params params;
    chp_query_fn *on_answer; /* NULL: canceled */
    void *user;
};

static void query_free(struct pg_query *query)
{
    query__params_deinit(&query->params);
    free(query);
}

static void run(struct pg_queries *queries, struct pg_query *query)
{
    queries->running = query;
    pg__pipeline_begin(&queries->pipeline);
    pg__pipeline_send(&queries->pipeline, pg__query_statements[query->query].name,
                      (const char *const *)query->params.values, query->params.count, false);
    pg__pipeline_end(&queries->pipeline, ANSWER_TIMEOUT_MS);
}

static void run_next(struct pg_queries *queries)
{
    if (queries->running != NULL || queries->conn.state != PG_CONN_READY) {
        return;
    }
    CHP_LIST_FOREACH_SAFE(&queries->waiting, link, following)
    {
        struct pg_query *query = CHP_CONTAINER(link, struct pg_query, link);
        chp_list_remove(link);
        if (query->on_answer != NULL) {
            queries->waiting_count--;
            run(queries, query);
            return;
        }
        query_free(query);
    }
}

static void query_on_result(void *user, size_t index, const PGresult *result)
{
    struct pg_queries *queries = user;
    (void)index;
    if (PQntuples(result) > 0) {
        queries->answer = chp_strdup(PQgetvalue(result, 0, 0));
    }
}

static void query_on_done(void *user, int code, const struct chp_error *error)
{
    struct pg_queries *queries = user;
    struct pg_query *query = queries->running;
    char *answer = queries->answer;
    queries->running = NULL;
    queries->answer = NULL;
    if (query->on_answer != NULL) {
        query->on_answer(query->user, code, code == 0 ? answer : NULL, error);
    }
    query_free(query);
    free(answer);
    run_next(queries);
}

void pg__queries_init(struct pg_queries *queries, size_t waiting_max)
{
    chp_list_init(&queries->waiting);
    queries->waiting_max = waiting_max;
    queries->pipeline = (struct pg_pipeline){.conn = &queries->conn,
                                             .user = queries,
                                             .on_result = query_on_result,
                                             .on_done = query_on_done};
}

void pg__queries_deinit(struct pg_queries *queries)
{
    CHP_LIST_FOREACH_SAFE(&queries->waiting, link, following)
    {
        query_free(CHP_CONTAINER(link, struct pg_query, link));
    }
    if (queries->running != NULL) {
        query_free(queries->running);
    }
    free(queries->answer);
}

void pg__queries_ask(struct pg_queries *queries, enum chp_query query, const char *const *params,
                     size_t param_count, chp_query_fn *on_answer, void *user)
{
    struct chp_error error = {0};
    if (queries->conn.state == PG_CONN_WAITING) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "%s", queries->conn.error.text);
        on_answer(user, error.code, NULL, &error);
        return;
    }
    if (queries->waiting_count >= queries->waiting_max) {
        (void)chp_error_set(&error, CHP_EBUSY, "%zu queries wait for the database already",
                            queries->waiting_count);
        on_answer(user, error.code, NULL, &error);
        return;
    }
    struct pg_query *asked = chp_alloc(sizeof *asked);
    asked->query = query;
    asked->on_answer = on_answer;
    asked->user = user;
    if (query__params_init(&asked->params, query, params, param_count, &error) != 0) {
        free(asked);
        on_answer(user, error.code, NULL, &error);
        return;
    }
    chp_list_append(&queries->waiting, &asked->link);
    queries->waiting_count++;
    run_next(queries);
}

/* Only marks: this may be called from an answer, while pg__queries_lost walks the list. */
void pg__queries_cancel(struct pg_queries *queries, void *user)
{
    CHP_LIST_FOREACH_SAFE(&queries->waiting, link, following)
    {
        struct pg_query *query = CHP_CONTAINER(link, struct pg_query, link);
        if (query->user == user && query->on_answer != NULL) {
            query->on_answer = NULL;
            queries->waiting_count--;
        }
    }
    if (queries->running != NULL && queries->running->user == user) {
        queries->running->on_answer = NULL;
    }
}

void pg__queries_ready(struct pg_queries *queries)
{
    run_next(queries);
}

void pg__queries_lost(struct pg_queries *queries, const struct chp_error *error)
{
    pg__pipeline_lost(&queries->pipeline, error);
    CHP_LIST_FOREACH_SAFE(&queries->waiting, link, following)
    {
        struct pg_query *query = CHP_CONTAINER(link, struct pg_query, link);
        chp_list_remove(link);
        if (query->on_answer != NULL) {
            queries->waiting_count--;
            query->on_answer(query->user, CHP_EUNAVAILABLE, NULL, error);
        }
        query_free(query);
    }
}
