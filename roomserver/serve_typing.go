package roomserver

import (
	"context"
	"time"

	"beep/matrix"
	"beep/storage"
)

// remoteTyping is how long a user of another server types who does not stop before:
// that server says it again as long as it lasts.
const remoteTyping = time.Minute

// TypingNotice is what another server says of a user: an EDU of type m.typing.
type TypingNotice struct {
	RoomID string `json:"room_id"`
	UserID string `json:"user_id"`
	Typing bool   `json:"typing"`
}

// TakeTyping notes who types on another server. What is not about a user of that server
// who is joined to the room, or about a room that is closed to the server, is ignored
// (server-server API, "Typing Notifications").
func (s *Serving) TakeTyping(ctx context.Context, origin string, typing *Typing, notices []TypingNotice) error {
	var claims []claim
	for _, n := range notices {
		claims = append(claims, claim{n.RoomID, n.UserID})
	}
	vouched, err := s.vouched(ctx, origin, claims)
	if err != nil {
		return err
	}
	for i, n := range notices {
		switch {
		case vouched[i] == 0:
		case n.Typing:
			typing.begin(n.RoomID, vouched[i], n.UserID, time.Now().Add(remoteTyping))
		default:
			typing.Stop(ctx, n.RoomID, n.UserID)
		}
	}
	return nil
}

// claim is what another server says of a user in a room.
type claim struct{ roomID, userID string }

// vouched gives the number of the room of each claim that the server may make: about a
// user of its own, who is joined to a room that this server is in and that is not closed
// to the other one. It is 0 for the others. There are two queries for all claims. Where
// not all members are known, a server is believed who its users there are.
func (s *Serving) vouched(ctx context.Context, origin string, claims []claim) ([]int64, error) {
	var roomIDs, userIDs []string
	for _, c := range claims {
		if matrix.ServerOf(c.userID) == origin && matrix.ValidUserID(c.userID) {
			roomIDs, userIDs = append(roomIDs, c.roomID), append(userIDs, c.userID)
		}
	}
	rooms, err := s.Rooms(ctx, origin, roomIDs)
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, room := range rooms {
		if room.Resident && room.Members > 0 && !room.Denied {
			numbers = append(numbers, room.Number)
		}
	}
	members, err := s.rooms.db.JoinedAmong(ctx, numbers, userIDs)
	joined := make(map[storage.RoomUser]bool, len(members))
	for _, m := range members {
		joined[m] = true
	}
	vouched := make([]int64, len(claims))
	for i, c := range claims {
		room := rooms[c.roomID]
		if room != nil && (joined[storage.RoomUser{Room: room.Number, UserID: c.userID}] || unknown(room, c.userID, origin)) {
			vouched[i] = room.Number
		}
	}
	return vouched, err
}

// unknown tells whether a user of the server may be in a room whose members are not all
// known.
func unknown(room *ServedRoom, userID, server string) bool {
	return room.Partial() && room.Resident && room.Members > 0 && !room.Denied && matrix.ServerOf(userID) == server && matrix.ValidUserID(userID)
}
