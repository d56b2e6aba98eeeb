package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type receiptRequest struct {
	RoomID  string `path:"roomID"`
	Type    string `path:"receiptType"`
	EventID string `path:"eventID"`
	Body    struct {
		ThreadID *string `json:"thread_id"`
	}
}

// sendReceipt is POST /rooms/{roomId}/receipt/{receiptType}/{eventId}.
func (a *API) sendReceipt(ctx context.Context, who *account.Caller, req *receiptRequest) (*web.Empty, error) {
	var markers roomserver.ReadMarkers
	switch req.Type {
	case "m.read":
		markers.Read = req.EventID
	case "m.read.private":
		markers.ReadPrivate = req.EventID
	case "m.fully_read":
		markers.FullyRead = req.EventID
	default:
		return nil, matrix.InvalidParam.With("The type of a receipt is m.read, m.read.private or m.fully_read")
	}
	if thread := req.Body.ThreadID; thread != nil {
		if *thread == "" || req.Type == "m.fully_read" {
			return nil, matrix.InvalidParam.With("thread_id must not be empty, and m.fully_read has none")
		}
		markers.ThreadID = *thread
	}
	return nil, a.markRead(ctx, who, req.RoomID, markers)
}

// markRead checks the ids and moves the markers.
func (a *API) markRead(ctx context.Context, who *account.Caller, roomID string, markers roomserver.ReadMarkers) error {
	for _, id := range []string{markers.FullyRead, markers.Read, markers.ReadPrivate} {
		if id != "" && !matrix.ValidEventID(id) {
			return matrix.InvalidParam.With("This is not the id of an event")
		}
	}
	a.presence.Active(who.UserID, who.DeviceID)
	return a.rooms.MarkRead(ctx, roomID, who.UserID, markers)
}
