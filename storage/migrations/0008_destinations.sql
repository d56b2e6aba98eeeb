-- Since when a server could not be reached, in ms; 0: it can, or nothing is known.
ALTER TABLE destinations ADD COLUMN failing_ts BIGINT NOT NULL DEFAULT 0;
