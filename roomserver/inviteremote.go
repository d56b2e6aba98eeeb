package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxStripped bounds the state that an invited user is shown, in events and in
	// bytes of JSON.
	maxStripped      = 40
	maxStrippedBytes = 64 << 10
)

// strippedFrom is what another server shows of a room, as stripped state: of each event
// the four members that stripped state has. What is no such event is left out, and so
// is what would be too much.
func strippedFrom(state []json.RawMessage) []byte {
	out := []byte{'['}
	n := 0
	for _, raw := range state {
		e := strippedEvent(raw)
		if e == nil || n == maxStripped {
			continue
		}
		one := AppendStripped(nil, e)
		if len(out)+len(one) > maxStrippedBytes {
			continue
		}
		if n++; n > 1 {
			out = append(out, ',')
		}
		out = append(out, one...)
	}
	return append(out, ']')
}

// strippedEvent reads a stripped or whole state event; nil for what is none.
func strippedEvent(raw json.RawMessage) *matrix.Event {
	text, err := matrix.CanonicalJSON(raw, false)
	if err != nil {
		return nil
	}
	var e struct {
		Type     string          `json:"type"`
		StateKey *string         `json:"state_key"`
		Sender   string          `json:"sender"`
		Content  json.RawMessage `json:"content"`
	}
	if json.Unmarshal(text, &e) != nil || e.Type == "" || e.StateKey == nil || !matrix.ValidUserID(e.Sender) ||
		len(e.Content) == 0 || e.Content[0] != '{' || !matrix.ValidText(e.Type) || !matrix.ValidText(*e.StateKey) {
		return nil
	}
	return &matrix.Event{Type: e.Type, StateKey: e.StateKey, Sender: e.Sender, Content: e.Content}
}

// InviteOffer is an invite of a user of this server by another server's user.
type InviteOffer struct {
	RoomID, EventID string
	Version         matrix.RoomVersion
	Event           json.RawMessage
	State           []json.RawMessage // invite_room_state
}

// AcceptInvite takes an invite in and signs it (server-server API, "Inviting to a
// room"). Nothing is signed but an invite by a user of the origin for a user of this
// server, which that origin has signed. [matrix.InvalidParam], [matrix.Forbidden],
// [matrix.NotFound], [matrix.IncompatibleRoomVersion].
func (r *Rooms) AcceptInvite(ctx context.Context, origin string, offer InviteOffer) (*matrix.Event, error) {
	if err := r.mayBe(ctx, offer.RoomID, offer.Version); err != nil {
		return nil, err
	}
	e, err := checkFormat(offer.Version, offer.RoomID, offer.Event)
	if err != nil {
		return nil, err
	}
	switch {
	case e.ID != offer.EventID, e.Type != "m.room.member", e.StateKey == nil, e.Membership() != "invite":
		return nil, matrix.InvalidParam.With("The event is not the invite that the path says")
	case matrix.ServerOf(e.Sender) != origin:
		return nil, matrix.Forbidden.With("The event's sender is another server's")
	case !r.local(*e.StateKey):
		return nil, matrix.InvalidParam.With("The invited user is another server's")
	case !e.HashMatches():
		return nil, matrix.InvalidParam.With("The event's content hash is wrong")
	}
	if err := r.checkInvitee(ctx, *e.StateKey); err != nil {
		return nil, err
	}
	if err := r.checkOffered(ctx, e); err != nil {
		return nil, err
	}
	if e.Version.CreateWithoutRoom() {
		if err := r.checkOfferedCreate(ctx, &offer); err != nil {
			return nil, err
		}
	}
	signed, err := r.signer.Countersign(e)
	if err != nil {
		return nil, err
	}
	room, err := r.strangerRoom(ctx, offer.RoomID, offer.Version)
	if err != nil || room.Resident {
		return signed, err // in a room that this server is in, the event comes like any other
	}
	if err := r.storeOutOfBand(ctx, room, signed, strippedFrom(offer.State)); err != nil && !errors.Is(err, storage.ErrExists) {
		return nil, err
	}
	return signed, nil
}

// checkOfferedCreate refuses an invite to a room of version 12 that does not show the
// room's create event: the room's id is the hash of that.
func (r *Rooms) checkOfferedCreate(ctx context.Context, offer *InviteOffer) error {
	for _, raw := range offer.State {
		e, err := matrix.Parse(offer.Version, raw)
		if err != nil || !e.IsState("m.room.create", "") {
			continue
		}
		if e.RoomID != offer.RoomID {
			return matrix.InvalidParam.With("The create event in invite_room_state is another room's")
		}
		return r.checkOffered(ctx, e)
	}
	return matrix.MissingParam.With("invite_room_state lacks the room's create event")
}

// checkOffered refuses an event of an offer that is not signed as it has to be.
// [matrix.InvalidParam].
func (r *Rooms) checkOffered(ctx context.Context, e *matrix.Event) error {
	err := r.checkSignatures(ctx, []*matrix.Event{e})[0]
	if errors.Is(err, matrix.Forbidden) {
		return matrix.InvalidParam.Withf("The event %s is not signed as it has to be", e.ID).Because(err)
	}
	return err
}

// inviteRemote invites a user of another server, which has to sign the invite too. The
// room is not held up while that server thinks.
func (r *Rooms) inviteRemote(ctx context.Context, roomID string, c MemberChange) error {
	var invite *matrix.Event
	var shown []json.RawMessage
	var p *policy
	err := r.with(ctx, roomID, func(hot *hotRoom) (err error) {
		b := r.begin(hot)
		if p, err = b.policyOf(ctx); err != nil {
			return err
		}
		if err := b.mayInvite(ctx, c.Target); err != nil {
			return err
		}
		if err := b.invite(ctx, c); err != nil {
			return err
		}
		if len(b.staged) == 0 {
			return nil // the user is invited already
		}
		invite = b.staged[0].Event.Event
		shown, err = b.shown(ctx, c.Sender)
		return err
	})
	if err != nil || invite == nil {
		return err
	}
	if invite, err = r.sign(ctx, p, invite); err != nil {
		return err
	}
	defer r.inviting.begin(invitation(roomID, c.Target))()
	signed, err := r.remote.SendInvite(ctx, matrix.ServerOf(c.Target), invite, shown)
	if err != nil {
		return err
	}
	e, err := r.withInviteesSignature(ctx, invite, signed)
	if err != nil {
		return err
	}
	return r.takeOwn(ctx, roomID, e)
}

// inviteWait is how long a server waits that wants to answer an invite which this one has
// not stored yet.
const inviteWait = 10 * time.Second

// invitation names the invite of a user to a room.
func invitation(roomID, userID string) string { return roomID + " " + userID }

// awaitInvite waits for an invite that is under way: the invited user's server may have shown
// it already, and the user may have answered.
func (r *Rooms) awaitInvite(ctx context.Context, roomID, userID string) error {
	limited, cancel := context.WithTimeout(ctx, inviteWait)
	defer cancel()
	if r.inviting.await(limited, invitation(roomID, userID)) != nil {
		return ctx.Err() // without the invite the rules say what they say
	}
	return nil
}

// withInviteesSignature is the invite with the signature of the invited user's server.
func (r *Rooms) withInviteesSignature(ctx context.Context, invite *matrix.Event, theirs json.RawMessage) (*matrix.Event, error) {
	e, err := r.withTheirSignature(ctx, invite.Version, invite, theirs)
	if err == nil && len(e.Signatures()[matrix.ServerOf(*invite.StateKey)]) == 0 {
		err = badGateway.With("The server of the invited user did not sign the invite")
	}
	return e, err
}

// takeOwn places an event of this server that was made some time ago.
func (r *Rooms) takeOwn(ctx context.Context, roomID string, e *matrix.Event) error {
	room, err := r.db.RoomByID(ctx, roomID)
	if err != nil {
		return err
	}
	leave, err := r.inbound.enter(ctx, roomID, r.turnWait)
	if err != nil {
		return err
	}
	defer leave()
	in := r.newIntake(r.signer.ServerName, &room)
	if err := in.take(ctx, []*matrix.Event{e}); err != nil {
		return err
	}
	return in.failure(e.ID)
}

// mayInvite refuses to invite who is banned.
func (b *batch) mayInvite(ctx context.Context, userID string) error {
	m, err := b.current(ctx, memberName(userID))
	if err == nil && m != nil && m.Membership() == "ban" {
		return matrix.Forbidden.With("The user is banned from this room")
	}
	return err
}

// shown is what the server of an invited user is shown of the room: whole events, as
// the specification wants it of the create event at least.
func (b *batch) shown(ctx context.Context, inviter string) ([]json.RawMessage, error) {
	var events []json.RawMessage
	size := 0
	for _, name := range strippedNames(inviter) {
		e, err := b.current(ctx, name)
		if err != nil {
			return nil, err
		}
		if e == nil || size+len(e.JSON) > maxStrippedBytes && name != createName {
			continue
		}
		size += len(e.JSON)
		events = append(events, e.JSON)
	}
	return events, nil
}
