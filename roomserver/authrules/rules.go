package authrules

import (
	"fmt"
	"strings"

	"beep/matrix"
)

// since6 tells whether the rules are those of room version 6 or a later one: it ended the
// rule for m.room.aliases and began those for notification levels and strict numbers.
func since6(v matrix.RoomVersion) bool { return v.StrictNumbers() }

// Allowed checks the event against the rules of its room version in a room whose
// state has the events of auth; of these only those count that [Event.Names] names, and nil
// entries do not. [matrix.Forbidden]: the rules refuse it.
func Allowed(e *Event, auth []*Event) error {
	if e.create != nil {
		return allowCreate(e)
	}
	c := &check{event: e, auth: auth}
	if c.create = c.find(CreateName); c.create == nil {
		return refuse("the room has no m.room.create event")
	}
	if e.Version.CreateWithoutRoom() && e.RoomID != roomOf(c.create) || e.RoomID != c.create.RoomID {
		return refuse("the m.room.create event is another room's")
	}
	if c.create.create.unfederated && !e.isOf(matrix.ServerOf(c.create.Sender)) {
		return refuse("the room is closed to other servers")
	}
	c.previous = c.find(LevelsName)
	c.levels = ReadPowerLevels(c.create, c.previous)
	return c.allow()
}

// roomOf is the id of the room that the create event makes, in room version 12.
func roomOf(create *Event) string { return "!" + strings.TrimPrefix(create.ID, "$") }

// check is the check of one event. It is used once.
type check struct {
	event    *Event
	auth     []*Event
	create   *Event
	previous *Event // the room's m.room.power_levels, nil without
	levels   *PowerLevels
}

// isOf tells whether sender and member, if the event is about one, are of the server.
func (e *Event) isOf(server string) bool {
	return matrix.ServerOf(e.Sender) == server &&
		(e.member == nil || e.StateKey == nil || matrix.ServerOf(*e.StateKey) == server)
}

func refuse(format string, args ...any) error {
	return matrix.Forbidden.With("The room's rules do not allow this: " + fmt.Sprintf(format, args...))
}

// find is the state event of the name, nil if there is none.
func (c *check) find(name Name) *Event {
	for _, e := range c.auth {
		if e != nil && e.IsState(name.Type, name.StateKey) {
			return e
		}
	}
	return nil
}

// membership is the user's membership; "leave" for who never had one.
func (c *check) membership(user string) string {
	if e := c.find(Name{"m.room.member", user}); e != nil {
		return e.Membership()
	}
	return "leave"
}

// allow is the rules from that for m.room.aliases on.
func (c *check) allow() error {
	e := c.event
	if e.Type == "m.room.aliases" && !since6(e.Version) {
		if e.StateKey == nil || *e.StateKey != matrix.ServerOf(e.Sender) {
			return refuse("m.room.aliases is for the sender's own server")
		}
		return nil
	}
	if e.member != nil {
		return c.allowMember()
	}
	if c.membership(e.Sender) != "join" {
		return refuse("the sender is not in the room")
	}
	level := c.levels.User(e.Sender)
	if e.Type == "m.room.third_party_invite" {
		return atLeast(level, c.levels.Invite, "invite")
	}
	if err := atLeast(level, c.levels.Event(e.Type, e.StateKey != nil), "send "+e.Type); err != nil {
		return err
	}
	if e.StateKey != nil && strings.HasPrefix(*e.StateKey, "@") && *e.StateKey != e.Sender {
		return refuse("this state is for %s alone", *e.StateKey)
	}
	switch {
	case e.levels != nil:
		return c.allowPowerLevels(level)
	case e.Type == "m.room.redaction" && e.Version.EventIDInEvent():
		return c.allowRedaction(level)
	}
	return nil
}

func atLeast(level, needed int64, action string) error {
	if level < needed {
		return refuse("to %s the sender needs the power level %d and has %d", action, needed, level)
	}
	return nil
}

// allowRedaction is the rule for m.room.redaction of room versions 1 and 2.
func (c *check) allowRedaction(level int64) error {
	if level >= c.levels.Redact || matrix.ServerOf(c.event.ID) == matrix.ServerOf(c.event.Redacts) {
		return nil
	}
	return refuse("to redact the sender needs the power level %d and has %d", c.levels.Redact, level)
}

// allowCreate is the rule for m.room.create, which needs no state.
func allowCreate(e *Event) error {
	if len(e.PrevEvents()) > 0 {
		return refuse("m.room.create is a room's first event")
	}
	if e.Version.CreateWithoutRoom() {
		if e.RoomID != roomOf(e) {
			return refuse("m.room.create has a room_id")
		}
	} else if matrix.ServerOf(e.RoomID) != matrix.ServerOf(e.Sender) {
		return refuse("the room's id is another server's")
	}
	if e.create.fault != "" {
		return refuse("%s", e.create.fault)
	}
	return nil
}

// allowPowerLevels is the rule for m.room.power_levels. level is the sender's.
func (c *check) allowPowerLevels(level int64) error {
	sender, now := c.event.Sender, c.event.levels
	if now.fault != "" {
		return refuse("%s", now.fault)
	}
	for _, creator := range c.levels.creators {
		if _, listed := now.Users[creator]; listed {
			return refuse("%s is a creator of the room and can have no power level", creator)
		}
	}
	if c.previous == nil || !c.event.IsState(LevelsName.Type, LevelsName.StateKey) {
		return nil
	}
	before := c.previous.levels
	if !mayChange(before.single, now.single, level) || !mayChange(before.Events, now.Events, level) ||
		!mayChange(before.Users, now.Users, level) ||
		since6(c.event.Version) && !mayChange(before.Notifications, now.Notifications, level) {
		return refuse("the sender's power level is %d: they cannot change or set a higher one", level)
	}
	for user, was := range before.Users {
		if is, listed := now.Users[user]; user != sender && was >= level && (!listed || is != was) {
			return refuse("the sender's power level is %d: they cannot change that of %s, who has no less", level, user)
		}
	}
	return nil
}

// mayChange tells whether each entry that is added, changed or removed was and is
// at most level.
func mayChange(before, now map[string]int64, level int64) bool {
	for name, was := range before {
		if is, listed := now[name]; was > level && (!listed || is != was) {
			return false
		}
	}
	for name, is := range now {
		if was, listed := before[name]; is > level && (!listed || is != was) {
			return false
		}
	}
	return true
}
