package roomserver

import (
	"context"

	"beep/matrix"
	"beep/storage"
)

// What happened in a room while two servers were in it they tell each other also when one
// of them is there no more. A server whose last member was taken out of the room is sent
// the event that did it, and cannot tell that it is right when it lacks something before
// it: it would go on believing that it is in the room. And what users of this server said
// before the last of them left would be lost if nobody could ask for what it follows. A
// server that has left by itself needs nothing.

// pastRoom is a room as long as both servers were in it; [ServedRoom.reaches] tells how
// long that was. [matrix.Forbidden].
func (s *Serving) pastRoom(ctx context.Context, server, roomID string) (*ServedRoom, error) {
	rooms, err := s.Rooms(ctx, server, []string{roomID})
	if err != nil {
		return nil, err
	}
	switch room := rooms[roomID]; {
	case room == nil || room.State == 0:
		return nil, errServerNotInRoom
	case room.Denied:
		return nil, errServerDenied
	case room.Members > 0:
		return room, nil
	case room.Until == 0 || !room.Resident:
		return nil, errServerNotInRoom
	default:
		removed, err := s.removed(ctx, room, server)
		if err == nil && !removed {
			err = errServerNotInRoom
		}
		return room, err
	}
}

// removed tells whether a user of the server who was in the room last did not leave, but was
// taken out of it. Another one may have left later only for this server, which heard of it
// late.
func (s *Serving) removed(ctx context.Context, room *ServedRoom, server string) (bool, error) {
	const looked = 20 // events, of which some may be about users of others
	events, err := s.rooms.db.LastMemberEvents(ctx, room.Number, server, int64(room.Until)*storage.OrderScale, looked)
	seen := map[string]bool{}
	for i := range events {
		e := &events[i]
		if seen[*e.StateKey] || matrix.ServerOf(*e.StateKey) != server {
			continue
		}
		seen[*e.StateKey] = true
		if e.Membership() != "leave" || matrix.ServerOf(e.Sender) != server {
			return true, err
		}
	}
	return false, err
}

// present tells whether the event came while the server was in the room.
func (room *ServedRoom) present(e *storage.Event) bool {
	return room.Since != 0 && arrived(e) > int64(room.Since)*storage.OrderScale && room.reaches(e) == nil
}

// reaches refuses what came when the server was not in the room any more. [matrix.Forbidden].
func (room *ServedRoom) reaches(e *storage.Event) error {
	if room.Until != 0 && arrived(e) > int64(room.Until)*storage.OrderScale {
		return errServerNotInRoom
	}
	return nil
}
