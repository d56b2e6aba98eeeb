package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

type sendRequest struct {
	RoomID string `path:"roomID"`
	Type   string `path:"type"`
	TxnID  string `path:"txnID"`
	Body   json.RawMessage
}

// sendMessage is PUT /rooms/{roomId}/send/{eventType}/{txnId}.
func (a *API) sendMessage(ctx context.Context, who *account.Caller, req *sendRequest) (*eventID, error) {
	id, err := a.rooms.Send(ctx, req.RoomID, roomserver.Draft{Type: req.Type, Content: req.Body,
		Sender: who.UserID, Device: who.DeviceID, TxnID: req.TxnID})
	if err != nil {
		return nil, err
	}
	a.presence.Active(who.UserID, who.DeviceID)
	return &eventID{id}, nil
}

type sendStateRequest struct {
	RoomID   string `path:"roomID"`
	Type     string `path:"type"`
	StateKey string `path:"stateKey,optional"`
	Body     json.RawMessage
}

// sendState is PUT /rooms/{roomId}/state/{eventType}/{stateKey}. Memberships go
// the way of the membership endpoints, which fill in what they need.
func (a *API) sendState(ctx context.Context, who *account.Caller, req *sendStateRequest) (*eventID, error) {
	id, err := a.rooms.SendState(ctx, req.RoomID, roomserver.Draft{Type: req.Type, StateKey: &req.StateKey,
		Content: req.Body, Sender: who.UserID})
	if err != nil {
		return nil, err
	}
	return &eventID{id}, nil
}

type redactRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `path:"eventID"`
	TxnID   string `path:"txnID"`
	Body    struct {
		Reason string `json:"reason"`
	}
}

// redact is PUT /rooms/{roomId}/redact/{eventId}/{txnId}.
func (a *API) redact(ctx context.Context, who *account.Caller, req *redactRequest) (*eventID, error) {
	if !matrix.ValidEventID(req.EventID) {
		return nil, matrix.InvalidParam.Withf("%q is not an event id", req.EventID)
	}
	if err := a.checkSuspendedRedaction(ctx, who, req); err != nil {
		return nil, err
	}
	content := map[string]string{}
	if req.Body.Reason != "" {
		content["reason"] = req.Body.Reason
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	id, err := a.rooms.Send(ctx, req.RoomID, roomserver.Draft{Type: "m.room.redaction", Content: raw, Redacts: req.EventID,
		Sender: who.UserID, Device: who.DeviceID, TxnID: req.TxnID})
	if err != nil {
		return nil, err
	}
	return &eventID{id}, nil
}

// checkSuspendedRedaction lets a suspended user take back own events only.
func (a *API) checkSuspendedRedaction(ctx context.Context, who *account.Caller, req *redactRequest) error {
	if !who.Suspended {
		return nil
	}
	e, _, err := a.rooms.Event(ctx, req.RoomID, who.UserID, req.EventID)
	if err == nil && e.Sender != who.UserID {
		return matrix.UserSuspended
	}
	return err
}
