-- Records that are kept so that they can be shared: generic resources, projects with their connections, workspaces.
CREATE TABLE nodes (
    id     BLOB PRIMARY KEY CHECK (length(id) = 16),
    kind   TEXT NOT NULL CHECK (kind IN ('generic', 'project', 'connection', 'workspace')),
    name   TEXT NOT NULL,
    labels TEXT NOT NULL,              -- a JSON list of texts
    props  TEXT NOT NULL,              -- a JSON object
    owner  BLOB REFERENCES users (id),
    parent BLOB REFERENCES nodes (id), -- the project of a connection
    maker  BLOB                        -- in whose share it counts for good
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX nodes_workspace ON nodes (name) WHERE kind = 'workspace';
CREATE INDEX nodes_parent ON nodes (parent);
CREATE INDEX nodes_maker ON nodes (maker);
