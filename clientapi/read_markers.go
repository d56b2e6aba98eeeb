package clientapi

import (
	"context"

	"beep/account"
	"beep/roomserver"
	"beep/web"
)

type readMarkersRequest struct {
	RoomID string `path:"roomID"`
	Body   struct {
		FullyRead   string `json:"m.fully_read"`
		Read        string `json:"m.read"`
		ReadPrivate string `json:"m.read.private"`
	}
}

// setReadMarkers is POST /rooms/{roomId}/read_markers.
func (a *API) setReadMarkers(ctx context.Context, who *account.Caller, req *readMarkersRequest) (*web.Empty, error) {
	return nil, a.markRead(ctx, who, req.RoomID, roomserver.ReadMarkers{
		FullyRead: req.Body.FullyRead, Read: req.Body.Read, ReadPrivate: req.Body.ReadPrivate,
	})
}
