package federation

import (
	"context"
	stdjson "encoding/json"

	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type versionAnswer struct {
	Server struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"server"`
}

// version is GET /version.
func (a *API) version(context.Context, web.Nobody, *struct{}) (*versionAnswer, error) {
	answer := &versionAnswer{}
	answer.Server.Name, answer.Server.Version = "Beep", a.Version
	return answer, nil
}

type profileRequest struct {
	UserID string `query:"user_id"`
	Field  string `query:"field"`
}

// queryProfile is GET /query/profile: a profile of a user of this server, or one field.
func (a *API) queryProfile(ctx context.Context, _ *Origin, req *profileRequest) (*map[string]stdjson.RawMessage, error) {
	if req.UserID == "" {
		return nil, matrix.MissingParam.With("user_id is missing")
	}
	if !matrix.ValidUserID(req.UserID) || matrix.ServerOf(req.UserID) != a.Signer.ServerName {
		return nil, matrix.NotFound.With("There is no such user on this server")
	}
	if req.Field == "" {
		profile, err := a.Accounts.Profile(ctx, req.UserID)
		return &profile, err
	}
	value, err := a.Accounts.ProfileField(ctx, req.UserID, req.Field)
	return &map[string]stdjson.RawMessage{req.Field: value}, err
}

type directoryRequest struct {
	Alias string `query:"room_alias"`
}

type directoryAnswer struct {
	RoomID  string   `json:"room_id"`
	Servers []string `json:"servers"`
}

// queryDirectory is GET /query/directory: the room that an alias of this server points to.
func (a *API) queryDirectory(ctx context.Context, _ *Origin, req *directoryRequest) (*directoryAnswer, error) {
	if !matrix.ValidRoomAlias(req.Alias) {
		return nil, matrix.InvalidParam.With("room_alias is not a room alias")
	}
	roomID, servers, err := a.Rooms.ResolveOwnAlias(ctx, req.Alias)
	return &directoryAnswer{roomID, servers}, err
}

type publicRoomsRequest struct {
	Limit      int    `query:"limit"`
	Since      string `query:"since"`
	ThirdParty string `query:"third_party_instance_id"`
}

// publicRooms is GET /publicRooms.
func (a *API) publicRooms(ctx context.Context, _ *Origin, req *publicRoomsRequest) (*roomserver.PublishedPage, error) {
	return a.published(ctx, roomserver.PublishedQuery{Limit: req.Limit, Since: req.Since}, req.ThirdParty)
}

type searchRoomsRequest struct {
	Body struct {
		Limit  int    `json:"limit"`
		Since  string `json:"since"`
		Filter struct {
			Search string    `json:"generic_search_term"`
			Types  []*string `json:"room_types"`
		} `json:"filter"`
		ThirdParty string `json:"third_party_instance_id"`
	}
}

// searchPublicRooms is POST /publicRooms.
func (a *API) searchPublicRooms(ctx context.Context, _ *Origin, req *searchRoomsRequest) (*roomserver.PublishedPage, error) {
	b := &req.Body
	return a.published(ctx, roomserver.PublishedQuery{Limit: b.Limit, Since: b.Since, Search: b.Filter.Search, Types: b.Filter.Types}, b.ThirdParty)
}

// published gives no rooms of networks that are reached through bridges: there are none.
func (a *API) published(ctx context.Context, q roomserver.PublishedQuery, thirdParty string) (*roomserver.PublishedPage, error) {
	if thirdParty != "" {
		return &roomserver.PublishedPage{}, nil
	}
	q.Remote = true
	return a.Rooms.PublishedRooms(ctx, q)
}

type hierarchyRequest struct {
	RoomID        string `path:"roomID"`
	SuggestedOnly bool   `query:"suggested_only"`
}

// hierarchy is GET /hierarchy/{roomId}.
func (a *API) hierarchy(ctx context.Context, who *Origin, req *hierarchyRequest) (*roomserver.Hierarchy, error) {
	return a.Serving.Hierarchy(ctx, who.Server, req.RoomID, req.SuggestedOnly)
}
