package roomserver

import (
	"context"
	"errors"
	"math"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
	"beep/stream"
)

// redactable finds what a redaction by a user of this server redacts, and checks
// that the user may: own events, and with the power level "redact" those of others.
// Nobody redacts a create event, as the room would lose its rules.
func (b *batch) redactable(ctx context.Context, redaction *matrix.Event) (*storage.Event, error) {
	target, err := b.rooms.db.EventByID(ctx, redaction.Redacts)
	if errors.Is(err, storage.ErrNotFound) || err == nil && target.Room != b.room.Number {
		return nil, matrix.InvalidParam.With("The event to redact is not in this room")
	} else if err != nil {
		return nil, err
	}
	if target.Type == "m.room.create" {
		return nil, matrix.Forbidden.With("The create event cannot be redacted")
	}
	if target.Sender == redaction.Sender {
		return &target, nil
	}
	_, levels, err := b.powerLevels(ctx)
	if err != nil {
		return nil, err
	}
	if levels.User(redaction.Sender) < levels.Redact {
		return nil, matrix.Forbidden.With("You may redact your own events only")
	}
	return &target, nil
}

// redactedBy finds the event that a redaction of another server's user names, and tells
// whether the redaction counts for it. power gives the levels before the redaction.
// [storage.ErrNotFound]: the event is not known here.
func (r *Rooms) redactedBy(ctx context.Context, room int64, redaction *matrix.Event, power func() (*authrules.PowerLevels, error)) (target storage.Event, counts bool, err error) {
	if target, err = r.db.EventByID(ctx, redaction.Redacts); err != nil || target.Room != room {
		return target, false, err
	}
	counts, err = mayRedact(redaction, target.Event, power)
	return target, counts, err
}

// mayRedact tells whether a redaction counts for its target ("Handling redactions" of the
// room versions). Until version 2 the authorisation rules have said so already.
func mayRedact(redaction, target *matrix.Event, power func() (*authrules.PowerLevels, error)) (bool, error) {
	switch {
	case target.Type == "m.room.create":
		return false, nil
	case redaction.Version.EventIDInEvent(), matrix.ServerOf(target.Sender) == matrix.ServerOf(redaction.Sender):
		return true, nil
	}
	levels, err := power()
	return err == nil && levels.User(redaction.Sender) >= levels.Redact, err
}

// powerAt are the power levels of a state.
func (r *Rooms) powerAt(ctx context.Context, room int64, state stateAt) (*authrules.PowerLevels, error) {
	var create, levels *authrules.Event
	auth, err := r.authorisingAt(ctx, room, state, []stateName{createName, powerLevelsName})
	for _, e := range auth {
		if e.Type == createName.Type {
			create = e
		} else {
			levels = e
		}
	}
	return authrules.ReadPowerLevels(create, levels), err
}

// earlyRedactions are, by event id, the redactions of events that came before these.
func (r *Rooms) earlyRedactions(ctx context.Context, room int64, events []*matrix.Event) (map[string]*storage.Event, error) {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	early, err := r.db.EarlyRedactions(ctx, ids)
	if err != nil || len(early) == 0 {
		return nil, err
	}
	redactions := map[string]*storage.Event{}
	for _, e := range events {
		found, err := r.db.EventsByPos(ctx, early[e.ID])
		if err != nil {
			return nil, err
		}
		for i := range found {
			may, err := mayRedact(found[i].Event, e, func() (*authrules.PowerLevels, error) {
				return r.powerAt(ctx, room, stateAt{id: found[i].StateBefore})
			})
			if err != nil {
				return nil, err
			}
			if may && found[i].Room == room {
				redactions[e.ID] = &found[i]
				break
			}
		}
	}
	return redactions, nil
}

// redact prunes the event that s redacts.
func (b *batch) redact(ctx context.Context, tx *storage.Tx, s *staged) error {
	return b.rooms.prune(ctx, tx, s.redacted, s.stored)
}

// prune prunes an event that is redacted, in the database and in the window of the log,
// so that no reader sees its content again.
func (r *Rooms) prune(ctx context.Context, tx *storage.Tx, target, redaction *storage.Event) error {
	pruned := target.Version.Redact(target.JSON)
	if err := tx.RedactEvent(ctx, target.Pos, redaction.Pos, pruned); err != nil {
		return err
	}
	event, err := matrix.ParseTrusted(target.Version, target.ID, pruned)
	if err != nil {
		return err
	}
	redacted := *target
	redacted.Event, redacted.RedactedBy = event, redaction.Pos
	rendered := NewClientEvent(&redacted)
	rendered.Redaction = NewClientEvent(redaction)
	tx.AfterCommit(func() {
		publishPruned(r.db.Log, rendered)
		r.pruneReplaced(event)
	})
	return nil
}

// publishPruned puts an event that was pruned into the place of what the window has of it,
// if it does: whom it is for, and what else the redaction leaves as it was, is known there
// alone.
func publishPruned(log *stream.Log, pruned *ClientEvent) {
	entry := log.Find(pruned.At)
	if entry == nil {
		return
	}
	if was, ok := entry.Value.(*ClientEvent); ok && was.ID == pruned.ID {
		pruned.Replaced, pruned.StrippedState, pruned.Gap, pruned.Servers = was.Replaced, was.StrippedState, was.Gap, was.Servers
		publish(log, pruned)
	}
}

func publish(log *stream.Log, e *ClientEvent) {
	log.Publish(stream.Entry{Pos: e.At, Kind: stream.Event, Room: e.Room, User: e.Sender, Value: e, Size: 2 * len(e.JSON)})
}

// pruneReplaced prunes prev_content in the window of the log: where a state event
// replaced the one that was redacted.
func (r *Rooms) pruneReplaced(pruned *matrix.Event) {
	if pruned.StateKey == nil {
		return
	}
	var found []*ClientEvent
	log := r.db.Log
	log.Range(log.Floor(), math.MaxInt64, func(entry *stream.Entry) bool {
		e, ok := entry.Value.(*ClientEvent)
		if ok && e.Replaced != nil && e.Replaced.ID == pruned.ID {
			found = append(found, e)
		}
		return true
	})
	for _, e := range found {
		replacement := *e
		replacement.Replaced = pruned
		publish(log, &replacement)
	}
}
