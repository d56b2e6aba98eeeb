package matrix

import "slices"

// RoomVersion is a room version's name, as "12" (specification, "Room versions").
type RoomVersion string

// version is what differs between room versions in the making and reading of
// events; the authorisation rules are in roomserver/authrules.
type version struct {
	eventIDInEvent     bool // 1, 2: the event carries its id; references have hashes
	urlSafeEventID     bool // from 4 on
	strictNumbers      bool // from 6 on
	createWithoutRoom  bool // from 12 on: the create event has no room_id, which is its own hash
	creatorInContent   bool // up to 10: m.room.create has content.creator
	redactsInContent   bool // from 11 on
	privilegedCreators bool // from 12 on
	keepsAliases       bool // redaction, up to 5
	keepsAllow         bool // redaction, from 8 on
	keepsAuthorised    bool // redaction, from 9 on
	redaction11        bool // redaction, from 11 on: the whole create event, redacts, invite level, signed
	restricted         bool // join_rule restricted, from 8 on
	knocking           bool // from 7 on
	knockRestricted    bool // from 10 on
	integerPowerLevels bool // from 10 on
}

func versionOf(n int) version {
	return version{
		eventIDInEvent: n <= 2, urlSafeEventID: n >= 4, strictNumbers: n >= 6,
		createWithoutRoom: n >= 12, creatorInContent: n <= 10, redactsInContent: n >= 11,
		privilegedCreators: n >= 12, keepsAliases: n <= 5, keepsAllow: n >= 8,
		keepsAuthorised: n >= 9, redaction11: n >= 11, restricted: n >= 8, knocking: n >= 7,
		knockRestricted: n >= 10, integerPowerLevels: n >= 10,
	}
}

var versions = map[RoomVersion]version{
	"1": versionOf(1), "2": versionOf(2), "3": versionOf(3), "4": versionOf(4),
	"5": versionOf(5), "6": versionOf(6), "7": versionOf(7), "8": versionOf(8),
	"9": versionOf(9), "10": versionOf(10), "11": versionOf(11), "12": versionOf(12),
}

// RoomVersions are the names of all supported room versions, oldest first.
func RoomVersions() []RoomVersion {
	return []RoomVersion{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"}
}

// EventIDInEvent tells whether an event carries its own id (up to room version 2);
// from 3 on the id is a hash of the event.
func (v RoomVersion) EventIDInEvent() bool { return versions[v].eventIDInEvent }

// Supported tells whether this server can take part in rooms of the version.
func (v RoomVersion) Supported() bool { return slices.Contains(RoomVersions(), v) }

// CreateWithoutRoom tells whether the room's id is the hash of its create event,
// which then has no room_id (room version 12, MSC4291).
func (v RoomVersion) CreateWithoutRoom() bool { return versions[v].createWithoutRoom }

// CreatorInContent tells whether m.room.create names the creator in its content
// (up to room version 10).
func (v RoomVersion) CreatorInContent() bool { return versions[v].creatorInContent }

// RedactsInContent tells whether m.room.redaction names its target in its content
// rather than at its top level (from room version 11 on).
func (v RoomVersion) RedactsInContent() bool { return versions[v].redactsInContent }

// PrivilegedCreators tells whether the room's creators stand above all power
// levels (room version 12, MSC4289).
func (v RoomVersion) PrivilegedCreators() bool { return versions[v].privilegedCreators }

// StrictNumbers tells whether events must hold canonical JSON's integers alone
// (from room version 6 on).
func (v RoomVersion) StrictNumbers() bool { return versions[v].strictNumbers }

// Restricted tells whether the join rule "restricted" has its meaning (from 8 on).
func (v RoomVersion) Restricted() bool { return versions[v].restricted }

// Knocking tells whether users may knock (from 7 on).
func (v RoomVersion) Knocking() bool { return versions[v].knocking }

// KnockRestricted tells whether the join rule "knock_restricted" has its meaning
// (from 10 on).
func (v RoomVersion) KnockRestricted() bool { return versions[v].knockRestricted }

// IntegerPowerLevels tells whether power levels must be integers, where earlier
// versions took integers in strings as well (from 10 on).
func (v RoomVersion) IntegerPowerLevels() bool { return versions[v].integerPowerLevels }

// SpecVersions are the versions of the client-server API that this server speaks,
// the oldest first (client-server API, "GET /_matrix/client/versions").
func SpecVersions() []string {
	return []string{"v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
		"v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19"}
}
