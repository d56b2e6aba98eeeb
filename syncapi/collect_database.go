package syncapi

import (
	"context"
	"slices"
)

// everything gathers an answer for a client that knows nothing.
func (g *gathering) everything(ctx context.Context) error {
	g.since = 0
	g.addJoined()
	for _, r := range g.order {
		r.fresh, r.checked, r.stored = true, true, true
	}
	if g.filter.Room.IncludeLeave {
		if err := g.addAllLeft(ctx); err != nil {
			return err
		}
	}
	if err := g.addInvites(ctx, g.invitedTo()); err != nil {
		return err
	}
	data, err := g.api.db.AccountDataAll(ctx, g.userID)
	if err != nil {
		return err
	}
	for _, d := range data {
		g.addAccountData(d)
	}
	if err := g.addDefaultRules(); err != nil {
		return err
	}
	if err := g.addAllEphemeral(ctx, func(*room) bool { return true }); err != nil {
		return err
	}
	if err := g.addAllPresence(ctx); err != nil {
		return err
	}
	if g.devices {
		if err := g.addToDevice(ctx); err != nil {
			return err
		}
	}
	return g.finish(ctx)
}

// addAllLeft takes up all rooms that the user has left and not forgotten.
func (g *gathering) addAllLeft(ctx context.Context) error {
	own, err := g.ownInDatabase(ctx)
	if err != nil {
		return err
	}
	var left []*room
	for number, events := range own {
		if keeps(events[len(events)-1].Membership()) {
			continue
		}
		if r := g.leftRoom(number, events); r.own == nil {
			r.fresh, r.checked, r.stored = true, true, true
			left = append(left, r)
		}
	}
	return g.addLeft(ctx, left)
}

// fromDatabase gathers what is new for a client that was away for long.
func (g *gathering) fromDatabase(ctx context.Context) error {
	own, err := g.ownInDatabase(ctx)
	if err != nil {
		return err
	}
	if err := g.classify(ctx, own); err != nil {
		return err
	}
	g.addJoined()
	for _, r := range g.order {
		r.stored = r.own == nil
	}
	data, err := g.api.db.AccountDataSince(ctx, g.userID, g.since, g.upTo)
	if err != nil {
		return err
	}
	for _, d := range data {
		g.addAccountData(d)
	}
	if err := g.addEphemeralSince(ctx); err != nil {
		return err
	}
	if err := g.addPresenceSince(ctx); err != nil {
		return err
	}
	if err := g.addKept(ctx); err != nil {
		return err
	}
	if err := g.devicesFromDatabase(ctx, own); err != nil {
		return err
	}
	return g.finish(ctx)
}

// ownInDatabase finds the user's own member events.
func (g *gathering) ownInDatabase(ctx context.Context) (changes, error) {
	events, err := g.api.db.MembershipChanges(ctx, g.userID, g.since, g.upTo)
	if err != nil {
		return nil, err
	}
	rendered, err := g.api.rooms.Render(ctx, events)
	if err != nil {
		return nil, err
	}
	own := changes{}
	for _, e := range rendered {
		own[e.Room] = append(own[e.Room], e)
	}
	return own, nil
}

// addEphemeralSince adds the receipts of the rooms, and who types there, where
// that has changed.
func (g *gathering) addEphemeralSince(ctx context.Context) error {
	rooms := g.numbers(func(r *room) bool { return g.wantsEphemeral(r, "m.receipt") })
	receipts, err := g.api.db.ReceiptsSince(ctx, rooms, g.since, g.upTo)
	if err != nil {
		return err
	}
	for _, receipt := range receipts {
		g.addReceipt(receipt)
	}
	for _, r := range g.order {
		if typing, since := g.api.typing.In(r.id); since > g.since {
			g.addTyping(r, typing)
		}
	}
	return nil
}

// addAllEphemeral adds all receipts of the rooms that are chosen, and who types there.
func (g *gathering) addAllEphemeral(ctx context.Context, choose func(*room) bool) error {
	rooms := g.numbers(func(r *room) bool { return choose(r) && g.wantsEphemeral(r, "m.receipt") })
	receipts, err := g.api.db.ReceiptsOf(ctx, rooms)
	if err != nil {
		return err
	}
	for _, receipt := range receipts {
		g.addReceipt(receipt)
	}
	for _, r := range g.order {
		if typing, _ := g.api.typing.In(r.id); len(typing) > 0 && choose(r) {
			g.addTyping(r, typing)
		}
	}
	return nil
}

// addKept adds what was kept for the rooms that the user has come into: receipts,
// account data, who types.
func (g *gathering) addKept(ctx context.Context) error {
	joined := func(r *room) bool { return r.joined }
	if !slices.ContainsFunc(g.order, joined) {
		return nil
	}
	for _, r := range g.order {
		if r.joined {
			r.receipts, r.typed = nil, false
		}
	}
	if err := g.addAllEphemeral(ctx, joined); err != nil {
		return err
	}
	data, err := g.api.db.AccountDataAll(ctx, g.userID)
	if err != nil {
		return err
	}
	for _, d := range data {
		if r := g.rooms[d.Room]; r != nil && r.joined {
			g.addAccountData(d)
		}
	}
	return nil
}
