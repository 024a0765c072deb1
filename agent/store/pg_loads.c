/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Loads run after the writes in the same pipeline and so in the same transaction: they see what the
 * batch has written. Operations come back as their origin's bytes and are decoded again: one
 * decoder, and columns beside the item are only for queries.
 */
#include "store/pg_loads.h"

#include "base/log.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

/* What a resource row holds of chp_resource_row, in the order of get_resource. */
#define RESOURCE_COLUMNS                                                                           \
    "r.id, r.level, r.scope, r.members, r.vector, r.highest_stamp_ms, r.highest_stamp_counter,"    \
    " r.created_stamp_ms, r.created_stamp_counter, r.created_origin, r.created_id, r.created_ms,"  \
    " r.config, r.config_version, r.merged, r.diverged, r.degraded, r.order_assumed, r.deleted,"   \
    " r.unsettled, r.forgotten, r.base_config"
/* What an execution row holds of chp_execution_row, in the order of read_execution. */
#define EXECUTION_COLUMNS(table)                                                                   \
    table ".operation, " table ".site, " table ".resource, " table ".incarnation, " table          \
          ".run, " table ".state, " table ".exit_code, " table ".reason, " table ".output, " table \
          ".output_raw, " table ".output_cut, " table ".unverified, " table ".started_ms, " table  \
          ".duration_ms, " table ".number, " table ".updated_ms, " table ".elapsed_ms, " table     \
          ".effect, " table ".undoing"
enum { EXECUTION_COLUMN_COUNT = 19 };

const struct pg_statement pg__load_statements[] = {
    {"load_self", "SELECT site, incarnation, event_published,"
                  " (SELECT coalesce(max(number), 0) FROM cheops.event),"
                  " (SELECT coalesce(max(arrival), 0) FROM cheops.operation),"
                  " (SELECT coalesce(max(number), 0) FROM cheops.reply), serial, database"
                  " FROM cheops.self"},
    /* The name of a database may be given to another, its number is not. */
    {"load_database", "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid"
                      " FROM pg_database WHERE datname = current_database()"},
    {"load_peers", "SELECT site, gap_open, gap_mark, reported_incarnation, reported_arrival"
                   " FROM cheops.peer ORDER BY site"},
    {"load_streams",
     "SELECT site, key, direction = 'out', incarnation, mark, last FROM cheops.stream"
     " ORDER BY site, key, direction, incarnation"},
    /* These three take all loads of their kind in a batch: one request alone needs each. Their
     * first column says to which load a row belongs. */
    {"load_resources",
     "SELECT w.n, " RESOURCE_COLUMNS ", CASE r.level WHEN 'none' THEN (SELECT count(*)"
     " FROM cheops.execution e WHERE e.resource = r.id AND e.own AND NOT e.final) ELSE 0 END"
     " FROM unnest($1::text[]) WITH ORDINALITY AS w (id, n) JOIN cheops.resource r ON r.id = w.id"},
    /* Of level none what has not ended here; else everything. */
    {"load_held",
     "SELECT w.n, r.level = 'none', p.id, p.item, p.arrival, p.state, p.run, p.incarnation,"
     " p.effect, p.undoing, p.done_elsewhere, p.completed, p.failed_everywhere"
     " FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (id, most, n)"
     " JOIN cheops.resource r ON r.id = w.id CROSS JOIN LATERAL ("
     "(SELECT o.id, o.item, o.arrival, e.state, e.run, e.incarnation, e.effect, e.undoing,"
     " false AS done_elsewhere, o.completed_ms IS NOT NULL AS completed, false AS "
     "failed_everywhere FROM cheops.execution e "
     "JOIN cheops.operation o"
     " ON o.id = e.operation WHERE r.level = 'none' AND e.resource = w.id AND e.own"
     " AND NOT e.final ORDER BY o.arrival LIMIT w.most) UNION ALL"
     " SELECT o.id, o.item, o.arrival, e.state, e.run, e.incarnation, e.effect, e.undoing,"
     " e.state IN ('failed', 'refused') AND EXISTS (SELECT FROM cheops.execution x"
     " WHERE x.operation = o.id AND NOT x.own AND x.state = 'done'), o.completed_ms IS NOT NULL,"
     " coalesce(o.failed, false) AND NOT EXISTS (SELECT FROM cheops.execution x"
     " WHERE x.operation = o.id AND x.state <> 'failed')"
     " FROM cheops.operation o LEFT JOIN cheops.execution e ON e.operation = o.id"
     " AND e.site = (SELECT site FROM cheops.self)"
     " WHERE r.level <> 'none' AND o.resource = w.id) p ORDER BY w.n, p.arrival"},
    {"load_keys", "SELECT w.n, k.hash, k.operation, " RESOURCE_COLUMNS
                  " FROM unnest($1::text[], $2::text[], $3::text[])"
                  " WITH ORDINALITY AS w (principal, key, resource, n)"
                  " JOIN cheops.idempotency_key k ON k.principal = w.principal AND k.key = w.key"
                  " LEFT JOIN cheops.resource r ON r.id = w.resource"},
    {"load_busy", "(SELECT DISTINCT resource FROM cheops.execution"
                  " WHERE own AND NOT final AND resource > $1 ORDER BY resource LIMIT $2::bigint)"
                  " UNION (SELECT id FROM cheops.resource WHERE (unsettled OR degraded) AND id > $1"
                  " ORDER BY id LIMIT $2::bigint) ORDER BY 1 LIMIT $2::bigint"},
    {"load_operation", "SELECT id, item, completed_ms IS NOT NULL"
                       " FROM cheops.operation WHERE id = $1::uuid"},
    {"load_listeners",
     "SELECT reply_to, coalesce(correlation_id, ''), place FROM ("
     "SELECT reply_to, correlation_id, 0::bigint AS place FROM cheops.operation"
     " WHERE id = $1::uuid AND reply_to IS NOT NULL UNION ALL"
     " (SELECT reply_to, correlation_id, place FROM cheops.listener"
     " WHERE operation = $1::uuid ORDER BY place DESC LIMIT $2::bigint)) AS l ORDER BY place"},
    {"load_executions",
     "SELECT " EXECUTION_COLUMNS("e") " FROM cheops.execution e"
                                      " WHERE e.operation = $1::uuid ORDER BY e.site"},
    {"load_outbound", "SELECT b.number, b.operation, coalesce(b.item, o.item)"
                      " FROM cheops.outbound b LEFT JOIN cheops.operation o ON o.id = b.operation"
                      " WHERE b.site = $1 AND b.key = $2 AND b.number > $3::bigint"
                      " ORDER BY b.number LIMIT $4::bigint"},
    {"load_events", "SELECT number, at_ms, kind, answer::text FROM cheops.event_answer"
                    " WHERE number > $1::bigint ORDER BY number LIMIT $2::bigint"},
    {"load_range",
     "SELECT o.n, o.id, o.item, " EXECUTION_COLUMNS("theirs") ", " EXECUTION_COLUMNS(
         "own") " FROM cheops.operation o"
                " LEFT JOIN cheops.execution theirs ON theirs.operation = o.id AND theirs.site = $7"
                " LEFT JOIN cheops.execution own ON own.operation = o.id"
                " AND own.site = (SELECT site FROM cheops.self)"
                " WHERE o.resource = $1 AND o.origin = $2"
                " AND o.incarnation = $3::bigint AND o.n BETWEEN $4::bigint AND $5::bigint"
                " ORDER BY o.n LIMIT $6::bigint"},
    /* LIMIT 1: one look-up for each of a few rows, whatever the planner thinks of the limit. */
    {"load_report",
     "WITH seen AS MATERIALIZED (SELECT arrival, resource, origin FROM cheops.operation"
     " WHERE arrival > $2::bigint ORDER BY arrival LIMIT $3::bigint)"
     " SELECT looked.upto, looked.count, told.id, told.vector"
     " FROM (SELECT max(arrival) AS upto, count(*) AS count FROM seen) looked"
     " LEFT JOIN (SELECT r.id, r.vector FROM (SELECT DISTINCT resource FROM seen"
     " WHERE $4::boolean OR (origin <> $1 AND origin NOT IN (SELECT site FROM cheops.self))) news"
     " CROSS JOIN LATERAL (SELECT id, vector, members FROM cheops.resource"
     " WHERE id = news.resource LIMIT 1) r WHERE $1 = ANY (r.members)) told ON true"
     " ORDER BY told.id"},
    {"load_vectors",
     "SELECT id, vector FROM cheops.resource WHERE id = ANY ($1::text[]) ORDER BY id"},
    {"load_oldest",
     "SELECT (SELECT min(at_ms) FROM cheops.idempotency_key),"
     " (SELECT at_ms FROM cheops.reply ORDER BY number LIMIT 1),"
     " (SELECT at_ms FROM cheops.event WHERE number <= (SELECT event_published FROM cheops.self)"
     " AND number < (SELECT max(number) FROM cheops.event) ORDER BY number LIMIT 1)"},
    {"load_replies", "SELECT number, operation, reply_to, correlation_id, message_id, body, at_ms"
                     " FROM cheops.reply WHERE number > $1::bigint AND reply_to <> ALL ($3::text[])"
                     " ORDER BY number LIMIT $2::bigint"},
    {"load_undecoded", "SELECT arrival, site, key, incarnation, number, item FROM cheops.undecoded"
                       " WHERE arrival > $1::bigint ORDER BY arrival LIMIT $2::bigint"},
    {"load_undecoded_totals", "SELECT site, count(*), sum(octet_length(item))::bigint"
                              " FROM cheops.undecoded GROUP BY site ORDER BY site"},
};
const size_t pg__load_statement_count = sizeof pg__load_statements / sizeof pg__load_statements[0];

static enum chp_key get_key(const PGresult *result, int row, int column)
{
    for (int key = 0; key < CHP_KEY_COUNT; key++) {
        if (strcmp(chp_key_name((enum chp_key)key), PQgetvalue(result, row, column)) == 0) {
            return (enum chp_key)key;
        }
    }
    chp_assert_failed("a stream's key is one of the routing keys", __FILE__, __LINE__);
}

static struct chp_stamp get_stamp(const PGresult *result, int row, int column)
{
    return (struct chp_stamp){.ms = pg__get_u64(result, row, column),
                              .counter = (uint32_t)pg__get_u64(result, row, column + 1)};
}

static void read_self(struct chp_load *const *loads, const PGresult *result,
                      struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->found = PQntuples(result) > 0;
    if (load->found) {
        load->start.site = pg__get_text(result, 0, 0, arena);
        load->start.incarnation = pg__get_u64(result, 0, 1);
        load->start.event_published = pg__get_u64(result, 0, 2);
        load->start.event_last = pg__get_u64(result, 0, 3);
        load->start.received_last = pg__get_u64(result, 0, 4);
        load->start.reply_last = pg__get_u64(result, 0, 5);
        load->start.serial = pg__get_u64(result, 0, 6);
        load->start.database_known = pg__get_text(result, 0, 7, arena);
    }
}

static void read_database(struct chp_load *const *loads, const PGresult *result,
                          struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    CHP_ASSERT(PQntuples(result) == 1);
    load->start.database = pg__get_text(result, 0, 0, arena);
}

static void read_peers(struct chp_load *const *loads, const PGresult *result,
                       struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->start.peer_count = (size_t)PQntuples(result);
    load->start.peers = chp_arena_calloc(arena, load->start.peer_count, sizeof *load->start.peers);
    for (int i = 0; i < PQntuples(result); i++) {
        load->start.peers[i] = (struct chp_peer_row){
            .site = pg__get_text(result, i, 0, arena),
            .gap_open = pg__get_bool(result, i, 1),
            .gap_mark = pg__get_u64(result, i, 2),
            .reported_incarnation = pg__get_u64(result, i, 3),
            .reported_arrival = pg__get_u64(result, i, 4),
        };
    }
}

static void read_streams(struct chp_load *const *loads, const PGresult *result,
                         struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->start.stream_count = (size_t)PQntuples(result);
    load->start.streams =
        chp_arena_calloc(arena, load->start.stream_count, sizeof *load->start.streams);
    for (int i = 0; i < PQntuples(result); i++) {
        load->start.streams[i] = (struct chp_stream_row){
            .site = pg__get_text(result, i, 0, arena),
            .key = get_key(result, i, 1),
            .out = pg__get_bool(result, i, 2),
            .incarnation = pg__get_u64(result, i, 3),
            .mark = pg__get_u64(result, i, 4),
            .last = pg__get_u64(result, i, 5),
        };
    }
}

/* Its columns begin with that one. */
static void get_resource(const PGresult *result, int i, int at, struct chp_resource_row *row,
                         struct chp_arena *arena)
{
    row->id = pg__get_text(result, i, at, arena);
    int code = chp_level_parse(PQgetvalue(result, i, at + 1), &row->level);
    CHP_ASSERT(code == 0);
    row->scope = pg__get_text(result, i, at + 2, arena);
    pg__get_names(result, i, at + 3, arena, &row->members, &row->member_count);
    pg__get_vector(result, i, at + 4, arena, &row->vector);
    row->highest = get_stamp(result, i, at + 5);
    row->created = get_stamp(result, i, at + 7);
    row->created_origin = pg__get_text(result, i, at + 9, arena);
    row->created_id = pg__get_uuid(result, i, at + 10);
    row->created_ms = pg__get_u64(result, i, at + 11);
    row->config = pg__get_text(result, i, at + 12, arena);
    row->config_version = pg__get_u64(result, i, at + 13);
    row->merged = pg__get_bool(result, i, at + 14);
    row->diverged = pg__get_text(result, i, at + 15, arena);
    row->degraded = pg__get_bool(result, i, at + 16);
    row->order_assumed = pg__get_bool(result, i, at + 17);
    row->deleted = pg__get_bool(result, i, at + 18);
    row->unsettled = pg__get_bool(result, i, at + 19);
    pg__get_vector(result, i, at + 20, arena, &row->forgotten);
    row->base_config = pg__get_text(result, i, at + 21, arena);
}

enum { RESOURCE_COLUMN_COUNT = 22 };

static void read_resources(struct chp_load *const *loads, const PGresult *result,
                           struct chp_arena *arena)
{
    for (int i = 0; i < PQntuples(result); i++) {
        struct chp_load *load = pg__load_of(loads, result, i);
        load->found = true;
        get_resource(result, i, 1, &load->resource_result.row, arena);
        load->resource_result.pending_total =
            (size_t)pg__get_u64(result, i, 1 + RESOURCE_COLUMN_COUNT);
    }
}

static void read_keys(struct chp_load *const *loads, const PGresult *result,
                      struct chp_arena *arena)
{
    for (int i = 0; i < PQntuples(result); i++) {
        struct chp_load *load = pg__load_of(loads, result, i);
        struct chp_bytes hash = pg__get_bytes(result, i, 1, arena);
        CHP_ASSERT(hash.len == CHP_SHA256_BYTES);
        load->resource_result.key_found = true;
        memcpy(load->resource_result.key_hash.bytes, hash.data, hash.len);
        load->resource_result.key_operation = pg__get_uuid(result, i, 2);
        load->found = PQgetisnull(result, i, 3) == 0;
        if (load->found) {
            get_resource(result, i, 3, &load->resource_result.row, arena);
        }
    }
}

static void read_busy(struct chp_load *const *loads, const PGresult *result,
                      struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->busy.count = (size_t)PQntuples(result);
    load->found = load->busy.count > 0;
    load->busy.ids = chp_arena_calloc(arena, load->busy.count, sizeof *load->busy.ids);
    for (int i = 0; i < PQntuples(result); i++) {
        load->busy.ids[i] = pg__get_text(result, i, 0, arena);
    }
}

static void read_operation(struct chp_load *const *loads, const PGresult *result,
                           struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    if (PQntuples(result) == 0) {
        return;
    }
    struct chp_uuid id = pg__get_uuid(result, 0, 0);
    load->operation_result.item = pg__get_bytes(result, 0, 1, arena);
    load->operation_result.row = pg__decode_operation(&id, load->operation_result.item, arena);
    load->operation_result.completed = pg__get_bool(result, 0, 2);
    load->found = load->operation_result.row != NULL;
}

static void read_listeners(struct chp_load *const *loads, const PGresult *result,
                           struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    int count = PQntuples(result);
    load->operation_result.listener_count = (size_t)count;
    load->operation_result.listeners =
        chp_arena_calloc(arena, (size_t)count, sizeof *load->operation_result.listeners);
    for (int i = 0; i < count; i++) {
        load->operation_result.listeners[i] =
            (struct chp_listener){.reply_to = pg__get_text(result, i, 0, arena),
                                  .correlation_id = pg__get_text(result, i, 1, arena)};
        load->operation_result.listener_place = pg__get_u64(result, i, 2);
    }
}

static void read_execution(struct chp_execution_row *row, const PGresult *result, int i, int first,
                           struct chp_arena *arena)
{
    row->ack.operation = pg__get_uuid(result, i, first);
    row->ack.site = pg__get_text(result, i, first + 1, arena);
    row->ack.resource = pg__get_text(result, i, first + 2, arena);
    row->ack.incarnation = pg__get_u64(result, i, first + 3);
    row->ack.run = (uint32_t)pg__get_u64(result, i, first + 4);
    row->ack.state = pg__get_state(result, i, first + 5);
    row->ack.exit_code = pg__get_i32(result, i, first + 6);
    row->ack.reason = pg__get_text(result, i, first + 7, arena);
    row->ack.output = pg__get_bytes(
        result, i, PQgetisnull(result, i, first + 9) != 0 ? first + 8 : first + 9, arena);
    row->ack.output_cut = pg__get_bool(result, i, first + 10);
    row->ack.unverified = pg__get_bool(result, i, first + 11);
    row->ack.started_ms = pg__get_u64(result, i, first + 12);
    row->ack.duration_ms = pg__get_u64(result, i, first + 13);
    row->number = pg__get_u64(result, i, first + 14);
    row->updated_ms = pg__get_u64(result, i, first + 15);
    row->elapsed_ms = pg__get_u64(result, i, first + 16);
    row->effect = pg__get_u64(result, i, first + 17);
    row->undoing = pg__get_bool(result, i, first + 18);
}

/* Of an outer join: NULL when there is none. */
static const struct chp_execution_row *read_joined(const PGresult *result, int i, int first,
                                                   struct chp_arena *arena)
{
    if (PQgetisnull(result, i, first) != 0) {
        return NULL;
    }
    struct chp_execution_row *row = chp_arena_alloc(arena, sizeof *row);
    read_execution(row, result, i, first, arena);
    return row;
}

static void read_executions(struct chp_load *const *loads, const PGresult *result,
                            struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->operation_result.execution_count = (size_t)PQntuples(result);
    load->operation_result.executions = chp_arena_calloc(
        arena, load->operation_result.execution_count, sizeof *load->operation_result.executions);
    for (int i = 0; i < PQntuples(result); i++) {
        read_execution(&load->operation_result.executions[i], result, i, 0, arena);
    }
}

static void read_items(struct chp_load *const *loads, const PGresult *result,
                       struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->items.count = (size_t)PQntuples(result);
    load->found = load->items.count > 0;
    load->items.rows = chp_arena_calloc(arena, load->items.count, sizeof *load->items.rows);
    for (int i = 0; i < PQntuples(result); i++) {
        load->items.rows[i] = (struct chp_item_row){
            .number = pg__get_u64(result, i, 0),
            .operation = pg__get_uuid(result, i, 1),
            .item = pg__get_bytes(result, i, 2, arena),
        };
    }
}

static void read_range(struct chp_load *const *loads, const PGresult *result,
                       struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    read_items(loads, result, arena);
    for (int i = 0; i < PQntuples(result); i++) {
        load->items.rows[i].theirs = read_joined(result, i, 3, arena);
        load->items.rows[i].own = read_joined(result, i, 3 + EXECUTION_COLUMN_COUNT, arena);
    }
}

static void read_vector(struct chp_load *load, const PGresult *result, int i, int first,
                        struct chp_arena *arena)
{
    struct chp_vector_row *row = &load->vectors.rows[load->vectors.count++];
    row->resource = pg__get_text(result, i, first, arena);
    pg__get_vector(result, i, first + 1, arena, &row->vector);
    load->found = true;
}

static void read_report(struct chp_load *const *loads, const PGresult *result,
                        struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    CHP_ASSERT(PQntuples(result) > 0);
    load->vectors.upto = PQgetisnull(result, 0, 0) != 0 ? load->after : pg__get_u64(result, 0, 0);
    load->vectors.end = pg__get_u64(result, 0, 1) < load->limit;
    load->vectors.rows =
        chp_arena_calloc(arena, (size_t)PQntuples(result), sizeof *load->vectors.rows);
    for (int i = 0; i < PQntuples(result) && PQgetisnull(result, i, 2) == 0; i++) {
        read_vector(load, result, i, 2, arena);
    }
}

static void read_vectors(struct chp_load *const *loads, const PGresult *result,
                         struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->vectors.rows =
        chp_arena_calloc(arena, (size_t)PQntuples(result), sizeof *load->vectors.rows);
    for (int i = 0; i < PQntuples(result); i++) {
        read_vector(load, result, i, 0, arena);
    }
}

static void read_events(struct chp_load *const *loads, const PGresult *result,
                        struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->events.count = (size_t)PQntuples(result);
    load->found = load->events.count > 0;
    load->events.rows = chp_arena_calloc(arena, load->events.count, sizeof *load->events.rows);
    for (int i = 0; i < PQntuples(result); i++) {
        load->events.rows[i] = (struct chp_event_row){
            .number = pg__get_u64(result, i, 0),
            .at_ms = pg__get_u64(result, i, 1),
            .kind = pg__get_text(result, i, 2, arena),
            .json = pg__get_text(result, i, 3, arena),
        };
    }
}

static void read_replies(struct chp_load *const *loads, const PGresult *result,
                         struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->replies.count = (size_t)PQntuples(result);
    load->found = load->replies.count > 0;
    load->replies.rows = chp_arena_calloc(arena, load->replies.count, sizeof *load->replies.rows);
    for (int i = 0; i < PQntuples(result); i++) {
        load->replies.rows[i] = (struct chp_reply_row){
            .number = pg__get_u64(result, i, 0),
            .operation = pg__get_uuid(result, i, 1),
            .to = {.reply_to = pg__get_text(result, i, 2, arena),
                   .correlation_id = pg__get_text(result, i, 3, arena)},
            .message_id = pg__get_text(result, i, 4, arena),
            .body = pg__get_bytes(result, i, 5, arena),
            .at_ms = pg__get_u64(result, i, 6),
        };
    }
}

static uint64_t get_oldest(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) != 0 ? UINT64_MAX : pg__get_u64(result, 0, column);
}

static void read_oldest(struct chp_load *const *loads, const PGresult *result,
                        struct chp_arena *arena)
{
    (void)arena;
    loads[0]->found = true;
    loads[0]->oldest.key_ms = get_oldest(result, 0);
    loads[0]->oldest.reply_ms = get_oldest(result, 1);
    loads[0]->oldest.event_ms = get_oldest(result, 2);
}

static void read_undecoded(struct chp_load *const *loads, const PGresult *result,
                           struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->undecoded.count = (size_t)PQntuples(result);
    load->found = load->undecoded.count > 0;
    load->undecoded.rows =
        chp_arena_calloc(arena, load->undecoded.count, sizeof *load->undecoded.rows);
    for (int i = 0; i < PQntuples(result); i++) {
        load->undecoded.rows[i] = (struct chp_undecoded_row){
            .arrival = pg__get_u64(result, i, 0),
            .site = pg__get_text(result, i, 1, arena),
            .key = get_key(result, i, 2),
            .incarnation = pg__get_u64(result, i, 3),
            .number = pg__get_u64(result, i, 4),
            .item = pg__get_bytes(result, i, 5, arena),
        };
    }
}

static void read_undecoded_totals(struct chp_load *const *loads, const PGresult *result,
                                  struct chp_arena *arena)
{
    struct chp_load *load = loads[0];
    load->start.undecoded_count = (size_t)PQntuples(result);
    load->start.undecoded =
        chp_arena_calloc(arena, load->start.undecoded_count, sizeof *load->start.undecoded);
    for (int i = 0; i < PQntuples(result); i++) {
        load->start.undecoded[i] = (struct chp_undecoded_total){
            .site = pg__get_text(result, i, 0, arena),
            .rows = pg__get_u64(result, i, 1),
            .bytes = pg__get_u64(result, i, 2),
        };
    }
}

/* Where the parts of a batch's loads are collected while they are sent. */
struct sender {
    struct pg_pipeline *pipeline;
    struct chp_arena *arena;
    struct pg_load_part *parts;
    size_t part_count;
};

static void add_part(struct sender *sender, struct chp_load *const *loads, pg_load_read_fn *read)
{
    sender->parts[sender->part_count++] = (struct pg_load_part){.loads = loads, .read = read};
}

static struct chp_load *const *only(struct sender *sender, struct chp_load *load)
{
    struct chp_load **loads = chp_arena_alloc(sender->arena, sizeof(void *));
    loads[0] = load;
    return loads;
}

static void send_part(struct sender *sender, struct chp_load *load, const char *statement,
                      const char *const *params, size_t count, pg_load_read_fn *read)
{
    pg__pipeline_send(sender->pipeline, statement, params, count, true);
    add_part(sender, only(sender, load), read);
}

static const char *number_text(struct sender *sender, uint64_t number)
{
    return chp_arena_printf(sender->arena, "%llu",
                            (unsigned long long)(number > INT64_MAX ? INT64_MAX : number));
}

static void add_resource(struct pg_columns *columns, const struct chp_load *load)
{
    pg__add_text(columns, load->resource);
}

static void add_pending(struct pg_columns *columns, const struct chp_load *load)
{
    pg__add_text(columns, load->resource);
    pg__add_u64(columns, load->limit);
}

static void add_key(struct pg_columns *columns, const struct chp_load *load)
{
    pg__add_text(columns, load->principal);
    pg__add_text(columns, load->key);
    pg__add_text(columns, load->resource);
}

static void send_together(struct sender *sender, struct chp_load *const *loads, size_t count,
                          const char *statement,
                          void (*add)(struct pg_columns *, const struct chp_load *),
                          pg_load_read_fn *read)
{
    struct pg_columns columns = {0};
    for (size_t i = 0; i < count; i++) {
        add(&columns, loads[i]);
        pg__row_end(&columns);
    }
    pg__pipeline_send_columns(sender->pipeline, statement, &columns);
    pg__columns_deinit(&columns);
    add_part(sender, loads, read);
}

/* The loads of one kind that a batch has; *count is 0 when there are none. */
static struct chp_load **all_of(struct sender *sender, struct chp_batch *batch,
                                enum chp_load_kind kind, size_t *count)
{
    struct chp_load **loads = NULL;
    *count = 0;
    for (size_t i = 0; i < batch->load_count; i++) {
        if (batch->loads[i].kind == kind) {
            if (loads == NULL) {
                loads = chp_arena_calloc(sender->arena, batch->load_count - i, sizeof(void *));
            }
            loads[(*count)++] = &batch->loads[i];
        }
    }
    return loads;
}

static void send_groups(struct sender *sender, struct chp_batch *batch)
{
    size_t count;
    struct chp_load **loads = all_of(sender, batch, CHP_LOAD_RESOURCE, &count);
    if (count > 0) {
        send_together(sender, loads, count, "load_resources", add_resource, read_resources);
        send_together(sender, loads, count, "load_held", add_pending, pg__read_held);
    }
    loads = all_of(sender, batch, CHP_LOAD_KEY, &count);
    if (count > 0) {
        send_together(sender, loads, count, "load_keys", add_key, read_keys);
    }
}

static void send_operation(struct sender *sender, struct chp_load *load)
{
    char id[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(&load->operation, id);
    const char *params[] = {id, number_text(sender, CHP_LISTENERS_MAX)};
    send_part(sender, load, "load_operation", params, 1, read_operation);
    send_part(sender, load, "load_executions", params, 1, read_executions);
    send_part(sender, load, "load_listeners", params, 2, read_listeners);
}

static void send_range(struct sender *sender, struct chp_load *load)
{
    const char *params[] = {load->resource,
                            load->range.origin,
                            number_text(sender, load->range.incarnation),
                            number_text(sender, load->range.first),
                            number_text(sender, load->range.last),
                            number_text(sender, load->limit),
                            load->site};
    send_part(sender, load, "load_range", params, 7, read_range);
}

static void send_report(struct sender *sender, struct chp_load *load)
{
    CHP_ASSERT(load->limit > 0 && load->limit <= CHP_REPORT_ENTRIES_MAX);
    const char *params[] = {load->site, number_text(sender, load->after),
                            number_text(sender, load->limit), load->all ? "true" : "false"};
    send_part(sender, load, "load_report", params, 4, read_report);
}

static void send_vectors(struct sender *sender, struct chp_load *load)
{
    struct chp_buf ids = {0};
    pg__names_literal(&ids, load->ids, load->id_count);
    send_part(sender, load, "load_vectors", (const char *[]){chp_buf_text(&ids)}, 1, read_vectors);
    chp_buf_deinit(&ids);
}

static void send_replies(struct sender *sender, struct chp_load *load)
{
    struct chp_buf names = {0};
    pg__names_literal(&names, load->ids, load->id_count);
    const char *params[] = {number_text(sender, load->after), number_text(sender, load->limit),
                            chp_buf_text(&names)};
    send_part(sender, load, "load_replies", params, 3, read_replies);
    chp_buf_deinit(&names);
}

static void send_load(struct sender *sender, struct chp_load *load)
{
    const char *limit = number_text(sender, load->limit);
    const char *after = number_text(sender, load->after);
    switch (load->kind) {
    case CHP_LOAD_START:
        send_part(sender, load, "load_self", NULL, 0, read_self);
        send_part(sender, load, "load_database", NULL, 0, read_database);
        send_part(sender, load, "load_peers", NULL, 0, read_peers);
        send_part(sender, load, "load_streams", NULL, 0, read_streams);
        send_part(sender, load, "load_undecoded_totals", NULL, 0, read_undecoded_totals);
        break;
    case CHP_LOAD_RESOURCE: /* send_groups */
    case CHP_LOAD_KEY:
        break;
    case CHP_LOAD_BUSY:
        send_part(sender, load, "load_busy", (const char *[]){load->resource, limit}, 2, read_busy);
        break;
    case CHP_LOAD_OPERATION:
        send_operation(sender, load);
        break;
    case CHP_LOAD_OUTBOUND:
        send_part(sender, load, "load_outbound",
                  (const char *[]){load->site, chp_key_name(load->stream_key), after, limit}, 4,
                  read_items);
        break;
    case CHP_LOAD_EVENTS:
        send_part(sender, load, "load_events", (const char *[]){after, limit}, 2, read_events);
        break;
    case CHP_LOAD_RANGE:
        send_range(sender, load);
        break;
    case CHP_LOAD_OLDEST:
        send_part(sender, load, "load_oldest", NULL, 0, read_oldest);
        break;
    case CHP_LOAD_REPLIES:
        send_replies(sender, load);
        break;
    case CHP_LOAD_UNDECODED:
        send_part(sender, load, "load_undecoded", (const char *[]){after, limit}, 2,
                  read_undecoded);
        break;
    case CHP_LOAD_REPORT:
        send_report(sender, load);
        break;
    case CHP_LOAD_VECTORS:
        send_vectors(sender, load);
        break;
    }
}

void pg__loads_send(struct chp_batch *batch, struct pg_pipeline *pipeline,
                    struct pg_load_part **parts, size_t *part_count)
{
    struct sender sender = {.pipeline = pipeline, .arena = &batch->arena};
    sender.parts = chp_arena_calloc(&batch->arena, batch->load_count * PG_LOAD_PARTS_MAX,
                                    sizeof *sender.parts);
    send_groups(&sender, batch);
    for (size_t i = 0; i < batch->load_count; i++) {
        send_load(&sender, &batch->loads[i]);
    }
    *parts = sender.parts;
    *part_count = sender.part_count;
}
