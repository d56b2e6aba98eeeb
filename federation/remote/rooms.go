package remote

import (
	"context"

	"beep/matrix"
)

// Rooms is what the room server has of other servers: its Remote.
type Rooms struct {
	*Client
	Keys *KeyRing
}

// Verify tells for each event whether the servers that have to sign it did: nil, or what
// [KeyRing.Verify] says of the first that did not.
func (r *Rooms) Verify(ctx context.Context, events []*matrix.Event) []error {
	var claims []matrix.Claim
	var of []int // the index of each claim's event
	for i, e := range events {
		message, signatures := e.SignedForm(), e.Signatures()
		for _, server := range e.Signers() {
			of = append(of, i)
			claims = append(claims, matrix.Claim{Server: server, Message: message, Signatures: signatures[server],
				At: e.OriginServerTS, Strict: e.Version.StrictKeys()})
		}
	}
	errs := make([]error, len(events))
	for i, err := range r.Keys.Verify(ctx, claims) {
		if errs[of[i]] == nil {
			errs[of[i]] = err
		}
	}
	return errs
}

// Unavailable is the function of that name.
func (r *Rooms) Unavailable(err error) bool { return Unavailable(err) }

// GuestsCanJoin asks a server whether a room welcomes guests.
func (r *Rooms) GuestsCanJoin(ctx context.Context, server, roomID string) (bool, error) {
	space, err := r.Hierarchy(ctx, server, roomID, true)
	if err != nil {
		return false, err
	}
	return space.Room.GuestCanJoin, nil
}
