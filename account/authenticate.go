package account

import (
	"context"
	"errors"
	"net/http"

	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// Caller is who makes a request. Requests share it: it must not be changed.
type Caller struct {
	UserID string
	// DeviceID is "" for an application service that names no device.
	DeviceID  string
	Guest     bool
	Admin     bool
	Suspended bool
	// Appservice is the application service that acts as the user; nil otherwise.
	Appservice *Appservice
}

// LogUser is the user's id, for logs and rate limits.
func (c *Caller) LogUser() string { return c.UserID }

// Unlimited tells that rate limits do not hold for the caller.
func (c *Caller) Unlimited() bool { return c.Appservice != nil && !c.Appservice.Limited }

// Authenticate tells who makes a request, guests as well. M_MISSING_TOKEN,
// M_UNKNOWN_TOKEN, M_USER_LOCKED ("Using access tokens").
func (a *Accounts) Authenticate(r *http.Request) (*Caller, error) {
	return a.authenticate(r, false)
}

// AuthenticateUser is [Accounts.Authenticate] for what guests may not do.
// M_GUEST_ACCESS_FORBIDDEN.
func (a *Accounts) AuthenticateUser(r *http.Request) (*Caller, error) {
	caller, err := a.authenticate(r, false)
	if err == nil && caller.Guest {
		return nil, matrix.GuestAccessForbidden
	}
	return caller, err
}

// AuthenticateAdmin is [Accounts.Authenticate] for administrators of the server.
// M_FORBIDDEN.
func (a *Accounts) AuthenticateAdmin(r *http.Request) (*Caller, error) {
	caller, err := a.authenticate(r, false)
	if err == nil && !caller.Admin {
		return nil, matrix.Forbidden.With("Only an administrator of the server may do this")
	}
	return caller, err
}

// AuthenticateLocked is [Accounts.Authenticate] for what a locked account may still
// do: log out ("Account locking").
func (a *Accounts) AuthenticateLocked(r *http.Request) (*Caller, error) {
	return a.authenticate(r, true)
}

// AuthenticateOptional is [Accounts.AuthenticateUser] for requests that need no
// token. Without one the caller has no UserID.
func (a *Accounts) AuthenticateOptional(r *http.Request) (*Caller, error) {
	caller, err := a.AuthenticateUser(r)
	if errors.Is(err, matrix.MissingToken) {
		return &Caller{}, nil
	}
	return caller, err
}

func (a *Accounts) authenticate(r *http.Request, lockedToo bool) (*Caller, error) {
	token, ok := web.BearerToken(r)
	if !ok {
		return nil, matrix.MissingToken
	}
	hash := storage.HashToken(token)
	if as, ok := a.appservices[hash]; ok {
		query := r.URL.Query()
		return a.assert(r.Context(), as, query.Get("user_id"), query.Get("device_id"))
	}
	s, err := a.session(r.Context(), hash)
	if err != nil {
		return nil, err
	}
	now := a.nowMS()
	if s.expires != 0 && s.expires <= now {
		return nil, softLogout
	}
	if s.locked && !lockedToo {
		return nil, errLocked
	}
	if last := s.seen.Load(); now-last >= seenEvery && s.seen.CompareAndSwap(last, now) {
		a.noteSeen(r, &s.caller, now)
	}
	return &s.caller, nil
}

var errLocked = matrix.UserLocked.Field("soft_logout", true)

func (a *Accounts) noteSeen(r *http.Request, caller *Caller, now int64) {
	agent := printable(r.UserAgent(), maxAgent)
	ip := ""
	if addr := web.ClientAddr(r.Context()); addr.IsValid() {
		ip = addr.String()
	}
	a.seen.note(deviceKey{caller.UserID, caller.DeviceID}, storage.Seen{At: now, IP: ip, Agent: agent})
}

// session finds an access token in the cache or in the database. M_UNKNOWN_TOKEN.
func (a *Accounts) session(ctx context.Context, hash storage.Hash) (*cachedSession, error) {
	s, epoch := a.cache.get(hash)
	if s != nil {
		return s, nil
	}
	stored, err := a.db.SessionByToken(ctx, hash)
	if errors.Is(err, storage.ErrNotFound) || err == nil && stored.User.Deactivated {
		return nil, matrix.UnknownToken
	}
	if err != nil {
		return nil, err
	}
	if stored.Family != nil && !stored.Used {
		if err := a.useGeneration(ctx, &stored.AccessToken); err != nil {
			return nil, err
		}
		// That was a change, so put below refuses: the token's next use is kept.
	}
	fresh := &cachedSession{
		caller: Caller{
			UserID:    stored.UserID,
			DeviceID:  stored.DeviceID,
			Guest:     stored.User.Guest,
			Admin:     stored.User.Admin,
			Suspended: stored.User.Suspended,
		},
		expires: stored.Expires,
		locked:  stored.User.Locked,
	}
	a.cache.put(hash, fresh, epoch)
	return fresh, nil
}

// useGeneration ends the tokens that this one was given for ("Refreshing access
// tokens"): the client has it, and so needs them no more.
func (a *Accounts) useGeneration(ctx context.Context, t *storage.AccessToken) error {
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		gone, err := tx.UseGeneration(ctx, t.UserID, t.DeviceID, t.Family, t.Generation)
		tx.AfterCommit(func() { a.cache.drop(gone) })
		return err
	})
}
