-- SPDX-License-Identifier: AGPL-3.0-only
-- What doors answer, as JSON made from committed state. Each *_answer view has one row per object: the object in
-- column answer, and beside it what queries select and sort by. openapi.json describes the objects.

-- RFC 3339 in UTC with milliseconds; NULL for 0 ("never") and for what no calendar has, since a peer's clock is input.
CREATE FUNCTION cheops.time_text(ms bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN ms > 0 AND ms < 253402300800000 THEN
        to_char(timestamp 'epoch' + ms * interval '1 millisecond', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    END
$$;

-- How far a site's state is from done: the whole operation shows the state that is first in this order.
CREATE FUNCTION cheops.state_rank(state text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE state WHEN 'accepted' THEN 0 WHEN 'queued' THEN 1 WHEN 'delivered' THEN 2 WHEN 'running' THEN 3
        WHEN 'in-doubt' THEN 4 WHEN 'done' THEN 6 ELSE 5 END
$$;

-- One site's part in an operation. That a queued operation is delivered is known from the stream's mark alone: the row of
-- the execution is not written again for it.
CREATE VIEW cheops.site_answer AS
SELECT e.operation, e.site, shown.state, cheops.state_rank(shown.state) AS rank,
    CASE WHEN e.output_raw IS NULL THEN row_to_json(text_output) ELSE row_to_json(raw_output) END AS answer
FROM cheops.execution e
JOIN cheops.operation o ON o.id = e.operation
LEFT JOIN cheops.stream s ON s.site = e.site AND s.key = 'operation' AND s.direction = 'out'
    AND s.incarnation = o.incarnation
CROSS JOIN LATERAL (SELECT CASE WHEN e.state = 'queued' AND NOT e.own AND e.number > 0 AND e.number <= s.mark
    THEN 'delivered' ELSE e.state END AS state) shown
CROSS JOIN LATERAL (SELECT cheops.time_text(e.started_ms) AS started_at) made
CROSS JOIN LATERAL (SELECT e.site, shown.state, e.run, e.exit_code, e.output, e.output_cut, e.reason, e.unverified,
    made.started_at, e.duration_ms, e.elapsed_ms) text_output
CROSS JOIN LATERAL (SELECT e.site, shown.state, e.run, e.exit_code, e.output,
    translate(encode(e.output_raw, 'base64'), E'\n', '') AS output_base64, e.output_cut, e.reason, e.unverified,
    made.started_at, e.duration_ms, e.elapsed_ms) raw_output;

CREATE VIEW cheops.operation_answer AS
SELECT o.id, o.arrival, o.resource, o.stamp_ms, o.stamp_counter, o.origin, whole.state, row_to_json(object) AS answer
FROM cheops.operation o
CROSS JOIN LATERAL (SELECT coalesce((array_agg(s.state ORDER BY s.rank, s.site))[1], 'accepted') AS state,
    coalesce(json_agg(s.answer ORDER BY s.site), '[]') AS sites
    FROM cheops.site_answer s WHERE s.operation = o.id) whole
CROSS JOIN LATERAL (SELECT o.origin, o.incarnation, o.n) dot
CROSS JOIN LATERAL (SELECT o.stamp_ms AS ms, o.stamp_counter AS counter) stamp
CROSS JOIN LATERAL (SELECT o.id, o.resource, o.type, o.level, o.scope, o.origin, row_to_json(dot) AS dot,
    row_to_json(stamp) AS stamp, o.principal, o.driver, o.summary, o.files, cheops.time_text(o.entered_ms) AS entered_at,
    o.completed_ms IS NOT NULL AS completed, whole.state, o.members, whole.sites) object;

-- state is that of the replica here.
CREATE VIEW cheops.resource_answer AS
SELECT r.id, row_to_json(object) AS answer
FROM cheops.resource r
CROSS JOIN LATERAL (SELECT r.created_origin AS origin) created_by
CROSS JOIN LATERAL (SELECT
    (SELECT count(*) FROM cheops.operation o WHERE o.resource = r.id) AS operations,
    CASE r.level WHEN 'none'
        THEN (SELECT o.id FROM cheops.operation o WHERE o.resource = r.id ORDER BY o.arrival DESC LIMIT 1)
        ELSE (SELECT o.id FROM cheops.operation o WHERE o.resource = r.id
            ORDER BY o.stamp_ms DESC, o.stamp_counter DESC, o.origin DESC, o.id DESC LIMIT 1)
    END AS last_operation,
    CASE WHEN EXISTS (SELECT FROM cheops.execution e
            WHERE e.resource = r.id AND e.own AND NOT e.final AND e.state = 'in-doubt') THEN 'in-doubt'
        WHEN EXISTS (SELECT FROM cheops.execution e WHERE e.resource = r.id AND e.own AND NOT e.final) THEN 'busy'
        WHEN EXISTS (SELECT FROM cheops.execution e WHERE e.resource = r.id AND e.own AND e.unverified)
            THEN 'unverified'
        ELSE 'ready' END AS state) known
CROSS JOIN LATERAL (SELECT r.id, r.level, r.scope, r.members, r.config, r.config_version,
    cheops.time_text(r.created_ms) AS created_at, row_to_json(created_by) AS created_by, r.merged, known.operations,
    known.last_operation, known.state) object;

CREATE VIEW cheops.event_answer AS
SELECT v.number, v.at_ms, v.kind, row_to_json(object) AS answer
FROM cheops.event v
CROSS JOIN LATERAL (SELECT v.number, cheops.time_text(v.at_ms) AS at, v.kind, v.site, v.resource, v.operation, v.data) object;

-- One row per other site with a stream. The streams out are those of this site's incarnation, the streams in those of
-- the latest that was heard of.
CREATE VIEW cheops.site_streams_answer AS
SELECT streams.site, row_to_json(object) AS answer
FROM (
    SELECT s.site, sum(s.last - s.mark) FILTER (WHERE s.direction = 'out') AS waiting,
        json_object_agg(s.key, s.mark ORDER BY s.key) FILTER (WHERE s.direction = 'out') AS marks_out,
        json_object_agg(s.key, s.mark ORDER BY s.key) FILTER (WHERE s.direction = 'in') AS marks_in
    FROM cheops.stream s
    WHERE CASE s.direction WHEN 'out' THEN s.incarnation = (SELECT incarnation FROM cheops.self)
        ELSE s.incarnation = (SELECT max(l.incarnation) FROM cheops.stream l
            WHERE l.site = s.site AND l.key = s.key AND l.direction = 'in') END
    GROUP BY s.site
) streams
CROSS JOIN LATERAL (SELECT coalesce(marks_out, '{}') AS "out", coalesce(marks_in, '{}') AS "in") marks
CROSS JOIN LATERAL (SELECT min(first.queued_at) AS at
    FROM (VALUES ('operation'), ('ack'), ('control')) keys (key)
    CROSS JOIN LATERAL (SELECT o.queued_at FROM cheops.outbound o WHERE o.site = streams.site AND o.key = keys.key
        ORDER BY o.number LIMIT 1) first) oldest
CROSS JOIN LATERAL (SELECT streams.site, coalesce(streams.waiting, 0)::bigint AS waiting,
    to_char(oldest.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS oldest_at,
    row_to_json(marks) AS marks) object;

CREATE VIEW cheops.status_answer AS
SELECT row_to_json(object) AS answer
FROM (SELECT (SELECT max(version) FROM cheops.migration) AS schema_version,
    (SELECT site FROM cheops.self) AS site,
    (SELECT incarnation FROM cheops.self) AS incarnation,
    (SELECT count(*) FROM cheops.resource) AS resources,
    (SELECT count(DISTINCT resource) FROM cheops.execution WHERE own AND NOT final) AS resources_busy,
    (SELECT count(*) FROM cheops.operation) AS operations,
    (SELECT coalesce(max(number), 0) FROM cheops.event) AS event_last,
    (SELECT coalesce(max(event_published), 0) FROM cheops.self) AS event_published) object;
