// Package clientapi is the client-server API but for sync and media: one file per
// module of the specification. Handlers only translate; the rules are in the
// packages below.
package clientapi

import (
	"context"
	"encoding/json"
	"net/http"

	"beep/account"
	"beep/config"
	"beep/keys"
	"beep/matrix"
	"beep/push"
	"beep/roomserver"
	"beep/web"
)

// Parts are what the API stands on.
type Parts struct {
	Accounts *account.Accounts
	Rooms    *roomserver.Rooms
	Filters  *account.Filters
	Presence *account.Presence
	Typing   *roomserver.Typing
	Keys     *keys.Keys
	Push     *push.Rules
	// Remote asks other servers; nil for a server that is alone.
	Remote Remote
	// BaseURL is told to clients that log in or look for it, as the address of this
	// server; "" tells them nothing.
	BaseURL string
	// WellKnown is what is served under /.well-known/matrix/ besides.
	WellKnown config.WellKnown
}

// Remote is what the API asks of other servers.
type Remote interface {
	// QueryProfile gives the fields of a user's profile, or the one that is named
	// unless field is "".
	QueryProfile(ctx context.Context, userID, field string) (map[string]json.RawMessage, error)
	// PublicRooms gives a page of a server's room directory.
	PublicRooms(ctx context.Context, server string, q roomserver.PublishedQuery) (*roomserver.PublishedPage, error)
}

// API has the handlers.
type API struct {
	accounts *account.Accounts
	rooms    *roomserver.Rooms
	filters  *account.Filters
	presence *account.Presence
	typing   *roomserver.Typing
	keys     *keys.Keys
	// pushRuleSets are the push rules of users.
	pushRuleSets *push.Rules
	remote       Remote
	baseURL      string
	wellKnown    config.WellKnown
}

// New is the API over these parts.
func New(p Parts) *API {
	return &API{accounts: p.Accounts, rooms: p.Rooms, filters: p.Filters, presence: p.Presence, typing: p.Typing,
		keys: p.Keys, pushRuleSets: p.Push, remote: p.Remote, baseURL: p.BaseURL, wellKnown: p.WellKnown}
}

// Routes registers all routes of the API.
func (a *API) Routes(rt *web.Router) {
	a.accountRoutes(rt)
	a.roomRoutes(rt)
	a.userDataRoutes(rt)
	a.keyRoutes(rt)
}

// user is the authentication of routes that are not for guests.
func (a *API) user(r *http.Request) (*account.Caller, error) { return a.accounts.AuthenticateUser(r) }

// userOrGuest is the authentication of the routes that guests may use ("Guest Access").
func (a *API) userOrGuest(r *http.Request) (*account.Caller, error) {
	return a.accounts.Authenticate(r)
}

// active is the authentication of what a suspended account may not do ("Account
// suspension"): to write, to meet others, to change how it is shown.
func (a *API) active(r *http.Request) (*account.Caller, error) { return notSuspended(a.user(r)) }

// activeOrGuest is active for routes that guests may use.
func (a *API) activeOrGuest(r *http.Request) (*account.Caller, error) {
	return notSuspended(a.userOrGuest(r))
}

func notSuspended(who *account.Caller, err error) (*account.Caller, error) {
	if err == nil && who.Suspended {
		return nil, matrix.UserSuspended
	}
	return who, err
}
