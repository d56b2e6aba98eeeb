package roomserver

import (
	"context"
	"encoding/json"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// MainThread is the thread of everything that is in no thread.
const MainThread = "main"

// threadHops is how far relations are followed to find an event's thread
// (client-server API, "Threaded read receipts").
const threadHops = 3

// ReadMarkers say up to which events a user has read; "" where that is not said.
type ReadMarkers struct {
	FullyRead   string // m.fully_read
	Read        string // m.read
	ReadPrivate string // m.read.private
	// ThreadID is the thread of Read and ReadPrivate: [MainThread], the id of a
	// thread's root, or "" for receipts that count for all threads.
	ThreadID string
}

// MarkRead moves a user's receipts and the fully read marker, each of them forward
// only (client-server API, "Receipts" and "Fully read markers"). [matrix.Forbidden]
// unless the user is joined, [matrix.NotFound] for an event that is not in the
// room, [matrix.InvalidParam] for one that is not in the thread.
func (r *Rooms) MarkRead(ctx context.Context, roomID, userID string, m ReadMarkers) error {
	room, err := r.Joined(ctx, roomID, userID)
	if err != nil {
		return err
	}
	events, err := r.markedEvents(ctx, room, m)
	if err != nil || len(events) == 0 {
		return err
	}
	now := nowMS()
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		for _, mark := range []struct{ receiptType, eventID string }{{"m.read", m.Read}, {"m.read.private", m.ReadPrivate}} {
			if mark.eventID == "" {
				continue
			}
			receipt := storage.Receipt{Room: room, UserID: userID, Type: mark.receiptType, ThreadID: m.ThreadID,
				EventID: mark.eventID, Order: events[mark.eventID].Order, TS: now}
			if err := tx.AdvanceReceipt(ctx, receipt); err != nil {
				return err
			}
		}
		if m.FullyRead == "" {
			return nil
		}
		return markFullyRead(ctx, tx, userID, events[m.FullyRead])
	})
}

// markedEvents are the events that the markers name, by id.
func (r *Rooms) markedEvents(ctx context.Context, room int64, m ReadMarkers) (map[string]*storage.Event, error) {
	var ids []string
	for _, id := range []string{m.FullyRead, m.Read, m.ReadPrivate} {
		if id != "" {
			ids = append(ids, id)
		}
	}
	found, err := r.db.EventsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	events := make(map[string]*storage.Event, len(found))
	for i := range found {
		if found[i].Room == room {
			events[found[i].ID] = &found[i]
		}
	}
	for _, id := range ids {
		if events[id] == nil {
			return nil, matrix.NotFound.With("The event is not in this room")
		}
	}
	if m.ThreadID == "" {
		return events, nil
	}
	for _, id := range []string{m.Read, m.ReadPrivate} {
		if id == "" {
			continue
		}
		if err := r.checkThread(ctx, events[id], m.ThreadID); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// markFullyRead moves the marker to the event, unless it is there or further already.
func markFullyRead(ctx context.Context, tx *storage.Tx, userID string, e *storage.Event) error {
	return tx.UpdateAccountData(ctx, userID, e.Room, "m.fully_read", func(old json.RawMessage) (json.RawMessage, error) {
		var before struct {
			EventID string `json:"event_id"`
		}
		if old != nil && json.Unmarshal(old, &before) == nil {
			marked, err := tx.EventByID(ctx, before.EventID)
			if err == nil && marked.Room == e.Room && marked.Order >= e.Order {
				return nil, nil // the storage's way to say: leave it as it is
			}
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
		}
		return append(matrix.AppendString([]byte(`{"event_id":`), e.ID), '}'), nil
	})
}

var errNotInThread = matrix.InvalidParam.With("The event is not in the thread of thread_id")

// checkThread refuses a thread that the event is certainly not in. Where relations
// cannot be followed to their end, any thread will do whose root is in the room.
func (r *Rooms) checkThread(ctx context.Context, e *storage.Event, threadID string) error {
	for range threadHops + 1 {
		relation := relationOf(e)
		switch {
		case e.ID == threadID, relation.Type == "m.thread" && relation.EventID == threadID:
			return nil
		case relation.Type == "m.thread", relation.none && threadID != MainThread:
			return errNotInThread
		case relation.none:
			return nil
		case relation.EventID == "":
			return r.checkThreadRoot(ctx, e.Room, threadID)
		}
		parent, err := r.db.EventByID(ctx, relation.EventID)
		if errors.Is(err, storage.ErrNotFound) || err == nil && parent.Room != e.Room {
			break
		} else if err != nil {
			return err
		}
		e = &parent
	}
	return r.checkThreadRoot(ctx, e.Room, threadID)
}

func (r *Rooms) checkThreadRoot(ctx context.Context, room int64, threadID string) error {
	if threadID == MainThread {
		return nil
	}
	root, err := r.db.EventByID(ctx, threadID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && root.Room != room {
		return errNotInThread
	}
	return err
}

// relation is what an event is to another one. It has no EventID where that cannot
// be told.
type relation struct {
	Type    string `json:"rel_type"`
	EventID string `json:"event_id"`
	none    bool   // the event has no relation
}

func relationOf(e *storage.Event) relation {
	var content struct {
		RelatesTo json.RawMessage `json:"m.relates_to"`
	}
	if json.Unmarshal(e.Content, &content) != nil || content.RelatesTo == nil {
		return relation{none: e.RedactedBy == 0} // redaction takes relations away
	}
	var to relation
	if json.Unmarshal(content.RelatesTo, &to) != nil || to.Type == "" {
		return relation{}
	}
	return to
}
