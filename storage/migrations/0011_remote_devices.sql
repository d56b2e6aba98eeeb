-- The devices of users of other servers, as their servers told, for as long as the users
-- share a room with a user of this server.

-- How far the lists follow what their servers tell.
CREATE TABLE remote_device_lists (
    user_id   TEXT PRIMARY KEY,
    stream_id BIGINT NOT NULL,               -- of the last update; 0: not known
    stale     BOOLEAN NOT NULL,              -- an update was missed: the devices are not to be believed
    failures  BIGINT NOT NULL DEFAULT 0,     -- of attempts to renew it, in a row
    retry_ts  BIGINT NOT NULL DEFAULT 0      -- ms: not before
);
CREATE INDEX remote_device_lists_stale ON remote_device_lists (retry_ts) WHERE stale;

CREATE TABLE remote_devices (
    user_id      TEXT NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT NOT NULL,
    keys         TEXT NOT NULL,              -- JSON
    PRIMARY KEY (user_id, device_id)
);
