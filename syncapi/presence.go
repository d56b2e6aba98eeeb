package syncapi

import (
	"context"
	"maps"

	"beep/account"
	"beep/storage"
)

// sharedPresence is of how many users the presence stays in memory.
const sharedPresence = 10_000

// wantsPresence tells whether the client wants to hear of a user's presence.
func (g *gathering) wantsPresence(userID string) bool {
	return g.api.presence.Enabled() && g.filter.Presence.Allows("m.presence", userID)
}

func (g *gathering) noPresence() bool {
	return !g.api.presence.Enabled() || g.filter.Presence.AllowsNothing()
}

// addPresent adds the presence, which has changed, of the user and of those with
// whom the user shares a room.
func (g *gathering) addPresent(ctx context.Context, changed map[string]storage.Presence) error {
	for userID, p := range changed {
		if !g.wantsPresence(userID) {
			continue
		}
		shares, err := g.sharesRoom(ctx, userID)
		if err != nil {
			return err
		}
		if shares {
			g.presence[userID] = p
		}
	}
	return nil
}

func (g *gathering) sharesRoom(ctx context.Context, userID string) (bool, error) {
	if userID == g.userID {
		return true, nil
	}
	s, err := g.api.sessions.acquire(ctx, userID)
	if err != nil {
		return false, err
	}
	defer g.api.sessions.release(s)
	other := g.api.sessions.look(s, g.upTo)
	if other.dead {
		return false, errWindow
	}
	return g.snapshot.sharesRoom(other.snapshot), nil
}

// addAllPresence adds the presence of everybody with whom the user shares a room
// and who is not offline.
func (g *gathering) addAllPresence(ctx context.Context) error {
	return g.addPresenceAround(ctx, func(p *storage.Presence) bool { return p.State != account.Offline })
}

// addPresenceSince adds what has changed of the presence of everybody with whom
// the user shares a room.
func (g *gathering) addPresenceSince(ctx context.Context) error {
	return g.addPresenceAround(ctx, func(*storage.Presence) bool { return true })
}

func (g *gathering) addPresenceAround(ctx context.Context, choose func(*storage.Presence) bool) error {
	if g.noPresence() {
		return nil
	}
	around, err := g.api.db.PresenceAround(ctx, g.userID, g.since, g.upTo)
	if err != nil {
		return err
	}
	for _, p := range around {
		if choose(&p) && g.wantsPresence(p.UserID) {
			g.presence[p.UserID] = p
		}
	}
	return nil
}

// finishPresence adds the presence of those with whom the user shares a room only
// now, and puts all presence into the answer.
func (g *gathering) finishPresence(ctx context.Context) error {
	if g.noPresence() {
		return nil
	}
	if err := g.addNewcomers(ctx); err != nil {
		return err
	}
	for _, p := range g.presence {
		g.answer.presence = append(g.answer.presence, g.api.presence.Refresh(p))
	}
	return nil
}

func (g *gathering) addNewcomers(ctx context.Context) error {
	if g.initial {
		return nil
	}
	joined, err := g.api.db.PresenceOfMembers(ctx, g.numbers(func(r *room) bool { return r.joined }))
	if err != nil {
		return err
	}
	var unknown []string
	for userID := range maps.Keys(g.newcomers) {
		if _, known := g.presence[userID]; !known && g.wantsPresence(userID) {
			unknown = append(unknown, userID)
		}
	}
	came, err := g.api.sessions.presence.get(ctx, unknown, func(missing []string) (map[string]storage.Presence, error) {
		return g.loadPresence(ctx, missing)
	})
	if err != nil {
		return err
	}
	for _, p := range joined {
		own := p.UserID == g.userID && p.State == account.Offline
		if !own && g.wantsPresence(p.UserID) {
			g.presence[p.UserID] = p
		}
	}
	maps.Copy(g.presence, came)
	return nil
}

func (g *gathering) loadPresence(ctx context.Context, userIDs []string) (map[string]storage.Presence, error) {
	list, err := g.api.db.PresenceOf(ctx, userIDs)
	found := make(map[string]storage.Presence, len(userIDs))
	for _, userID := range userIDs {
		found[userID] = storage.Presence{UserID: userID, State: account.Offline} // nobody was told of them yet
	}
	for _, p := range list {
		found[p.UserID] = p
	}
	return found, err
}
