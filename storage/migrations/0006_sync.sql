-- What changed of a room's state since a position, and a room's first members.
CREATE INDEX current_state_pos ON current_state (room, pos);
