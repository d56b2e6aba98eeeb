package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// Published tells whether a room stands in the room directory. [matrix.NotFound]: this
// server takes no part in such a room.
func (r *Rooms) Published(ctx context.Context, roomID string) (bool, error) {
	room, err := r.resident(ctx, roomID)
	return room.Published, err
}

func (r *Rooms) resident(ctx context.Context, roomID string) (storage.Room, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !room.Resident {
		return room, matrix.NotFound.With("There is no such room")
	}
	return room, err
}

// SetPublished puts a room into the room directory or takes it out. An administrator of
// the server may, and whoever may change the room's canonical alias. [matrix.NotFound],
// [matrix.Forbidden].
func (r *Rooms) SetPublished(ctx context.Context, roomID, userID string, admin, published bool) error {
	if _, err := r.resident(ctx, roomID); err != nil {
		return err
	}
	return r.with(ctx, roomID, func(hot *hotRoom) error {
		may, err := r.begin(hot).maySetCanonical(ctx, userID)
		if err != nil {
			return err
		}
		if !may && !admin {
			return matrix.Forbidden.With("You may not change the room's canonical alias, and so not publish it either")
		}
		return r.db.Write(ctx, func(tx *storage.Tx) error { return tx.PublishRoom(ctx, hot.room.Number, published) })
	})
}
