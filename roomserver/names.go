package roomserver

// The names of state events that the room server itself reads.
var (
	createName         = stateName{Type: "m.room.create"}
	powerLevelsName    = stateName{Type: "m.room.power_levels"}
	joinRulesName      = stateName{Type: "m.room.join_rules"}
	guestAccessName    = stateName{Type: "m.room.guest_access"}
	canonicalAliasName = stateName{Type: "m.room.canonical_alias"}
)

// memberName is the name of a user's membership.
func memberName(userID string) stateName { return stateName{Type: "m.room.member", StateKey: userID} }
