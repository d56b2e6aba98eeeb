package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// Template is what another server gets to make a membership event of: unsigned, and
// without the content that is its users' own.
type Template struct {
	Version matrix.RoomVersion
	Event   json.RawMessage
}

// MakeMember proposes a membership event of a user of another server: join, leave or
// knock (server-server API, "make_join", "make_leave", "make_knock"). versions are
// those that the other server knows; nil for any. [matrix.NotFound],
// [matrix.Forbidden], [matrix.IncompatibleRoomVersion], [matrix.UnableToAuthoriseJoin],
// [matrix.UnableToGrantJoin].
func (r *Rooms) MakeMember(ctx context.Context, roomID, userID, membership string, versions []matrix.RoomVersion) (*Template, error) {
	room, err := r.residentRoom(ctx, roomID)
	if err != nil {
		return nil, err
	}
	if room.Partial() && membership != "leave" {
		return nil, errAskAnother
	}
	if err := r.awaitInvite(ctx, roomID, userID); err != nil {
		return nil, err
	}
	if versions != nil && !slices.Contains(versions, room.Version) {
		return nil, matrix.IncompatibleRoomVersion.Field("room_version", string(room.Version))
	}
	var t *Template
	err = r.hot.with(ctx, roomID, func(hot *hotRoom) error {
		t, err = r.template(ctx, r.begin(hot), userID, membership)
		return err
	})
	return t, err
}

// residentRoom is a room that this server takes part in. [matrix.NotFound].
func (r *Rooms) residentRoom(ctx context.Context, roomID string) (storage.Room, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !room.Resident {
		return room, matrix.NotFound.With("This server is not in the room")
	}
	return room, err
}

func (r *Rooms) template(ctx context.Context, b *batch, userID, membership string) (*Template, error) {
	content := map[string]json.RawMessage{"membership": quote(membership)}
	member, err := b.current(ctx, memberName(userID))
	if err != nil {
		return nil, err
	}
	if membership == "join" {
		if err := r.authoriseRemote(ctx, b, member, userID, content); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	p := &matrix.Proto{Version: b.room.Version, RoomID: b.room.ID, Type: "m.room.member", StateKey: &userID, Sender: userID,
		Content: raw, OriginServerTS: nowMS(), Depth: min(b.room.Depth+1, matrix.MaxSafeInteger), PrevEvents: b.followed()}
	all, cited, err := b.authorising(ctx, b.room.Version, authrules.NamesOf(p))
	if err != nil {
		return nil, err
	}
	for _, e := range cited {
		p.AuthEvents = append(p.AuthEvents, e.Reference())
	}
	e, err := r.signer.Build(p) // to judge it; the signature goes nowhere
	if err != nil {
		return nil, err
	}
	if err := authrules.Allowed(authrules.New(e), rulesOf(all)); err != nil {
		return nil, err
	}
	return &Template{Version: b.room.Version, Event: e.Unsigned()}, nil
}

// authoriseRemote is authoriseRestricted for a user of another server, who may be in
// rooms that this server knows nothing of.
func (r *Rooms) authoriseRemote(ctx context.Context, b *batch, member *stateEvent, userID string, content map[string]json.RawMessage) error {
	err := r.authoriseRestricted(ctx, b, member, userID, content)
	if !errors.Is(err, errInNoAllowedRoom) {
		return err
	}
	rules, failed := b.current(ctx, joinRulesName)
	if failed != nil {
		return failed
	}
	knows, failed := r.knowsAllowedRooms(ctx, rules.Event.Event)
	if failed == nil && !knows {
		return matrix.UnableToAuthoriseJoin
	}
	return errors.Join(failed, err)
}

// knowsAllowedRooms tells whether this server is in all rooms that a join rule allows, and
// knows their members.
func (r *Rooms) knowsAllowedRooms(ctx context.Context, rules *matrix.Event) (bool, error) {
	for _, roomID := range allowedRooms(rules) {
		if room, err := r.residentRoom(ctx, roomID); errors.Is(err, matrix.NotFound) || room.Partial() {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// JoinAnswer is what a server gets whose user has joined.
type JoinAnswer struct {
	// Event is the join with this server's signature too, where it had to authorise it.
	Event *matrix.Event
	// State is the room's state before the join, without most members if they were
	// omitted; AuthChain authorises it and the join.
	State, AuthChain []*matrix.Event
	// Servers are those in the room before the join; nil unless members were omitted.
	Servers []string
}

// AcceptMember takes in the membership event of a user of the origin that
// [Rooms.MakeMember] proposed, and passes it on to the other servers in the room
// ("send_join", "send_leave", "send_knock"). It gives the event as it was stored.
func (r *Rooms) AcceptMember(ctx context.Context, origin, roomID, eventID, membership string, raw json.RawMessage) (*matrix.Event, error) {
	room, err := r.residentRoom(ctx, roomID)
	if err != nil {
		return nil, err
	}
	if room.Partial() && membership != "leave" {
		return nil, errAskAnother
	}
	e, err := checkFormat(room.Version, roomID, raw)
	if err != nil {
		return nil, err
	}
	switch {
	case e.ID != eventID && !room.Version.EventIDInEvent(), e.Type != "m.room.member", e.StateKey == nil, e.Membership() != membership:
		return nil, matrix.InvalidParam.Withf("The event is not the %s that the path says", membership)
	case *e.StateKey != e.Sender:
		return nil, matrix.InvalidParam.With("The event is not about its sender")
	case matrix.ServerOf(e.Sender) != origin:
		return nil, matrix.Forbidden.With("The event's sender is another server's")
	}
	if e, err = r.cosign(ctx, &room, e); err != nil {
		return nil, err
	}
	if err := r.checkSignatures(ctx, []*matrix.Event{e})[0]; err != nil {
		return nil, err
	}
	if !e.HashMatches() {
		return nil, matrix.InvalidParam.With("The event's content hash is wrong")
	}
	leave, err := r.inbound.enter(ctx, roomID, r.turnWait)
	if err != nil {
		return nil, err
	}
	defer leave()
	in := r.newIntake(origin, &room)
	in.relay = true
	if err := in.take(ctx, []*matrix.Event{e}); err != nil {
		return nil, err
	}
	if err := in.failure(e.ID); err != nil {
		return nil, err
	}
	known, err := r.db.KnownEvents(ctx, []string{e.ID})
	if err == nil && known[e.ID].Status != storage.Accepted {
		err = matrix.Forbidden.With("The room does not allow this any more")
	}
	return e, err
}

// cosign adds this server's signature to a restricted join that names a user of this
// server, after it has been checked that the user may let the other one in.
func (r *Rooms) cosign(ctx context.Context, room *storage.Room, e *matrix.Event) (*matrix.Event, error) {
	by := e.ContentString("join_authorised_via_users_server")
	if e.Membership() != "join" || by == "" || !r.local(by) || !room.Version.Restricted() {
		return e, nil
	}
	content := map[string]json.RawMessage{}
	err := r.hot.with(ctx, room.ID, func(hot *hotRoom) error {
		b := r.begin(hot)
		member, err := b.current(ctx, memberName(e.Sender))
		if err != nil {
			return err
		}
		return r.authoriseRemote(ctx, b, member, e.Sender, content)
	})
	if err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, matrix.InvalidParam.With("The join needs nobody to authorise it")
	}
	return r.signer.Countersign(e)
}

// JoinState is the answer to a join that was accepted.
func (r *Rooms) JoinState(ctx context.Context, join *matrix.Event, omitMembers bool) (*JoinAnswer, error) {
	stored, err := r.db.EventByID(ctx, join.ID)
	if err != nil {
		return nil, err
	}
	state, err := r.states.full(ctx, &r.db.Reader, stored.StateBefore)
	if err != nil {
		return nil, err
	}
	nodes, err := r.db.AuthGraph(ctx, stored.Room)
	if err != nil {
		return nil, err
	}
	load := r.db.EventsByPos
	if omitMembers {
		load = r.db.EventsButMembers
	}
	events, err := load(ctx, state)
	if err != nil {
		return nil, err
	}
	if omitMembers {
		members, err := r.neededMembers(ctx, &stored, events)
		if err != nil {
			return nil, err
		}
		events = append(events, members...)
	}
	answer := &JoinAnswer{Event: stored.Event} // with the signature of a policy server too
	var kept, redundant []int64
	for i := range events {
		answer.State = append(answer.State, events[i].Event)
		kept = append(kept, int64(events[i].Pos))
	}
	if omitMembers {
		redundant = kept // who asks so does without what state has already
	}
	chain := authChain(nodes, append(slices.Clone(kept), int64(stored.Pos)), redundant)
	if !omitMembers {
		chain = append(chain, uncitedCreate(events)...)
	}
	others, err := r.db.EventsByPos(ctx, chain)
	for i := range others {
		answer.AuthChain = append(answer.AuthChain, others[i].Event)
	}
	if omitMembers && err == nil {
		answer.Servers, err = r.serversBefore(ctx, &stored, events)
	}
	return answer, err
}

// uncitedCreate is the position of the create event in a state of a room in whose version
// no event cites it. It authorises all of them, and servers look for it in auth chains.
func uncitedCreate(state []storage.Event) []int64 {
	for i := range state {
		if state[i].Version.CreateWithoutRoom() && state[i].IsState("m.room.create", "") {
			return []int64{int64(state[i].Pos)}
		}
	}
	return nil
}

// neededMembers are those whom a server is told of though it does not ask for members: who
// joins, and after whom the room is called.
func (r *Rooms) neededMembers(ctx context.Context, join *storage.Event, state []storage.Event) ([]storage.Event, error) {
	needed := map[string]bool{join.Sender: true}
	if err := r.addHeroes(ctx, join.Room, state, needed); err != nil {
		return nil, err
	}
	var names []stateName
	for userID := range needed {
		names = append(names, memberName(userID))
	}
	keys, err := r.keysOf(ctx, join.Room, names)
	if err != nil {
		return nil, err
	}
	positions, err := r.positionsAt(ctx, stateAt{id: join.StateBefore}, keys)
	if err != nil {
		return nil, err
	}
	return r.db.EventsByPos(ctx, positions)
}

// serversBefore are the servers in the room before a join. state has who joined, if that
// user was a member before.
func (r *Rooms) serversBefore(ctx context.Context, join *storage.Event, state []storage.Event) ([]string, error) {
	servers, err := serversIn(ctx, r.db, join.Room)
	own := matrix.ServerOf(join.Sender)
	there := slices.ContainsFunc(state, func(e storage.Event) bool {
		return e.IsState("m.room.member", join.Sender) && e.Membership() == "join"
	})
	if servers[own] == 1 && !there {
		delete(servers, own)
	}
	return slices.Sorted(maps.Keys(servers)), err
}

// heroes are how many members a room without a name is called after.
const heroes = 5

// addHeroes adds the members after whom clients name a room that has no name.
func (r *Rooms) addHeroes(ctx context.Context, room int64, state []storage.Event, users map[string]bool) error {
	named := slices.ContainsFunc(state, func(e storage.Event) bool {
		return e.IsState("m.room.name", "") && e.ContentString("name") != "" || e.IsState("m.room.canonical_alias", "") && e.ContentString("alias") != ""
	})
	if named {
		return nil
	}
	first, err := r.db.FirstMembers(ctx, []int64{room}, heroes+1)
	for _, m := range first {
		users[m.UserID] = true
	}
	return err
}

// authChain are the events of the auth chains of some events, but for these and others
// that are not wanted.
func authChain(graph map[int64]storage.AuthNode, of, without []int64) []int64 {
	seen := make(map[int64]bool, len(graph))
	for _, pos := range without {
		seen[pos] = true
	}
	var chain []int64
	for next := of; len(next) > 0; {
		var further []int64
		for _, pos := range next {
			for _, auth := range graph[pos].Auth {
				if !seen[auth] {
					seen[auth] = true
					chain, further = append(chain, auth), append(further, auth)
				}
			}
		}
		next = further
	}
	return chain
}

// KnockState is what a user who knocks is shown of the room: stripped state.
func (r *Rooms) KnockState(ctx context.Context, roomID string) ([]json.RawMessage, error) {
	var shown []json.RawMessage
	err := r.hot.with(ctx, roomID, func(hot *hotRoom) error {
		b := r.begin(hot)
		for _, name := range strippedNames("") {
			e, err := b.current(ctx, name)
			if err != nil {
				return err
			}
			if e != nil {
				shown = append(shown, AppendStripped(nil, e.Event.Event))
			}
		}
		return nil
	})
	return shown, err
}
