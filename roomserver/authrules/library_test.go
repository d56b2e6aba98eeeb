package authrules

import (
	"slices"
	"testing"

	"github.com/matrix-org/gomatrixserverlib"
	"github.com/matrix-org/gomatrixserverlib/spec"

	"beep/matrix"
)

// Every row of the tables of rules is put before a second judge as well (F17).

// theirs is the verdict of gomatrixserverlib. ok is false for what it does not take for an
// event, or ends in a panic.
func theirs(t *testing.T, e *Event, state []*Event) (allowed, ok bool) {
	t.Helper()
	defer func() {
		if recover() != nil {
			allowed, ok = false, false
		}
	}()
	rules, err := gomatrixserverlib.GetRoomVersion(gomatrixserverlib.RoomVersion(e.Version))
	if err != nil {
		t.Fatal(err)
	}
	read := func(e *Event) gomatrixserverlib.PDU {
		pdu, err := rules.NewEventFromTrustedJSONWithEventID(e.ID, e.JSON, false)
		if err != nil {
			return nil
		}
		return pdu
	}
	event := read(e)
	if event == nil {
		return false, false
	}
	var auth []gomatrixserverlib.PDU
	for _, s := range state {
		if !slices.Contains(e.Names(), Name{s.Type, *s.StateKey}) {
			continue
		}
		pdu := read(s)
		if pdu == nil {
			return false, false
		}
		auth = append(auth, pdu)
	}
	provider, err := gomatrixserverlib.NewAuthEvents(auth)
	if err != nil {
		return false, false
	}
	userID := func(_ spec.RoomID, sender spec.SenderID) (*spec.UserID, error) {
		return spec.NewUserID(string(sender), true)
	}
	return gomatrixserverlib.Allowed(event, provider, userID) == nil, true
}

// differing are the rows about which gomatrixserverlib has another verdict, in one room version
// or more, and what it does there that the specification does not say.
var differing = map[string]string{
	"TestCreate, unknown version":                             "it looks at room_version up to version 10 only",
	"TestCreate, version is a number":                         "it looks at room_version up to version 10 only",
	"TestCreate, more creators, null":                         "it takes null for an empty list",
	"TestRoom, m.federate is a text":                          "it cannot read such a create event",
	"TestRoom, unreadable create event":                       "it cannot read such a create event",
	"TestRoom, other server invited to a closed room":         "it looks at the sender's server only",
	"TestEvents, aliases of another server":                   "it keeps the rule for m.room.aliases, which version 6 has ended",
	"TestEvents, aliases of one's server":                     "it keeps the rule for m.room.aliases, which version 6 has ended",
	"TestJoin, first of who content.creator names":            "it takes the sender of the create event for the creator",
	"TestJoin, private, joined":                               "it lets who is in the room join again under any rule",
	"TestJoin, public, knocked":                               "it does not let who has knocked join a public room",
	"TestJoin, knock, invited":                                "it has the rule in versions that do not",
	"TestJoin, knock_restricted, invited":                     "it has the rule in versions that do not",
	"TestJoin, knock_restricted, vouched for":                 "it has the rule in versions that do not",
	"TestKnock, knock_restricted":                             "it has the rule in versions that do not",
	"TestLeaveAndBan, knocked withdraws":                      "it has knocks in versions that do not",
	"TestLeaveAndBan, left leaves again":                      "it lets anybody leave who is not banned",
	"TestLeaveAndBan, stranger leaves":                        "it lets anybody leave who is not banned",
	"TestLeaveAndBan, ban lifted below the level to kick":     "it does not compare with the level to kick",
	"TestLeaveAndBan, ban of an equal lifted":                 "it does not compare with the level of who was banned",
	"TestPowerLevelsRule, users_default raised above oneself": "it does not look at users_default",
	"TestPowerLevelsRule, notification lowered":               "it does not let a level be changed that is the sender's own",
	"TestPowerLevelsRule, notification set by a creator":      "it does not know that creators stand above all levels there",
	"TestPowerLevelsRule, with a state key":                   "it compares such an event with the room's levels",
	"TestCreators, another creator listed":                    "it compares the level of a user who had none with users_default",
	"TestLevelForms, null":                                    "it takes null for nothing",
	"TestLevelForms, null in events":                          "it takes null for nothing",
	"TestLevelForms, events is null":                          "it takes null for nothing",
	"TestLevelForms, users is null":                           "it takes null for nothing",
	"TestLevelForms, notifications is a list":                 "it reads notifications in versions whose rules do not",
	"TestThirdPartyInvite, public_key":                        "it reads public_keys alone",
	"TestThirdPartyInvite, public_keys":                       "it reads no list with anything else in it",
	"TestThirdPartyInvite, other alphabet, padded":            "it reads public_keys alone",
	"TestThirdPartyInvite, public_keys is no list":            "it reads public_keys alone",
	"TestThirdPartyInvite, more is signed":                    "it reads public_keys alone",
	"TestThirdPartyInvite, inviter left":                      "it reads public_keys alone",
	"TestThirdPartyInvite, null":                              "it takes null for nothing",
	"TestThirdPartyInvite, kept in a join":                    "it has the rule for all memberships",
}

// compareWithLibrary fails the test if gomatrixserverlib has another verdict about a row where
// that is not known, or nowhere where it is. ours are the verdicts by room version.
func (r *rule) compareWithLibrary(t *testing.T, ours map[matrix.RoomVersion]bool) {
	t.Helper()
	if r.alone {
		return
	}
	name := t.Name() + ", " + r.name
	differs := false
	for v, allowed := range ours {
		sketch := r.event
		sketch.content = forVersion(v, sketch.content)
		if other, ok := theirs(t, sketch.event(t, v), stateOf(t, v, r.state)); ok && other != allowed {
			if differs = true; differing[name] == "" {
				t.Errorf("version %s, %s: allowed %v, by gomatrixserverlib %v", v, r.name, allowed, other)
			}
		}
	}
	if differing[name] != "" && !differs {
		t.Errorf("%s: gomatrixserverlib has the same verdict", name)
	}
}
