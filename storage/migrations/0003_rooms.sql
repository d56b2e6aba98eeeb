-- Rooms, their events and their state. nid and pos are small numbers of this
-- server's own; room ids and event ids are the specification's.

CREATE TABLE rooms (
    nid         BIGINT PRIMARY KEY,          -- the position at which the room was made here
    room_id     TEXT NOT NULL UNIQUE,
    version     TEXT NOT NULL,
    extremities TEXT NOT NULL DEFAULT '[]',  -- JSON list of the ids of the events without successor
    depth       BIGINT NOT NULL DEFAULT 0,   -- the greatest depth among them
    state       BIGINT NOT NULL DEFAULT 0,   -- states.id of the current state
    joined      BIGINT NOT NULL DEFAULT 0,   -- members with membership join
    invited     BIGINT NOT NULL DEFAULT 0,
    published   BIGINT NOT NULL DEFAULT 0,   -- 1: in the room directory
    resident    BIGINT NOT NULL DEFAULT 1    -- 1: this server takes part and knows the state; 0: it has but invites
);

CREATE INDEX rooms_published ON rooms (joined DESC, nid) WHERE published = 1;

-- The log of events. pos is the stream position; ord is the place in the order
-- of the room, pos * 2^20 for what arrived live, between its neighbours for what
-- was fetched later, and -pos for what is in no timeline: outliers, rejected and
-- soft-failed events.
CREATE TABLE events (
    pos          BIGINT PRIMARY KEY,
    ord          BIGINT NOT NULL,
    room         BIGINT NOT NULL,
    event_id     TEXT NOT NULL UNIQUE,
    type         TEXT NOT NULL,
    state_key    TEXT,
    sender       TEXT NOT NULL,
    ts           BIGINT NOT NULL,            -- origin_server_ts, ms
    state_before BIGINT NOT NULL,            -- states.id
    state_after  BIGINT NOT NULL,
    replaces     BIGINT NOT NULL DEFAULT 0,  -- pos of the state event that it replaced
    redacted_by  BIGINT NOT NULL DEFAULT 0,  -- pos of the redaction; json is pruned then
    device       TEXT,                       -- with txn: what the sender's client called it
    txn          TEXT,
    status       BIGINT NOT NULL DEFAULT 0,  -- 0 accepted, 1 soft-failed, 2 rejected, 3 outlier, 4 out-of-band membership
    auth         BYTEA NOT NULL,             -- packed positions of its auth events
    json         BYTEA NOT NULL
);
CREATE INDEX events_room ON events (room, ord);
CREATE INDEX events_time ON events (room, ts, ord) WHERE ord > 0;
CREATE INDEX events_member ON events (state_key, pos) WHERE type = 'm.room.member';
CREATE INDEX events_state ON events (room) WHERE state_key IS NOT NULL;
CREATE UNIQUE INDEX events_txn ON events (room, sender, device, type, txn) WHERE txn IS NOT NULL;

-- The current state of each room, a row for each type and key that it ever had.
-- key names the row in states.delta; pos is 0 when the state has no such event now;
-- changed is the position at which the row became what it is.
CREATE TABLE current_state (
    room       BIGINT NOT NULL,
    type       TEXT NOT NULL,
    state_key  TEXT NOT NULL,
    key        BIGINT NOT NULL,
    pos        BIGINT NOT NULL,
    changed    BIGINT NOT NULL,
    membership TEXT,                         -- of m.room.member
    PRIMARY KEY (room, type, state_key)
);
CREATE UNIQUE INDEX current_state_key ON current_state (room, key);
CREATE INDEX current_state_gone ON current_state (room) WHERE pos = 0;
CREATE INDEX current_state_member ON current_state (state_key, membership) WHERE type = 'm.room.member';

-- Every state that a room was in, each as packed changes to its parent: layers
-- of at most 8, 64 and 1024 changes above a full one (layer 3, parent 0).
CREATE TABLE states (
    id     BIGINT PRIMARY KEY,               -- pos of the event that made it
    room   BIGINT NOT NULL,
    parent BIGINT NOT NULL,
    layer  BIGINT NOT NULL,
    delta  BYTEA NOT NULL
);
CREATE INDEX states_room ON states (room);

-- The stripped state that came with a user's latest invite or knock.
CREATE TABLE stripped_state (
    room      BIGINT NOT NULL,
    user_id   TEXT NOT NULL,
    state     TEXT NOT NULL,                 -- JSON list
    PRIMARY KEY (room, user_id)
);

-- Rooms that a user has left and wants to hear no more of.
CREATE TABLE forgotten_rooms (
    user_id TEXT NOT NULL,
    room    BIGINT NOT NULL,
    pos     BIGINT NOT NULL,
    PRIMARY KEY (user_id, room)
);

CREATE TABLE room_aliases (
    alias   TEXT PRIMARY KEY,
    room    BIGINT NOT NULL,
    creator TEXT NOT NULL
);
CREATE INDEX room_aliases_room ON room_aliases (room);
