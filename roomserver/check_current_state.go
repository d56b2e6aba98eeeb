package roomserver

import (
	"context"

	"beep/roomserver/authrules"
	"beep/storage"
)

// checkCurrentState is the last check on receipt: the room's current state allows the
// event ("Checks performed on receipt of a PDU", 6). [matrix.Forbidden]: it does not,
// and the event fails softly: nobody here sees it, unless others build upon it.
func (r *Rooms) checkCurrentState(ctx context.Context, hot *hotRoom, a *arrival) error {
	auth, err := hot.authorising(ctx, &r.db.Reader, a.Names())
	if err != nil {
		return err
	}
	return authrules.Allowed(a.Event, a.withMembers(&hot.room, auth))
}

// authorising are the events of the current state under these names.
func (hot *hotRoom) authorising(ctx context.Context, q *storage.Reader, names []stateName) ([]*authrules.Event, error) {
	auth := make([]*authrules.Event, 0, len(names))
	for _, name := range names {
		e, err := hot.current(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			auth = append(auth, e.Event)
		}
	}
	return auth, nil
}
