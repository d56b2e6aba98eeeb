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
	levels, err := b.powerLevels(ctx)
	if err != nil {
		return nil, err
	}
	if levels.User(redaction.Sender) < levels.Redact {
		return nil, matrix.Forbidden.With("You may redact your own events only")
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
		b.rooms.db.Log.Publish(stream.Entry{Pos: redacted.Pos, Kind: stream.Event, Room: redacted.Room,
			User: redacted.Sender, Value: rendered, Size: 2 * len(pruned)})
	})
	return nil
}
