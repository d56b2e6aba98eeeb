package roomserver

import (
	"context"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// Erase prunes the events of users who asked to be forgotten, for a reader who was
// not in the room when they were sent (client-server API, "Account deactivation":
// erase). memberships are the reader's, as [Rooms.Visible] gives them. It works in place.
func (r *Rooms) Erase(ctx context.Context, events []storage.Event, memberships []string) error {
	var senders []string
	for i := range events {
		if memberships[i] != "" && memberships[i] != "join" && !slices.Contains(senders, events[i].Sender) {
			senders = append(senders, events[i].Sender)
		}
	}
	erased, err := r.db.ErasedUsers(ctx, senders)
	if err != nil || len(erased) == 0 {
		return err
	}
	for i := range events {
		e := &events[i]
		if memberships[i] == "join" || memberships[i] == "" || !slices.Contains(erased, e.Sender) {
			continue
		}
		if e.Event, err = matrix.ParseTrusted(e.Version, e.ID, e.Version.Redact(e.JSON)); err != nil {
			return err
		}
	}
	return nil
}
