// Package federation is the server-server API: what other servers may ask and tell.
package federation

import (
	"log/slog"

	"golang.org/x/sync/semaphore"

	"beep/account"
	"beep/federation/allow"
	"beep/federation/remote"
	"beep/keys"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/web"
)

// Parts are what the API is made of.
type Parts struct {
	// Version is that of the program.
	Version string
	// Signer signs what this server publishes. OwnKeys are its keys to be published: the
	// signer's, and those of former times with Expired.
	Signer  *matrix.Signer
	OwnKeys []matrix.ServerKey
	// Keys knows the keys of others. Without it the server is alone: it answers nothing
	// but what needs no authentication.
	Keys *remote.KeyRing
	// Heard is told of every request of a server that has proven its name; it may be nil.
	Heard func(server string)
	// Allow is the closed federation; nil for an open one.
	Allow    *allow.List
	DB       *storage.DB
	Accounts *account.Accounts
	Rooms    *roomserver.Rooms
	Serving  *roomserver.Serving
	Typing   *roomserver.Typing
	Presence *account.RemotePresence
	// UserKeys are the keys of this server's users and their devices.
	UserKeys *keys.Keys
	// Logger takes what happens beside the requests; nil discards it.
	Logger *slog.Logger
	// EDUs has handlers for types of EDUs beside m.typing, m.receipt and m.presence.
	EDUs map[string]EDUHandler
}

// API has the handlers.
type API struct {
	Parts
	edus   map[string]EDUHandler
	turns  *turns
	bodies *semaphore.Weighted // bytes of bodies that are in memory
}

// NewAPI is the API over its parts. Call [API.Run] beside it.
func NewAPI(p Parts) *API {
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{Parts: p, turns: newTurns(), bodies: semaphore.NewWeighted(maxBodies)}
	a.edus = a.eduHandlers()
	return a
}

// New is the API of a server that is alone.
func New(accounts *account.Accounts, rooms *roomserver.Rooms) *API {
	return NewAPI(Parts{Accounts: accounts, Rooms: rooms})
}

// limit is the rate limit of what other servers ask, by server. What needs no
// authentication is limited by address.
const limit = "federation"

// Routes registers all routes of the API.
func (a *API) Routes(rt *web.Router) {
	web.GET(rt, "/_matrix/federation/v1/openid/userinfo", web.Anyone, a.openIDUser, web.Limit("other"))
	a.thirdPartyRoutes(rt)
	if a.Keys == nil {
		return
	}
	a.openRoutes(rt)
	a.roomRoutes(rt)
	a.membershipRoutes(rt)
	web.PUT(rt, "/_matrix/federation/v1/send/{txnID}", a.origin, a.send, web.Limit(limit), web.MaxBody(maxTransaction))
	web.GET(rt, "/_matrix/federation/v1/query/profile", a.origin, a.queryProfile, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/query/directory", a.origin, a.queryDirectory, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/publicRooms", a.origin, a.publicRooms, web.Limit(limit))
	web.POST(rt, "/_matrix/federation/v1/publicRooms", a.origin, a.searchPublicRooms, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/user/devices/{userID}", a.origin, a.userDevices, web.Limit(limit))
	web.POST(rt, "/_matrix/federation/v1/user/keys/query", a.origin, a.queryUserKeys, web.Limit(limit))
	web.POST(rt, "/_matrix/federation/v1/user/keys/claim", a.origin, a.claimUserKeys, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/hierarchy/{roomID}", a.origin, a.hierarchy, web.Limit(limit))
}

func (a *API) openRoutes(rt *web.Router) {
	web.GET(rt, "/_matrix/federation/v1/version", web.Anyone, a.version, web.Limit("other"))
	// Older servers name a key in the path.
	web.GET(rt, "/_matrix/key/v2/server", web.Anyone, a.serverKeys, web.Limit("other"), web.Also("/_matrix/key/v2/server/{keyID}"))
	web.GET(rt, "/_matrix/key/v2/query/{server}", web.Anyone, a.queryKeys, web.Limit("other"), web.Also("/_matrix/key/v2/query/{server}/{keyID}"))
	web.POST(rt, "/_matrix/key/v2/query", web.Anyone, a.queryManyKeys, web.Limit("other"))
}

func (a *API) roomRoutes(rt *web.Router) {
	web.GET(rt, "/_matrix/federation/v1/event/{eventID}", a.origin, a.event, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/state/{roomID}", a.origin, a.state, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/state_ids/{roomID}", a.origin, a.stateIDs, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/event_auth/{roomID}/{eventID}", a.origin, a.eventAuth, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/backfill/{roomID}", a.origin, a.backfill, web.Limit(limit))
	web.POST(rt, "/_matrix/federation/v1/get_missing_events/{roomID}", a.origin, a.missingEvents, web.Limit(limit))
	web.GET(rt, "/_matrix/federation/v1/timestamp_to_event/{roomID}", a.origin, a.timestampToEvent, web.Limit(limit))
}
