-- Backups of room keys: what the devices of users leave here, encrypted, for their next ones.

CREATE TABLE key_backups (
    version   BIGINT PRIMARY KEY,            -- a position, so that none ever comes again
    user_id   TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,                 -- JSON
    etag      BIGINT NOT NULL,               -- position of the last change of its keys
    count     BIGINT NOT NULL DEFAULT 0,     -- of its keys
    deleted   BOOLEAN NOT NULL DEFAULT FALSE -- it is only known that it was there
);
CREATE INDEX key_backups_user ON key_backups (user_id, version) WHERE NOT deleted;

-- Whoever changes the keys of a backup holds its row.
CREATE TABLE backup_keys (
    backup              BIGINT NOT NULL,     -- key_backups.version
    room_id             TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count     BIGINT NOT NULL,
    is_verified         BOOLEAN NOT NULL,
    session_data        TEXT NOT NULL,       -- JSON
    PRIMARY KEY (backup, room_id, session_id)
);
CREATE INDEX backup_keys_session ON backup_keys (backup, session_id);
