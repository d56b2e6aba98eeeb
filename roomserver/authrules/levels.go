package authrules

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

// maxLevel bounds power levels of room versions up to 5, whose numbers have no bound.
const maxLevel = 1 << 62

// creatorLevel is the power level of a creator in room version 12: above all others.
const creatorLevel = math.MaxInt64

// PowerLevels are the power levels that hold in a room, with the defaults of the
// specification filled in (client-server API, m.room.power_levels).
type PowerLevels struct {
	Ban, Invite, Kick, Redact, StateDefault, EventsDefault, UsersDefault int64
	Users, Events, Notifications                                         map[string]int64 // not to be changed

	creators []string // who stand above all levels
}

// ReadPowerLevels reads the power levels of a room with these m.room.create and
// m.room.power_levels events. levels is nil where there are none.
func ReadPowerLevels(create, levels *Event) *PowerLevels {
	p := &PowerLevels{}
	if levels == nil {
		p.setDefaults(nil)
	} else {
		*p = levels.levels.PowerLevels
	}
	if create == nil {
		return p
	}
	if create.Version.PrivilegedCreators() {
		p.creators = create.Creators()
	} else if levels == nil {
		p.Users = make(map[string]int64, 1)
		for _, creator := range create.Creators() {
			p.Users[creator] = 100
		}
	}
	return p
}

// User is the user's power level.
func (p *PowerLevels) User(userID string) int64 {
	if slices.Contains(p.creators, userID) {
		return creatorLevel
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

// setDefaults sets the single levels to those given, else to their defaults.
func (p *PowerLevels) setDefaults(given map[string]int64) {
	level := func(name string, otherwise int64) int64 {
		if n, ok := given[name]; ok {
			return n
		}
		return otherwise
	}
	p.Ban, p.Kick, p.Redact = level("ban", 50), level("kick", 50), level("redact", 50)
	p.Invite, p.UsersDefault = level("invite", 0), level("users_default", 0)
	p.StateDefault, p.EventsDefault = level("state_default", 50), level("events_default", 0)
}

// levelsContent is the content of m.room.power_levels.
type levelsContent struct {
	PowerLevels
	single map[string]int64 // users_default and so on, those that are given
	fault  string           // why the content is refused, "" if it is not
}

func readLevels(v matrix.RoomVersion, raw []byte) *levelsContent {
	var content struct {
		Ban           level `json:"ban"`
		Invite        level `json:"invite"`
		Kick          level `json:"kick"`
		Redact        level `json:"redact"`
		StateDefault  level `json:"state_default"`
		EventsDefault level `json:"events_default"`
		UsersDefault  level `json:"users_default"`
		Users         table `json:"users"`
		Events        table `json:"events"`
		Notifications table `json:"notifications"`
	}
	c := &levelsContent{}
	if json.Unmarshal(raw, &content) != nil {
		c.fault = "the content of m.room.power_levels cannot be read"
	}
	c.single = c.take(v, &table{levels: map[string]level{
		"ban": content.Ban, "invite": content.Invite, "kick": content.Kick, "redact": content.Redact,
		"state_default": content.StateDefault, "events_default": content.EventsDefault, "users_default": content.UsersDefault,
	}})
	c.Users = c.take(v, &content.Users)
	c.Events = c.take(v, &content.Events)
	fault := c.fault
	c.Notifications = c.take(v, &content.Notifications)
	if !since6(v) {
		c.fault = fault // the rules do not look at notifications
	}
	for user := range c.Users {
		if !matrix.ValidUserID(user) {
			c.fault = "m.room.power_levels has a level for what is no user id"
		}
	}
	c.setDefaults(c.single)
	return c
}

// take gives the levels of a table that the room version can read, and notes a
// fault if there are others.
func (c *levelsContent) take(v matrix.RoomVersion, t *table) map[string]int64 {
	if t.fault {
		c.fault = "m.room.power_levels has something else where an object should be"
	}
	levels := make(map[string]int64, len(t.levels))
	for name, l := range t.levels {
		switch {
		case l.form == integer, l.form == legacy && !v.IntegerPowerLevels():
			levels[name] = l.value
		case l.form != absent:
			c.fault = "m.room.power_levels has a level that is no integer"
		}
	}
	return levels
}

// form is how a level is written.
type form byte

const (
	absent  form = iota
	integer      // as canonical JSON has it
	legacy       // an integer in a string, or a fraction: before room version 10
	invalid
)

type level struct {
	value int64
	form  form
}

// UnmarshalJSONFrom reads any JSON value; what is no level has the form invalid.
func (l *level) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*l = readLevel(raw)
	return nil
}

func readLevel(raw jsontext.Value) level {
	switch raw.Kind() {
	case '0':
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return level{bound(n), integer}
		}
		return readFraction(string(raw))
	case '"':
		s, _ := text(raw)
		// ParseInt takes what the specification describes: a sign, zeros in front.
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err == nil || errors.Is(err, strconv.ErrRange) {
			return level{bound(n), legacy}
		}
	}
	return level{form: invalid}
}

// readFraction cuts a number off at its decimal point.
func readFraction(text string) level {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return level{form: invalid}
	case math.Abs(f) < maxLevel:
		return level{int64(f), legacy}
	case f < 0:
		return level{-maxLevel, legacy}
	}
	return level{maxLevel, legacy}
}

func bound(n int64) int64 { return max(min(n, maxLevel), -maxLevel) }

// table is an object with levels.
type table struct {
	levels map[string]level
	fault  bool // it is something else
}

// UnmarshalJSONFrom reads any JSON value; what is no object is a fault.
func (t *table) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '{' {
		t.fault = true
		return dec.SkipValue()
	}
	return json.UnmarshalDecode(dec, &t.levels)
}
