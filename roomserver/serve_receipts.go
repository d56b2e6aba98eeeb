package roomserver

import (
	"context"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// RemoteReceipt is a read receipt of a user of another server, from an EDU of type
// m.receipt.
type RemoteReceipt struct {
	RoomID, UserID, EventID string
	ThreadID                string // "" unthreaded, [MainThread], or the id of the thread's root
	TS                      int64  // ms
}

func (r *RemoteReceipt) valid() bool {
	return matrix.ValidEventID(r.EventID) && (r.ThreadID == "" || r.ThreadID == MainThread || matrix.ValidEventID(r.ThreadID))
}

// MaxReceipts is how many receipts [Serving.TakeReceipts] takes at once.
const MaxReceipts = 500

// TakeReceipts moves the receipts of users of another server, each of them forward only.
// A receipt of a user who is not of that server or not joined to the room, of a room
// that is closed to the server, or for an event or a thread that is not known in the
// room, is ignored (server-server API, "Receipts").
func (s *Serving) TakeReceipts(ctx context.Context, origin string, receipts []RemoteReceipt) error {
	receipts = slices.DeleteFunc(slices.Clone(receipts[:min(len(receipts), MaxReceipts)]), func(r RemoteReceipt) bool { return !r.valid() })
	claims := make([]claim, len(receipts))
	for i, r := range receipts {
		claims[i] = claim{r.RoomID, r.UserID}
	}
	vouched, err := s.vouched(ctx, origin, claims)
	if err != nil {
		return err
	}
	var ids []string
	for i, r := range receipts {
		if vouched[i] != 0 {
			ids = append(ids, r.EventID)
			if r.ThreadID != "" && r.ThreadID != MainThread {
				ids = append(ids, r.ThreadID)
			}
		}
	}
	orders, err := s.rooms.db.EventOrders(ctx, ids)
	if err != nil {
		return err
	}
	var taken []storage.Receipt
	for i, r := range receipts {
		order, known := orders[r.EventID]
		threadKnown := r.ThreadID == "" || r.ThreadID == MainThread || orders[r.ThreadID].Room == vouched[i]
		if vouched[i] == 0 || !known || order.Room != vouched[i] || order.Order <= 0 || !threadKnown {
			continue
		}
		taken = append(taken, storage.Receipt{Room: vouched[i], UserID: r.UserID, Type: "m.read", ThreadID: r.ThreadID,
			EventID: r.EventID, Order: order.Order, TS: min(max(r.TS, 0), matrix.MaxSafeInteger)})
	}
	if len(taken) == 0 {
		return nil
	}
	return s.rooms.db.Write(ctx, func(tx *storage.Tx) error {
		for _, r := range taken {
			if err := tx.AdvanceReceipt(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
}
