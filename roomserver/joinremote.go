package roomserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
	"beep/stream"
)

// maxVia bounds how many servers are asked to let a user in.
const maxVia = 20

// elsewhere tells whether a change of membership is for other servers to allow: this
// one has no part in the room, and others have.
func (r *Rooms) elsewhere(ctx context.Context, roomID string, via []string) (bool, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return len(via) > 0, nil
	case err != nil || room.Resident:
		return false, err
	case room.State == 0:
		return true, nil
	}
	servers, err := serversIn(ctx, r.db, room.Number)
	return len(servers) > 0, err
}

// unknownHere tells whether the state of the room is partial and does not say what the user
// is there: another server has to let the user in.
func (r *Rooms) unknownHere(ctx context.Context, roomID, userID string) (bool, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !room.Partial() {
		return false, nil
	} else if err != nil {
		return false, err
	}
	m, err := r.db.MembershipIn(ctx, room.Number, userID)
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	return m.Membership != "join", err
}

// candidates are the servers to ask, in order: those that were named, that of the room's
// id, that of whoever invited the user, those that were in the room.
func (r *Rooms) candidates(ctx context.Context, roomID, userID string, via []string) ([]string, error) {
	list := slices.Clone(via)
	room, err := r.db.RoomByID(ctx, roomID)
	if err == nil {
		if entry, err := r.db.CurrentStateEvent(ctx, room.Number, "m.room.member", userID); err == nil {
			list = append(list, matrix.ServerOf(entry.Sender))
		}
		servers, err := r.largest(ctx, room.Number)
		if err != nil {
			return nil, err
		}
		list = append(list, servers...)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	list = append(list, matrix.ServerOf(roomID))
	var kept []string
	for _, server := range list {
		if matrix.ValidServerName(server) && server != r.signer.ServerName && !slices.Contains(kept, server) && len(kept) < maxVia {
			kept = append(kept, server)
		}
	}
	return kept, nil
}

// largest are the servers with joined members in the room, those with most of them first.
func (r *Rooms) largest(ctx context.Context, room int64) ([]string, error) {
	servers, err := r.db.ServersIn(ctx, room)
	slices.SortFunc(servers, func(a, b storage.RoomServer) int {
		return cmp.Or(cmp.Compare(b.Members, a.Members), cmp.Compare(a.Server, b.Server))
	})
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.Server
	}
	return names, err
}

// errNowhere is the failure of a request that no server could be asked to help with.
var errNowhere = matrix.NotFound.With("This server is not in the room, and knows of none that is")

// badGateway is the failure of a request because of what another server did or did not.
var badGateway = &matrix.Error{Status: http.StatusBadGateway, Code: matrix.Unknown.Code, Message: "Another server did not do this"}

// anywhere does something with the help of one server after the other, until it
// succeeds. It gives the last refusal, or else that no server was to be reached.
func (r *Rooms) anywhere(ctx context.Context, servers []string, try func(server string) error) error {
	failure := error(errNowhere)
	for _, server := range servers {
		err := try(server)
		if err == nil || ctx.Err() != nil {
			return err
		}
		r.log.Info("another server did not help", "server", server, "error", err)
		var told *matrix.Error
		if !errors.As(err, &told) {
			err = badGateway.With("None of the servers that were asked could help").Because(err)
		}
		failure = err
	}
	return failure
}

// proposed is a membership event of a user of this server, made from the template of the
// server that was asked: nothing but its place in the room is that server's, and which of its
// users lets the user in.
func (r *Rooms) proposed(ctx context.Context, server string, t *Template, roomID, userID, membership string, content map[string]json.RawMessage) (*matrix.Event, error) {
	if err := r.mayBe(ctx, roomID, t.Version); err != nil {
		return nil, err
	}
	place, err := matrix.ParseTemplate(t.Version, t.Event, roomID, userID, membership)
	if err != nil {
		return nil, err
	}
	if membership == "join" && t.Version.Restricted() && matrix.ValidUserID(place.AuthorisedVia) {
		if matrix.ServerOf(place.AuthorisedVia) != server {
			return nil, badGateway.With("The other server wants the join authorised by a user that is not its own")
		}
		content["join_authorised_via_users_server"] = quote(place.AuthorisedVia)
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return r.signer.Build(&matrix.Proto{Version: t.Version, RoomID: roomID, Type: "m.room.member", StateKey: &userID, Sender: userID,
		Content: raw, OriginServerTS: nowMS(), Depth: place.Depth, PrevEvents: place.PrevEvents, AuthEvents: place.AuthEvents})
}

// mayBe refuses a version that another server says a room has, before anything is signed for
// it: one that is not known here, or that a room of this id cannot have.
func (r *Rooms) mayBe(ctx context.Context, roomID string, v matrix.RoomVersion) error {
	if !v.Supported() {
		return matrix.IncompatibleRoomVersion.Field("room_version", string(v))
	}
	if v.CreateWithoutRoom() != (matrix.ServerOf(roomID) == "") {
		return matrix.InvalidParam.Withf("A room of the version %s does not have such an id", v)
	}
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err == nil && room.Version != v {
		return errOtherVersion(&room, v)
	}
	return err
}

func errOtherVersion(room *storage.Room, v matrix.RoomVersion) error {
	return matrix.InvalidParam.Withf("The room's version is %s, not %s", room.Version, v)
}

// joinRemote joins a room with the help of another server.
func (r *Rooms) joinRemote(ctx context.Context, roomID string, c MemberChange) error {
	servers, err := r.candidates(ctx, roomID, c.Target, c.Via)
	if err != nil {
		return err
	}
	leave, err := r.inbound.enter(ctx, roomID, 0)
	if err != nil {
		return err
	}
	defer leave()
	room, err := r.db.RoomByID(ctx, roomID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if !room.Resident { // otherwise what others send need not wait for one more user
		defer r.arrivals.begin(roomID)()
	}
	return r.anywhere(ctx, servers, func(server string) error { return r.joinVia(ctx, server, roomID, c) })
}

func (r *Rooms) joinVia(ctx context.Context, server, roomID string, c MemberChange) error {
	if c.Guest {
		// Other servers do not know who is a guest, and let everybody in.
		welcome, err := r.remote.GuestsCanJoin(ctx, server, roomID)
		if err != nil || !welcome {
			return matrix.GuestAccessForbidden.Because(err)
		}
	}
	t, err := r.joinTemplate(ctx, server, roomID, c.Target)
	if err != nil {
		return err
	}
	content, err := r.memberContent(ctx, "join", c)
	if err != nil {
		return err
	}
	join, err := r.proposed(ctx, server, t, roomID, c.Target, "join", content)
	if err != nil {
		return err
	}
	answer, err := r.remote.SendJoin(ctx, server, join, r.partial.isRunning())
	if err != nil {
		return err
	}
	room, err := r.strangerRoom(ctx, roomID, t.Version)
	if err != nil {
		return err
	}
	if room.Resident {
		return r.joinedMeanwhile(ctx, server, &room, join, answer)
	}
	e := &entrance{rooms: r, server: server, room: room, join: join}
	return e.enter(ctx, answer)
}

// joinTemplate asks for the template of a join. It has to come after that with which this
// server left the room, if it was there before: of what a server has not heard of that lets
// a user in, the others may make that the user is not in the room, and would not tell this
// server, which is not there then. So that server is told first.
func (r *Rooms) joinTemplate(ctx context.Context, server, roomID, userID string) (*Template, error) {
	t, err := r.remote.MakeMember(ctx, server, "join", roomID, userID, matrix.RoomVersions())
	if err != nil {
		return nil, err
	}
	left, err := r.unheardOf(ctx, t, roomID, userID)
	if left == nil || err != nil {
		return t, err
	}
	if err := r.remote.SendLeave(ctx, server, left); err != nil {
		r.log.Info("another server cannot be told how this one left the room", "room", roomID, "server", server, "error", err)
		return t, ctx.Err()
	}
	return r.remote.MakeMember(ctx, server, "join", roomID, userID, matrix.RoomVersions())
}

// unheardOf is the leave with which this server left the room, unless the template follows
// directly on it; nil if the server was not there or was put out.
func (r *Rooms) unheardOf(ctx context.Context, t *Template, roomID, userID string) (*matrix.Event, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case room.Resident, room.Version != t.Version, len(room.Extremities) != 1:
		return nil, nil
	}
	last, err := r.db.EventByID(ctx, room.Extremities[0])
	if err != nil || last.Type != "m.room.member" || !last.IsState(last.Type, last.Sender) || !r.local(last.Sender) {
		return nil, err
	}
	place, err := matrix.ParseTemplate(t.Version, t.Event, roomID, userID, "join")
	if err != nil || slices.ContainsFunc(place.PrevEvents, func(previous matrix.Reference) bool { return previous.ID == last.ID }) {
		return nil, err
	}
	return last.Event, nil
}

// joinedMeanwhile takes in the join of a user to a room that this server is in already,
// but could not let the user in by itself.
func (r *Rooms) joinedMeanwhile(ctx context.Context, server string, room *storage.Room, join *matrix.Event, answer *SendJoinAnswer) error {
	in := r.newIntake(server, room)
	signed, err := r.withTheirSignature(ctx, room.Version, join, answer.Event)
	if err != nil {
		return err
	}
	if err := in.take(ctx, []*matrix.Event{signed}); err != nil {
		return err
	}
	return in.verdicts[join.ID]
}

// withTheirSignature is the event with the signatures that the other server has added,
// if it is still the same event and all who have to sign it did.
func (r *Rooms) withTheirSignature(ctx context.Context, v matrix.RoomVersion, own *matrix.Event, theirs json.RawMessage) (*matrix.Event, error) {
	signed := own
	if len(theirs) > 0 {
		e, err := matrix.Parse(v, theirs)
		if err == nil && e.ID == own.ID && string(e.Content) == string(own.Content) && e.HashMatches() {
			signed = e
		}
	}
	return signed, r.checkSignatures(ctx, []*matrix.Event{signed})[0]
}

// entrance is the entry of this server into a room.
type entrance struct {
	rooms  *Rooms
	server string // which let it in
	room   storage.Room
	join   *matrix.Event
	state  []change // before the join
	others []string // of a partial state: the servers that are in the room
}

// enter checks the state of the room that the other server gave, and takes the room in.
// Nothing is kept of a room whose state is not as it has to be, but events that are
// of no consequence.
func (e *entrance) enter(ctx context.Context, answer *SendJoinAnswer) error {
	r := e.rooms
	join, err := r.withTheirSignature(ctx, e.room.Version, e.join, answer.Event)
	if err != nil {
		return err
	}
	e.join = join
	if answer.MembersOmitted {
		e.room.Whole, e.others = storage.NotYet, answer.Servers[:min(len(answer.Servers), maxPartialServers)]
	} else {
		e.room.Whole = 0
	}
	state := r.checked(ctx, &e.room, answer.State)
	chain := citedBy(append(slices.Clone(state), join), r.checked(ctx, &e.room, answer.AuthChain))
	if err := e.checkCreate(ctx, state); err != nil {
		return err
	}
	err = r.hot.alone(ctx, e.room.ID, func() error { return r.storeOutliers(ctx, e.room.Number, slices.Concat(chain, state)) })
	if err != nil {
		return err
	}
	if err := e.readState(ctx, state); err != nil {
		return err
	}
	a := &arrival{Event: authrules.New(join)}
	if err := r.newChecker(e.room.Number).checkAuthEvents(ctx, a); err != nil {
		return notLetIn(err)
	}
	if err := r.checkStateBefore(ctx, &e.room, a, stateAt{whole: e.state}); err != nil {
		return notLetIn(err)
	}
	return r.hot.alone(ctx, e.room.ID, func() error { return e.commit(ctx, a) })
}

// notLetIn is the failure of a join that the other server let pass and the rules do not.
func notLetIn(err error) error {
	if errors.Is(err, errUnknownAuth) || errors.Is(err, matrix.Forbidden) {
		return badGateway.With("The other server's answer does not let the user in").Because(err)
	}
	return err
}

// checkCreate refuses a state without the create event of the room, or with one of
// another version, or with another one than the room is known to have.
func (e *entrance) checkCreate(ctx context.Context, state []*matrix.Event) error {
	at := slices.IndexFunc(state, func(s *matrix.Event) bool { return s.IsState("m.room.create", "") })
	if at < 0 {
		return badGateway.With("The other server gave a room without its create event")
	}
	if version := cmp.Or(state[at].ContentString("room_version"), "1"); version != string(e.room.Version) {
		return badGateway.With("The other server gave a room of another version")
	}
	known, err := e.rooms.db.CurrentStateEvent(ctx, e.room.Number, createName.Type, createName.StateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err == nil && known.ID != state[at].ID {
		return badGateway.With("The other server gave another room's create event")
	}
	return err
}

// readState finds the numbers of the state that was given.
func (e *entrance) readState(ctx context.Context, state []*matrix.Event) error {
	ids := make([]string, len(state))
	for i, s := range state {
		ids[i] = s.ID
	}
	places, err := e.rooms.db.StatePlaces(ctx, e.room.Number, ids)
	if err != nil {
		return err
	}
	e.state = stateOf(places)
	return nil
}

// stateOf is the state that these events make, without those that were rejected.
func stateOf(places map[string]storage.StatePlace) []change {
	state := make([]change, 0, len(places))
	for _, p := range places {
		if p.Status != storage.Rejected && p.Key != 0 {
			state = append(state, change{p.Key, p.Pos})
		}
	}
	slices.SortFunc(state, func(a, b change) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.pos, b.pos)) })
	return slices.CompactFunc(state, func(a, b change) bool { return a.key == b.key })
}

// commit makes this server part of the room: from here on its state is the current one
// and the join the last event.
func (e *entrance) commit(ctx context.Context, join *arrival) error {
	r := e.rooms
	events, err := r.db.EventsByPos(ctx, positionsOf(e.state))
	if err != nil {
		return err
	}
	gone, err := e.gone(ctx)
	if err != nil {
		return err
	}
	name := memberName(join.Sender)
	keys, err := r.keysOf(ctx, e.room.Number, []stateName{name})
	if err != nil {
		return err
	}
	partial := storage.PartialRoom{Room: e.room.Number, RoomID: e.room.ID, Via: e.server}
	err = r.db.Write(ctx, func(tx *storage.Tx) error {
		w := &entering{Tx: tx, entrance: e, room: e.room, key: keys[name]}
		partial.Join, err = w.run(ctx, join, events, gone)
		if err != nil || !e.room.Partial() {
			return err
		}
		return tx.SetPartialRoom(ctx, partial)
	})
	if err == nil && e.room.Partial() {
		r.partial.add(partial)
	}
	return err
}

// gone are the numbers of what is current state now and goes, unless the new state has it.
// A partial state says nothing of the invites of users of this server.
func (e *entrance) gone(ctx context.Context) ([]int64, error) {
	gone, err := e.rooms.db.CurrentStateKeys(ctx, e.room.Number)
	if err != nil || !e.room.Partial() {
		return gone, err
	}
	invites, err := e.rooms.db.OutOfBandKeys(ctx, e.room.Number)
	return slices.DeleteFunc(gone, func(key int64) bool { return slices.Contains(invites, key) }), err
}

func positionsOf(state []change) []int64 {
	positions := make([]int64, len(state))
	for i, c := range state {
		positions[i] = c.pos
	}
	return positions
}

// entering is the transaction of an entrance.
type entering struct {
	*storage.Tx
	*entrance
	room    storage.Room
	key     int64 // the number of the user's membership; 0 for none yet
	servers map[string]int64
}

func (w *entering) run(ctx context.Context, join *arrival, state []storage.Event, gone []int64) (stream.Pos, error) {
	pos := w.Reserve()
	if w.key == 0 {
		w.key = int64(pos)
	}
	before := &packed{id: int64(w.Reserve()), layer: fullLayer, changes: w.state}
	after, err := w.rooms.states.extend(ctx, &w.Reader, before, int64(pos), []change{{w.key, int64(pos)}})
	if err != nil {
		return 0, err
	}
	stored := &storage.Event{Event: join.Event.Event, Pos: pos, At: pos, Order: int64(pos) * storage.OrderScale, Room: w.room.Number,
		StateBefore: before.id, StateAfter: after.id}
	for _, c := range join.cited {
		stored.Auth = append(stored.Auth, c.pos)
	}
	for _, s := range []*packed{before, after} {
		if err := w.InsertState(ctx, s.row(w.room.Number)); err != nil {
			return 0, err
		}
	}
	replaced, err := w.currentState(ctx, stored, state, gone)
	if err != nil {
		return 0, err
	}
	if replaced != nil {
		stored.Replaces = replaced.Pos
	}
	if err := w.InsertEvent(ctx, stored); err != nil {
		return 0, err
	}
	if err := w.AddMissing(ctx, w.room.Number, pos, stored.Order, join.PrevEvents()); err != nil {
		return 0, err
	}
	w.room.State, w.room.Extremities, w.room.Depth = after.id, []string{join.ID}, join.Depth
	if err := w.UpdateRoom(ctx, &w.room); err != nil {
		return 0, err
	}
	rendered := NewClientEvent(stored)
	rendered.Gap, rendered.Partial = true, w.room.Partial()
	if replaced != nil {
		rendered.Replaced = replaced.Event
	}
	w.Publish(stream.Entry{Pos: pos, Kind: stream.Event, Room: w.room.Number, User: stored.Sender, Value: rendered, Size: 2 * len(stored.JSON)})
	return pos, nil
}

// currentState replaces the current state by that before the join, with the join. It
// gives the user's membership before.
func (w *entering) currentState(ctx context.Context, join *storage.Event, state []storage.Event, gone []int64) (*storage.Event, error) {
	for _, key := range gone {
		if _, still := (&packed{changes: w.state}).find(key); !still && key != w.key {
			if err := w.ClearCurrentState(ctx, w.room.Number, key, join.Pos); err != nil {
				return nil, err
			}
		}
	}
	keys := make(map[int64]int64, len(w.state))
	for _, c := range w.state {
		keys[c.pos] = c.key
	}
	var replaced *storage.Event
	rows := make([]storage.StateKey, 0, len(state)+1)
	w.room.Joined, w.room.Invited = 0, 0
	for i := range state {
		e := &state[i]
		if keys[int64(e.Pos)] == w.key {
			replaced = e
			continue
		}
		rows = append(rows, w.row(e, keys[int64(e.Pos)], join.Pos))
	}
	rows = append(rows, w.row(join, w.key, join.Pos))
	if err := w.SetCurrentStates(ctx, w.room.Number, rows); err != nil {
		return nil, err
	}
	w.servers = maps.Clone(w.servers)
	for _, server := range w.others {
		if server != w.rooms.signer.ServerName {
			w.servers[server]++ // for those whom nobody has named: the server stays when the others leave
		}
	}
	before, err := serversIn(ctx, w.rooms.db, w.room.Number)
	if err != nil {
		return nil, err
	}
	return replaced, writeServers(ctx, w.Tx, w.room.Number, before, w.servers, join.Pos)
}

// row is an event's row of the current state; members are counted on the way.
func (w *entering) row(e *storage.Event, key int64, at stream.Pos) storage.StateKey {
	k := storage.StateKey{Key: key, Type: e.Type, StateKey: *e.StateKey, Pos: e.Pos, Changed: at}
	if e.Type == "m.room.member" {
		k.Membership = e.Membership()
		w.servers = countMembership(&w.room, w.servers, *e.StateKey, "", k.Membership, w.rooms.signer.ServerName)
	}
	return k
}
