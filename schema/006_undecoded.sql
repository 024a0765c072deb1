-- SPDX-License-Identifier: AGPL-3.0-only
-- Items of kinds that only a later version of the agent knows: their streams have passed them.

CREATE TABLE cheops.undecoded (
    site        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL CHECK (key IN ('operation', 'ack', 'control')),
    incarnation bigint NOT NULL,
    number      bigint NOT NULL CHECK (number > 0),
    item        bytea NOT NULL,
    arrival     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    PRIMARY KEY (site, key, incarnation, number)
);
