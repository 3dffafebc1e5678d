-- Webhooks: the outbox. A row is written in the transaction that ends its request, and goes with it.

ALTER TABLE requests ADD COLUMN webhook TEXT NOT NULL DEFAULT ''; -- URL; '' for none

CREATE TABLE webhooks (
    request     INTEGER PRIMARY KEY, -- requests.seq
    account     TEXT NOT NULL, -- of the app
    environment TEXT NOT NULL,
    name        TEXT NOT NULL,
    caller      TEXT NOT NULL,
    receiver    TEXT NOT NULL, -- host:port
    state       TEXT NOT NULL,
    tries       INTEGER NOT NULL, -- since it was made or sent again
    logged      INTEGER NOT NULL, -- tries of all time: rows of webhook_tries
    due_ms      INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    ended_ms    INTEGER,
    reason      TEXT NOT NULL
) STRICT;
-- By receiver first: what is due to one that hangs must not lie before what is due to the others.
CREATE INDEX webhooks_pending ON webhooks (receiver, due_ms) WHERE state = 'PENDING';
CREATE INDEX webhooks_failed ON webhooks (request) WHERE state = 'FAILED';
CREATE INDEX webhooks_by_caller ON webhooks (caller, request);

CREATE TABLE webhook_tries (
    request     INTEGER NOT NULL, -- requests.seq
    number      INTEGER NOT NULL,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    took_ms     INTEGER NOT NULL,
    status      INTEGER,
    outcome     TEXT NOT NULL,
    PRIMARY KEY (request, number)
) STRICT, WITHOUT ROWID;
