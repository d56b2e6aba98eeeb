package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// A room that this server has no part in, but whose invites and knocks its users have,
// has a row of its own and their member events. They are out of band: the room's state
// is not known.

// strangerRoom finds a room, or makes the row of one that this server has no part in.
func (r *Rooms) strangerRoom(ctx context.Context, roomID string, v matrix.RoomVersion) (storage.Room, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if !errors.Is(err, storage.ErrNotFound) {
		if err == nil && room.Version != v {
			return room, errOtherVersion(&room, v)
		}
		return room, err
	}
	room = storage.Room{ID: roomID, Version: v, Extremities: []string{}}
	err = r.db.Write(ctx, func(tx *storage.Tx) error {
		room.Number = int64(tx.Reserve())
		if err := tx.InsertRoom(ctx, &room); err != nil {
			return err
		}
		return tx.UpdateRoom(ctx, &room)
	})
	if errors.Is(err, storage.ErrExists) {
		return r.db.RoomByID(ctx, roomID)
	}
	return room, err
}

// storeOutOfBand keeps a member event of a user of this server in a room that the server
// has no part in. stripped is what the user is shown of the room; nil for none.
func (r *Rooms) storeOutOfBand(ctx context.Context, room storage.Room, e *matrix.Event, stripped []byte) error {
	name := memberName(*e.StateKey)
	var before *matrix.Event
	entry, err := r.db.CurrentStateEvent(ctx, room.Number, name.Type, name.StateKey)
	if err == nil {
		before = entry.Event.Event
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	keys, err := r.keysOf(ctx, room.Number, []stateName{name})
	if err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		pos := tx.Reserve()
		stored := &storage.Event{Event: e, Pos: pos, At: pos, Order: int64(pos) * storage.OrderScale, Room: room.Number,
			Status: storage.OutOfBand, Replaces: entry.Pos}
		if err := tx.InsertEvent(ctx, stored); err != nil {
			return err
		}
		key := storage.StateKey{Key: keys[name], Type: e.Type, StateKey: *e.StateKey, Pos: pos, Changed: pos, Membership: e.Membership()}
		if key.Key == 0 {
			key.Key = int64(pos)
		}
		if err := tx.SetCurrentState(ctx, room.Number, key); err != nil {
			return err
		}
		if stripped != nil {
			if err := tx.SetStrippedState(ctx, room.Number, *e.StateKey, stripped); err != nil {
				return err
			}
		}
		rendered := NewClientEvent(stored)
		rendered.Replaced, rendered.StrippedState = before, stripped
		tx.Publish(stream.Entry{Pos: pos, Kind: stream.Event, Room: room.Number, User: e.Sender, Value: rendered, Size: 2 * len(e.JSON)})
		return nil
	})
}
