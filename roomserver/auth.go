package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/matrix-org/gomatrixserverlib"
	"github.com/matrix-org/gomatrixserverlib/spec"

	"beep/matrix"
	"beep/storage"
)

// stateEvent is a state event as authorisation needs it. A nil *stateEvent says
// that the state has none.
type stateEvent struct {
	*matrix.Event
	key, pos int64
	pdu      gomatrixserverlib.PDU
}

func newStateEvent(e *matrix.Event, key, pos int64) (*stateEvent, error) {
	pdu, err := e.PDU()
	if err != nil {
		return nil, err
	}
	return &stateEvent{Event: e, key: key, pos: pos, pdu: pdu}, nil
}

// current is the room's current event of the type and key, nil if there is none.
func (hot *hotRoom) current(ctx context.Context, q *storage.Reader, eventType, stateKey string) (*stateEvent, error) {
	name := stateName{eventType, stateKey}
	if known, ok := hot.state[name]; ok {
		return known, nil
	}
	entry, err := q.CurrentStateEvent(ctx, hot.room.Number, eventType, stateKey)
	if errors.Is(err, storage.ErrNotFound) {
		hot.remember(name, nil)
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	found, err := newStateEvent(entry.Event.Event, entry.Key, int64(entry.Pos))
	if err != nil {
		return nil, err
	}
	hot.remember(name, found)
	return found, nil
}

func (hot *hotRoom) remember(name stateName, e *stateEvent) {
	if len(hot.state) >= stateCacheLimit {
		clear(hot.state)
	}
	hot.state[name] = e
}

// authNames are the types and keys whose events authorise an event (server-server
// API, section "Auth events selection"). The create event comes first.
func authNames(v matrix.RoomVersion, p *matrix.Proto) []stateName {
	if p.Type == "m.room.create" {
		return nil
	}
	names := []stateName{
		{"m.room.create", ""}, {"m.room.power_levels", ""}, {"m.room.member", p.Sender},
	}
	if p.Type != "m.room.member" || p.StateKey == nil {
		return names
	}
	if *p.StateKey != p.Sender {
		names = append(names, stateName{"m.room.member", *p.StateKey})
	}
	var content struct {
		Membership       string `json:"membership"`
		Authorised       string `json:"join_authorised_via_users_server"`
		ThirdPartyInvite struct {
			Signed struct {
				Token string `json:"token"`
			} `json:"signed"`
		} `json:"third_party_invite"`
	}
	if json.Unmarshal(p.Content, &content) != nil {
		return names
	}
	switch content.Membership {
	case "join", "invite", "knock":
		names = append(names, stateName{"m.room.join_rules", ""})
	}
	if content.Membership == "invite" && content.ThirdPartyInvite.Signed.Token != "" {
		names = append(names, stateName{"m.room.third_party_invite", content.ThirdPartyInvite.Signed.Token})
	}
	if content.Membership == "join" && v.Restricted() && content.Authorised != "" &&
		content.Authorised != p.Sender && content.Authorised != *p.StateKey {
		names = append(names, stateName{"m.room.member", content.Authorised})
	}
	return names
}

// authState gives gomatrixserverlib the events that authorise an event.
type authState map[stateName]*stateEvent

func (a authState) get(eventType, stateKey string) (gomatrixserverlib.PDU, error) {
	if e := a[stateName{eventType, stateKey}]; e != nil {
		return e.pdu, nil
	}
	return nil, nil // what the library wants for "there is none"
}

// Create is the room's create event.
func (a authState) Create() (gomatrixserverlib.PDU, error) { return a.get("m.room.create", "") }

// JoinRules is the room's m.room.join_rules event.
func (a authState) JoinRules() (gomatrixserverlib.PDU, error) { return a.get("m.room.join_rules", "") }

// PowerLevels is the room's m.room.power_levels event.
func (a authState) PowerLevels() (gomatrixserverlib.PDU, error) {
	return a.get("m.room.power_levels", "")
}

// Member is the user's m.room.member event.
func (a authState) Member(user spec.SenderID) (gomatrixserverlib.PDU, error) {
	return a.get("m.room.member", string(user))
}

// ThirdPartyInvite is the m.room.third_party_invite event with the token.
func (a authState) ThirdPartyInvite(token string) (gomatrixserverlib.PDU, error) {
	return a.get("m.room.third_party_invite", token)
}

// Valid tells that all events are of one room: they come from its own state.
func (a authState) Valid() bool { return true }

// authorise checks the event against the authorisation rules of its room
// version. [matrix.Forbidden]: they refuse it.
func authorise(pdu gomatrixserverlib.PDU, state authState) error {
	err := gomatrixserverlib.Allowed(pdu, state, func(_ spec.RoomID, sender spec.SenderID) (*spec.UserID, error) {
		return spec.NewUserID(string(sender), true)
	})
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "eventauth: ")
		return matrix.Forbidden.With("The room's rules do not allow this: " + text)
	}
	return nil
}

// PowerLevels are the numbers of an m.room.power_levels event with the defaults
// of the specification filled in, and the creators who stand above them.
type PowerLevels struct {
	Ban, Invite, Kick, Redact, StateDefault, EventsDefault, UsersDefault int64
	Users, Events                                                        map[string]int64
	Notifications                                                        map[string]int64
	creators                                                             []string
}

// creatorLevel is what a creator of a room of version 12 has: more than any level.
const creatorLevel = matrix.MaxSafeInteger + 1

// User is the user's power level.
func (p *PowerLevels) User(userID string) int64 {
	for _, creator := range p.creators {
		if creator == userID {
			return creatorLevel
		}
	}
	if level, ok := p.Users[userID]; ok {
		return level
	}
	return p.UsersDefault
}

// Event is the level needed to send an event of the type.
func (p *PowerLevels) Event(eventType string, state bool) int64 {
	if level, ok := p.Events[eventType]; ok {
		return level
	}
	if state {
		return p.StateDefault
	}
	return p.EventsDefault
}

// level reads a power level: an integer or, as old room versions have it, an
// integer in a string.
type level int64

// UnmarshalJSON reads an integer or an integer in a string.
func (l *level) UnmarshalJSON(text []byte) error {
	n, err := strconv.ParseInt(strings.TrimSpace(strings.Trim(string(text), `"`)), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(text), 64)
		if ferr != nil {
			return err
		}
		n = int64(f)
	}
	*l = level(n)
	return nil
}

// readPowerLevels reads the power levels of a room from its create event and its
// power levels event, which may be nil.
func readPowerLevels(create, levels *matrix.Event) (*PowerLevels, error) {
	p := &PowerLevels{Ban: 50, Kick: 50, Redact: 50, StateDefault: 50, Users: map[string]int64{},
		Events: map[string]int64{}, Notifications: map[string]int64{"room": 50}}
	if create.Version.PrivilegedCreators() {
		p.creators = creators(create)
	}
	if levels == nil {
		p.StateDefault = 0
		if !create.Version.PrivilegedCreators() {
			creator := create.Sender
			if create.Version.CreatorInContent() {
				creator = create.ContentString("creator")
			}
			p.Users[creator] = 100
		}
		return p, nil
	}
	var content struct {
		Ban, Invite, Kick, Redact *level
		StateDefault              *level           `json:"state_default"`
		EventsDefault             *level           `json:"events_default"`
		UsersDefault              *level           `json:"users_default"`
		Users                     map[string]level `json:"users"`
		Events                    map[string]level `json:"events"`
		Notifications             map[string]level `json:"notifications"`
	}
	if err := json.Unmarshal(levels.Content, &content); err != nil {
		return nil, err
	}
	for target, given := range map[*int64]*level{
		&p.Ban: content.Ban, &p.Invite: content.Invite, &p.Kick: content.Kick, &p.Redact: content.Redact,
		&p.StateDefault: content.StateDefault, &p.EventsDefault: content.EventsDefault, &p.UsersDefault: content.UsersDefault,
	} {
		if given != nil {
			*target = int64(*given)
		}
	}
	for target, given := range map[*map[string]int64]map[string]level{
		&p.Users: content.Users, &p.Events: content.Events, &p.Notifications: content.Notifications,
	} {
		for name, l := range given {
			(*target)[name] = int64(l)
		}
	}
	return p, nil
}

// creators are the users with unbounded power in a room of version 12: the sender
// of its create event and the additional creators.
func creators(create *matrix.Event) []string {
	var content struct {
		Additional []string `json:"additional_creators"`
	}
	if json.Unmarshal(create.Content, &content) != nil {
		return []string{create.Sender}
	}
	return append([]string{create.Sender}, content.Additional...)
}
