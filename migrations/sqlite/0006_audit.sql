-- The chain: `chain` is the keyed hash over the entry and the hash of the one before it, made with the key of this number.
-- `resource` is the namespace or service that an entry is about, by its id, which a name that was given anew does not have.
DROP TRIGGER audit_is_not_rewritten;
ALTER TABLE audit ADD COLUMN resource BLOB;
ALTER TABLE audit ADD COLUMN chain_key INTEGER;
-- What is asked for is asked for by time.
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_user ON audit (user, at) WHERE user IS NOT NULL;
CREATE INDEX audit_what ON audit (what, at);
CREATE INDEX audit_target ON audit (target, at);
CREATE INDEX audit_resource ON audit (resource, at) WHERE resource IS NOT NULL;
-- These stop a mistake; who drops them is found by the chain.
CREATE TRIGGER audit_is_not_rewritten BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only appended to');
END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only appended to');
END;
CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit WHEN new.seq <= (SELECT max(seq) FROM audit)
BEGIN
    SELECT RAISE(ABORT, 'the audit is only appended to');
END;
