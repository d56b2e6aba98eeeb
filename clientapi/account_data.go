package clientapi

import (
	"context"
	"encoding/json"
	"errors"

	"beep/account"
	"beep/matrix"
	"beep/push"
	"beep/web"
)

// ownOnly refuses what is about another user's account.
func ownOnly(who *account.Caller, userID string) error {
	if who.UserID != userID {
		return matrix.Forbidden.With("This is another user's")
	}
	return nil
}

type accountDataRequest struct {
	UserID string `path:"userID"`
	RoomID string `path:"roomID,optional"`
	Type   string `path:"type"`
}

// accountData is GET /user/{userId}/account_data/{type}, and the same of a room.
func (a *API) accountData(ctx context.Context, who *account.Caller, req *accountDataRequest) (*rawJSON, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	content, err := a.accounts.AccountData(ctx, who.UserID, req.RoomID, req.Type)
	if req.RoomID == "" && req.Type == push.RulesType && errors.Is(err, matrix.NotFound) {
		content, err = push.DefaultContent(who.UserID)
	}
	return &rawJSON{content}, err
}

type setAccountDataRequest struct {
	UserID string `path:"userID"`
	RoomID string `path:"roomID,optional"`
	Type   string `path:"type"`
	Body   json.RawMessage
}

// setAccountData is PUT /user/{userId}/account_data/{type}, and the same of a room.
func (a *API) setAccountData(ctx context.Context, who *account.Caller, req *setAccountDataRequest) (*web.Empty, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	return nil, a.accounts.SetAccountData(ctx, who.UserID, req.RoomID, req.Type, req.Body)
}
