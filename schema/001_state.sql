-- SPDX-License-Identifier: AGPL-3.0-only
-- The state of one site. README.md says what holds of each table. Times are Unix milliseconds; names sort bytewise,
-- as the agents compare them.

CREATE SCHEMA cheops;

CREATE TABLE cheops.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cheops.self (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    site            text COLLATE "C" NOT NULL,
    incarnation     bigint NOT NULL,
    event_published bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE cheops.resource (
    id                     text COLLATE "C" PRIMARY KEY,
    level                  text NOT NULL CHECK (level IN ('none', 'eventual', 'transactional', 'strong')),
    scope                  text NOT NULL,
    members                text[] COLLATE "C" NOT NULL,
    vector                 json NOT NULL,
    highest_stamp_ms       bigint NOT NULL,
    highest_stamp_counter  bigint NOT NULL,
    created_stamp_ms       bigint NOT NULL,
    created_stamp_counter  bigint NOT NULL,
    created_origin         text COLLATE "C" NOT NULL,
    created_id             uuid NOT NULL,
    created_ms             bigint NOT NULL,
    config                 json,
    config_version         bigint NOT NULL,
    executed_stamp_ms      bigint NOT NULL,
    executed_stamp_counter bigint NOT NULL,
    executed_origin        text COLLATE "C",
    executed_id            uuid NOT NULL,
    merged                 boolean NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE cheops.operation (
    id             uuid PRIMARY KEY,
    arrival        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    resource       text COLLATE "C" NOT NULL REFERENCES cheops.resource,
    origin         text COLLATE "C" NOT NULL,
    incarnation    bigint NOT NULL,
    n              bigint NOT NULL,
    stamp_ms       bigint NOT NULL,
    stamp_counter  bigint NOT NULL,
    type           text NOT NULL,
    level          text NOT NULL CHECK (level IN ('none', 'eventual', 'transactional', 'strong')),
    scope          text NOT NULL,
    members        text[] COLLATE "C" NOT NULL,
    creates        boolean NOT NULL,
    driver         text NOT NULL,
    summary        text NOT NULL,
    files          json NOT NULL,
    key            text NOT NULL,
    principal      text NOT NULL,
    entered_ms     bigint NOT NULL,
    deadline_ms    bigint NOT NULL,
    item           bytea NOT NULL,
    received_ms    bigint NOT NULL,
    reply_to       text,
    correlation_id text,
    completed_ms   bigint,
    failed         boolean,
    UNIQUE (resource, origin, incarnation, n),
    CHECK ((completed_ms IS NULL) = (failed IS NULL))
);
-- The sequence of a resource.
CREATE INDEX operation_sequence ON cheops.operation (resource, stamp_ms, stamp_counter, origin, id);

CREATE TABLE cheops.execution (
    operation   uuid NOT NULL REFERENCES cheops.operation,
    site        text COLLATE "C" NOT NULL,
    resource    text COLLATE "C" NOT NULL,
    own         boolean NOT NULL,
    incarnation bigint NOT NULL,
    run         bigint NOT NULL,
    state       text COLLATE "C" NOT NULL CHECK (state IN ('accepted', 'queued', 'delivered', 'running', 'done', 'failed',
                    'refused', 'superseded', 'voided', 'expired', 'in-doubt')),
    final       boolean NOT NULL GENERATED ALWAYS AS
                    (state IN ('done', 'failed', 'refused', 'superseded', 'voided', 'expired')) STORED,
    exit_code   integer NOT NULL,
    reason      text,
    output      text NOT NULL,
    output_raw  bytea,
    output_cut  boolean NOT NULL,
    unverified  boolean NOT NULL,
    started_ms  bigint NOT NULL,
    duration_ms bigint NOT NULL,
    number      bigint NOT NULL,
    updated_ms  bigint NOT NULL,
    elapsed_ms  bigint NOT NULL,
    PRIMARY KEY (operation, site)
) WITH (fillfactor = 80);
-- What is busy here, and which replica here is in doubt or unverified.
CREATE INDEX execution_busy ON cheops.execution (resource) WHERE own AND NOT final;
CREATE INDEX execution_unverified ON cheops.execution (resource) WHERE own AND unverified;

CREATE TABLE cheops.outbound (
    site      text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL CHECK (key IN ('operation', 'ack', 'control')),
    number    bigint NOT NULL CHECK (number > 0),
    operation uuid REFERENCES cheops.operation,
    item      bytea,
    queued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site, key, number),
    CHECK ((operation IS NULL) <> (item IS NULL))
);

CREATE TABLE cheops.stream (
    site        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL CHECK (key IN ('operation', 'ack', 'control')),
    direction   text COLLATE "C" NOT NULL CHECK (direction IN ('in', 'out')),
    incarnation bigint NOT NULL,
    mark        bigint NOT NULL,
    last        bigint NOT NULL,
    PRIMARY KEY (site, key, direction, incarnation),
    CHECK (last >= mark)
) WITH (fillfactor = 50);

CREATE TABLE cheops.event (
    number    bigint PRIMARY KEY CHECK (number > 0),
    at_ms     bigint NOT NULL,
    kind      text NOT NULL,
    site      text,
    resource  text,
    operation uuid,
    data      json NOT NULL
);

CREATE TABLE cheops.idempotency_key (
    principal text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
    operation uuid NOT NULL,
    at_ms     bigint NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_key_age ON cheops.idempotency_key (at_ms);

CREATE TABLE cheops.peer (
    site          text COLLATE "C" PRIMARY KEY,
    up            boolean NOT NULL,
    since_ms      bigint NOT NULL,
    heard_ms      bigint NOT NULL,
    round_trip_us bigint NOT NULL
) WITH (fillfactor = 50);
