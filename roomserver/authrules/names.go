package authrules

import "beep/matrix"

// Name is the type and the state key of a state event.
type Name struct{ Type, StateKey string }

// The names of the state events that say what the others may do.
var (
	CreateName = Name{"m.room.create", ""}
	LevelsName = Name{"m.room.power_levels", ""}
	RulesName  = Name{"m.room.join_rules", ""}
)

// NamesOf are the names of the state events that authorise the event in the making
// (server-server API, section "Auth events selection"). The first is the create event,
// which authorises in room version 12 as well, but is not to be cited in auth_events there.
func NamesOf(p *matrix.Proto) []Name {
	var member *memberContent
	if p.Type == "m.room.member" {
		member = readMember(p.Content)
	}
	return names(p.Version, p.Type, p.StateKey, p.Sender, member)
}

// Names is [NamesOf] for an event that is made.
func (e *Event) Names() []Name {
	return names(e.Version, e.Type, e.StateKey, e.Sender, e.member)
}

func names(v matrix.RoomVersion, eventType string, stateKey *string, sender string, member *memberContent) []Name {
	if eventType == CreateName.Type {
		return nil
	}
	list := append(make([]Name, 0, 6), CreateName, LevelsName, Name{"m.room.member", sender})
	if member == nil || stateKey == nil {
		return list
	}
	if *stateKey != sender {
		list = append(list, Name{"m.room.member", *stateKey})
	}
	switch member.membership {
	case "join":
		list = append(list, RulesName)
		if by := member.authoriser; v.Restricted() && by != "" && by != sender && by != *stateKey {
			list = append(list, Name{"m.room.member", by})
		}
	case "invite":
		list = append(list, RulesName)
		if member.signed != nil {
			list = append(list, Name{"m.room.third_party_invite", member.signed.token})
		}
	case "knock":
		list = append(list, RulesName)
	}
	return list
}
