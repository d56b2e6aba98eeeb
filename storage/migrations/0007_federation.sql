-- Other servers: which rooms they are in, what they are sent, their keys.

-- The servers that have joined members in a room, or had. Events at positions
-- after since and up to until (0: while it lasts) are for them.
CREATE TABLE room_servers (
    room    BIGINT NOT NULL,
    server  TEXT NOT NULL,
    members BIGINT NOT NULL,                 -- joined ones
    since   BIGINT NOT NULL,
    until   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (room, server)
) /* WITHOUT ROWID */;
CREATE INDEX room_servers_server ON room_servers (server, room);

-- Where the events that are known here have a gap before them: child follows
-- event_id, which is not known. ord is the child's place in the order of the room,
-- or would be if it were in the timeline.
CREATE TABLE missing_events (
    room     BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    child    BIGINT NOT NULL,                -- pos
    ord      BIGINT NOT NULL,
    PRIMARY KEY (room, event_id, child)
) /* WITHOUT ROWID */;

-- Redactions whose event is not known yet.
CREATE TABLE early_redactions (
    event_id  TEXT NOT NULL,                 -- to redact
    redaction BIGINT NOT NULL,               -- pos
    PRIMARY KEY (event_id, redaction)
) /* WITHOUT ROWID */;

-- The servers that have not been sent everything that is for them, how far they have,
-- and when they are tried again. Server '' stands for all servers that have no row.
CREATE TABLE destinations (
    server   TEXT PRIMARY KEY,
    cursor   BIGINT NOT NULL,                -- everything up to this position was sent
    failures BIGINT NOT NULL DEFAULT 0,      -- in a row
    retry_ts BIGINT NOT NULL DEFAULT 0       -- ms: not before
);

-- Events that room_servers and the server of their sender do not say enough about: for a
-- server that is not in the room, as the end of an invite, or, with server '', events of
-- other servers that this one passes on to all in the room.
CREATE TABLE outgoing_events (
    server TEXT NOT NULL,
    at     BIGINT NOT NULL,                  -- in the log
    pos    BIGINT NOT NULL,                  -- events.pos
    PRIMARY KEY (server, at)
) /* WITHOUT ROWID */;

-- What has to reach a server besides events and must not be lost.
CREATE TABLE outgoing_edus (
    pos     BIGINT NOT NULL,
    server  TEXT NOT NULL,
    type    TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (server, pos)
) /* WITHOUT ROWID */;

-- Transactions that other servers have sent, with the answers they got: they may
-- send one again.
CREATE TABLE received_transactions (
    server TEXT NOT NULL,
    txn    TEXT NOT NULL,
    ts     BIGINT NOT NULL,                  -- ms
    answer TEXT NOT NULL,
    PRIMARY KEY (server, txn)
) /* WITHOUT ROWID */;
CREATE INDEX received_transactions_ts ON received_transactions (ts);

-- The keys with which other servers sign, as they or a notary have vouched for.
CREATE TABLE server_keys (
    server      TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    key         BYTEA NOT NULL,
    valid_until BIGINT NOT NULL,             -- ms
    expired     BIGINT NOT NULL DEFAULT 0,   -- ms; 0: in use
    fetched     BIGINT NOT NULL,             -- ms
    response    BYTEA NOT NULL,              -- the answer with the key, as its server signed it
    PRIMARY KEY (server, key_id)
);
