package authrules

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

// Event is an event with its content read for the rules. It is immutable, and may
// be kept and shared.
type Event struct {
	*matrix.Event

	create *createContent // of m.room.create
	member *memberContent // of m.room.member
	rule   string         // join_rule of m.room.join_rules
	levels *levelsContent // of m.room.power_levels
	keys   [][]byte       // public keys of m.room.third_party_invite
}

// New reads the event's content as far as the rules need it. It cannot fail: content
// that is not as it should be is found by [Allowed].
func New(e *matrix.Event) *Event {
	read := &Event{Event: e}
	switch e.Type {
	case "m.room.create":
		read.create = readCreate(e)
	case "m.room.member":
		read.member = readMember(e.Content)
	case "m.room.join_rules":
		read.rule = readJoinRule(e.Content)
	case "m.room.power_levels":
		read.levels = readLevels(e.Version, e.Content)
	case "m.room.third_party_invite":
		read.keys = readPublicKeys(e.Content)
	}
	return read
}

// Membership is content.membership of an m.room.member event, "" when it is none.
func (e *Event) Membership() string {
	if e.member == nil {
		return ""
	}
	return e.member.membership
}

// Creators are the users who made the room, by its m.room.create event: in room version
// 12 they stand above all power levels, before there is one, who has 100 without power levels.
func (e *Event) Creators() []string {
	if e.create == nil {
		return nil
	}
	return e.create.creators
}

// text is the string that raw writes. ok is false when it is something else.
func text(raw jsontext.Value) (s string, ok bool) {
	if raw.Kind() != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// createContent is what the rules read in m.room.create.
type createContent struct {
	creators    []string // at least one
	unfederated bool     // m.federate is false
	fault       string   // why the content is refused, "" if it is not
}

func readCreate(e *matrix.Event) *createContent {
	var content struct {
		Creator    jsontext.Value `json:"creator"`
		Version    jsontext.Value `json:"room_version"`
		Federate   jsontext.Value `json:"m.federate"`
		Additional jsontext.Value `json:"additional_creators"`
	}
	c := &createContent{creators: []string{e.Sender}}
	if json.Unmarshal(e.Content, &content) != nil {
		c.fault = "the content of m.room.create cannot be read"
		return c
	}
	c.unfederated = string(content.Federate) == "false"
	if version, ok := text(content.Version); content.Version != nil && (!ok || !matrix.RoomVersion(version).Supported()) {
		c.fault = "the room version is unknown"
	}
	if e.Version.CreatorInContent() {
		creator, _ := text(content.Creator)
		if c.creators = []string{creator}; content.Creator == nil {
			c.fault = "m.room.create does not name the creator"
		}
	}
	if e.Version.PrivilegedCreators() && content.Additional != nil {
		c.addCreators(content.Additional)
	}
	return c
}

func (c *createContent) addCreators(raw jsontext.Value) {
	var additional []string
	if raw.Kind() != '[' || json.Unmarshal(raw, &additional) != nil {
		c.fault = "additional_creators is not a list of user ids"
		return
	}
	for _, user := range additional {
		if !matrix.ValidUserID(user) {
			c.fault = "additional_creators is not a list of user ids"
			return
		}
	}
	c.creators = append(c.creators, additional...)
}

// memberContent is what the rules read in m.room.member.
type memberContent struct {
	membership string         // "" when there is none
	authoriser string         // join_authorised_via_users_server
	thirdParty jsontext.Value // third_party_invite as written, nil without
	signed     *signedContent // third_party_invite.signed, nil unless it has mxid and token
}

type signedContent struct {
	user, token string
	raw         jsontext.Value
}

func readMember(raw []byte) *memberContent {
	var content struct {
		Membership jsontext.Value `json:"membership"`
		Authoriser jsontext.Value `json:"join_authorised_via_users_server"`
		ThirdParty jsontext.Value `json:"third_party_invite"`
	}
	if json.Unmarshal(raw, &content) != nil {
		return &memberContent{}
	}
	m := &memberContent{thirdParty: content.ThirdParty}
	m.membership, _ = text(content.Membership)
	m.authoriser, _ = text(content.Authoriser)
	if m.membership == "invite" && m.thirdParty != nil {
		m.signed = readSigned(m.thirdParty)
	}
	return m
}

func readSigned(raw jsontext.Value) *signedContent {
	var invite struct {
		Signed jsontext.Value `json:"signed"`
	}
	var signed struct {
		User  jsontext.Value `json:"mxid"`
		Token jsontext.Value `json:"token"`
	}
	if json.Unmarshal(raw, &invite) != nil || invite.Signed.Kind() != '{' || json.Unmarshal(invite.Signed, &signed) != nil {
		return nil
	}
	user, isText := text(signed.User)
	token, isAlso := text(signed.Token)
	if !isText || !isAlso {
		return nil
	}
	return &signedContent{user: user, token: token, raw: invite.Signed}
}

// readJoinRule is the join rule; "invite" when none is given.
func readJoinRule(raw []byte) string {
	var content struct {
		JoinRule jsontext.Value `json:"join_rule"`
	}
	if json.Unmarshal(raw, &content) != nil {
		return ""
	}
	if content.JoinRule == nil {
		return "invite"
	}
	rule, _ := text(content.JoinRule)
	return rule
}
