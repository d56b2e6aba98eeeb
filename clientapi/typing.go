package clientapi

import (
	"context"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type typingRequest struct {
	RoomID string `path:"roomID"`
	UserID string `path:"userID"`
	Body   struct {
		Typing  *bool `json:"typing"`
		Timeout int64 `json:"timeout"` // ms
	}
}

// setTyping is PUT /rooms/{roomId}/typing/{userId}.
func (a *API) setTyping(ctx context.Context, who *account.Caller, req *typingRequest) (*web.Empty, error) {
	if err := ownOnly(who, req.UserID); err != nil {
		return nil, err
	}
	switch typing := req.Body.Typing; {
	case typing == nil:
		return nil, matrix.MissingParam.With("typing is missing")
	case req.Body.Timeout < 0:
		return nil, matrix.InvalidParam.With("timeout must not be negative")
	case !*typing:
		if _, err := a.rooms.Joined(ctx, req.RoomID, who.UserID); err != nil {
			return nil, err
		}
		a.typing.Stop(ctx, req.RoomID, who.UserID)
		return nil, nil
	}
	a.presence.Active(who.UserID, who.DeviceID)
	return nil, a.typing.Start(ctx, req.RoomID, who.UserID, typingTime(req.Body.Timeout))
}

// typingTime is the time that a client asks for in ms, or the usual one for 0.
func typingTime(timeout int64) time.Duration {
	if timeout == 0 {
		return roomserver.DefaultTyping
	}
	return time.Duration(min(timeout, time.Hour.Milliseconds())) * time.Millisecond
}
