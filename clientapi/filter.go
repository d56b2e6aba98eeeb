package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
)

type defineFilterRequest struct {
	UserID string `path:"userID"`
	Body   json.RawMessage
}

type filterID struct {
	FilterID string `json:"filter_id"`
}

// defineFilter is POST /user/{userId}/filter.
func (a *API) defineFilter(ctx context.Context, who *account.Caller, req *defineFilterRequest) (*filterID, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	id, err := a.filters.Define(ctx, who.UserID, req.Body)
	return &filterID{id}, err
}

type filterRequest struct {
	UserID   string `path:"userID"`
	FilterID string `path:"filterID"`
}

// filter is GET /user/{userId}/filter/{filterId}.
func (a *API) filter(ctx context.Context, who *account.Caller, req *filterRequest) (*rawJSON, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	definition, err := a.filters.Definition(ctx, who.UserID, req.FilterID)
	return &rawJSON{definition}, err
}
