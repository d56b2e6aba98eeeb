package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

type profileRequest struct {
	UserID string `path:"userID"`
}

// profile is GET /profile/{userId}.
func (a *API) profile(ctx context.Context, _ web.Nobody, req *profileRequest) (*map[string]json.RawMessage, error) {
	if a.elsewhere(req.UserID) {
		return a.remoteProfile(ctx, req.UserID, "")
	}
	profile, err := a.accounts.Profile(ctx, req.UserID)
	return &profile, err
}

// elsewhere tells whether another server has the user's profile, and can be asked.
func (a *API) elsewhere(userID string) bool {
	return a.remote != nil && matrix.ValidUserID(userID) && matrix.ServerOf(userID) != a.rooms.ServerName()
}

// remoteProfile asks the user's own server.
func (a *API) remoteProfile(ctx context.Context, userID, field string) (*map[string]json.RawMessage, error) {
	fields, err := a.remote.QueryProfile(ctx, userID, field)
	if err == nil && field != "" && fields[field] == nil {
		err = matrix.NotFound.With("The profile has no such field")
	}
	return &fields, err
}

type profileFieldRequest struct {
	UserID string `path:"userID"`
	Key    string `path:"keyName"`
}

// profileField is GET /profile/{userId}/{keyName}.
func (a *API) profileField(ctx context.Context, _ web.Nobody, req *profileFieldRequest) (*map[string]json.RawMessage, error) {
	if a.elsewhere(req.UserID) {
		return a.remoteProfile(ctx, req.UserID, req.Key)
	}
	value, err := a.accounts.ProfileField(ctx, req.UserID, req.Key)
	return &map[string]json.RawMessage{req.Key: value}, err
}

type setProfileFieldRequest struct {
	UserID string `path:"userID"`
	Key    string `path:"keyName"`
	Body   map[string]json.RawMessage
}

// setProfileField is PUT /profile/{userId}/{keyName}.
func (a *API) setProfileField(ctx context.Context, who *account.Caller, req *setProfileFieldRequest) (*web.Empty, error) {
	if err := mayChangeProfile(who, req.UserID, req.Key); err != nil {
		return nil, err
	}
	value, ok := req.Body[req.Key]
	if !ok {
		return nil, matrix.MissingParam.With("The body has not the field that the path names")
	}
	changed, err := a.accounts.SetProfileField(ctx, req.UserID, req.Key, value)
	if err == nil && changed {
		a.spreadProfile(ctx, req.UserID, req.Key)
	}
	return nil, err
}

// deleteProfileField is DELETE /profile/{userId}/{keyName}.
func (a *API) deleteProfileField(ctx context.Context, who *account.Caller, req *profileFieldRequest) (*web.Empty, error) {
	if err := mayChangeProfile(who, req.UserID, req.Key); err != nil {
		return nil, err
	}
	changed, err := a.accounts.DeleteProfileField(ctx, req.UserID, req.Key)
	if err == nil && changed {
		a.spreadProfile(ctx, req.UserID, req.Key)
	}
	return nil, err
}

// mayChangeProfile lets guests change their display name alone ("Guest Access").
func mayChangeProfile(who *account.Caller, userID, key string) error {
	switch {
	case who.UserID != userID:
		return matrix.Forbidden.With("You can change your own profile only")
	case who.Suspended:
		return matrix.UserSuspended
	case who.Guest && key != "displayname":
		return matrix.GuestAccessForbidden
	}
	return nil
}

// spreadProfile tells the user's rooms of a new name or avatar, also when the client
// has gone meanwhile. A room that does not take it does not undo the change.
func (a *API) spreadProfile(ctx context.Context, userID, key string) {
	if key != "displayname" && key != "avatar_url" {
		return
	}
	if err := a.rooms.ProfileChanged(context.WithoutCancel(ctx), userID); err != nil {
		web.Logger(ctx).Warn("a room was not told of a new profile", "error", err)
	}
}
