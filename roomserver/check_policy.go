package roomserver

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"beep/matrix"
)

const (
	// policyKey is the id of the key that a policy server signs with; the key stands in
	// the room's state.
	policyKey = "ed25519:policy_server"
	// policyTime bounds how long a policy server is waited for.
	policyTime = 10 * time.Second
	// policyAtOnce bounds the events of one room that a policy server is asked about at
	// the same time.
	policyAtOnce = 8
)

var policyName = stateName{Type: "m.room.policy"}

// policy is the policy server that a room uses (server-server API, "Policy Servers").
type policy struct {
	server string
	key    ed25519.PublicKey // nil for what is no key: then nothing is signed by it
}

// readPolicy reads m.room.policy; nil if that is not valid.
func readPolicy(content json.RawMessage) *policy {
	var read struct {
		Via  string                     `json:"via"`
		Keys map[string]json.RawMessage `json:"public_keys"`
	}
	var key *string
	if exactly(content, &read) != nil || exactly(read.Keys["ed25519"], &key) != nil || key == nil {
		return nil
	}
	decoded, err := DecodeInviteKey(*key)
	if err != nil {
		decoded = nil
	}
	return &policy{read.Via, decoded}
}

// policyOf is the policy server of the room as the batch leaves it; nil for none. A server
// is none that has no joined user in the room.
func (b *batch) policyOf(ctx context.Context) (*policy, error) {
	e, err := b.current(ctx, policyName)
	if err != nil || e == nil {
		return nil, err
	}
	if p := readPolicy(e.Content); p != nil && b.servers[p.server] > 0 {
		return p, nil
	}
	return nil, nil
}

// recommends tells whether the event may be shown and sent: the policy server has signed
// it, or is not to be asked about such events.
func (p *policy) recommends(e *matrix.Event) bool {
	if p == nil || e.IsState(policyName.Type, "") {
		return true
	}
	signature := e.Signatures()[p.server][policyKey]
	return signature != "" && p.key != nil && matrix.VerifySignature(p.key, e.SignedForm(), standard.Replace(signature))
}

// sign has the policy server sign an event, unless it has done so. [matrix.Forbidden], or
// whatever else the policy server says.
func (r *Rooms) sign(ctx context.Context, p *policy, e *matrix.Event) (*matrix.Event, error) {
	if p.recommends(e) {
		return e, nil
	}
	if r.remote == nil {
		return nil, badGateway.With("This server does not federate, and so cannot ask the room's policy server")
	}
	ctx, cancel := context.WithTimeout(ctx, r.policyTime)
	defer cancel()
	signature, err := r.remote.PolicySign(ctx, p.server, e.JSON)
	if errors.Is(err, context.DeadlineExceeded) {
		err = badGateway.With("The room's policy server does not answer").Because(err)
	}
	if err != nil {
		return nil, err
	}
	signed, err := e.WithSignature(p.server, policyKey, signature)
	if err == nil && !p.recommends(signed) {
		err = badGateway.With("The room's policy server signs with another key than the room knows")
	}
	return signed, err
}

// write stores what fn adds to the end of a room for a user of this server, with the
// signature of the room's policy server if it has one.
func (r *Rooms) write(ctx context.Context, roomID string, fn func(context.Context, *batch) error) error {
	policed := false
	err := r.with(ctx, roomID, func(hot *hotRoom) error {
		b := r.begin(hot)
		if p, err := b.policyOf(ctx); p != nil || err != nil {
			policed = p != nil
			return err
		}
		if err := fn(ctx, b); err != nil {
			return err
		}
		return b.commit(ctx, nil)
	})
	if err != nil || !policed {
		return err
	}
	return r.writeSigned(ctx, roomID, fn)
}

// writeSigned is write for a room with a policy server. The room is not held up while that
// thinks: it may have gone on when the events come to their place. Only a few do so at the
// same time, as each is another end of the room then.
func (r *Rooms) writeSigned(ctx context.Context, roomID string, fn func(context.Context, *batch) error) error {
	leave, err := r.policing.enter(ctx, roomID, 0)
	if err != nil {
		return err
	}
	defer leave()
	var b *batch
	err = r.with(ctx, roomID, func(hot *hotRoom) (err error) {
		b = r.begin(hot)
		if b.policy, err = b.policyOf(ctx); err != nil {
			return err
		}
		return fn(ctx, b)
	})
	if err != nil {
		return err
	}
	for i := range b.staged {
		if err := r.placeSigned(ctx, b, &b.staged[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rooms) placeSigned(ctx context.Context, b *batch, s *staged) error {
	signed, err := r.sign(ctx, b.policy, s.Event.Event)
	if err != nil {
		return err
	}
	in := r.newIntake(r.signer.ServerName, &b.room)
	in.draft, in.asked[signed.ID] = s.draft, true
	err = r.hot.with(ctx, b.room.ID, func(hot *hotRoom) error {
		_, err := in.place(ctx, hot, []*matrix.Event{signed})
		return err
	})
	if err != nil {
		return err
	}
	return in.failure(signed.ID)
}

// errUnsigned tells that the policy server has to be asked about an event.
var errUnsigned = errors.New("the policy server has not signed the event yet")

// checkPolicy is the last check on receipt: the room's policy server has signed the event
// ("Checks performed on receipt of a PDU", 7). [matrix.Forbidden]: it has not, and the
// event fails softly. errUnsigned is no verdict.
func (in *intake) checkPolicy(ctx context.Context, b *batch, e *matrix.Event) error {
	p, err := b.policyOf(ctx)
	switch {
	case err != nil || p.recommends(e):
		return err
	case in.asked[e.ID] || in.rooms.remote == nil:
		return matrix.Forbidden.With("The room's policy server does not recommend this event")
	}
	in.policy = p
	return errUnsigned
}

// askPolicy has the policy server sign those of the events that need it, in the time that it
// has for one. It gives the events, signed where that succeeded.
func (in *intake) askPolicy(ctx context.Context, events []*matrix.Event) []*matrix.Event {
	ctx, cancel := context.WithTimeout(ctx, in.rooms.policyTime)
	defer cancel()
	signed := make([]*matrix.Event, len(events))
	var asking errgroup.Group
	asking.SetLimit(policyAtOnce)
	for i, e := range events {
		signed[i] = e
		if in.asked[e.ID] || in.policy.recommends(e) {
			continue
		}
		in.asked[e.ID] = true
		asking.Go(func() error {
			vouched, err := in.rooms.sign(ctx, in.policy, e)
			if err == nil {
				signed[i] = vouched
			} else {
				in.rooms.log.Info("a policy server has not signed an event", "room", in.room.ID, "server", in.policy.server, "event", e.ID, "error", err)
			}
			return nil // it fails softly
		})
	}
	asking.Wait()
	return signed
}
