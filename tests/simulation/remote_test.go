package simulation

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"beep/federation/remote"
	"beep/matrix"
	"beep/roomserver"
)

// How long servers wait for answers.
const (
	usualTimeout = 30 * time.Second
	stateTimeout = 3 * time.Minute
	sendTimeout  = 2 * time.Minute
)

// peers is [roomserver.Remote] of a process: the other servers by way of the network.
type peers struct{ *process }

// Verify serves [roomserver.Remote]: everybody knows everybody's key.
func (p peers) Verify(_ context.Context, events []*matrix.Event) []error {
	errs := make([]error, len(events))
	for i, e := range events {
		for _, name := range e.Signers() {
			signature, err := base64.RawStdEncoding.DecodeString(e.Signatures()[name][keyID])
			signer := p.world.net.servers[name]
			if err != nil || signer == nil || !ed25519.Verify(signer.signer.Key.Public().(ed25519.PublicKey), e.SignedForm(), signature) {
				errs[i] = fmt.Errorf("no valid signature of %s", name)
			}
		}
	}
	return errs
}

func jsonOf(events []*matrix.Event) []json.RawMessage {
	raws := make([]json.RawMessage, len(events))
	for i, e := range events {
		raws[i] = e.JSON
	}
	return raws
}

// two are two lists of an answer.
type two[T any] struct{ state, auth []T }

// MissingEvents serves [roomserver.Remote].
func (p peers) MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error) {
	return ask(ctx, p.process, server, request[[]json.RawMessage]{kind: "missing", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) ([]json.RawMessage, error) {
			events, err := at.serving.MissingEvents(ctx, p.name, roomID, roomserver.MissingQuery{Earliest: earliest, Latest: latest, Limit: limit})
			return jsonOf(events), err
		}})
}

// Backfill serves [roomserver.Remote].
func (p peers) Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]json.RawMessage, error) {
	return ask(ctx, p.process, server, request[[]json.RawMessage]{kind: "backfill", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) ([]json.RawMessage, error) {
			events, err := at.serving.Backfill(ctx, p.name, roomID, from, limit)
			return jsonOf(events), err
		}})
}

// StateIDs serves [roomserver.Remote].
func (p peers) StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error) {
	answer, err := ask(ctx, p.process, server, request[two[string]]{kind: "state_ids", timeout: stateTimeout,
		handle: func(ctx context.Context, at *process) (a two[string], err error) {
			before, err := at.serving.StateBefore(ctx, p.name, roomID, eventID)
			if err != nil {
				return a, err
			}
			if a.state, err = at.serving.IDs(ctx, before.State); err != nil {
				return a, err
			}
			a.auth, err = at.serving.IDs(ctx, before.AuthChain)
			return a, err
		}})
	return answer.state, answer.auth, err
}

// State serves [roomserver.Remote].
func (p peers) State(ctx context.Context, server, roomID, eventID string) (state, auth []json.RawMessage, err error) {
	answer, err := ask(ctx, p.process, server, request[two[json.RawMessage]]{kind: "state", timeout: stateTimeout,
		handle: func(ctx context.Context, at *process) (a two[json.RawMessage], err error) {
			before, err := at.serving.StateBefore(ctx, p.name, roomID, eventID)
			if err != nil {
				return a, err
			}
			events, err := at.serving.Load(ctx, before.State)
			if err != nil {
				return a, err
			}
			chain, err := at.serving.Load(ctx, before.AuthChain)
			return two[json.RawMessage]{jsonOf(events), jsonOf(chain)}, err
		}})
	return answer.state, answer.auth, err
}

// Event serves [roomserver.Remote].
func (p peers) Event(ctx context.Context, server, eventID string) (json.RawMessage, error) {
	return ask(ctx, p.process, server, request[json.RawMessage]{kind: "event", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (json.RawMessage, error) {
			e, err := at.serving.Event(ctx, p.name, eventID)
			if err != nil {
				return nil, err
			}
			return e.JSON, nil
		}})
}

// EventAuth serves [roomserver.Remote].
func (p peers) EventAuth(ctx context.Context, server, roomID, eventID string) ([]json.RawMessage, error) {
	return ask(ctx, p.process, server, request[[]json.RawMessage]{kind: "event_auth", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) ([]json.RawMessage, error) {
			chain, err := at.serving.AuthChain(ctx, p.name, roomID, eventID)
			if err != nil {
				return nil, err
			}
			events, err := at.serving.Load(ctx, chain)
			return jsonOf(events), err
		}})
}

// MakeMember serves [roomserver.Remote].
func (p peers) MakeMember(ctx context.Context, server, membership, roomID, userID string, versions []matrix.RoomVersion) (*roomserver.Template, error) {
	return ask(ctx, p.process, server, request[*roomserver.Template]{kind: "make_" + membership, timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (*roomserver.Template, error) {
			return at.rooms.MakeMember(ctx, roomID, userID, membership, versions)
		}})
}

// SendJoin serves [roomserver.Remote].
func (p peers) SendJoin(ctx context.Context, server string, join *matrix.Event, omit bool) (*roomserver.SendJoinAnswer, error) {
	return ask(ctx, p.process, server, request[*roomserver.SendJoinAnswer]{kind: "send_join", timeout: stateTimeout,
		handle: func(ctx context.Context, at *process) (*roomserver.SendJoinAnswer, error) {
			signed, err := at.rooms.AcceptMember(ctx, p.name, join.RoomID, join.ID, "join", join.JSON)
			if err != nil {
				return nil, err
			}
			answer, err := at.rooms.JoinState(ctx, signed, omit)
			if err != nil {
				return nil, err
			}
			return &roomserver.SendJoinAnswer{State: jsonOf(answer.State), AuthChain: jsonOf(answer.AuthChain), Event: signed.JSON,
				MembersOmitted: omit, Servers: answer.Servers}, nil
		}})
}

// SendLeave serves [roomserver.Remote].
func (p peers) SendLeave(ctx context.Context, server string, leave *matrix.Event) error {
	_, err := ask(ctx, p.process, server, request[struct{}]{kind: "send_leave", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (none struct{}, err error) {
			_, err = at.rooms.AcceptMember(ctx, p.name, leave.RoomID, leave.ID, "leave", leave.JSON)
			return none, err
		}})
	return err
}

// SendKnock serves [roomserver.Remote].
func (p peers) SendKnock(ctx context.Context, server string, knock *matrix.Event) ([]json.RawMessage, error) {
	return ask(ctx, p.process, server, request[[]json.RawMessage]{kind: "send_knock", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) ([]json.RawMessage, error) {
			if _, err := at.rooms.AcceptMember(ctx, p.name, knock.RoomID, knock.ID, "knock", knock.JSON); err != nil {
				return nil, err
			}
			return at.rooms.KnockState(ctx, knock.RoomID)
		}})
}

// SendInvite serves [roomserver.Remote].
func (p peers) SendInvite(ctx context.Context, server string, invite *matrix.Event, state []json.RawMessage) (json.RawMessage, error) {
	return ask(ctx, p.process, server, request[json.RawMessage]{kind: "invite", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (json.RawMessage, error) {
			signed, err := at.rooms.AcceptInvite(ctx, p.name, roomserver.InviteOffer{RoomID: invite.RoomID, EventID: invite.ID,
				Version: invite.Version, Event: invite.JSON, State: state})
			if err != nil {
				return nil, err
			}
			return signed.JSON, nil
		}})
}

// ExchangeThirdPartyInvite serves [roomserver.Remote].
func (p peers) ExchangeThirdPartyInvite(ctx context.Context, server, roomID string, event []byte) error {
	_, err := ask(ctx, p.process, server, request[struct{}]{kind: "exchange_third_party_invite", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (none struct{}, err error) {
			return none, at.rooms.Exchange(ctx, p.name, roomID, event)
		}})
	return err
}

// PolicySign serves [roomserver.Remote]: no room has a policy server.
func (p peers) PolicySign(context.Context, string, []byte) (string, error) {
	return "", matrix.Unrecognized
}

// ResolveAlias serves [roomserver.Remote].
func (p peers) ResolveAlias(ctx context.Context, alias string) (string, []string, error) {
	type answer struct {
		roomID  string
		servers []string
	}
	a, err := ask(ctx, p.process, matrix.ServerOf(alias), request[answer]{kind: "directory", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (a answer, err error) {
			a.roomID, a.servers, err = at.rooms.ResolveOwnAlias(ctx, alias)
			return a, err
		}})
	return a.roomID, a.servers, err
}

// Unavailable serves [roomserver.Remote].
func (p peers) Unavailable(err error) bool { return remote.Unavailable(err) }

// transact carries a transaction, for the sender.
func (p *process) transact(ctx context.Context, server string, t *remote.Transaction) (*remote.Results, error) {
	return ask(ctx, p, server, request[*remote.Results]{kind: "send", timeout: sendTimeout, lasting: true,
		handle: func(ctx context.Context, at *process) (*remote.Results, error) { return at.take(ctx, p.name, t) }})
}

// take takes a transaction of another server in. A transaction that comes again is worked
// on again, which a server that remembers its answers is spared.
func (p *process) take(ctx context.Context, origin string, t *remote.Transaction) (*remote.Results, error) {
	var order []string
	byRoom := map[string][]json.RawMessage{}
	for _, raw := range t.PDUs {
		var pdu struct {
			RoomID string `json:"room_id"`
		}
		if err := json.Unmarshal(raw, &pdu); err != nil {
			return nil, matrix.BadJSON.Because(err)
		}
		if byRoom[pdu.RoomID] == nil {
			order = append(order, pdu.RoomID)
		}
		byRoom[pdu.RoomID] = append(byRoom[pdu.RoomID], raw)
	}
	if err := p.rooms.AwaitJoins(ctx, order); err != nil {
		return nil, err
	}
	results := &remote.Results{Errors: map[string]string{}}
	for _, roomID := range order {
		refused, err := p.rooms.Receive(ctx, origin, roomID, byRoom[roomID])
		if err != nil {
			return nil, err
		}
		for i, err := range refused {
			if err != nil {
				name := fmt.Sprint(roomID, " ", i)
				results.Errors[name] = err.Error()
				p.world.note("%s refuses what %s sent: %v", p.name, origin, err)
			}
		}
	}
	return results, nil
}

// GuestsCanJoin serves [roomserver.Remote].
func (p peers) GuestsCanJoin(ctx context.Context, server, roomID string) (bool, error) {
	return ask(ctx, p.process, server, request[bool]{kind: "hierarchy", timeout: usualTimeout,
		handle: func(ctx context.Context, at *process) (bool, error) {
			space, err := roomserver.NewServing(at.rooms).Hierarchy(ctx, p.name, roomID, true)
			if err != nil {
				return false, err
			}
			return space.Room.GuestCanJoin, nil
		}})
}
