-- Rooms that were joined before all of their state had come.

-- Since which position all of the state is known; 0: always; 2^63 - 1: not yet.
ALTER TABLE rooms ADD COLUMN whole BIGINT NOT NULL DEFAULT 0;

-- What it takes to get the rest of the state.
CREATE TABLE partial_rooms (
    room BIGINT PRIMARY KEY,
    join_pos BIGINT NOT NULL,                -- events.pos of the join that the state is the one before of
    via  TEXT NOT NULL                       -- the server that let the user in
);
