package remote

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/roomserver"
)

const (
	// maxTemplate bounds an answer with one event, in bytes.
	maxTemplate = 256 << 10
	// maxState bounds an answer with a room's whole state, in bytes: about a hundred
	// thousand members.
	maxState = 128 << 20
	// maxStripped bounds an answer with what identifies a room, in bytes.
	maxStripped = 2 << 20

	usualTimeout = 30 * time.Second
	// stateTimeout is for answers that take the other server time to compute.
	stateTimeout = 3 * time.Minute
)

// MakeMember is GET /make_join, /make_leave or /make_knock, as membership says: a template for
// that membership of a user of this server. versions are those of rooms that this server
// can join or knock on.
func (c *Client) MakeMember(ctx context.Context, server, membership, roomID, userID string, versions []matrix.RoomVersion) (*roomserver.Template, error) {
	values := url.Values{}
	if membership != "leave" {
		for _, version := range versions {
			values.Add("ver", string(version))
		}
	}
	var answer struct {
		Version matrix.RoomVersion `json:"room_version"`
		Event   stdjson.RawMessage `json:"event"`
	}
	err := c.do(ctx, server, call{
		method: http.MethodGet, target: target("/_matrix/federation/v1/make_"+membership, roomID, userID) + query(values),
		events: true, explained: membership != "leave", limit: maxTemplate, timeout: usualTimeout,
	}, &answer)
	if err != nil {
		return nil, err
	}
	if !isObject(answer.Event) {
		return nil, &AnswerError{server, errors.New("a template without an event")}
	}
	if answer.Version == "" {
		answer.Version = "1"
	}
	return &roomserver.Template{Version: answer.Version, Event: answer.Event}, nil
}

func isObject(value stdjson.RawMessage) bool { return len(value) > 0 && value[0] == '{' }

// objectOrNil is value, nil in the place of what is no object.
func objectOrNil(value stdjson.RawMessage) stdjson.RawMessage {
	if !isObject(value) {
		return nil
	}
	return value
}

// inPair decodes an answer of the first version of the API: a list of the status and the
// answer proper.
type inPair struct{ answer any }

// UnmarshalJSON reads the second element of the list.
func (p inPair) UnmarshalJSON(text []byte) error {
	var pair []stdjson.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return errors.New("an answer that is not a status and an object")
	}
	return json.Unmarshal(pair[1], p.answer)
}

// doNewest does a request whose second version older servers do not know: these are asked
// again in the first one.
func (c *Client) doNewest(ctx context.Context, server string, r call, answer any) error {
	err := c.do(ctx, server, r, answer)
	refusal, refused := errors.AsType[*PeerError](err)
	if !refused || refusal.Status != http.StatusNotFound || refusal.Code != "" && refusal.Code != "M_UNRECOGNIZED" {
		return err
	}
	r.target = strings.Replace(r.target, "/v2/", "/v1/", 1)
	return c.do(ctx, server, r, &inPair{answer})
}

// SendJoin is PUT /send_join. With omitMembers the server may leave most members' events
// out.
func (c *Client) SendJoin(ctx context.Context, server string, join *matrix.Event, omitMembers bool) (*roomserver.SendJoinAnswer, error) {
	var answer struct {
		State          []stdjson.RawMessage `json:"state"`
		AuthChain      []stdjson.RawMessage `json:"auth_chain"`
		Event          stdjson.RawMessage   `json:"event"`
		MembersOmitted bool                 `json:"members_omitted"`
		Servers        []string             `json:"servers_in_room"`
	}
	err := c.doNewest(ctx, server, call{
		method: http.MethodPut,
		target: target("/_matrix/federation/v2/send_join", join.RoomID, join.ID) +
			query(url.Values{"omit_members": {strconv.FormatBool(omitMembers)}}),
		body: join.JSON, events: true, explained: true, limit: maxState, timeout: stateTimeout,
	}, &answer)
	if err != nil {
		return nil, err
	}
	servers := validServers(answer.Servers)
	switch {
	case answer.State == nil || answer.AuthChain == nil:
		err = errors.New("a join without state or auth_chain")
	case answer.MembersOmitted && !omitMembers:
		err = errors.New("a join without members, who were asked for")
	case answer.MembersOmitted && len(servers) == 0:
		err = errors.New("a join without members and without servers_in_room")
	}
	if err != nil {
		return nil, &AnswerError{server, err}
	}
	if !answer.MembersOmitted {
		servers = nil
	}
	return &roomserver.SendJoinAnswer{State: answer.State, AuthChain: answer.AuthChain, Event: objectOrNil(answer.Event),
		MembersOmitted: answer.MembersOmitted, Servers: servers}, nil
}

// validServers are the names in a list that can be server names, each once.
func validServers(names []string) []string {
	seen := make(map[string]bool, len(names))
	valid := []string{}
	for _, name := range names {
		if !seen[name] && matrix.ValidServerName(name) {
			valid = append(valid, name)
		}
		seen[name] = true
	}
	return valid
}

// SendLeave is PUT /send_leave.
func (c *Client) SendLeave(ctx context.Context, server string, leave *matrix.Event) error {
	return c.doNewest(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v2/send_leave", leave.RoomID, leave.ID),
		body: leave.JSON, limit: maxTemplate, timeout: usualTimeout,
	}, new(stdjson.RawMessage))
}

// SendKnock is PUT /send_knock. It gives knock_room_state: events that tell what room it is.
func (c *Client) SendKnock(ctx context.Context, server string, knock *matrix.Event) ([]stdjson.RawMessage, error) {
	var answer struct {
		State []stdjson.RawMessage `json:"knock_room_state"`
	}
	err := c.do(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v1/send_knock", knock.RoomID, knock.ID),
		body: knock.JSON, events: true, limit: maxStripped, timeout: usualTimeout,
	}, &answer)
	if err == nil && answer.State == nil {
		err = &AnswerError{server, errors.New("a knock without knock_room_state")}
	}
	return answer.State, err
}

// SendInvite is PUT /invite, for a user of that server: of version 2, and of version 1 for
// older servers. state are events that tell what room it is. It gives the event as the other
// server signed it.
func (c *Client) SendInvite(ctx context.Context, server string, invite *matrix.Event, state []stdjson.RawMessage) (stdjson.RawMessage, error) {
	event, err := c.inviteV2(ctx, server, invite, state)
	refusal, ok := errors.AsType[*PeerError](err)
	if ok && (refusal.Status == http.StatusBadRequest || refusal.Status == http.StatusNotFound) && invite.Version.EventIDInEvent() {
		event, err = c.inviteV1(ctx, server, invite, state)
	}
	if err == nil && !isObject(event) {
		err = &AnswerError{server, errors.New("an invite without an event")}
	}
	if err != nil {
		return nil, err
	}
	return event, nil
}

type eventContainer struct {
	Event stdjson.RawMessage `json:"event"`
}

func (c *Client) inviteV2(ctx context.Context, server string, invite *matrix.Event, state []stdjson.RawMessage) (stdjson.RawMessage, error) {
	body, err := json.Marshal(struct {
		Version matrix.RoomVersion   `json:"room_version"`
		Event   stdjson.RawMessage   `json:"event"`
		State   []stdjson.RawMessage `json:"invite_room_state"`
	}{invite.Version, invite.JSON, state})
	if err != nil {
		return nil, err
	}
	var answer eventContainer
	err = c.do(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v2/invite", invite.RoomID, invite.ID),
		body: body, events: true, explained: true, limit: maxStripped, timeout: usualTimeout,
	}, &answer)
	return answer.Event, err
}

// inviteV1 sends the event itself, with the state in unsigned, and gets a pair of a status
// and the event.
func (c *Client) inviteV1(ctx context.Context, server string, invite *matrix.Event, state []stdjson.RawMessage) (stdjson.RawMessage, error) {
	var event map[string]stdjson.RawMessage
	if err := json.Unmarshal(invite.JSON, &event); err != nil {
		return nil, err
	}
	var err error
	if event["unsigned"], err = json.Marshal(map[string]any{"invite_room_state": state}); err != nil {
		return nil, err
	}
	body, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	var answer []stdjson.RawMessage
	err = c.do(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v1/invite", invite.RoomID, invite.ID),
		body: body, events: true, limit: maxStripped, timeout: usualTimeout,
	}, &answer)
	if err != nil {
		return nil, err
	}
	var container eventContainer
	if len(answer) != 2 || json.Unmarshal(answer[1], &container) != nil {
		return nil, &AnswerError{server, errors.New("an invite that is no pair of a status and an event")}
	}
	return container.Event, nil
}

// ExchangeThirdPartyInvite is PUT /exchange_third_party_invite: it asks a server in the room
// to make an invite of this one, for a user who has been invited by an address.
func (c *Client) ExchangeThirdPartyInvite(ctx context.Context, server, roomID string, event []byte) error {
	return c.do(ctx, server, call{
		method: http.MethodPut, target: target("/_matrix/federation/v1/exchange_third_party_invite", roomID),
		body: event, limit: maxTemplate, timeout: usualTimeout,
	}, new(stdjson.RawMessage))
}
