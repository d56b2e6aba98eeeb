package roomserver

import (
	"context"
	"encoding/json"
	"strings"

	"beep/storage"
)

// PublicRoom is what the room directory tells of a room (client-server API,
// "Published Room Directory").
type PublicRoom struct {
	RoomID         string `json:"room_id"`
	Name           string `json:"name,omitzero"`
	Topic          string `json:"topic,omitzero"`
	CanonicalAlias string `json:"canonical_alias,omitzero"`
	AvatarURL      string `json:"avatar_url,omitzero"`
	RoomType       string `json:"room_type,omitzero"`
	JoinRule       string `json:"join_rule"`
	JoinedMembers  int64  `json:"num_joined_members"`
	WorldReadable  bool   `json:"world_readable"`
	GuestCanJoin   bool   `json:"guest_can_join"`
}

// Summary is what those who may join or read a room are told before (client-server API,
// "GET /room_summary").
type Summary struct {
	PublicRoom
	AllowedRoomIDs []string `json:"allowed_room_ids,omitzero"`
	Encryption     string   `json:"encryption,omitzero"`
	RoomVersion    string   `json:"room_version"`

	local bool // no other server may take part
}

// summaryTypes are the state events that a summary is made of.
var summaryTypes = []string{"m.room.create", "m.room.name", "m.room.topic", "m.room.canonical_alias", "m.room.avatar",
	"m.room.join_rules", "m.room.history_visibility", "m.room.guest_access", "m.room.encryption"}

// summaries are those of the rooms, by number, read with one query.
func (r *Rooms) summaries(ctx context.Context, rooms []storage.Room) (map[int64]*Summary, error) {
	made := make(map[int64]*Summary, len(rooms))
	numbers := make([]int64, len(rooms))
	for i := range rooms {
		numbers[i] = rooms[i].Number
		made[rooms[i].Number] = &Summary{RoomVersion: string(rooms[i].Version),
			PublicRoom: PublicRoom{RoomID: rooms[i].ID, JoinedMembers: rooms[i].Joined, JoinRule: "invite"}}
	}
	state, err := r.db.CurrentStateOf(ctx, numbers, summaryTypes)
	for i := range state {
		made[state[i].Room].read(&state[i].Event)
	}
	return made, err
}

// read takes in one event of the room's state.
func (s *Summary) read(e *storage.Event) {
	switch e.Type {
	case "m.room.create":
		s.RoomType = e.ContentString("type")
		s.local = !federates(e.Content)
	case "m.room.name":
		s.Name = e.ContentString("name")
	case "m.room.topic":
		s.Topic = e.ContentString("topic")
	case "m.room.canonical_alias":
		if alias := e.ContentString("alias"); strings.HasPrefix(alias, "#") {
			s.CanonicalAlias = alias
		}
	case "m.room.avatar":
		if url := e.ContentString("url"); strings.HasPrefix(url, "mxc://") {
			s.AvatarURL = url
		}
	case "m.room.join_rules":
		s.JoinRule = e.ContentString("join_rule")
		if strings.HasSuffix(s.JoinRule, "restricted") {
			s.AllowedRoomIDs = allowedRooms(e.Event)
		}
	case "m.room.history_visibility":
		s.WorldReadable = e.ContentString("history_visibility") == "world_readable"
	case "m.room.guest_access":
		s.GuestCanJoin = e.ContentString("guest_access") == "can_join"
	case "m.room.encryption":
		s.Encryption = e.ContentString("algorithm")
	}
}

// federates is m.federate of a create event's content.
func federates(content json.RawMessage) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal(content, &members) != nil || string(members["m.federate"]) != "false"
}
