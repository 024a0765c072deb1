-- SPDX-License-Identifier: AGPL-3.0-only
-- What clients of the AMQP door are told is a row first, committed with what it tells.

CREATE TABLE cheops.reply (
    number         bigint PRIMARY KEY CHECK (number > 0),
    operation      uuid NOT NULL,
    reply_to       text NOT NULL,
    correlation_id text NOT NULL,
    message_id     text NOT NULL,
    body           bytea NOT NULL,
    at_ms          bigint NOT NULL
);

-- Who asked again for an operation that was admitted before, and listens elsewhere than who asked first.
CREATE TABLE cheops.listener (
    operation      uuid NOT NULL REFERENCES cheops.operation,
    place          bigint NOT NULL,
    reply_to       text NOT NULL,
    correlation_id text NOT NULL,
    PRIMARY KEY (operation, place)
);
