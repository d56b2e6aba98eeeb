package push

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"beep/storage"
)

const bodyKey = "content.body"

// maxWork bounds what the patterns of one user may cost for one event, in bytes that are
// looked at: hundreds of patterns for the largest message. What goes beyond does not match.
const maxWork = 16 << 20

// Subject is an event that rules are tried on, taken apart once for all users.
type Subject struct {
	event   *storage.Event
	members int64 // joined ones in the room
	// may tells whether the sender may notify the room in a way; it is asked at most once
	// for each way.
	may     func(key string) bool
	allowed map[string]bool

	top    map[string]any
	lower  map[string]string // texts by path, in lower case
	sender string
}

// NewSubject takes an event apart. May tells whether its sender has the power to notify
// everybody in a way, as "room".
func NewSubject(e *storage.Event, members int64, may func(key string) bool) *Subject {
	s := &Subject{event: e, members: members, may: may, allowed: map[string]bool{}, lower: map[string]string{}, sender: e.Sender}
	s.top = map[string]any{"event_id": e.ID, "room_id": e.RoomID, "sender": e.Sender, "type": e.Type}
	if e.StateKey != nil {
		s.top["state_key"] = *e.StateKey
	}
	decoder := json.NewDecoder(bytes.NewReader(e.Content))
	decoder.UseNumber()
	var content any
	if decoder.Decode(&content) == nil {
		s.top["content"] = content
	}
	return s
}

// user is for whom rules are tried.
type user struct {
	id   string // "" for nobody in particular
	name string // the display name in the room
}

// try gives what the first rule says that matches.
func (c *compiled) try(s *Subject, u user) Verdict {
	work := 0
	for i := range c.rules {
		if s.matches(c.rules[i].conditions, u, &work) {
			return c.rules[i].verdict
		}
	}
	return Verdict{Actions: "[]"}
}

func (s *Subject) matches(conditions []*cond, u user, work *int) bool {
	for _, c := range conditions {
		if !s.holds(c, u, work) {
			return false
		}
	}
	return true
}

func (s *Subject) holds(c *cond, u user, work *int) bool {
	switch c.kind {
	case eventMatch:
		return s.matchesText(c, u, work)
	case propertyIs:
		value, found := s.property(c.path)
		return found && scalar(value) && value == c.value
	case propertyContains:
		value, _ := s.property(c.path)
		list, _ := value.([]any)
		want := c.value
		if c.self {
			want = u.id
		}
		for _, item := range list {
			if scalar(item) && item == want && !(c.self && u.id == "") {
				return true
			}
		}
		return false
	case displayName:
		body, ok := s.text(bodyKey, splitPath(bodyKey))
		*work += len(body)
		return ok && u.name != "" && *work <= maxWork && containsName(body, strings.ToLower(u.name))
	case memberCount:
		return compare(s.members, c.op, c.count)
	case senderPermission:
		if _, asked := s.allowed[c.key]; !asked {
			s.allowed[c.key] = s.may(c.key)
		}
		return s.allowed[c.key]
	}
	return false
}

// matchesText tries an event_match.
func (s *Subject) matchesText(c *cond, u user, work *int) bool {
	if c.self {
		value, _ := s.property(c.path)
		return u.id != "" && value == u.id
	}
	text, ok := s.text(c.key, c.path)
	if !ok {
		return false
	}
	if *work += c.pattern.cost * len(text); *work > maxWork {
		return false
	}
	if c.key == bodyKey {
		return c.pattern.matchWords(text)
	}
	return c.pattern.matchAll(text)
}

// containsName tells whether a text has a name in it, as words.
func containsName(text, name string) bool {
	p := part{literal: name}
	_, ok := p.find(text, 0, true, true)
	return ok
}

// text is a property that is a string, in lower case.
func (s *Subject) text(key string, path []string) (string, bool) {
	if text, known := s.lower[key]; known {
		return text, true
	}
	value, _ := s.property(path)
	text, ok := value.(string)
	if ok {
		text = strings.ToLower(text)
		s.lower[key] = text
	}
	return text, ok
}

// property is what a path leads to.
func (s *Subject) property(path []string) (value any, found bool) {
	value = s.top
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, found = object[name]; !found {
			return nil, false
		}
	}
	return value, true
}

// scalar tells whether a value can be compared: a string, a number, a boolean or null.
func scalar(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func compare(n int64, op string, with int64) bool {
	switch op {
	case "<":
		return n < with
	case ">":
		return n > with
	case "<=":
		return n <= with
	case ">=":
		return n >= with
	}
	return n == with
}

// mentioned are the users whom the event mentions (content.m.mentions.user_ids).
func (s *Subject) mentioned() []string {
	value, _ := s.property([]string{"content", "m.mentions", "user_ids"})
	list, _ := value.([]any)
	var ids []string
	for _, item := range list {
		if id, ok := item.(string); ok && utf8.ValidString(id) {
			ids = append(ids, id)
		}
	}
	return ids
}
