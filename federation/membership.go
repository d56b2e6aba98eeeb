package federation

import (
	"context"
	"encoding/json"

	"beep/federation/allow"
	"beep/matrix"
	"beep/roomserver"
	"beep/web"
)

// membershipRoutes are the routes on which users of other servers come into rooms and
// leave them, and by which users of this server are invited.
func (a *API) membershipRoutes(rt *web.Router) {
	const v1, v2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
	const event, user = "/{roomID}/{eventID}", "/{roomID}/{userID}"
	web.GET(rt, v1+"/make_join"+user, a.origin, a.makeJoin, web.Limit(limit))
	web.GET(rt, v1+"/make_leave"+user, a.origin, a.makeLeave, web.Limit(limit))
	web.GET(rt, v1+"/make_knock"+user, a.origin, a.makeKnock, web.Limit(limit))
	web.PUT(rt, v1+"/send_join"+event, a.origin, a.sendJoinV1, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v2+"/send_join"+event, a.origin, a.sendJoin, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v1+"/send_leave"+event, a.origin, a.sendLeaveV1, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v2+"/send_leave"+event, a.origin, a.sendLeave, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v1+"/send_knock"+event, a.origin, a.sendKnock, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v1+"/invite"+event, a.origin, a.inviteV1, web.Limit(limit), web.MaxBody(maxInvite))
	web.PUT(rt, v2+"/invite"+event, a.origin, a.invite, web.Limit(limit), web.MaxBody(maxInvite))
}

// maxInvite bounds the body of a membership event with what is shown of its room, in
// bytes.
const maxInvite = 1 << 20

type makeRequest struct {
	RoomID   string   `path:"roomID"`
	UserID   string   `path:"userID"`
	Versions []string `query:"ver"`
}

// template is the answer of /make_join and its like.
type template struct {
	Version matrix.RoomVersion `json:"room_version"`
	Event   json.RawMessage    `json:"event"`
}

// makeJoin is GET /make_join/{roomId}/{userId}.
func (a *API) makeJoin(ctx context.Context, who *Origin, req *makeRequest) (*template, error) {
	if len(req.Versions) == 0 {
		req.Versions = []string{"1"} // what a server speaks that says nothing
	}
	return a.makeMember(ctx, who, req, "join")
}

// makeLeave is GET /make_leave/{roomId}/{userId}.
func (a *API) makeLeave(ctx context.Context, who *Origin, req *makeRequest) (*template, error) {
	req.Versions = nil
	return a.makeMember(ctx, who, req, "leave")
}

// makeKnock is GET /make_knock/{roomId}/{userId}.
func (a *API) makeKnock(ctx context.Context, who *Origin, req *makeRequest) (*template, error) {
	if len(req.Versions) == 0 {
		return nil, matrix.MissingParam.With("ver is missing: the room versions that your server speaks")
	}
	return a.makeMember(ctx, who, req, "knock")
}

func (a *API) makeMember(ctx context.Context, who *Origin, req *makeRequest, membership string) (*template, error) {
	if !matrix.ValidUserID(req.UserID) || matrix.ServerOf(req.UserID) != who.Server {
		return nil, matrix.Forbidden.With("The user is not one of your server")
	}
	if err := a.Serving.Admit(ctx, who.Server, req.RoomID); err != nil {
		return nil, err
	}
	var versions []matrix.RoomVersion
	for _, v := range req.Versions {
		versions = append(versions, matrix.RoomVersion(v))
	}
	t, err := a.Rooms.MakeMember(ctx, req.RoomID, req.UserID, membership, versions)
	if err != nil {
		return nil, err
	}
	return &template{t.Version, t.Event}, nil
}

type sendMemberRequest struct {
	RoomID      string `path:"roomID"`
	EventID     string `path:"eventID"`
	OmitMembers bool   `query:"omit_members"`
	Body        json.RawMessage
}

// joinAnswer is the answer to a join.
type joinAnswer struct {
	*roomserver.JoinAnswer
	omitted bool
}

// AppendJSON writes state, auth_chain, event and what belongs to them.
func (j *joinAnswer) AppendJSON(dst []byte) []byte {
	dst = appendEvents(append(dst, `{"auth_chain":`...), j.AuthChain)
	dst = append(append(dst, `,"event":`...), j.Event.JSON...)
	if dst = append(dst, `,"members_omitted":false`...); j.omitted {
		dst = append(dst[:len(dst)-len("false")], "true"...)
		dst = append(dst, `,"servers_in_room":[`...)
		for i, server := range j.Servers {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = matrix.AppendString(dst, server)
		}
		dst = append(dst, ']')
	}
	return append(appendEvents(append(dst, `,"state":`...), j.State), '}')
}

func appendEvents(dst []byte, events []*matrix.Event) []byte {
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e.JSON...)
	}
	return append(dst, ']')
}

// sendJoin is PUT /v2/send_join/{roomId}/{eventId}.
func (a *API) sendJoin(ctx context.Context, who *Origin, req *sendMemberRequest) (*joinAnswer, error) {
	join, err := a.accept(ctx, who, req, "join")
	if err != nil {
		return nil, err
	}
	state, err := a.Rooms.JoinState(ctx, join, req.OmitMembers)
	return &joinAnswer{state, req.OmitMembers}, err
}

// sendJoinV1 is PUT /v1/send_join/{roomId}/{eventId}.
func (a *API) sendJoinV1(ctx context.Context, who *Origin, req *sendMemberRequest) (*inList, error) {
	req.OmitMembers = false
	answer, err := a.sendJoin(ctx, who, req)
	if err != nil {
		return nil, err
	}
	return &inList{answer.AppendJSON(nil)}, nil
}

// inList is an answer of the first version of the API: a list of the status and the
// answer proper.
type inList struct{ answer []byte }

// AppendJSON writes the list.
func (l *inList) AppendJSON(dst []byte) []byte {
	return append(append(append(dst, `[200,`...), l.answer...), ']')
}

func (a *API) accept(ctx context.Context, who *Origin, req *sendMemberRequest, membership string) (*matrix.Event, error) {
	if err := a.Serving.Admit(ctx, who.Server, req.RoomID); err != nil {
		return nil, err
	}
	return a.Rooms.AcceptMember(ctx, who.Server, req.RoomID, req.EventID, membership, req.Body)
}

// sendLeave is PUT /v2/send_leave/{roomId}/{eventId}.
func (a *API) sendLeave(ctx context.Context, who *Origin, req *sendMemberRequest) (*web.Empty, error) {
	_, err := a.accept(ctx, who, req, "leave")
	return nil, err
}

// sendLeaveV1 is PUT /v1/send_leave/{roomId}/{eventId}.
func (a *API) sendLeaveV1(ctx context.Context, who *Origin, req *sendMemberRequest) (*inList, error) {
	_, err := a.accept(ctx, who, req, "leave")
	return &inList{[]byte(`{}`)}, err
}

type knockAnswer struct {
	State []json.RawMessage `json:"knock_room_state"`
}

// sendKnock is PUT /v1/send_knock/{roomId}/{eventId}.
func (a *API) sendKnock(ctx context.Context, who *Origin, req *sendMemberRequest) (*knockAnswer, error) {
	if _, err := a.accept(ctx, who, req, "knock"); err != nil {
		return nil, err
	}
	state, err := a.Rooms.KnockState(ctx, req.RoomID)
	return &knockAnswer{state}, err
}

type inviteRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `path:"eventID"`
	Body    struct {
		Version matrix.RoomVersion `json:"room_version"`
		Event   json.RawMessage    `json:"event"`
		State   []json.RawMessage  `json:"invite_room_state"`
	}
}

type inviteAnswer struct {
	Event json.RawMessage `json:"event"`
}

// invite is PUT /v2/invite/{roomId}/{eventId}.
func (a *API) invite(ctx context.Context, who *Origin, req *inviteRequest) (*inviteAnswer, error) {
	return a.acceptInvite(ctx, who, roomserver.InviteOffer{RoomID: req.RoomID, EventID: req.EventID,
		Version: req.Body.Version, Event: req.Body.Event, State: req.Body.State})
}

func (a *API) acceptInvite(ctx context.Context, who *Origin, offer roomserver.InviteOffer) (*inviteAnswer, error) {
	if err := a.Serving.Admit(ctx, who.Server, offer.RoomID); err != nil {
		return nil, err
	}
	if err := a.Allow.Admit(ctx, allow.Invite, who.Server, allow.About{Room: offer.RoomID}); err != nil {
		return nil, err
	}
	signed, err := a.Rooms.AcceptInvite(ctx, who.Server, offer)
	if err != nil {
		return nil, err
	}
	return &inviteAnswer{signed.JSON}, nil
}

// inviteV1 is PUT /v1/invite/{roomId}/{eventId}, for rooms of the versions 1 and 2.
func (a *API) inviteV1(ctx context.Context, who *Origin, req *sendMemberRequest) (*inList, error) {
	var event struct {
		Unsigned struct {
			State []json.RawMessage `json:"invite_room_state"`
		} `json:"unsigned"`
	}
	if err := json.Unmarshal(req.Body, &event); err != nil {
		return nil, matrix.BadJSON.With("unsigned.invite_room_state must be a list").Because(err)
	}
	answer, err := a.acceptInvite(ctx, who, roomserver.InviteOffer{RoomID: req.RoomID, EventID: req.EventID,
		Version: "1", Event: req.Body, State: event.Unsigned.State})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(answer)
	return &inList{raw}, err
}
