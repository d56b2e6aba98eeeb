package roomserver

import (
	"context"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/matrix"
	"beep/storage"
)

const (
	// aclsCached bounds the access control lists that are kept ready, and chainsCached
	// the auth chains of states.
	aclsCached   = 256
	chainsCached = 32
)

// Serving answers what other servers ask about rooms, and takes in what they say of
// their users there. Whoever is denied by a room's access control list is refused
// (server-server API, "Server Access Control Lists (ACLs)").
type Serving struct {
	rooms  *Rooms
	acls   *lru.Cache[aclKey, *acl]
	chains *lru.Cache[int64, []int64] // by state: the auth chain of its events
}

// NewServing makes the answers of a room server.
func NewServing(rooms *Rooms) *Serving {
	// The constructor fails only for a size that is not positive.
	acls, _ := lru.New[aclKey, *acl](aclsCached)
	chains, _ := lru.New[int64, []int64](chainsCached)
	return &Serving{rooms: rooms, acls: acls, chains: chains}
}

// ServedRoom is a room as another server finds it.
type ServedRoom struct {
	storage.ServedRoom
	Denied bool // the room's access control list shuts the server out
}

// errServerDenied and errServerNotInRoom answer servers that may not have what they ask.
// The second one is for rooms, too, that this server is not in, known or not.
var (
	errServerDenied    = matrix.Forbidden.With("Your server is denied access to the room by its server ACL")
	errServerNotInRoom = matrix.Forbidden.With("Your server is not in this room, or this one is not")
)

// Rooms finds those of the rooms that are known here, by id, as the server finds them.
func (s *Serving) Rooms(ctx context.Context, server string, roomIDs []string) (map[string]*ServedRoom, error) {
	roomIDs = slices.DeleteFunc(slices.Clone(roomIDs), func(id string) bool { return !matrix.ValidRoomID(id) })
	found, err := s.rooms.db.ServedRooms(ctx, roomIDs, server)
	if err != nil {
		return nil, err
	}
	lists, err := s.aclsOf(ctx, found)
	if err != nil {
		return nil, err
	}
	rooms := make(map[string]*ServedRoom, len(found))
	for i, list := range lists {
		rooms[found[i].ID] = &ServedRoom{found[i], list != nil && !list.allows(server)}
	}
	return rooms, nil
}

// Admit refuses a server that the room's access control list denies. A room that is not
// known here denies nobody. [matrix.Forbidden].
func (s *Serving) Admit(ctx context.Context, server, roomID string) error {
	rooms, err := s.Rooms(ctx, server, []string{roomID})
	if err == nil && rooms[roomID] != nil && rooms[roomID].Denied {
		return errServerDenied
	}
	return err
}

// room is a room that this server and the other one are in. [matrix.Forbidden].
func (s *Serving) room(ctx context.Context, server, roomID string) (*ServedRoom, error) {
	rooms, err := s.Rooms(ctx, server, []string{roomID})
	if err != nil {
		return nil, err
	}
	switch room := rooms[roomID]; {
	case room == nil || !room.Resident || room.Members == 0:
		return nil, errServerNotInRoom
	case room.Denied:
		return nil, errServerDenied
	default:
		return room, nil
	}
}
