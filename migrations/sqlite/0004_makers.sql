-- Who made it, and so in whose share it counts for good: who is given something was not asked. None for `carta` and what the
-- configuration file declares.
ALTER TABLE namespaces ADD COLUMN maker BLOB;
ALTER TABLE services ADD COLUMN maker BLOB;
UPDATE namespaces SET maker = owner WHERE name <> 'carta';
UPDATE services SET maker = owner WHERE origin = 'api';
CREATE INDEX namespaces_maker ON namespaces (maker);
CREATE INDEX services_maker ON services (maker);
