-- What users keep about themselves and tell each other besides events. pos is
-- always the stream position of the last change of the row.

-- Account data, of a room or, with room 0, of the account.
CREATE TABLE account_data (
    user_id TEXT NOT NULL,
    room    BIGINT NOT NULL,
    type    TEXT NOT NULL,
    content TEXT NOT NULL,                   -- JSON object
    pos     BIGINT NOT NULL,
    PRIMARY KEY (user_id, room, type)
);
CREATE INDEX account_data_pos ON account_data (user_id, pos);

-- How far users have read, one row for each user, type and thread.
CREATE TABLE receipts (
    room      BIGINT NOT NULL,
    user_id   TEXT NOT NULL,
    type      TEXT NOT NULL,                 -- m.read, m.read.private
    thread_id TEXT NOT NULL,                 -- empty: unthreaded; main, or the id of the thread's root
    event_id  TEXT NOT NULL,
    ord       BIGINT NOT NULL,               -- events.ord of the event
    ts        BIGINT NOT NULL,               -- ms
    pos       BIGINT NOT NULL,
    PRIMARY KEY (room, user_id, type, thread_id)
);
CREATE INDEX receipts_pos ON receipts (room, pos);

-- Filters, which never change: the id is made from the definition.
CREATE TABLE filters (
    user_id    TEXT NOT NULL,
    filter_id  TEXT NOT NULL,
    definition TEXT NOT NULL,                -- JSON object
    PRIMARY KEY (user_id, filter_id)
);

-- The last presence that was told of each user.
CREATE TABLE presence (
    user_id        TEXT PRIMARY KEY,
    presence       TEXT NOT NULL,            -- online, unavailable, offline
    status_msg     TEXT NOT NULL,
    last_active_ts BIGINT NOT NULL,          -- ms; 0: never
    pos            BIGINT NOT NULL
);
CREATE INDEX presence_present ON presence (user_id) WHERE presence <> 'offline';
