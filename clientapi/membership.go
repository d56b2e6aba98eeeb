package clientapi

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

type joinRequest struct {
	Room string   `path:"roomIDOrAlias"`
	Via  []string `query:"via"`
	Old  []string `query:"server_name"` // what via was called before
	// Body has reason and third_party_signed; what else a client puts in goes into
	// the member event, as other servers do it.
	Body map[string]json.RawMessage
}

// change reads the body of a join or knock.
func (req *joinRequest) change(who *account.Caller) (roomserver.MemberChange, error) {
	c := roomserver.MemberChange{Sender: who.UserID, Guest: who.Guest, Via: append(req.Via, req.Old...)}
	if raw, ok := req.Body["reason"]; ok {
		if err := json.Unmarshal(raw, &c.Reason); err != nil {
			return c, matrix.BadJSON.With("reason must be a string")
		}
	}
	content := maps.Clone(req.Body)
	delete(content, "reason")
	delete(content, "third_party_signed")
	if len(content) == 0 {
		return c, nil
	}
	var err error
	c.Content, err = json.Marshal(content)
	return c, err
}

// join is POST /join/{roomIdOrAlias} and POST /rooms/{roomId}/join.
func (a *API) join(ctx context.Context, who *account.Caller, req *joinRequest) (*roomID, error) {
	room, c, err := a.wanted(ctx, who, req)
	if err != nil {
		return nil, err
	}
	if proof := req.Body["third_party_signed"]; proof != nil {
		if err := a.rooms.ProveAddress(ctx, room, who.UserID, proof); err != nil {
			return nil, err
		}
	}
	if err := a.rooms.Join(ctx, room, c); err != nil {
		return nil, err
	}
	a.presence.Active(who.UserID, who.DeviceID)
	return &roomID{room}, nil
}

// knock is POST /knock/{roomIdOrAlias}.
func (a *API) knock(ctx context.Context, who *account.Caller, req *joinRequest) (*roomID, error) {
	room, c, err := a.wanted(ctx, who, req)
	if err != nil {
		return nil, err
	}
	if err := a.rooms.Knock(ctx, room, c); err != nil {
		return nil, err
	}
	return &roomID{room}, nil
}

// wanted is the room that a join or knock is about, by its id or an alias, and what is
// asked for.
func (a *API) wanted(ctx context.Context, who *account.Caller, req *joinRequest) (roomID string, c roomserver.MemberChange, err error) {
	if c, err = req.change(who); err != nil {
		return "", c, err
	}
	if strings.HasPrefix(req.Room, "#") {
		var servers []string
		roomID, servers, err = a.rooms.ResolveAlias(ctx, req.Room)
		c.Via = append(c.Via, servers...)
		return roomID, c, err
	}
	if !matrix.ValidRoomID(req.Room) {
		return "", c, matrix.InvalidParam.Withf("%q is neither a room id nor a room alias", req.Room)
	}
	return req.Room, c, nil
}

type reasonRequest struct {
	RoomID string `path:"roomID"`
	Body   struct {
		Reason string `json:"reason"`
	}
}

// leave is POST /rooms/{roomId}/leave.
func (a *API) leave(ctx context.Context, who *account.Caller, req *reasonRequest) (*web.Empty, error) {
	a.typing.Stop(ctx, req.RoomID, who.UserID)
	return nil, a.rooms.Leave(ctx, req.RoomID, roomserver.MemberChange{Sender: who.UserID, Reason: req.Body.Reason})
}

// forget is POST /rooms/{roomId}/forget.
func (a *API) forget(ctx context.Context, who *account.Caller, req *reasonRequest) (*web.Empty, error) {
	return nil, a.rooms.Forget(ctx, req.RoomID, who.UserID)
}

type targetRequest struct {
	RoomID string `path:"roomID"`
	Body   struct {
		UserID string `json:"user_id"`
		Reason string `json:"reason"`
		addressFields
	}
}

// addressFields name somebody by an address outside of Matrix.
type addressFields struct {
	IDServer string `json:"id_server"`
	IDToken  string `json:"id_access_token"`
	Medium   string `json:"medium"`
	Address  string `json:"address"`
}

func (f *addressFields) invite(who *account.Caller) (roomserver.AddressInvite, error) {
	if f.IDServer == "" || f.IDToken == "" || f.Medium == "" || f.Address == "" {
		return roomserver.AddressInvite{}, matrix.MissingParam.With("To invite by an address takes id_server, id_access_token, medium and address")
	}
	return roomserver.AddressInvite{AddressQuery: roomserver.AddressQuery{Server: f.IDServer, Token: f.IDToken, UserID: who.UserID,
		Medium: f.Medium, Address: f.Address}}, nil
}

func (req *targetRequest) change(who *account.Caller) (roomserver.MemberChange, error) {
	c := roomserver.MemberChange{Sender: who.UserID, Target: req.Body.UserID, Reason: req.Body.Reason}
	if c.Target == "" {
		return c, matrix.MissingParam.With("user_id is missing")
	}
	if !matrix.ValidUserID(c.Target) {
		return c, matrix.InvalidParam.Withf("user_id: %q is not a user id", c.Target)
	}
	return c, nil
}

// invite is POST /rooms/{roomId}/invite.
func (a *API) invite(ctx context.Context, who *account.Caller, req *targetRequest) (*web.Empty, error) {
	if req.Body.UserID == "" && req.Body.addressFields != (addressFields{}) {
		invite, err := req.Body.invite(who)
		if err != nil {
			return nil, err
		}
		return nil, a.rooms.InviteAddress(ctx, req.RoomID, invite)
	}
	return a.changeOf(ctx, who, req, a.rooms.Invite)
}

// kick is POST /rooms/{roomId}/kick.
func (a *API) kick(ctx context.Context, who *account.Caller, req *targetRequest) (*web.Empty, error) {
	return a.putOut(ctx, who, req, a.rooms.Kick)
}

// ban is POST /rooms/{roomId}/ban.
func (a *API) ban(ctx context.Context, who *account.Caller, req *targetRequest) (*web.Empty, error) {
	return a.putOut(ctx, who, req, a.rooms.Ban)
}

// unban is POST /rooms/{roomId}/unban.
func (a *API) unban(ctx context.Context, who *account.Caller, req *targetRequest) (*web.Empty, error) {
	return a.changeOf(ctx, who, req, a.rooms.Unban)
}

// putOut is changeOf for what ends a membership: whoever is out types no longer.
func (a *API) putOut(ctx context.Context, who *account.Caller, req *targetRequest,
	do func(context.Context, string, roomserver.MemberChange) error) (*web.Empty, error) {
	answer, err := a.changeOf(ctx, who, req, do)
	if err == nil {
		a.typing.Stop(ctx, req.RoomID, req.Body.UserID)
	}
	return answer, err
}

func (a *API) changeOf(ctx context.Context, who *account.Caller, req *targetRequest,
	do func(context.Context, string, roomserver.MemberChange) error) (*web.Empty, error) {
	c, err := req.change(who)
	if err != nil {
		return nil, err
	}
	return nil, do(ctx, req.RoomID, c)
}

type joinedRooms struct {
	JoinedRooms []string `json:"joined_rooms"`
}

// joinedRooms is GET /joined_rooms.
func (a *API) joinedRooms(ctx context.Context, who *account.Caller, _ *struct{}) (*joinedRooms, error) {
	ids, err := a.rooms.JoinedRooms(ctx, who.UserID)
	return &joinedRooms{ids}, err
}
