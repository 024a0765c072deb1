-- SPDX-License-Identifier: AGPL-3.0-only
-- What a site has done about the sequence of a resource: which operations the application has had, in which order, and what
-- there is to say of the replica (design section 6). `executed_*` said less: what follows in arbitration order had run.

ALTER TABLE cheops.resource
    DROP COLUMN executed_stamp_ms,
    DROP COLUMN executed_stamp_counter,
    DROP COLUMN executed_origin,
    DROP COLUMN executed_id,
    ADD COLUMN diverged      text,
    ADD COLUMN degraded      boolean NOT NULL DEFAULT false,
    ADD COLUMN order_assumed boolean NOT NULL DEFAULT false,
    ADD COLUMN deleted       boolean NOT NULL DEFAULT false,
    ADD COLUMN unsettled     boolean NOT NULL DEFAULT false,
    ADD COLUMN forgotten     json NOT NULL DEFAULT '[]',
    ADD COLUMN base_config   json;
-- Where something is to be done without an execution that says so.
CREATE INDEX resource_unsettled ON cheops.resource (id) WHERE unsettled OR degraded;

ALTER TABLE cheops.execution
    ADD COLUMN effect  bigint NOT NULL DEFAULT 0,
    ADD COLUMN undoing boolean NOT NULL DEFAULT false;
UPDATE cheops.execution e SET effect = ran.place
FROM (SELECT operation, site, row_number() OVER (PARTITION BY resource ORDER BY started_ms, operation) AS place
    FROM cheops.execution WHERE own AND state = 'done') ran
WHERE e.operation = ran.operation AND e.site = ran.site;
DROP INDEX cheops.execution_unverified;

CREATE OR REPLACE VIEW cheops.resource_answer AS
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
        WHEN r.diverged IS NOT NULL THEN 'diverged'
        WHEN r.unsettled OR EXISTS (SELECT FROM cheops.execution e WHERE e.resource = r.id AND e.own AND NOT e.final)
            THEN 'busy'
        WHEN r.degraded THEN 'degraded'
        WHEN r.deleted THEN 'deleted'
        WHEN r.order_assumed THEN 'order-assumed'
        ELSE 'ready' END AS state) known
CROSS JOIN LATERAL (SELECT r.id, r.level, r.scope, r.members, r.config, r.config_version,
    cheops.time_text(r.created_ms) AS created_at, row_to_json(created_by) AS created_by, r.merged, known.operations,
    known.last_operation, known.state, r.diverged) object;
