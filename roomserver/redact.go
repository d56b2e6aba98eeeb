package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
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

// redactedBy finds what a redaction of another server's user redacts: nil if it is not
// known here, or the user may not redact it ("Handling redactions" of the room
// versions). Until version 2 the authorisation rules have said so already.
func (r *Rooms) redactedBy(ctx context.Context, b *batch, redaction *matrix.Event) (*storage.Event, error) {
	target, err := r.db.EventByID(ctx, redaction.Redacts)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (target.Room != b.room.Number || target.Type == "m.room.create") {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if redaction.Version.EventIDInEvent() || matrix.ServerOf(target.Sender) == matrix.ServerOf(redaction.Sender) {
		return &target, nil
	}
	_, levels, err := b.powerLevels(ctx)
	if err != nil || levels.User(redaction.Sender) < levels.Redact {
		return nil, err
	}
	return &target, nil
}

// redact prunes the event that s redacts, in the database and in the window of
// the log, so that no reader sees its content again.
func (b *batch) redact(ctx context.Context, tx *storage.Tx, s *staged) error {
	pruned := s.redacted.Version.Redact(s.redacted.JSON)
	if err := tx.RedactEvent(ctx, s.redacted.Pos, s.stored.Pos, pruned); err != nil {
		return err
	}
	event, err := matrix.ParseTrusted(s.redacted.Version, s.redacted.ID, pruned)
	if err != nil {
		return err
	}
	redacted := *s.redacted
	redacted.Event, redacted.RedactedBy = event, s.stored.Pos
	rendered := NewClientEvent(&redacted)
	rendered.Redaction = NewClientEvent(s.stored)
	tx.AfterCommit(func() {
		publish(b.rooms.db.Log, rendered)
		b.rooms.pruneReplaced(event)
	})
	return nil
}

func publish(log *stream.Log, e *ClientEvent) {
	log.Publish(stream.Entry{Pos: e.Pos, Kind: stream.Event, Room: e.Room, User: e.Sender, Value: e, Size: 2 * len(e.JSON)})
}

// pruneReplaced prunes prev_content in the window of the log: where a state event
// replaced the one that was redacted.
func (r *Rooms) pruneReplaced(pruned *matrix.Event) {
	if pruned.StateKey == nil {
		return
	}
	var found []*ClientEvent
	log := r.db.Log
	log.Range(log.Floor(), r.db.Clock.Current(), func(entry *stream.Entry) bool {
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
