package roomserver

import (
	"context"

	"beep/matrix"
)

// checkSignatures is the second check on receipt: those who have to sign the events
// did ("Checks performed on receipt of a PDU", 2). It gives an error for each event
// that is to be dropped.
func (r *Rooms) checkSignatures(ctx context.Context, events []*matrix.Event) []error {
	refused := make([]error, len(events))
	for i, err := range r.remote.Verify(ctx, events) {
		if err != nil {
			refused[i] = matrix.Forbidden.Withf("The event %s is not signed as it has to be", events[i].ID).Because(err)
		}
	}
	return refused
}
