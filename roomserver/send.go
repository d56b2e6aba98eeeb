package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// Send makes an event in a room and gives its id. The same transaction id from
// the same device gives the same event again, also after a restart.
func (r *Rooms) Send(ctx context.Context, roomID string, d Draft) (eventID string, err error) {
	if d.Type == "m.room.redaction" && d.StateKey == nil {
		if d.Redacts, err = redactsOf(d); err != nil {
			return "", err
		}
	}
	var room int64
	err = r.write(ctx, roomID, func(ctx context.Context, b *batch) error {
		room = b.room.Number
		if b.policy != nil { // which is not to be asked about the same event again
			if eventID, err = r.sent(ctx, room, d); eventID != "" || err != nil {
				return err
			}
		}
		eventID, err = r.send(ctx, b, d)
		return err
	})
	if err == nil || room == 0 {
		return eventID, err
	}
	if eventID, failed := r.sent(ctx, room, d); eventID != "" || failed != nil {
		return eventID, failed
	}
	return "", err
}

func (r *Rooms) send(ctx context.Context, b *batch, d Draft) (string, error) {
	if err := r.checkDraft(ctx, b.hot, d); err != nil {
		return "", err
	}
	if same, err := b.unchanged(ctx, d); same != "" || err != nil {
		return same, err
	}
	e, err := b.add(ctx, d)
	if err != nil {
		return "", err
	}
	return e.ID, nil
}

// SendState is [Rooms.Send] for state. Joins, invites and knocks that come this way
// get what the membership endpoints give them.
func (r *Rooms) SendState(ctx context.Context, roomID string, d Draft) (string, error) {
	content, err := matrix.CanonicalJSON(d.Content, false)
	if err != nil {
		return "", matrix.BadJSON.With(err.Error())
	}
	e := &matrix.Event{Content: content}
	if d.Type != "m.room.member" {
		id, err := r.Send(ctx, roomID, d)
		if err == nil && d.Type == guestAccessName.Type {
			err = r.removeGuests(ctx, roomID)
		}
		return id, err
	}
	c := MemberChange{Sender: d.Sender, Target: *d.StateKey, Content: content, Reason: e.ContentString("reason")}
	switch own := c.Target == c.Sender; {
	case e.Membership() == "join" && own:
		err = r.Join(ctx, roomID, c)
	case e.Membership() == "invite":
		err = r.Invite(ctx, roomID, c)
	case e.Membership() == "knock" && own:
		err = r.Knock(ctx, roomID, c)
	default:
		return r.Send(ctx, roomID, d)
	}
	if err != nil {
		return "", err
	}
	room, err := r.db.RoomByID(ctx, roomID)
	if err != nil {
		return "", err
	}
	member, err := r.db.CurrentStateEvent(ctx, room.Number, d.Type, c.Target)
	if err != nil {
		return "", err
	}
	return member.ID, nil
}

// sent is the event that the draft became the first time, if it was sent before; "" if it
// was not.
func (r *Rooms) sent(ctx context.Context, room int64, d Draft) (string, error) {
	if d.TxnID == "" {
		return "", nil
	}
	id, err := r.db.EventByTransaction(ctx, room, d.Sender, d.Device, d.Type, d.TxnID)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return id, err
}

// unchanged is the id of the current state event if the draft would only repeat
// it: clients set the same state again and again.
func (b *batch) unchanged(ctx context.Context, d Draft) (string, error) {
	if d.StateKey == nil {
		return "", nil
	}
	before, err := b.current(ctx, stateName{Type: d.Type, StateKey: *d.StateKey})
	if err != nil || before == nil || before.Sender != d.Sender {
		return "", err
	}
	content, err := matrix.CanonicalJSON(d.Content, b.room.Version.StrictNumbers())
	if err != nil || string(content) != string(before.Content) {
		return "", nil // a fault is told when the event is built
	}
	return before.ID, nil
}

// checkDraft refuses what the authorisation rules would let pass but a user of
// this server must not do.
func (r *Rooms) checkDraft(ctx context.Context, hot *hotRoom, d Draft) error {
	switch d.Type {
	case "m.room.create":
		return matrix.Forbidden.With("A room has one create event only")
	case "m.room.canonical_alias":
		if d.StateKey != nil && *d.StateKey == "" {
			return r.checkCanonicalAlias(ctx, hot, d)
		}
	case "m.room.power_levels":
		return checkPowerLevels(hot.room.Version, d.Content)
	}
	return nil
}
