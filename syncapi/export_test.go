package syncapi

import "beep/stream"

// Follow brings the sessions up to the present. It gives how many requests of the
// user wait, and the newest position that concerns the user.
func (a *API) Follow(userID string) (waiting int, last stream.Pos) {
	n := a.sessions
	n.mu.Lock()
	defer n.mu.Unlock()
	n.advance()
	s := n.users[userID]
	if s == nil {
		return 0, 0
	}
	return len(s.waiters), s.last
}

// Sessions tells how many sessions are in memory, how many places they have and
// how many rooms are listed.
func (a *API) Sessions() (users, places, rooms int) {
	n := a.sessions
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.users), n.places, len(n.rooms)
}

// Position is the newest position.
func (a *API) Position() int { return int(a.db.Clock.Current()) }

// Forget forgets everything that is in memory of users and rooms.
func (a *API) Forget() {
	n := a.sessions
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reset()
}
