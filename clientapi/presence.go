package clientapi

import (
	"context"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/storage"
	"beep/web"
)

type presenceRequest struct {
	UserID string `path:"userID"`
}

// presenceAnswer is what a user is shown of another one's presence.
type presenceAnswer struct{ presence storage.Presence }

// AppendJSON writes presence, currently_active, last_active_ago and status_msg.
func (p *presenceAnswer) AppendJSON(dst []byte) []byte {
	return account.AppendPresence(dst, p.presence, time.Now().UnixMilli())
}

// presenceStatus is GET /presence/{userId}/status.
func (a *API) presenceStatus(ctx context.Context, who *account.Caller, req *presenceRequest) (*presenceAnswer, error) {
	presence, err := a.presence.Status(ctx, who.UserID, req.UserID)
	return &presenceAnswer{presence}, err
}

type setPresenceRequest struct {
	UserID string `path:"userID"`
	Body   struct {
		Presence  string `json:"presence"`
		StatusMsg string `json:"status_msg"`
	}
}

// setPresence is PUT /presence/{userId}/status.
func (a *API) setPresence(_ context.Context, who *account.Caller, req *setPresenceRequest) (*web.Empty, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	if req.Body.Presence == "" {
		return nil, matrix.MissingParam.With("presence is missing: online, unavailable or offline")
	}
	return nil, a.presence.Set(who.UserID, who.DeviceID, req.Body.Presence, req.Body.StatusMsg)
}
