package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

type createRoomRequest struct {
	Body struct {
		Visibility      string                     `json:"visibility"`
		RoomAliasName   string                     `json:"room_alias_name"`
		Name            string                     `json:"name"`
		Topic           string                     `json:"topic"`
		Invite          []string                   `json:"invite"`
		Invite3PID      []addressFields            `json:"invite_3pid"`
		RoomVersion     string                     `json:"room_version"`
		CreationContent map[string]json.RawMessage `json:"creation_content"`
		InitialState    []struct {
			Type     string          `json:"type"`
			StateKey string          `json:"state_key"`
			Content  json.RawMessage `json:"content"`
		} `json:"initial_state"`
		Preset              string                     `json:"preset"`
		IsDirect            bool                       `json:"is_direct"`
		PowerLevelsOverride map[string]json.RawMessage `json:"power_level_content_override"`
	}
}

// maxAddresses bounds the addresses that are invited to a new room: an identity server is
// asked about each.
const maxAddresses = 20

// createRoom is POST /createRoom.
func (a *API) createRoom(ctx context.Context, who *account.Caller, req *createRoomRequest) (*roomID, error) {
	body := &req.Body
	switch body.Visibility {
	case "", "private", "public":
	default:
		return nil, matrix.InvalidParam.With("visibility must be public or private")
	}
	if len(body.Invite3PID) > maxAddresses {
		return nil, matrix.InvalidParam.Withf("invite_3pid: invite at most %d addresses at once", maxAddresses)
	}
	draft := roomserver.RoomDraft{
		Creator: who.UserID, Version: matrix.RoomVersion(body.RoomVersion), Preset: body.Preset,
		Published: body.Visibility == "public", AliasName: body.RoomAliasName, Name: body.Name, Topic: body.Topic,
		Invite: body.Invite, IsDirect: body.IsDirect, CreationContent: body.CreationContent,
		PowerLevelsOverride: body.PowerLevelsOverride,
	}
	for _, address := range body.Invite3PID {
		invite, err := address.invite(who)
		if err != nil {
			return nil, err
		}
		draft.InviteAddresses = append(draft.InviteAddresses, invite)
	}
	for _, s := range body.InitialState {
		if s.Type == "" || s.Content == nil {
			return nil, matrix.BadJSON.With("initial_state: each event needs type and content")
		}
		draft.InitialState = append(draft.InitialState, roomserver.StateDraft{Type: s.Type, StateKey: s.StateKey, Content: s.Content})
	}
	id, err := a.rooms.Create(ctx, draft)
	if err != nil {
		return nil, err
	}
	a.presence.Active(who.UserID, who.DeviceID)
	return &roomID{id}, nil
}
