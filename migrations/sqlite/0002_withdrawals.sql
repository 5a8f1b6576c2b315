-- A word taken back outlives the secret that it was about: no later use may give it again. It ends with a consent that
-- the user was asked for.
CREATE TABLE withdrawals (
    user    BLOB NOT NULL REFERENCES users (id),
    secret  TEXT NOT NULL,
    service BLOB NOT NULL REFERENCES services (id),
    at      INTEGER NOT NULL,
    PRIMARY KEY (user, secret, service)
) STRICT, WITHOUT ROWID;
CREATE INDEX withdrawals_service ON withdrawals (service);
