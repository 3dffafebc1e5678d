-- Every table has `account` (the owner's name) and `environment` (the deployment environment). Rows of the server itself have '' in both.
-- Times are milliseconds since the epoch. JSON columns are text. STRICT: a value of another type is refused.

CREATE TABLE revisions (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    name        TEXT NOT NULL,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    spec        TEXT NOT NULL, -- JSON
    bundle      TEXT NOT NULL,
    working_dir TEXT NOT NULL,
    runtime     TEXT NOT NULL,
    env_key     TEXT NOT NULL, -- no reference: the recipe's row may be pruned when no alias points here any more
    openapi     TEXT NOT NULL, -- JSON
    message     TEXT NOT NULL,
    annotations TEXT NOT NULL, -- JSON
    created_by  TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    plan        TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX revisions_by_app ON revisions (account, name, created_ms);
CREATE INDEX revisions_by_env ON revisions (env_key);

CREATE TABLE apps (
    account        TEXT NOT NULL,
    environment    TEXT NOT NULL,
    name           TEXT NOT NULL, -- with the environment's suffix, as in the URL
    revision_id    TEXT REFERENCES revisions (id),
    auth           TEXT NOT NULL,
    scale          TEXT NOT NULL, -- JSON
    ephemeral      INTEGER NOT NULL,
    lease_until_ms INTEGER,
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;
CREATE INDEX apps_by_revision ON apps (revision_id);
CREATE INDEX apps_by_lease ON apps (lease_until_ms) WHERE ephemeral = 1;

CREATE TABLE runners (
    id            TEXT NOT NULL PRIMARY KEY,
    account       TEXT NOT NULL,
    environment   TEXT NOT NULL,
    name          TEXT NOT NULL,
    revision_id   TEXT NOT NULL REFERENCES revisions (id),
    state         TEXT NOT NULL,
    pid           INTEGER,
    machine_type  TEXT NOT NULL,
    token_hash    TEXT NOT NULL,
    served        INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL,
    ready_ms      INTEGER,
    idle_since_ms INTEGER,
    ended_ms      INTEGER,
    reason        TEXT NOT NULL,
    gpus          TEXT NOT NULL -- JSON: indexes on its node
) STRICT;
CREATE INDEX runners_living ON runners (account, name) WHERE state <> 'TERMINATED';
CREATE INDEX runners_by_revision ON runners (revision_id);
CREATE INDEX runners_by_end ON runners (ended_ms);

-- Package environments. They are shared by whoever has the same recipe, so account and environment are ''.
CREATE TABLE envs (
    key         TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL DEFAULT '',
    environment TEXT NOT NULL DEFAULT '',
    recipe      TEXT NOT NULL, -- JSON
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    packages    TEXT NOT NULL, -- JSON
    size_bytes  INTEGER NOT NULL,
    build_ms    INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    used_ms     INTEGER NOT NULL
) STRICT;

CREATE TABLE decisions (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    application TEXT NOT NULL, -- owner/name
    kind        TEXT NOT NULL,
    runners     INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    memory      TEXT NOT NULL, -- JSON
    first_ms    INTEGER NOT NULL,
    last_ms     INTEGER NOT NULL,
    times       INTEGER NOT NULL
) STRICT;
CREATE INDEX decisions_by_app ON decisions (application, kind, seq);

CREATE TABLE keys (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL DEFAULT '',
    scope       TEXT NOT NULL,
    alias       TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    revoked_ms  INTEGER,
    runner_id   TEXT
) STRICT;
CREATE INDEX keys_by_owner ON keys (account, created_ms);
CREATE UNIQUE INDEX keys_by_runner ON keys (runner_id) WHERE runner_id IS NOT NULL;

CREATE TABLE events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    subject     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    data        TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX events_by_subject ON events (subject, seq);
CREATE INDEX events_by_time ON events (at_ms);

CREATE TABLE meta (
    account     TEXT NOT NULL DEFAULT '',
    environment TEXT NOT NULL DEFAULT '',
    key         TEXT NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (account, environment, key)
) STRICT;
