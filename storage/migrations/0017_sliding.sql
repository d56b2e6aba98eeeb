-- The last event of a room that counts as activity: see bumpTypes in sliding.go, which has
-- the same list.
CREATE INDEX events_bump ON events (room, ord) WHERE type IN ('m.room.create', 'm.room.message', 'm.room.encrypted',
    'm.sticker', 'm.call.invite', 'm.poll.start', 'm.beacon_info');
