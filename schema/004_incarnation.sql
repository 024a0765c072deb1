-- SPDX-License-Identifier: AGPL-3.0-only
-- Lives of the database: which one it is and how far it has come, so that one that was lost, restored or cloned is
-- noticed; what was told to peers, and what of theirs may have been taken in an earlier life.

ALTER TABLE cheops.self
    ADD COLUMN serial   bigint NOT NULL DEFAULT 0,
    ADD COLUMN database text;

ALTER TABLE cheops.peer
    ADD COLUMN gap_open             boolean NOT NULL DEFAULT false,
    ADD COLUMN gap_mark             bigint NOT NULL DEFAULT 0,
    ADD COLUMN reported_incarnation bigint NOT NULL DEFAULT 0,
    ADD COLUMN reported_arrival     bigint NOT NULL DEFAULT 0;

CREATE TABLE cheops.lost (
    resource    text COLLATE "C" NOT NULL,
    origin      text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    at_ms       bigint NOT NULL,
    PRIMARY KEY (resource, origin, incarnation, first),
    CHECK (last >= first)
);

-- A new life numbers what waits anew in one statement: that a number is there once is checked at its end.
ALTER TABLE cheops.outbound DROP CONSTRAINT outbound_pkey, ADD PRIMARY KEY (site, key, number) DEFERRABLE;

-- A new life: what waits gets numbers from 1 in the streams of the new incarnation.
CREATE FUNCTION cheops.reincarnate(new_site text, new_incarnation bigint, new_database text) RETURNS void
LANGUAGE sql AS $$
    -- What waits twice (it was asked for again) need not.
    DELETE FROM cheops.outbound again USING cheops.outbound b
    WHERE again.key = 'operation' AND b.key = 'operation' AND b.site = again.site AND b.operation = again.operation
        AND b.number < again.number;

    -- First the operations of this origin that a site has not answered, whether it got them in the last life or not; then
    -- what else waits. What the last life's marks made of a state is written down: they say nothing about new numbers.
    WITH unanswered AS (
        SELECT e.site, 'operation'::text COLLATE "C" AS key, e.operation, o.arrival, e.ctid AS execution
        FROM cheops.execution e JOIN cheops.operation o ON o.id = e.operation
        WHERE NOT e.own AND NOT e.final AND o.origin = new_site
    ), waits AS MATERIALIZED (
        SELECT site, key, operation, unanswered.execution, b.ctid AS outbound,
            row_number() OVER (PARTITION BY site, key ORDER BY unanswered.arrival, b.number) AS number
        FROM unanswered FULL JOIN cheops.outbound b USING (site, key, operation)
    ), marks AS (
        SELECT s.site, s.mark FROM cheops.stream s JOIN cheops.self ON self.incarnation = s.incarnation
        WHERE s.key = 'operation' AND s.direction = 'out'
    ), numbered AS (
        UPDATE cheops.execution e SET number = waits.number, state = CASE WHEN e.state = 'queued' AND e.number > 0
            AND e.number <= (SELECT mark FROM marks WHERE marks.site = e.site) THEN 'delivered' ELSE e.state END
        FROM waits WHERE e.ctid = waits.execution
    ), moved AS (
        UPDATE cheops.outbound b SET number = waits.number FROM waits WHERE b.ctid = waits.outbound
    ), streams AS (
        INSERT INTO cheops.stream (site, key, direction, incarnation, mark, last)
        SELECT site, key, 'out', new_incarnation, 0, max(number) FROM waits GROUP BY site, key
    )
    INSERT INTO cheops.outbound (site, key, number, operation)
    SELECT site, key, number, operation FROM waits WHERE outbound IS NULL;

    INSERT INTO cheops.self (site, incarnation, database) VALUES (new_site, new_incarnation, new_database)
    ON CONFLICT (one) DO UPDATE
        SET site = excluded.site, incarnation = excluded.incarnation, database = excluded.database;
$$;

-- The numbers of executions elsewhere that have not ended are those of this site's present incarnation.
CREATE OR REPLACE VIEW cheops.site_answer AS
SELECT e.operation, e.site, shown.state, cheops.state_rank(shown.state) AS rank,
    CASE WHEN e.output_raw IS NULL THEN row_to_json(text_output) ELSE row_to_json(raw_output) END AS answer
FROM cheops.execution e
LEFT JOIN cheops.stream s ON s.site = e.site AND s.key = 'operation' AND s.direction = 'out'
    AND s.incarnation = (SELECT incarnation FROM cheops.self)
CROSS JOIN LATERAL (SELECT CASE WHEN e.state = 'queued' AND NOT e.own AND e.number > 0 AND e.number <= s.mark
    THEN 'delivered' ELSE e.state END AS state) shown
CROSS JOIN LATERAL (SELECT cheops.time_text(e.started_ms) AS started_at) made
CROSS JOIN LATERAL (SELECT e.site, shown.state, e.run, e.exit_code, e.output, e.output_cut, e.reason, e.unverified,
    made.started_at, e.duration_ms, e.elapsed_ms) text_output
CROSS JOIN LATERAL (SELECT e.site, shown.state, e.run, e.exit_code, e.output,
    translate(encode(e.output_raw, 'base64'), E'\n', '') AS output_base64, e.output_cut, e.reason, e.unverified,
    made.started_at, e.duration_ms, e.elapsed_ms) raw_output;
