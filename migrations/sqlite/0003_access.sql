-- What grants permitted and refused, by day (days since 1970, UTC). Names that are absent are the empty text, which no
-- operation has and no resource; rows are added with rising numbers, so that the oldest are those with the smallest.
CREATE TABLE access_counts (
    seq       INTEGER PRIMARY KEY,
    day       INTEGER NOT NULL,
    user      BLOB NOT NULL,
    service   BLOB NOT NULL,
    operation TEXT NOT NULL,
    need      INTEGER NOT NULL,
    resource  TEXT NOT NULL,
    allowed   INTEGER NOT NULL,
    refused   INTEGER NOT NULL,
    UNIQUE (day, user, service, operation, need, resource)
) STRICT;

-- Calls that got an answer of the gateway's own. Users and services may be gone: the record is of what was.
CREATE TABLE refusals (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    at        INTEGER NOT NULL,
    user      BLOB NOT NULL,
    service   BLOB,
    operation TEXT,
    method    TEXT NOT NULL,
    path      TEXT NOT NULL,
    need      INTEGER,
    resource  TEXT,
    permitted INTEGER,
    problem   TEXT NOT NULL,
    status    INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    took      INTEGER NOT NULL,
    detail    TEXT NOT NULL,
    why       TEXT              -- JSON
) STRICT;
CREATE INDEX refusals_at ON refusals (at);
