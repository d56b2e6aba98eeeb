package syncapi

import (
	"encoding/json"

	"beep/storage"
	"beep/stream"
)

// snapshot is what a user's syncs need to know of the user, at a position. It is
// never changed: a change makes a new one.
type snapshot struct {
	places  map[int64]place // by room number: joined, invited and knocking, and where the user was put out
	ignored map[string]struct{}
	direct  map[string]struct{} // ids of rooms that are direct chats
	whole   stream.Pos          // the latest of all places
}

// in is the same snapshot with other places.
func (s *snapshot) in(places map[int64]place) *snapshot {
	other := *s
	other.places, other.whole = places, 0
	for _, p := range places {
		other.whole = max(other.whole, p.whole)
	}
	return &other
}

// knowing is the same snapshot with account data taken in.
func (s *snapshot) knowing(d storage.AccountData) *snapshot {
	other := *s
	switch {
	case d.Room != 0:
	case d.Type == ignoredUserList:
		other.ignored = ignoredUsers(d.Content)
	case d.Type == directChats:
		other.direct = directRooms(d.Content)
	}
	return &other
}

// place is a user's place in a room.
type place struct {
	roomID     string
	membership string
	pos        stream.Pos // of the member event
	at         stream.Pos // when it came
	whole      stream.Pos // [storage.Room.Whole] of the room
}

// joined tells whether the user is joined to the room.
func (s *snapshot) joined(room int64) bool { return s.places[room].membership == "join" }

// sharesRoom tells whether two users are joined to one same room.
func (s *snapshot) sharesRoom(other *snapshot) bool {
	if len(other.places) < len(s.places) {
		s, other = other, s
	}
	for room, p := range s.places {
		if p.membership == "join" && other.joined(room) {
			return true
		}
	}
	return false
}

// The types of account data that a snapshot has.
const (
	ignoredUserList = "m.ignored_user_list"
	directChats     = "m.direct"
)

// directRooms reads the content of m.direct. What is malformed names no rooms.
func directRooms(content json.RawMessage) map[string]struct{} {
	var byUser map[string]json.RawMessage
	if json.Unmarshal(content, &byUser) != nil {
		return nil
	}
	rooms := map[string]struct{}{}
	for _, list := range byUser {
		var ids []string
		if json.Unmarshal(list, &ids) == nil {
			for _, id := range ids {
				rooms[id] = struct{}{}
			}
		}
	}
	return rooms
}

// ignoredUsers reads the content of m.ignored_user_list. What is malformed
// ignores nobody.
func ignoredUsers(content json.RawMessage) map[string]struct{} {
	var list struct {
		Users map[string]json.RawMessage `json:"ignored_users"`
	}
	if json.Unmarshal(content, &list) != nil {
		return nil
	}
	users := make(map[string]struct{}, len(list.Users))
	for userID := range list.Users {
		users[userID] = struct{}{}
	}
	return users
}
