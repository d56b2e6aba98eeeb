package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/web"
)

type tagsRequest struct {
	UserID string `path:"userID"`
	RoomID string `path:"roomID"`
}

type tagsAnswer struct {
	Tags map[string]json.RawMessage `json:"tags"`
}

// tags is GET /user/{userId}/rooms/{roomId}/tags.
func (a *API) tags(ctx context.Context, who *account.Caller, req *tagsRequest) (*tagsAnswer, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	tags, err := a.accounts.Tags(ctx, who.UserID, req.RoomID)
	return &tagsAnswer{tags}, err
}

type setTagRequest struct {
	UserID string `path:"userID"`
	RoomID string `path:"roomID"`
	Tag    string `path:"tag"`
	Body   json.RawMessage
}

// setTag is PUT /user/{userId}/rooms/{roomId}/tags/{tag}.
func (a *API) setTag(ctx context.Context, who *account.Caller, req *setTagRequest) (*web.Empty, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	return nil, a.accounts.SetTag(ctx, who.UserID, req.RoomID, req.Tag, req.Body)
}

type deleteTagRequest struct {
	UserID string `path:"userID"`
	RoomID string `path:"roomID"`
	Tag    string `path:"tag"`
}

// deleteTag is DELETE /user/{userId}/rooms/{roomId}/tags/{tag}.
func (a *API) deleteTag(ctx context.Context, who *account.Caller, req *deleteTagRequest) (*web.Empty, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	return nil, a.accounts.DeleteTag(ctx, who.UserID, req.RoomID, req.Tag)
}
