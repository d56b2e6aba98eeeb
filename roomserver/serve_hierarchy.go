package roomserver

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxChildren bounds the children of a space that are looked at.
	maxChildren = 500
	// maxAllowed bounds the rooms that are looked at because others allow their members
	// to join.
	maxAllowed = 2000
)

// SpaceRoom is a space with its m.space.child events (server-server API, "Spaces").
type SpaceRoom struct {
	Summary
	ChildrenState []SpaceChild `json:"children_state"` // empty for a room that is no space
}

// SpaceChild is an m.space.child event in the form of stripped state.
type SpaceChild struct {
	Type           string          `json:"type"`
	StateKey       string          `json:"state_key"` // the child's room id
	Sender         string          `json:"sender"`
	OriginServerTS int64           `json:"origin_server_ts"` // ms
	Content        json.RawMessage `json:"content"`

	order string // "" when there is none
}

// Hierarchy is a space with those of its children that are known here: with a summary
// where the other server's users might join or read, or else by their ids alone.
type Hierarchy struct {
	Room         SpaceRoom `json:"room"`
	Children     []Summary `json:"children"`
	Inaccessible []string  `json:"inaccessible_children"`
}

// Hierarchy describes a space and its children. [matrix.NotFound]: this server does not
// know the room, or none of the other server's users could join or read it.
func (s *Serving) Hierarchy(ctx context.Context, server, roomID string, suggestedOnly bool) (*Hierarchy, error) {
	rooms, err := s.accessible(ctx, server, []string{roomID})
	if err != nil {
		return nil, err
	}
	space := rooms[roomID]
	if space == nil || !space.may {
		return nil, matrix.NotFound.With("There is no such room, or your server cannot join it")
	}
	h := &Hierarchy{Room: SpaceRoom{*space.Summary, []SpaceChild{}}, Children: []Summary{}, Inaccessible: []string{}}
	if space.RoomType != "m.space" {
		return h, nil
	}
	if h.Room.ChildrenState, err = s.rooms.spaceChildren(ctx, space.number, suggestedOnly); err != nil {
		return nil, err
	}
	ids := make([]string, len(h.Room.ChildrenState))
	for i, c := range h.Room.ChildrenState {
		ids[i] = c.StateKey
	}
	children, err := s.accessible(ctx, server, ids)
	for _, id := range ids {
		switch child := children[id]; {
		case child == nil:
		case child.may:
			h.Children = append(h.Children, *child.Summary)
		default:
			h.Inaccessible = append(h.Inaccessible, id)
		}
	}
	return h, err
}

// spaceChildren are the children of a space in the order in which clients show them
// (client-server API, "Ordering of children within a space").
func (r *Rooms) spaceChildren(ctx context.Context, room int64, suggestedOnly bool) ([]SpaceChild, error) {
	entries, err := r.db.CurrentStateOfType(ctx, room, "m.space.child")
	children := []SpaceChild{}
	for i := range entries {
		e := &entries[i]
		var content map[string]json.RawMessage
		var via []string
		if json.Unmarshal(e.Content, &content) != nil || json.Unmarshal(content["via"], &via) != nil || len(via) == 0 ||
			suggestedOnly && string(content["suggested"]) != "true" || !matrix.ValidRoomID(*e.StateKey) {
			continue
		}
		children = append(children, SpaceChild{Type: e.Type, StateKey: *e.StateKey, Sender: e.Sender,
			OriginServerTS: e.OriginServerTS, Content: e.Content, order: childOrder(e.ContentString("order"))})
	}
	slices.SortFunc(children, func(a, b SpaceChild) int {
		if (a.order == "") != (b.order == "") {
			return cmp.Compare(b.order, a.order) // those with an order come first
		}
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.OriginServerTS, b.OriginServerTS), cmp.Compare(a.StateKey, b.StateKey))
	})
	return children[:min(len(children), maxChildren)], err
}

// childOrder is an order if it is a valid one.
func childOrder(order string) string {
	for i := range len(order) {
		if order[i] < ' ' || order[i] > '~' || len(order) > 50 {
			return ""
		}
	}
	return order
}

// accessibleRoom is a room that is known here.
type accessibleRoom struct {
	*Summary
	number int64
	may    bool // users of the other server might join or read it
}

// accessible looks at those of the rooms that this server is in, with a few queries for all.
func (s *Serving) accessible(ctx context.Context, server string, roomIDs []string) (map[string]*accessibleRoom, error) {
	served, err := s.Rooms(ctx, server, roomIDs)
	if err != nil {
		return nil, err
	}
	rooms := make([]storage.Room, 0, len(served))
	numbers := make([]int64, 0, len(served))
	for _, room := range served {
		if room.Resident {
			rooms, numbers = append(rooms, room.Room), append(numbers, room.Number)
		}
	}
	summaries, err := s.rooms.summaries(ctx, rooms)
	if err != nil {
		return nil, err
	}
	invited, err := s.rooms.db.InvitedOf(ctx, numbers, server)
	if err != nil {
		return nil, err
	}
	isInvited := map[int64]bool{}
	for _, u := range invited {
		isInvited[u.Room] = isInvited[u.Room] || matrix.ServerOf(u.UserID) == server
	}
	found := make(map[string]*accessibleRoom, len(rooms))
	var restricted []string
	for i := range rooms {
		room, summary := served[rooms[i].ID], summaries[rooms[i].Number]
		a := &accessibleRoom{Summary: summary, number: rooms[i].Number}
		found[rooms[i].ID] = a
		switch {
		case room.Denied:
		case room.Members > 0:
			a.may = true
		case summary.local:
		default:
			a.may = isInvited[room.Number] || summary.open(room.Version)
		}
		if !a.may && !room.Denied && !summary.local {
			restricted = append(restricted, summary.AllowedRoomIDs...)
		}
	}
	return found, s.allowRestricted(ctx, server, found, restricted, served)
}

// open tells whether anybody may join, knock or read.
func (s *Summary) open(v matrix.RoomVersion) bool {
	return s.WorldReadable || s.JoinRule == "public" || s.JoinRule == "knock" && v.Knocking() ||
		s.JoinRule == "knock_restricted" && v.KnockRestricted()
}

// allowRestricted lets into restricted rooms who is in one of the rooms that they allow.
func (s *Serving) allowRestricted(ctx context.Context, server string, rooms map[string]*accessibleRoom, allowed []string, served map[string]*ServedRoom) error {
	if len(allowed) == 0 {
		return nil
	}
	others, err := s.Rooms(ctx, server, allowed[:min(len(allowed), maxAllowed)])
	for id, a := range rooms {
		room := served[id]
		if a.may || room.Denied || a.local || a.JoinRule != "restricted" || !room.Version.Restricted() {
			continue
		}
		a.may = slices.ContainsFunc(a.AllowedRoomIDs, func(id string) bool {
			return others[id] != nil && others[id].Resident && others[id].Members > 0
		})
	}
	return err
}
