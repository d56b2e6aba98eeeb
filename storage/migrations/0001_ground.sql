-- The migrations that this database has seen.
CREATE TABLE schema_version (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    applied_ts BIGINT NOT NULL
);

-- Single values that the server keeps, as its identity.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row. Positions up to the lease may have been given out.
CREATE TABLE clock (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    lease BIGINT NOT NULL
);
