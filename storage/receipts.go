package storage

import (
	"context"

	"beep/stream"
)

// Receipt says up to which event a user has read (client-server API, "Receipts").
type Receipt struct {
	Room     int64
	UserID   string
	Type     string // m.read or m.read.private
	ThreadID string // "" unthreaded, "main", or the id of the thread's root
	EventID  string
	Order    int64      // [Event.Order] of the event
	TS       int64      // ms
	Pos      stream.Pos // of the last change
}

const receiptSelect = `SELECT room, user_id, type, thread_id, event_id, ord, ts, pos FROM receipts `

func scanReceipt(row scanner, r *Receipt) error {
	return row.Scan(&r.Room, &r.UserID, &r.Type, &r.ThreadID, &r.EventID, &r.Order, &r.TS, &r.Pos)
}

// ReceiptsOf are all receipts in the rooms, by room. Those of type m.read.private
// are for their owner's eyes only.
func (q *Reader) ReceiptsOf(ctx context.Context, rooms []int64) ([]Receipt, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, receiptSelect+`WHERE room = ANY($1) ORDER BY room, pos`, scanReceipt, Ints(rooms))
}

// ReceiptsSince are the receipts in the rooms that changed last with
// after < pos <= upTo, by room and in order. Those of type m.read.private are for
// their owner's eyes only.
func (q *Reader) ReceiptsSince(ctx context.Context, rooms []int64, after, upTo stream.Pos) ([]Receipt, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, receiptSelect+`WHERE room = ANY($1) AND pos > $2 AND pos <= $3 ORDER BY room, pos`,
		scanReceipt, Ints(rooms), after, upTo)
}

// AdvanceReceipt moves the user's receipt of this type and thread to another event
// and publishes it, unless it is there or at a later event already. Its Pos is not
// looked at.
func (tx *Tx) AdvanceReceipt(ctx context.Context, r Receipt) error {
	// The row is locked first and gets its position then: of two receipts the one
	// that stays is the one with the later position.
	n, err := tx.execCount(ctx, `INSERT INTO receipts (room, user_id, type, thread_id, event_id, ord, ts, pos)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0)
		ON CONFLICT (room, user_id, type, thread_id) DO UPDATE
		SET event_id = excluded.event_id, ord = excluded.ord, ts = excluded.ts WHERE receipts.ord < excluded.ord`,
		r.Room, r.UserID, r.Type, r.ThreadID, r.EventID, r.Order, r.TS)
	if err != nil || n == 0 {
		return err
	}
	r.Pos = tx.Reserve()
	err = tx.exec(ctx, `UPDATE receipts SET pos = $1 WHERE room = $2 AND user_id = $3 AND type = $4 AND thread_id = $5`,
		r.Pos, r.Room, r.UserID, r.Type, r.ThreadID)
	if err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: r.Pos, Kind: stream.Receipt, Room: r.Room, User: r.UserID, Value: r, Size: len(r.EventID)})
	return nil
}
