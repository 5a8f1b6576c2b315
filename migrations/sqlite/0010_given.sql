-- The grants to the holders of levels on a resource, by that resource, whose id is the end of such a subject: what goes
-- with a resource is found without a look at what goes with others.
CREATE INDEX grants_holders ON grants (substr(subject, -36)) WHERE subject >= 'holders:' AND subject < 'holders;';

-- How many grants each user gave. Counted by the database itself, so that no statement can forget to.
CREATE TABLE givers (
    user   BLOB PRIMARY KEY,
    grants INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO givers SELECT given_by, count(*) FROM grants WHERE given_by IS NOT NULL GROUP BY given_by;

CREATE TRIGGER grants_given AFTER INSERT ON grants WHEN new.given_by IS NOT NULL BEGIN
    INSERT INTO givers VALUES (new.given_by, 1) ON CONFLICT (user) DO UPDATE SET grants = grants + 1;
END;
CREATE TRIGGER grants_taken AFTER DELETE ON grants WHEN old.given_by IS NOT NULL BEGIN
    UPDATE givers SET grants = grants - 1 WHERE user = old.given_by;
    DELETE FROM givers WHERE user = old.given_by AND grants <= 0;
END;
CREATE TRIGGER grants_given_anew AFTER UPDATE OF given_by ON grants WHEN new.given_by IS NOT old.given_by BEGIN
    UPDATE givers SET grants = grants - 1 WHERE user = old.given_by;
    DELETE FROM givers WHERE user = old.given_by AND grants <= 0;
    INSERT INTO givers SELECT new.given_by, 1 WHERE new.given_by IS NOT NULL
        ON CONFLICT (user) DO UPDATE SET grants = grants + 1;
END;
