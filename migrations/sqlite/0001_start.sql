-- Ids are UUIDs of 16 bytes, times are microseconds since 1970 (UTC). Patterns are written so that all that is on or
-- below a name begins with the name's text (see `store::sqlite::code`).

-- One row: what holds for the whole store.
CREATE TABLE meta (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    revision  INTEGER NOT NULL,  -- of the last change
    floor     INTEGER NOT NULL,  -- `changes` is whole after this revision
    accounts  INTEGER NOT NULL   -- accounts ever made, removed ones included
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, 0);

CREATE TABLE users (
    id                BLOB PRIMARY KEY CHECK (length(id) = 16),
    name              TEXT NOT NULL UNIQUE,
    email             TEXT,
    email_verified    INTEGER NOT NULL,
    first_name        TEXT,
    last_name         TEXT,
    organization      TEXT,
    role              TEXT NOT NULL,
    administrator     INTEGER NOT NULL,
    disabled          INTEGER NOT NULL,
    tokens_dead_until INTEGER,
    created           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE links (
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    user    BLOB NOT NULL REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_user ON links (user);

CREATE TABLE passwords (
    user      BLOB PRIMARY KEY REFERENCES users (id),
    sealed    BLOB NOT NULL,
    temporary INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
    id    BLOB PRIMARY KEY CHECK (length(id) = 16),
    name  TEXT NOT NULL UNIQUE,
    owner BLOB REFERENCES users (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_owner ON groups (owner);

CREATE TABLE members (
    user     BLOB NOT NULL REFERENCES users (id),
    group_id BLOB NOT NULL REFERENCES groups (id),
    PRIMARY KEY (user, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_group ON members (group_id);

CREATE TABLE namespaces (
    id    BLOB PRIMARY KEY CHECK (length(id) = 16),
    name  TEXT NOT NULL UNIQUE,
    owner BLOB REFERENCES users (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX namespaces_owner ON namespaces (owner);

CREATE TABLE services (
    id        BLOB PRIMARY KEY CHECK (length(id) = 16),
    namespace BLOB NOT NULL REFERENCES namespaces (id),
    name      TEXT NOT NULL,
    owner     BLOB REFERENCES users (id),
    origin    TEXT NOT NULL CHECK (origin IN ('file', 'api')),
    present   INTEGER NOT NULL,
    config    TEXT NOT NULL,     -- JSON
    UNIQUE (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX services_owner ON services (owner);

-- Subjects are text, because a grant to a role or to everyone names no row.
CREATE TABLE grants (
    subject  TEXT NOT NULL,
    pattern  TEXT NOT NULL,
    levels   INTEGER NOT NULL CHECK (levels BETWEEN 0 AND 127),
    expires  INTEGER,
    given_by BLOB,
    given_at INTEGER NOT NULL,
    PRIMARY KEY (subject, pattern)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_pattern ON grants (pattern);

CREATE TABLE secrets (
    user    BLOB NOT NULL REFERENCES users (id),
    name    TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE consents (
    user        BLOB NOT NULL,
    secret      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    service     BLOB NOT NULL REFERENCES services (id),
    origins     TEXT NOT NULL,
    given_at    INTEGER NOT NULL,
    PRIMARY KEY (user, secret, fingerprint),
    FOREIGN KEY (user, secret) REFERENCES secrets (user, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_service ON consents (service);

CREATE TABLE signing_keys (
    kid     TEXT PRIMARY KEY,
    sealed  BLOB NOT NULL,
    public  TEXT NOT NULL,       -- a JWK
    created INTEGER NOT NULL,
    retired INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What each revision was about, by key; the newest 100,000 rows are kept.
CREATE TABLE changes (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    revision INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    a        ANY NOT NULL,
    b        ANY,
    c        ANY
) STRICT;
CREATE INDEX changes_revision ON changes (revision);

-- Never holds a secret, a verifier or an envelope.
CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    revision    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    user        BLOB,
    via         TEXT NOT NULL,
    came_from   TEXT NOT NULL,
    request_id  TEXT,
    what        TEXT NOT NULL,
    target      TEXT NOT NULL,
    before      TEXT,            -- JSON
    after       TEXT,            -- JSON
    chain       BLOB             -- reserved: the keyed hash over this record and the chain of the one before
) STRICT;
CREATE TRIGGER audit_is_not_rewritten BEFORE UPDATE OF seq, revision, at, user, via, came_from, request_id, what, target,
    before, after ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only appended to');
END;
