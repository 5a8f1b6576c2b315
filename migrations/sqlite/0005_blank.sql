-- A grant may be blank (128): it gives nothing and denies nothing, but stands in the place of those above it.
CREATE TABLE blank_grants (
    subject  TEXT NOT NULL,
    pattern  TEXT NOT NULL,
    levels   INTEGER NOT NULL CHECK (levels BETWEEN 0 AND 128),
    expires  INTEGER,
    given_by BLOB,
    given_at INTEGER NOT NULL,
    PRIMARY KEY (subject, pattern)
) STRICT, WITHOUT ROWID;
INSERT INTO blank_grants SELECT subject, pattern, levels, expires, given_by, given_at FROM grants;
DROP TABLE grants;
ALTER TABLE blank_grants RENAME TO grants;
CREATE INDEX grants_pattern ON grants (pattern);
