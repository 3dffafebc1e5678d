-- Wishes about aliases that take a while: to point to an older revision, to renew runners. Few; they stay as the alias's history.
CREATE TABLE releases (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    environment TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    strategy    TEXT NOT NULL,
    auth        TEXT,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    begun_ms    INTEGER NOT NULL,
    ended_ms    INTEGER,
    previous    TEXT NOT NULL -- revision, '' for none
) STRICT;
CREATE INDEX releases_by_app ON releases (account, name, begun_ms);
CREATE INDEX releases_under_way ON releases (begun_ms) WHERE state = 'UNDER_WAY';
