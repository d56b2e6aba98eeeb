package clientapi

import (
	"context"
	"net/http"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type listingAnswer struct {
	Visibility string `json:"visibility"`
}

// listing is GET /directory/list/room/{roomId}.
func (a *API) listing(ctx context.Context, _ web.Nobody, req *roomRequest) (*listingAnswer, error) {
	published, err := a.rooms.Published(ctx, req.RoomID)
	if published {
		return &listingAnswer{"public"}, err
	}
	return &listingAnswer{"private"}, err
}

type setListingRequest struct {
	RoomID string `path:"roomID"`
	Body   struct {
		Visibility string `json:"visibility"`
	}
}

// setListing is PUT /directory/list/room/{roomId}.
func (a *API) setListing(ctx context.Context, who *account.Caller, req *setListingRequest) (*web.Empty, error) {
	switch req.Body.Visibility {
	case "", "public", "private":
	default:
		return nil, matrix.InvalidParam.With("visibility must be public or private")
	}
	return nil, a.rooms.SetPublished(ctx, req.RoomID, who.UserID, who.Admin, req.Body.Visibility != "private")
}

// directoryReader lets anybody read the room directory of this server, and users alone
// have another server asked.
func (a *API) directoryReader(r *http.Request) (web.Nobody, error) {
	if !a.ownDirectory(r.URL.Query().Get("server")) {
		_, err := a.user(r)
		return web.Nobody{}, err
	}
	return web.Nobody{}, nil
}

func (a *API) ownDirectory(server string) bool { return server == "" || server == a.rooms.ServerName() }

type publicRoomsRequest struct {
	Server string `query:"server"`
	Limit  int    `query:"limit"`
	Since  string `query:"since"`
}

// publicRooms is GET /publicRooms.
func (a *API) publicRooms(ctx context.Context, _ web.Nobody, req *publicRoomsRequest) (*roomserver.PublishedPage, error) {
	return a.published(ctx, req.Server, roomserver.PublishedQuery{Limit: req.Limit, Since: req.Since})
}

type searchRoomsRequest struct {
	Server string `query:"server"`
	Body   struct {
		Limit  int    `json:"limit"`
		Since  string `json:"since"`
		Filter struct {
			Search string    `json:"generic_search_term"`
			Types  []*string `json:"room_types"`
		} `json:"filter"`
		ThirdParty string `json:"third_party_instance_id"`
	}
}

// searchPublicRooms is POST /publicRooms. No room is of a network that is reached through
// a bridge.
func (a *API) searchPublicRooms(ctx context.Context, _ *account.Caller, req *searchRoomsRequest) (*roomserver.PublishedPage, error) {
	b := &req.Body
	if b.ThirdParty != "" {
		return &roomserver.PublishedPage{}, nil
	}
	return a.published(ctx, req.Server, roomserver.PublishedQuery{Limit: b.Limit, Since: b.Since, Search: b.Filter.Search, Types: b.Filter.Types})
}

// published reads the room directory of a server, "" for this one.
func (a *API) published(ctx context.Context, server string, q roomserver.PublishedQuery) (*roomserver.PublishedPage, error) {
	switch {
	case a.ownDirectory(server):
		return a.rooms.PublishedRooms(ctx, q)
	case !matrix.ValidServerName(server):
		return nil, matrix.InvalidParam.Withf("%q is not the name of a server", server)
	case q.Limit < 0:
		return nil, matrix.InvalidParam.With("limit must not be negative")
	case a.remote == nil:
		return nil, matrix.NotFound.With("This server reaches no others")
	}
	q.Limit = min(q.Limit, roomserver.MaxPublished)
	return a.remote.PublicRooms(ctx, server, q)
}
