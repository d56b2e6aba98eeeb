package roomserver

import (
	"context"
	"encoding/json"

	"beep/matrix"
)

// Remote is how the room server reaches other servers. What they answer is theirs:
// nothing of it has been checked but its size.
type Remote interface {
	// Verify tells for each event whether the servers that have to sign it did, with
	// keys that were theirs at the time: nil, or why not.
	Verify(ctx context.Context, events []*matrix.Event) []error
	// MissingEvents asks for the events of a room that come before the latest, as far
	// back as the earliest, at most limit.
	MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error)
	// Backfill asks for events of a room and those before them, at most limit.
	Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]json.RawMessage, error)
	// StateIDs asks for the state before an event, and its auth chain.
	StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error)
	// State is StateIDs with the events themselves.
	State(ctx context.Context, server, roomID, eventID string) (state, auth []json.RawMessage, err error)
	// Event asks for one event.
	Event(ctx context.Context, server, eventID string) (json.RawMessage, error)
	// EventAuth asks for the auth chain of an event.
	EventAuth(ctx context.Context, server, roomID, eventID string) ([]json.RawMessage, error)
}
