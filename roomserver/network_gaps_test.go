package roomserver_test

import (
	"context"
	"encoding/json"
	"errors"

	"beep/matrix"
	"beep/roomserver"
)

// lies are what a server says instead of what it knows; nil is the truth.
type lies struct {
	missing  func(latest []string) []*matrix.Event
	backfill func(from []string, limit int) []*matrix.Event
	stateIDs func(eventID string) (state, auth []string)
	auth     func(eventID string) []*matrix.Event
	event    func(eventID string) *matrix.Event
}

// ask is another server with its answers to questions about rooms.
func (p *peer) ask(server string) (*peer, *roomserver.Serving, error) {
	to, err := p.net.reach(server)
	if err != nil || p.down || to.mute {
		return nil, nil, errDown
	}
	return to, to.serving, nil
}

func (p *peer) ResolveAlias(ctx context.Context, alias string) (string, []string, error) {
	to, err := p.net.reach(matrix.ServerOf(alias))
	if err != nil {
		return "", nil, err
	}
	return to.rooms.ResolveOwnAlias(ctx, alias)
}

func (p *peer) MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error) {
	to, serving, err := p.ask(server)
	if err != nil {
		return nil, err
	}
	if to.lies.missing != nil {
		return jsonOf(to.lies.missing(latest)), nil
	}
	events, err := serving.MissingEvents(ctx, p.name, roomID, roomserver.MissingQuery{Earliest: earliest, Latest: latest, Limit: limit})
	return jsonOf(events), err
}

func (p *peer) Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]json.RawMessage, error) {
	to, serving, err := p.ask(server)
	if err != nil {
		return nil, err
	}
	if to.lies.backfill != nil {
		if events := to.lies.backfill(from, limit); events != nil {
			return jsonOf(events), nil
		}
	}
	events, err := serving.Backfill(ctx, p.name, roomID, from, limit)
	return jsonOf(events), err
}

func (p *peer) StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error) {
	to, serving, err := p.ask(server)
	if err == nil && to.silent {
		err = errDown
	}
	if err != nil {
		return nil, nil, err
	}
	if to.lies.stateIDs != nil {
		state, auth = to.lies.stateIDs(eventID)
		return state, auth, nil
	}
	before, err := serving.StateBefore(ctx, p.name, roomID, eventID)
	if err != nil {
		return nil, nil, err
	}
	if state, err = serving.IDs(ctx, before.State); err != nil {
		return nil, nil, err
	}
	auth, err = serving.IDs(ctx, before.AuthChain)
	return state, auth, err
}

func (p *peer) State(ctx context.Context, server, roomID, eventID string) (state, auth []json.RawMessage, err error) {
	if p.hold != nil {
		select {
		case <-p.hold:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	to, serving, err := p.ask(server)
	if err == nil && to.silent {
		err = errDown
	}
	if err != nil {
		return nil, nil, err
	}
	before, err := serving.StateBefore(ctx, p.name, roomID, eventID)
	if err != nil {
		return nil, nil, err
	}
	events, err := serving.Load(ctx, before.State)
	if err != nil {
		return nil, nil, err
	}
	chain, err := serving.Load(ctx, before.AuthChain)
	return jsonOf(events), jsonOf(chain), err
}

func (p *peer) Event(ctx context.Context, server, eventID string) (json.RawMessage, error) {
	to, serving, err := p.ask(server)
	if err != nil {
		return nil, err
	}
	if to.lies.event != nil {
		if e := to.lies.event(eventID); e != nil {
			return e.JSON, nil
		}
	}
	e, err := serving.Event(ctx, p.name, eventID)
	if err != nil {
		return nil, err
	}
	return e.JSON, nil
}

func (p *peer) EventAuth(ctx context.Context, server, roomID, eventID string) ([]json.RawMessage, error) {
	to, serving, err := p.ask(server)
	if err != nil {
		return nil, err
	}
	if to.lies.auth != nil {
		return jsonOf(to.lies.auth(eventID)), nil
	}
	chain, err := serving.AuthChain(ctx, p.name, roomID, eventID)
	if err != nil {
		return nil, err
	}
	events, err := serving.Load(ctx, chain)
	return jsonOf(events), err
}

func (p *peer) Unavailable(err error) bool { return errors.Is(err, errDown) }

func (p *peer) GuestsCanJoin(ctx context.Context, server, roomID string) (bool, error) {
	_, serving, err := p.ask(server)
	if err != nil {
		return false, err
	}
	space, err := serving.Hierarchy(ctx, p.name, roomID, true)
	if err != nil {
		return false, err
	}
	return space.Room.GuestCanJoin, nil
}
