-- The durable queue. Everything of a request hangs on its `seq`, which only grows: rows of one time lie together, so that five million finished
-- ones are pages that nobody touches. Only `requests_by_id` is as scattered as its ids are. No foreign keys: the rows of a request are written and
-- deleted by one module, in one transaction each, and checking them again would cost as much as the writes.

CREATE TABLE requests (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT, -- its place in the queue; never used twice
    id                 TEXT NOT NULL,
    account            TEXT NOT NULL, -- of the app
    environment        TEXT NOT NULL,
    name               TEXT NOT NULL,
    caller             TEXT NOT NULL,
    state              TEXT NOT NULL,
    priority           INTEGER NOT NULL,
    attempt            INTEGER NOT NULL,
    version            INTEGER NOT NULL, -- counts its changes: the key of its next row in request_events
    deaths             INTEGER NOT NULL,
    used               TEXT NOT NULL, -- JSON, '' for none
    created_ms         INTEGER NOT NULL,
    due_ms             INTEGER,
    deadline_ms        INTEGER,
    hint               TEXT NOT NULL,
    rules              TEXT NOT NULL, -- JSON, '' for the defaults
    store_io           INTEGER NOT NULL,
    endpoint           TEXT NOT NULL,
    method             TEXT NOT NULL,
    cancel_asked       INTEGER NOT NULL,
    gateway_request_id TEXT NOT NULL,
    runner_id          TEXT, -- this and the next two: of the newest attempt, and of meaning while it is under way
    lease_until_ms     INTEGER,
    log_from           INTEGER NOT NULL,
    started_ms         INTEGER,
    finished_ms        INTEGER,
    expires_ms         INTEGER,
    status             INTEGER,
    error              TEXT NOT NULL,
    error_type         TEXT NOT NULL,
    timeout_type       TEXT NOT NULL,
    inference_ms       INTEGER,
    retry_of           TEXT NOT NULL,
    idempotency_key    TEXT,
    fingerprint        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX requests_by_id ON requests (id);
CREATE INDEX requests_by_app ON requests (account, name, seq);
CREATE INDEX requests_by_caller ON requests (caller, seq); -- costs a submit 3 µs; without it an API key's list reads everybody's requests
-- Not `state IN (...)`: a state that nobody knows must be found too, so that its request can be ended.
CREATE INDEX requests_living ON requests (state, seq) WHERE state <> 'COMPLETED';
CREATE UNIQUE INDEX requests_by_key ON requests (caller, account, name, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX requests_by_expiry ON requests (expires_ms) WHERE state = 'COMPLETED';

-- What the caller sent and what the app answered: written once. `body` is last, so that the rest is read without it.
CREATE TABLE inputs (
    request     INTEGER PRIMARY KEY, -- requests.seq
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    method      TEXT NOT NULL,
    path        BLOB NOT NULL,
    query       BLOB NOT NULL,
    headers     BLOB NOT NULL, -- name, newline, value, newline, name, ...
    size        INTEGER NOT NULL,
    file        TEXT NOT NULL, -- of data/payloads, when body is NULL
    body        BLOB
) STRICT;
CREATE INDEX inputs_by_file ON inputs (file) WHERE file <> '';

CREATE TABLE outputs (
    request     INTEGER PRIMARY KEY, -- requests.seq
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    status      INTEGER NOT NULL,
    headers     BLOB NOT NULL,
    size        INTEGER NOT NULL,
    file        TEXT NOT NULL,
    body        BLOB
) STRICT;
CREATE INDEX outputs_by_file ON outputs (file) WHERE file <> '';

-- Attempts that have ended. The one under way is in its request's row.
CREATE TABLE attempts (
    request            INTEGER NOT NULL, -- requests.seq
    number             INTEGER NOT NULL,
    account            TEXT NOT NULL,
    environment        TEXT NOT NULL,
    gateway_request_id TEXT NOT NULL,
    runner_id          TEXT NOT NULL,
    state              TEXT NOT NULL,
    started_ms         INTEGER NOT NULL,
    ended_ms           INTEGER NOT NULL,
    outcome            TEXT NOT NULL,
    condition          TEXT NOT NULL,
    log_from           INTEGER NOT NULL,
    log_to             INTEGER,
    PRIMARY KEY (request, number)
) STRICT, WITHOUT ROWID;

-- The timelines of requests. Apart from `events`, whose two indexes would cost more than the queue itself, and gone with their requests.
CREATE TABLE request_events (
    request     INTEGER NOT NULL, -- requests.seq
    version     INTEGER NOT NULL, -- requests.version that it led to
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    PRIMARY KEY (request, version)
) STRICT, WITHOUT ROWID;
