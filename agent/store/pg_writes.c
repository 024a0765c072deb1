/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * All writes of one kind in a batch are one statement over unnested arrays: a batch costs at most a
 * dozen statements however many operations are in it.
 *
 * The kinds run in the order of their enum instead of the batch's. That gives the same state, since
 * kinds write to different tables (or columns) and the order respects the references: resource,
 * operation, what speaks of operations. Within a kind a statement may not touch a row twice, so of
 * several writes of one row only the one that would be left is sent.
 */
#include "store/pg_writes.h"

#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every row of a site's past may be looked at. */
enum { REINCARNATE_TIMEOUT_MS = 10 * 60 * 1000 };

#define FORGET_MAX "5000"
static_assert(CHP_FORGET_MAX == 5000, "as in the statement");
#define LISTENERS_MAX "16"
static_assert(CHP_LISTENERS_MAX == 16, "as in the statement");

const struct pg_statement pg__write_statements[PG_WRITE_KIND_COUNT] = {
    [CHP_WRITE_SELF] = {"write_self", "INSERT INTO cheops.self (site, incarnation, database)"
                                      " SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])"
                                      " ON CONFLICT (one) DO UPDATE SET site = excluded.site,"
                                      " incarnation = excluded.incarnation,"
                                      " database = excluded.database"},
    [CHP_WRITE_REINCARNATE] = {"write_reincarnate",
                               "SELECT cheops.reincarnate(w.site, w.incarnation, w.database)"
                               " FROM unnest($1::text[], $2::bigint[], $3::text[])"
                               " AS w (site, incarnation, database)"},
    [CHP_WRITE_RESOURCE] =
        {"write_resource",
         "INSERT INTO cheops.resource (id, level, scope, members, vector, highest_stamp_ms,"
         " highest_stamp_counter, created_stamp_ms, created_stamp_counter, created_origin,"
         " created_id, created_ms, config, config_version, merged, diverged, degraded,"
         " order_assumed, deleted, unsettled, forgotten, base_config)"
         " SELECT w.id, w.level, w.scope, w.members::text[], w.vector::json, w.highest_ms,"
         " w.highest_counter, w.created_stamp_ms, w.created_counter, w.created_origin,"
         " w.created_id, w.created_ms, w.config::json, w.config_version, w.merged, w.diverged,"
         " w.degraded, w.order_assumed, w.deleted, w.unsettled, w.forgotten::json, "
         "w.base_config::json"
         " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],"
         " $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::uuid[], $12::bigint[],"
         " $13::text[], $14::bigint[], $15::boolean[], $16::text[], $17::boolean[],"
         " $18::boolean[], $19::boolean[], $20::boolean[], $21::text[], $22::text[])"
         " AS w (id, level, scope, members, vector, highest_ms, highest_counter, created_stamp_ms,"
         " created_counter, created_origin, created_id, created_ms, config, config_version, merged,"
         " diverged, degraded, order_assumed, deleted, unsettled, forgotten, base_config)"
         " ON CONFLICT (id) DO UPDATE SET level = excluded.level, scope = excluded.scope,"
         " members = excluded.members, vector = excluded.vector,"
         " highest_stamp_ms = excluded.highest_stamp_ms,"
         " highest_stamp_counter = excluded.highest_stamp_counter,"
         " created_stamp_ms = excluded.created_stamp_ms,"
         " created_stamp_counter = excluded.created_stamp_counter,"
         " created_origin = excluded.created_origin, created_id = excluded.created_id,"
         " created_ms = excluded.created_ms, config = excluded.config,"
         " config_version = excluded.config_version, merged = excluded.merged,"
         " diverged = excluded.diverged, degraded = excluded.degraded,"
         " order_assumed = excluded.order_assumed, deleted = excluded.deleted,"
         " unsettled = excluded.unsettled, forgotten = excluded.forgotten,"
         " base_config = excluded.base_config"},
    [CHP_WRITE_REDOT] =
        {"write_redot",
         "UPDATE cheops.operation SET incarnation = w.incarnation, n = w.n,"
         " stamp_ms = w.stamp_ms, stamp_counter = w.stamp_counter, item = w.item"
         " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],"
         " $6::bytea[]) AS w (id, incarnation, n, stamp_ms, stamp_counter, item)"
         " WHERE operation.id = w.id"},
    [CHP_WRITE_OPERATION] = {"write_operation",
                             "INSERT INTO cheops.operation (id, resource, origin, incarnation, n, "
                             "stamp_ms, stamp_counter, type,"
                             " level, scope, members, creates, driver, summary, files, key, "
                             "principal, entered_ms, deadline_ms,"
                             " item, received_ms, reply_to, correlation_id, clock_suspect)"
                             " SELECT w.id, w.resource, w.origin, w.incarnation, w.n, w.stamp_ms, "
                             "w.stamp_counter, w.type,"
                             " w.level, w.scope, w.members::text[], w.creates, w.driver, "
                             "w.summary, w.files::json, w.key,"
                             " w.principal, w.entered_ms, w.deadline_ms, w.item, w.received_ms, "
                             "w.reply_to, w.correlation_id, w.clock_suspect"
                             " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], "
                             "$5::bigint[], $6::bigint[],"
                             " $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], "
                             "$12::boolean[], $13::text[],"
                             " $14::text[], $15::text[], $16::text[], $17::text[], $18::bigint[], "
                             "$19::bigint[], $20::bytea[],"
                             " $21::bigint[], $22::text[], $23::text[], $24::boolean[])"
                             " AS w (id, resource, origin, incarnation, n, stamp_ms, "
                             "stamp_counter, type, level, scope, members,"
                             " creates, driver, summary, files, key, principal, entered_ms, "
                             "deadline_ms, item, received_ms,"
                             " reply_to, correlation_id, clock_suspect)"
                             " ON CONFLICT (id) DO NOTHING"},
    [CHP_WRITE_EXECUTION] =
        {"write_execution",
         "INSERT INTO cheops.execution AS held (operation, site, resource, own, incarnation, run,"
         " state, exit_code, reason, output, output_raw, output_cut, unverified, started_ms,"
         " duration_ms, number, updated_ms, elapsed_ms, effect, undoing)"
         " SELECT w.operation, w.site, w.resource,"
         " coalesce(w.site = (SELECT site FROM cheops.self), false), w.incarnation, w.run,"
         " w.state, w.exit_code, w.reason, w.output, w.output_raw, w.output_cut, w.unverified,"
         " w.started_ms, w.duration_ms, w.number, w.updated_ms, w.elapsed_ms, w.effect, w.undoing"
         " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[],"
         " $7::integer[], $8::text[], $9::text[], $10::bytea[], $11::boolean[], $12::boolean[],"
         " $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],"
         " $18::bigint[], $19::boolean[])"
         " AS w (operation, site, resource, incarnation, run, state, exit_code, reason, output,"
         " output_raw, output_cut, unverified, started_ms, duration_ms, number, updated_ms,"
         " elapsed_ms, effect, undoing)"
         " ON CONFLICT (operation, site) DO UPDATE SET resource = excluded.resource,"
         " own = excluded.own, incarnation = excluded.incarnation, run = excluded.run,"
         " state = excluded.state, exit_code = excluded.exit_code, reason = excluded.reason,"
         " output = excluded.output, output_raw = excluded.output_raw,"
         " output_cut = excluded.output_cut, unverified = excluded.unverified,"
         " started_ms = excluded.started_ms, duration_ms = excluded.duration_ms,"
         " number = excluded.number, updated_ms = excluded.updated_ms,"
         " elapsed_ms = excluded.elapsed_ms, effect = excluded.effect, undoing = excluded.undoing"
         " WHERE (excluded.run, excluded.final) >= (held.run, held.final)"},
    [CHP_WRITE_COMPLETED] =
        {"write_completed",
         "UPDATE cheops.operation SET completed_ms = w.completed_ms, failed = w.failed"
         " FROM unnest($1::uuid[], $2::boolean[], $3::bigint[])"
         " AS w (id, failed, completed_ms) WHERE operation.id = w.id"},
    [CHP_WRITE_OUTBOUND] =
        {"write_outbound",
         "WITH w AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], "
         "$5::bytea[])"
         " AS w (site, key, number, operation, item)), stream AS ("
         "INSERT INTO cheops.stream AS held (site, key, direction, incarnation, mark, last)"
         " SELECT w.site, w.key, 'out', self.incarnation, 0, max(w.number) FROM w, cheops.self"
         " GROUP BY w.site, w.key, self.incarnation"
         " ON CONFLICT (site, key, direction, incarnation)"
         " DO UPDATE SET last = greatest(held.last, excluded.last))"
         "INSERT INTO cheops.outbound (site, key, number, operation, item) SELECT * FROM w"},
    [CHP_WRITE_STREAM_OUT] =
        {"write_stream_out",
         "WITH w AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])"
         " AS w (site, key, incarnation, mark)), forgotten AS ("
         "DELETE FROM cheops.outbound o USING w WHERE o.site = w.site AND o.key = w.key"
         " AND o.number <= w.mark AND w.incarnation = (SELECT incarnation FROM cheops.self))"
         "INSERT INTO cheops.stream AS held (site, key, direction, incarnation, mark, last)"
         " SELECT w.site, w.key, 'out', w.incarnation, w.mark, w.mark FROM w"
         " ON CONFLICT (site, key, direction, incarnation) DO UPDATE"
         " SET mark = greatest(held.mark, excluded.mark), last = greatest(held.last, "
         "excluded.mark)"},
    [CHP_WRITE_STREAM_IN] =
        {"write_stream_in",
         "INSERT INTO cheops.stream AS held (site, key, direction, incarnation, mark, last)"
         " SELECT w.site, w.key, 'in', w.incarnation, w.mark, w.mark"
         " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])"
         " AS w (site, key, incarnation, mark)"
         " ON CONFLICT (site, key, direction, incarnation) DO UPDATE"
         " SET mark = greatest(held.mark, excluded.mark), last = greatest(held.last, "
         "excluded.mark)"},
    [CHP_WRITE_EVENT] =
        {"write_event",
         "INSERT INTO cheops.event (number, at_ms, kind, site, resource, operation, data)"
         " SELECT w.number, w.at_ms, w.kind, w.site, w.resource, w.operation, w.data::json"
         " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[],"
         " $6::uuid[], $7::text[])"
         " AS w (number, at_ms, kind, site, resource, operation, data)"},
    [CHP_WRITE_EVENTS_PUBLISHED] = {"write_events_published",
                                    "UPDATE cheops.self SET event_published = w.number"
                                    " FROM unnest($1::bigint[]) AS w (number)"
                                    " WHERE self.event_published < w.number"},
    [CHP_WRITE_KEY] = {"write_key",
                       "INSERT INTO cheops.idempotency_key (principal, key, hash, operation, "
                       "at_ms) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], "
                       "$4::uuid[], $5::bigint[])"
                       " ON CONFLICT (principal, key) DO NOTHING"},
    [CHP_WRITE_LISTENER] =
        {"write_listener",
         "WITH w AS (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[])"
         " AS w (operation, place, reply_to, correlation_id)), forgotten AS ("
         "DELETE FROM cheops.listener old USING w"
         " WHERE old.operation = w.operation AND old.place <= w.place - " LISTENERS_MAX ")"
         "INSERT INTO cheops.listener (operation, place, reply_to, correlation_id) SELECT * FROM "
         "w"},
    [CHP_WRITE_REPLY] =
        {"write_reply",
         "INSERT INTO cheops.reply (number, operation, reply_to, correlation_id, message_id, body,"
         " at_ms) SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[],"
         " $5::text[], $6::bytea[], $7::bigint[])"},
    [CHP_WRITE_REPLIED] = {"write_replied",
                           "DELETE FROM cheops.reply USING unnest($1::bigint[]) AS w (number)"
                           " WHERE reply.number = w.number"},
    /* Each table by an index, from its old end; a page of rows is looked at. */
    [CHP_WRITE_FORGET] =
        {"write_forget",
         "WITH w AS (SELECT * FROM unnest($1::bigint[], $2::bigint[])"
         " AS w (keys_before, events_before)), keys AS ("
         "DELETE FROM cheops.idempotency_key WHERE ctid = ANY (ARRAY(SELECT old.ctid"
         " FROM cheops.idempotency_key old WHERE old.at_ms < (SELECT keys_before FROM w)"
         " ORDER BY old.at_ms LIMIT " FORGET_MAX "))), replies AS ("
         "DELETE FROM cheops.reply WHERE number <= (SELECT max(page.number) FROM ("
         "SELECT number, at_ms FROM cheops.reply ORDER BY number LIMIT " FORGET_MAX ") page"
         " WHERE page.at_ms < (SELECT keys_before FROM w)))"
         "DELETE FROM cheops.event WHERE number <= (SELECT max(page.number) FROM ("
         "SELECT number, at_ms FROM cheops.event"
         " WHERE number <= (SELECT event_published FROM cheops.self)"
         " AND number < (SELECT max(number) FROM cheops.event)"
         " ORDER BY number LIMIT " FORGET_MAX ") page"
         " WHERE page.at_ms < (SELECT events_before FROM w))"},
    [CHP_WRITE_PEER] =
        {"write_peer",
         "INSERT INTO cheops.peer (site, up, since_ms, heard_ms, round_trip_us)"
         " SELECT * FROM unnest($1::text[], $2::boolean[], $3::bigint[], $4::bigint[],"
         " $5::bigint[])"
         " ON CONFLICT (site) DO UPDATE SET up = excluded.up, since_ms = excluded.since_ms,"
         " heard_ms = excluded.heard_ms, round_trip_us = excluded.round_trip_us"},
    [CHP_WRITE_GAP] =
        {"write_gap",
         "INSERT INTO cheops.peer (site, up, since_ms, heard_ms, round_trip_us, gap_open, gap_mark)"
         " SELECT w.site, false, 0, 0, 0, w.open, w.mark"
         " FROM unnest($1::text[], $2::boolean[], $3::bigint[]) AS w (site, open, mark)"
         " ON CONFLICT (site) DO UPDATE SET gap_open = excluded.gap_open,"
         " gap_mark = excluded.gap_mark"},
    [CHP_WRITE_REPORTED] =
        {"write_reported",
         "INSERT INTO cheops.peer (site, up, since_ms, heard_ms, round_trip_us,"
         " reported_incarnation, reported_arrival)"
         " SELECT w.site, false, 0, 0, 0, w.incarnation, w.arrival"
         " FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w (site, incarnation, arrival)"
         " ON CONFLICT (site) DO UPDATE SET reported_incarnation = excluded.reported_incarnation,"
         " reported_arrival = excluded.reported_arrival"},
    [CHP_WRITE_VOIDED] = {"write_voided",
                          "UPDATE cheops.execution e SET state = 'voided'"
                          " FROM unnest($1::uuid[]) AS w (id) WHERE e.operation = w.id"
                          " AND e.state IN ('failed', 'refused')"},
    [CHP_WRITE_REBUILD] = {"write_rebuild",
                           "UPDATE cheops.execution e SET effect = 0 FROM unnest($1::text[]) AS"
                           " w (resource), cheops.operation o WHERE o.resource = w.resource"
                           " AND e.operation = o.id AND e.own"},
    /* What still waits for a site (it was asked for again) stays. */
    [CHP_WRITE_FORGOTTEN] =
        {"write_forgotten",
         "WITH gone AS (DELETE FROM cheops.operation o USING unnest($1::text[], $2::text[]) AS"
         " w (resource, vector), json_array_elements(w.vector::json) AS d (dot)"
         " WHERE o.resource = w.resource AND o.origin = d.dot->>0"
         " AND o.incarnation = (d.dot->>1)::bigint AND o.n <= (d.dot->>2)::bigint AND NOT EXISTS"
         " (SELECT FROM cheops.outbound b WHERE b.operation = o.id) RETURNING o.id), listeners AS"
         " (DELETE FROM cheops.listener l USING gone WHERE l.operation = gone.id)"
         " DELETE FROM cheops.execution e USING gone WHERE e.operation = gone.id"},
    [CHP_WRITE_LOST] =
        {"write_lost",
         "INSERT INTO cheops.lost AS held (resource, origin, incarnation, first, last, at_ms)"
         " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],"
         " $6::bigint[])"
         " ON CONFLICT (resource, origin, incarnation, first)"
         " DO UPDATE SET last = greatest(held.last, excluded.last)"},
    [CHP_WRITE_SERIAL] = {"write_serial", "UPDATE cheops.self SET serial = w.serial"
                                          " FROM unnest($1::bigint[]) AS w (serial)"
                                          " WHERE self.serial < w.serial"},
    [CHP_WRITE_UNDECODED] =
        {"write_undecoded",
         "INSERT INTO cheops.undecoded (site, key, incarnation, number, item)"
         " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])"
         " ON CONFLICT (site, key, incarnation, number) DO NOTHING"},
    [CHP_WRITE_DECODED] = {"write_decoded", "DELETE FROM cheops.undecoded u"
                                            " USING unnest($1::bigint[]) AS w (arrival)"
                                            " WHERE u.arrival = w.arrival"},
};

const struct pg_statement pg__write_patience = {"write_patience",
                                                "SELECT set_config('statement_timeout', $1, true)"};

static void add_self(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->self.site);
    pg__add_u64(columns, write->self.incarnation);
    pg__add_text(columns, write->self.database);
}

static void add_reincarnate(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->reincarnate.site);
    pg__add_u64(columns, write->reincarnate.incarnation);
    pg__add_text(columns, write->reincarnate.database);
}

static void add_stamp(struct pg_columns *columns, struct chp_stamp stamp)
{
    pg__add_u64(columns, stamp.ms);
    pg__add_u64(columns, stamp.counter);
}

static void add_resource(struct pg_columns *columns, const struct chp_write *write)
{
    const struct chp_resource_row *row = &write->resource;
    pg__add_text(columns, row->id);
    pg__add_text(columns, chp_level_name(row->level));
    pg__add_text(columns, row->scope);
    pg__add_names(columns, row->members, row->member_count);
    pg__add_vector(columns, &row->vector);
    add_stamp(columns, row->highest);
    add_stamp(columns, row->created);
    pg__add_text(columns, row->created_origin);
    pg__add_uuid(columns, &row->created_id);
    pg__add_u64(columns, row->created_ms);
    pg__add_text(columns, row->config);
    pg__add_u64(columns, row->config_version);
    pg__add_bool(columns, row->merged);
    pg__add_text(columns, row->diverged);
    pg__add_bool(columns, row->degraded);
    pg__add_bool(columns, row->order_assumed);
    pg__add_bool(columns, row->deleted);
    pg__add_bool(columns, row->unsettled);
    pg__add_vector(columns, &row->forgotten);
    pg__add_text(columns, row->base_config);
}

static void add_operation(struct pg_columns *columns, const struct chp_write *write)
{
    const struct chp_operation *operation = write->operation.operation;
    pg__add_uuid(columns, &operation->id);
    pg__add_text(columns, operation->resource);
    pg__add_text(columns, operation->dot.origin);
    pg__add_u64(columns, operation->dot.incarnation);
    pg__add_u64(columns, operation->dot.n);
    add_stamp(columns, operation->stamp);
    pg__add_text(columns, operation->type);
    pg__add_text(columns, chp_level_name(operation->level));
    pg__add_text(columns, operation->scope);
    pg__add_names(columns, operation->members, operation->member_count);
    pg__add_bool(columns, operation->creates);
    pg__add_text(columns, operation->driver);
    pg__add_text(columns, operation->summary);
    pg__add_files(columns, operation->files, operation->file_count);
    pg__add_text(columns, operation->key);
    pg__add_text(columns, operation->principal);
    pg__add_u64(columns, operation->entered_ms);
    pg__add_u64(columns, operation->deadline_ms);
    pg__add_bytes(columns, write->operation.item);
    pg__add_u64(columns, write->operation.received_ms);
    pg__add_text(columns, write->operation.reply_to);
    pg__add_text(columns, write->operation.correlation_id);
    pg__add_bool(columns, write->operation.clock_suspect);
}

/* As text, so that people and JSON can read it; the bytes beside it only where the text is not
 * them. */
static void add_output(struct pg_columns *columns, struct chp_bytes output)
{
    struct chp_buf text = {0};
    bool is_text = chp_utf8_valid(output.data, output.len);
    if (is_text) {
        chp_buf_add(&text, output.data, output.len);
    } else {
        chp_buf_add_utf8_lossy(&text, output.data, output.len);
    }
    pg__add_text(columns, chp_buf_text(&text));
    if (is_text) {
        pg__add_null_bytes(columns);
    } else {
        pg__add_bytes(columns, output);
    }
    chp_buf_deinit(&text);
}

static void add_execution(struct pg_columns *columns, const struct chp_write *write)
{
    const struct chp_execution_row *row = &write->execution;
    pg__add_uuid(columns, &row->ack.operation);
    pg__add_text(columns, row->ack.site);
    pg__add_text(columns, row->ack.resource);
    pg__add_u64(columns, row->ack.incarnation);
    pg__add_u64(columns, row->ack.run);
    pg__add_text(columns, chp_state_name(row->ack.state));
    pg__add_i32(columns, row->ack.exit_code);
    pg__add_text(columns, row->ack.reason);
    add_output(columns, row->ack.output);
    pg__add_bool(columns, row->ack.output_cut);
    pg__add_bool(columns, row->ack.unverified);
    pg__add_u64(columns, row->ack.started_ms);
    pg__add_u64(columns, row->ack.duration_ms);
    pg__add_u64(columns, row->number);
    pg__add_u64(columns, row->updated_ms);
    pg__add_u64(columns, row->elapsed_ms);
    pg__add_u64(columns, row->effect);
    pg__add_bool(columns, row->undoing);
}

static void add_completed(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_uuid(columns, &write->completed.operation);
    pg__add_bool(columns, write->completed.failed);
    pg__add_u64(columns, write->completed.completed_ms);
}

static void add_outbound(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->outbound.site);
    pg__add_text(columns, chp_key_name(write->outbound.key));
    pg__add_u64(columns, write->outbound.number);
    if (write->outbound.is_operation) {
        pg__add_uuid(columns, &write->outbound.operation);
        pg__add_null_bytes(columns);
    } else {
        pg__add_uuid(columns, NULL);
        pg__add_bytes(columns, write->outbound.item);
    }
}

static void add_stream(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->stream.site);
    pg__add_text(columns, chp_key_name(write->stream.key));
    pg__add_u64(columns, write->stream.incarnation);
    pg__add_u64(columns, write->stream.mark);
}

static void add_event(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->event.number);
    pg__add_u64(columns, write->event.at_ms);
    pg__add_text(columns, write->event.kind);
    pg__add_text(columns, write->event.site);
    pg__add_text(columns, write->event.resource);
    pg__add_uuid(columns, write->event.operation);
    pg__add_text(columns, write->event.data);
}

static void add_events_published(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->events_published);
}

static void add_key(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->key.principal);
    pg__add_text(columns, write->key.key);
    pg__add_bytes(columns, chp_bytes(write->key.hash.bytes, sizeof write->key.hash.bytes));
    pg__add_uuid(columns, &write->key.operation);
    pg__add_u64(columns, write->key.at_ms);
}

static void add_listener(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_uuid(columns, &write->listener.operation);
    pg__add_u64(columns, write->listener.place);
    pg__add_text(columns, write->listener.to.reply_to);
    pg__add_text(columns, write->listener.to.correlation_id);
}

static void add_reply(struct pg_columns *columns, const struct chp_write *write)
{
    const struct chp_reply_row *row = &write->reply;
    pg__add_u64(columns, row->number);
    pg__add_uuid(columns, &row->operation);
    pg__add_text(columns, row->to.reply_to);
    pg__add_text(columns, row->to.correlation_id);
    pg__add_text(columns, row->message_id);
    pg__add_bytes(columns, row->body);
    pg__add_u64(columns, row->at_ms);
}

static void add_replied(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->replied);
}

static void add_forget(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->forget.keys_before_ms);
    pg__add_u64(columns, write->forget.events_before_ms);
}

static void add_peer(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->peer.site);
    pg__add_bool(columns, write->peer.up);
    pg__add_u64(columns, write->peer.since_ms);
    pg__add_u64(columns, write->peer.heard_ms);
    pg__add_u64(columns, write->peer.round_trip_us);
}

static void add_redot(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_uuid(columns, &write->redot.operation);
    pg__add_u64(columns, write->redot.incarnation);
    pg__add_u64(columns, write->redot.n);
    add_stamp(columns, write->redot.stamp);
    pg__add_bytes(columns, write->redot.item);
}

static void add_gap(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->gap.site);
    pg__add_bool(columns, write->gap.open);
    pg__add_u64(columns, write->gap.mark);
}

static void add_reported(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->reported.site);
    pg__add_u64(columns, write->reported.incarnation);
    pg__add_u64(columns, write->reported.arrival);
}

static void add_lost(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->lost.resource);
    pg__add_text(columns, write->lost.range.origin);
    pg__add_u64(columns, write->lost.range.incarnation);
    pg__add_u64(columns, write->lost.range.first);
    pg__add_u64(columns, write->lost.range.last);
    pg__add_u64(columns, write->lost.at_ms);
}

static void add_voided(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_uuid(columns, &write->voided);
}

static void add_rebuild(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->rebuild);
}

static void add_forgotten(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->forgotten.resource);
    pg__add_vector(columns, &write->forgotten.vector);
}

static void add_serial(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->serial);
}

static void add_undecoded(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_text(columns, write->undecoded.site);
    pg__add_text(columns, chp_key_name(write->undecoded.key));
    pg__add_u64(columns, write->undecoded.incarnation);
    pg__add_u64(columns, write->undecoded.number);
    pg__add_bytes(columns, write->undecoded.item);
}

static void add_decoded(struct pg_columns *columns, const struct chp_write *write)
{
    pg__add_u64(columns, write->decoded);
}

static void no_identity(const struct chp_write *write, struct chp_buf *identity)
{
    (void)write; /* the table has one row */
    chp_buf_add_byte(identity, 0);
}

static void resource_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add_text(identity, write->resource.id);
}

static void execution_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add(identity, write->execution.ack.operation.bytes, CHP_UUID_BYTES);
    chp_buf_add_text(identity, write->execution.ack.site);
}

static void completed_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add(identity, write->completed.operation.bytes, CHP_UUID_BYTES);
}

static void stream_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add(identity, &write->stream.incarnation, sizeof write->stream.incarnation);
    chp_buf_add_text(identity, chp_key_name(write->stream.key));
    chp_buf_add_byte(identity, 0);
    chp_buf_add_text(identity, write->stream.site);
}

static void peer_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add_text(identity, write->peer.site);
}

static void gap_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add_text(identity, write->gap.site);
}

static void reported_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add_text(identity, write->reported.site);
}

static void redot_identity(const struct chp_write *write, struct chp_buf *identity)
{
    chp_buf_add(identity, write->redot.operation.bytes, CHP_UUID_BYTES);
}

static void lost_identity(const struct chp_write *write, struct chp_buf *identity)
{
    const struct chp_range *range = &write->lost.range;
    chp_buf_add(identity, &range->incarnation, sizeof range->incarnation);
    chp_buf_add(identity, &range->first, sizeof range->first);
    chp_buf_add_text(identity, range->origin);
    chp_buf_add_byte(identity, 0);
    chp_buf_add_text(identity, write->lost.resource);
}

/* As the statement's WHERE has it. */
static bool execution_replaces(const struct chp_write *later, const struct chp_write *earlier)
{
    const struct chp_ack *a = &earlier->execution.ack;
    const struct chp_ack *b = &later->execution.ack;
    return b->run != a->run ? b->run > a->run
                            : chp_state_final(b->state) >= chp_state_final(a->state);
}

static bool stream_replaces(const struct chp_write *later, const struct chp_write *earlier)
{
    return later->stream.mark >= earlier->stream.mark;
}

static bool published_replaces(const struct chp_write *later, const struct chp_write *earlier)
{
    return later->events_published >= earlier->events_published;
}

static bool lost_replaces(const struct chp_write *later, const struct chp_write *earlier)
{
    return later->lost.range.last >= earlier->lost.range.last;
}

static bool serial_replaces(const struct chp_write *later, const struct chp_write *earlier)
{
    return later->serial >= earlier->serial;
}

static const struct {
    void (*add)(struct pg_columns *columns, const struct chp_write *write);
    /* Bytes that name the row; NULL where the statement itself copes with a row that comes twice.
     */
    void (*identity)(const struct chp_write *write, struct chp_buf *identity);
    /* Whether the later of two writes of a row is what is left; NULL: always. */
    bool (*replaces)(const struct chp_write *later, const struct chp_write *earlier);
} kinds[PG_WRITE_KIND_COUNT] = {
    [CHP_WRITE_SELF] = {add_self, no_identity, NULL},
    [CHP_WRITE_REINCARNATE] = {add_reincarnate, no_identity, NULL},
    [CHP_WRITE_RESOURCE] = {add_resource, resource_identity, NULL},
    [CHP_WRITE_REDOT] = {add_redot, redot_identity, NULL},
    [CHP_WRITE_OPERATION] = {add_operation, NULL, NULL},
    [CHP_WRITE_EXECUTION] = {add_execution, execution_identity, execution_replaces},
    [CHP_WRITE_COMPLETED] = {add_completed, completed_identity, NULL},
    [CHP_WRITE_OUTBOUND] = {add_outbound, NULL, NULL},
    [CHP_WRITE_STREAM_OUT] = {add_stream, stream_identity, stream_replaces},
    [CHP_WRITE_STREAM_IN] = {add_stream, stream_identity, stream_replaces},
    [CHP_WRITE_EVENT] = {add_event, NULL, NULL},
    [CHP_WRITE_EVENTS_PUBLISHED] = {add_events_published, no_identity, published_replaces},
    [CHP_WRITE_KEY] = {add_key, NULL, NULL},
    [CHP_WRITE_LISTENER] = {add_listener, NULL, NULL},
    [CHP_WRITE_REPLY] = {add_reply, NULL, NULL},
    [CHP_WRITE_REPLIED] = {add_replied, NULL, NULL},
    [CHP_WRITE_FORGET] = {add_forget, no_identity, NULL},
    [CHP_WRITE_PEER] = {add_peer, peer_identity, NULL},
    [CHP_WRITE_GAP] = {add_gap, gap_identity, NULL},
    [CHP_WRITE_REPORTED] = {add_reported, reported_identity, NULL},
    [CHP_WRITE_VOIDED] = {add_voided, NULL, NULL},
    [CHP_WRITE_REBUILD] = {add_rebuild, NULL, NULL},
    [CHP_WRITE_FORGOTTEN] = {add_forgotten, NULL, NULL},
    [CHP_WRITE_LOST] = {add_lost, lost_identity, lost_replaces},
    [CHP_WRITE_SERIAL] = {add_serial, no_identity, serial_replaces},
    [CHP_WRITE_UNDECODED] = {add_undecoded, NULL, NULL},
    [CHP_WRITE_DECODED] = {add_decoded, NULL, NULL},
};

/* Sets entries of kept that another write of the same row makes pointless to NULL. */
static void leave_one_per_row(enum chp_write_kind kind, const struct chp_write **kept, size_t count)
{
    struct chp_map *rows = chp_map_new((uint64_t)(uintptr_t)kept); /* identity -> place in kept */
    struct chp_buf identity = {0};
    for (size_t i = 0; i < count; i++) {
        chp_buf_clear(&identity);
        kinds[kind].identity(kept[i], &identity);
        const struct chp_write **earlier = chp_map_get(rows, chp_buf_bytes(&identity));
        if (earlier != NULL && kinds[kind].replaces != NULL &&
            !kinds[kind].replaces(kept[i], *earlier)) {
            kept[i] = NULL;
            continue;
        }
        if (earlier != NULL) {
            *earlier = NULL;
        }
        (void)chp_map_put(rows, chp_buf_bytes(&identity), (void *)&kept[i]);
    }
    chp_buf_deinit(&identity);
    chp_map_free(rows);
}

static void encode_kind(struct pg_columns *columns, enum chp_write_kind kind,
                        const struct chp_write **kept, size_t count)
{
    if (count > 1 && kinds[kind].identity != NULL) {
        leave_one_per_row(kind, kept, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept[i] != NULL) {
            kinds[kind].add(columns, kept[i]);
            pg__row_end(columns);
        }
    }
}

int pg__writes_encode(struct pg_writes *writes, const struct chp_batch *batch,
                      struct chp_error *error)
{
    size_t counts[PG_WRITE_KIND_COUNT] = {0};
    const struct chp_write **by_kind[PG_WRITE_KIND_COUNT];
    const struct chp_write **sorted = chp_calloc(batch->write_count, sizeof(struct chp_write *));
    for (size_t i = 0; i < batch->write_count; i++) {
        CHP_ASSERT((size_t)batch->writes[i].kind < PG_WRITE_KIND_COUNT);
        counts[batch->writes[i].kind]++;
    }
    for (size_t kind = 0, start = 0; kind < PG_WRITE_KIND_COUNT; kind++) {
        by_kind[kind] = sorted + start;
        start += counts[kind];
        counts[kind] = 0;
    }
    for (size_t i = 0; i < batch->write_count; i++) {
        enum chp_write_kind kind = batch->writes[i].kind;
        by_kind[kind][counts[kind]++] = &batch->writes[i];
    }
    int code = 0;
    for (size_t kind = 0; kind < PG_WRITE_KIND_COUNT; kind++) {
        encode_kind(&writes->kinds[kind], (enum chp_write_kind)kind, by_kind[kind], counts[kind]);
        if (writes->kinds[kind].error.code != 0 && code == 0) {
            *error = writes->kinds[kind].error;
            code = error->code;
        }
    }
    free(sorted);
    writes->patience_ms =
        writes->kinds[CHP_WRITE_REINCARNATE].row_count > 0 ? REINCARNATE_TIMEOUT_MS : 0;
    return code;
}

void pg__writes_send(struct pg_writes *writes, struct pg_pipeline *pipeline)
{
    if (writes->patience_ms > 0) {
        char text[24];
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)writes->patience_ms);
        pg__pipeline_send(pipeline, pg__write_patience.name, (const char *[]){text}, 1, false);
    }
    for (size_t kind = 0; kind < PG_WRITE_KIND_COUNT; kind++) {
        if (writes->kinds[kind].row_count > 0) {
            pg__pipeline_send_columns(pipeline, pg__write_statements[kind].name,
                                      &writes->kinds[kind]);
        }
    }
}

void pg__writes_deinit(struct pg_writes *writes)
{
    for (size_t kind = 0; kind < PG_WRITE_KIND_COUNT; kind++) {
        pg__columns_deinit(&writes->kinds[kind]);
    }
}
