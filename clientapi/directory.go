package clientapi

import (
	"context"

	"beep/account"
	"beep/web"
)

type aliasRequest struct {
	Alias string `path:"roomAlias"`
}

type aliasAnswer struct {
	RoomID  string   `json:"room_id"`
	Servers []string `json:"servers"`
}

// resolveAlias is GET /directory/room/{roomAlias}.
func (a *API) resolveAlias(ctx context.Context, _ web.Nobody, req *aliasRequest) (*aliasAnswer, error) {
	id, servers, err := a.rooms.ResolveAlias(ctx, req.Alias)
	return &aliasAnswer{id, servers}, err
}

type setAliasRequest struct {
	Alias string `path:"roomAlias"`
	Body  struct {
		RoomID string `json:"room_id"`
	}
}

// setAlias is PUT /directory/room/{roomAlias}.
func (a *API) setAlias(ctx context.Context, who *account.Caller, req *setAliasRequest) (*web.Empty, error) {
	return nil, a.rooms.SetAlias(ctx, req.Alias, req.Body.RoomID, who.UserID)
}

// deleteAlias is DELETE /directory/room/{roomAlias}.
func (a *API) deleteAlias(ctx context.Context, who *account.Caller, req *aliasRequest) (*web.Empty, error) {
	return nil, a.rooms.DeleteAlias(ctx, req.Alias, who.UserID, who.Admin)
}

type aliasesAnswer struct {
	Aliases []string `json:"aliases"`
}

// aliases is GET /rooms/{roomId}/aliases.
func (a *API) aliases(ctx context.Context, who *account.Caller, req *roomRequest) (*aliasesAnswer, error) {
	names, err := a.rooms.Aliases(ctx, req.RoomID, who.UserID)
	return &aliasesAnswer{names}, err
}
