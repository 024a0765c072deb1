-- SPDX-License-Identifier: AGPL-3.0-only
-- Operations whose stamp led the clock of this site when they came here.

ALTER TABLE cheops.operation ADD COLUMN clock_suspect boolean NOT NULL DEFAULT false;

CREATE OR REPLACE VIEW cheops.operation_answer AS
SELECT o.id, o.arrival, o.resource, o.stamp_ms, o.stamp_counter, o.origin, whole.state, row_to_json(object) AS answer
FROM cheops.operation o
CROSS JOIN LATERAL (SELECT coalesce((array_agg(s.state ORDER BY s.rank, s.site))[1], 'accepted') AS state,
    coalesce(json_agg(s.answer ORDER BY s.site), '[]') AS sites
    FROM cheops.site_answer s WHERE s.operation = o.id) whole
CROSS JOIN LATERAL (SELECT o.origin, o.incarnation, o.n) dot
CROSS JOIN LATERAL (SELECT o.stamp_ms AS ms, o.stamp_counter AS counter) stamp
CROSS JOIN LATERAL (SELECT o.id, o.resource, o.type, o.level, o.scope, o.origin, row_to_json(dot) AS dot,
    row_to_json(stamp) AS stamp, o.clock_suspect, o.principal, o.driver, o.summary, o.files,
    cheops.time_text(o.entered_ms) AS entered_at, o.completed_ms IS NOT NULL AS completed, whole.state, o.members,
    whole.sites) object;
