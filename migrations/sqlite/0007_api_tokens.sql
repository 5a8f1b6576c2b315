-- API tokens, by the SHA-256 of their keys: a key is 32 random bytes, so that its digest tells nothing of it. `uses` and
-- `last_used` change with use and are in no revision.
CREATE TABLE api_tokens (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    user        BLOB NOT NULL REFERENCES users (id),
    name        TEXT NOT NULL,
    digest      BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint        TEXT NOT NULL,
    patterns    TEXT NOT NULL,    -- JSON
    expires     INTEGER,
    uses        INTEGER CHECK (uses >= 0),
    revoked     INTEGER NOT NULL,
    auto_remove INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    last_used   INTEGER,
    UNIQUE (user, name)
) STRICT, WITHOUT ROWID;
