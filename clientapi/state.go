package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

type roomRequest struct {
	RoomID string `path:"roomID"`
}

// roomState is GET /rooms/{roomId}/state.
func (a *API) roomState(ctx context.Context, who *account.Caller, req *roomRequest) (*eventList, error) {
	access, err := a.rooms.Access(ctx, req.RoomID, who.UserID)
	if err != nil {
		return nil, err
	}
	events, err := a.rooms.State(ctx, access)
	if err != nil {
		return nil, err
	}
	return &eventList{events, view(who)}, nil
}

type stateEventRequest struct {
	RoomID   string `path:"roomID"`
	Type     string `path:"type"`
	StateKey string `path:"stateKey,optional"`
	Format   string `query:"format"`
}

// stateEvent is GET /rooms/{roomId}/state/{eventType}/{stateKey}.
func (a *API) stateEvent(ctx context.Context, who *account.Caller, req *stateEventRequest) (*rawJSON, error) {
	access, err := a.rooms.Access(ctx, req.RoomID, who.UserID)
	if err != nil {
		return nil, err
	}
	e, err := a.rooms.StateEvent(ctx, access, req.Type, req.StateKey)
	if err != nil {
		return nil, err
	}
	switch req.Format {
	case "", "content":
		return &rawJSON{e.Content}, nil
	case "event":
		return &rawJSON{e.AppendJSON(nil, view(who))}, nil
	}
	return nil, matrix.InvalidParam.With("format must be content or event")
}

type membersRequest struct {
	RoomID        string `path:"roomID"`
	At            string `query:"at"`
	Membership    string `query:"membership"`
	NotMembership string `query:"not_membership"`
}

// members is GET /rooms/{roomId}/members.
func (a *API) members(ctx context.Context, who *account.Caller, req *membersRequest) (*eventChunk, error) {
	q := roomserver.MembersQuery{Membership: req.Membership, NotMembership: req.NotMembership}
	for _, m := range []string{q.Membership, q.NotMembership} {
		switch m {
		case "", "join", "invite", "leave", "ban", "knock":
		default:
			return nil, matrix.InvalidParam.Withf("%q is not a membership", m)
		}
	}
	if req.At != "" {
		at, err := roomserver.ParseToken(req.At)
		if err != nil {
			return nil, err
		}
		q.At = at
	}
	access, err := a.rooms.Access(ctx, req.RoomID, who.UserID)
	if err != nil {
		return nil, err
	}
	events, err := a.rooms.Members(ctx, access, q)
	if err != nil {
		return nil, err
	}
	return &eventChunk{events, view(who)}, nil
}

// joinedMembersAnswer maps user ids to what is shown of them.
type joinedMembersAnswer struct{ members []*roomserver.ClientEvent }

// AppendJSON writes {"joined": {user: {display_name, avatar_url}}}.
func (j *joinedMembersAnswer) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"joined":{`...)
	for i, e := range j.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(matrix.AppendString(dst, *e.StateKey), `:{`...)
		name, avatar := e.ContentString("displayname"), e.ContentString("avatar_url")
		if name != "" {
			dst = matrix.AppendString(append(dst, `"display_name":`...), name)
		}
		if avatar != "" {
			if name != "" {
				dst = append(dst, ',')
			}
			dst = matrix.AppendString(append(dst, `"avatar_url":`...), avatar)
		}
		dst = append(dst, '}')
	}
	return append(dst, "}}"...)
}

// joinedMembers is GET /rooms/{roomId}/joined_members, for members only.
func (a *API) joinedMembers(ctx context.Context, who *account.Caller, req *roomRequest) (*joinedMembersAnswer, error) {
	access, err := a.rooms.Access(ctx, req.RoomID, who.UserID)
	if err != nil {
		return nil, err
	}
	if access.Membership != "join" {
		return nil, matrix.Forbidden.With("You are not in this room")
	}
	members, err := a.rooms.Members(ctx, access, roomserver.MembersQuery{Membership: "join"})
	return &joinedMembersAnswer{members}, err
}
