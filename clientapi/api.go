// Package clientapi is the client-server API but for sync and media: one file per
// module of the specification. Handlers only translate; the rules are in the
// packages below.
package clientapi

import (
	"net/http"

	"beep/account"
	"beep/roomserver"
	"beep/web"
)

// Parts are what the API stands on.
type Parts struct {
	Accounts *account.Accounts
	Rooms    *roomserver.Rooms
	// BaseURL is told to clients that log in, as the address of this server; ""
	// tells them nothing.
	BaseURL string
}

// API has the handlers.
type API struct {
	accounts *account.Accounts
	rooms    *roomserver.Rooms
	baseURL  string
}

// New is the API over these parts.
func New(p Parts) *API {
	return &API{accounts: p.Accounts, rooms: p.Rooms, baseURL: p.BaseURL}
}

// Routes registers all routes of the API.
func (a *API) Routes(rt *web.Router) {
	a.accountRoutes(rt)
	a.roomRoutes(rt)
}

// user is the authentication of routes that are not for guests.
func (a *API) user(r *http.Request) (*account.Caller, error) { return a.accounts.AuthenticateUser(r) }

// userOrGuest is the authentication of the routes that guests may use ("Guest Access").
func (a *API) userOrGuest(r *http.Request) (*account.Caller, error) {
	return a.accounts.Authenticate(r)
}
