package push

import (
	"encoding/json"
	"strconv"
	"strings"

	"beep/matrix"
)

// cond is a condition that is ready to be tried.
type cond struct {
	kind    string
	path    []string // of the property
	key     string   // of sender_notification_permission
	pattern *glob
	value   any // a string, bool, nil or json.Number
	op      string
	count   int64
	self    bool // pattern and value stand for the id of whose rule it is
}

const (
	eventMatch       = "event_match"
	propertyIs       = "event_property_is"
	propertyContains = "event_property_contains"
	displayName      = "contains_display_name"
	memberCount      = "room_member_count"
	senderPermission = "sender_notification_permission"
)

// readCondition reads a condition of a rule. A kind that is not known has no fields that
// could be wrong; it never matches.
func readCondition(written json.RawMessage) (*cond, error) {
	var c struct {
		Kind    *string         `json:"kind"`
		Key     *string         `json:"key"`
		Pattern *string         `json:"pattern"`
		Is      *string         `json:"is"`
		Value   json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(written, &c); err != nil || c.Kind == nil {
		return nil, matrix.BadJSON.With("A condition is an object with kind, whose key, pattern and is are strings").Because(err)
	}
	read := &cond{kind: *c.Kind}
	switch *c.Kind {
	case eventMatch, propertyIs, propertyContains, senderPermission:
		if c.Key == nil {
			return nil, matrix.MissingParam.Withf("A condition %s needs key", *c.Kind)
		}
		read.key, read.path = *c.Key, splitPath(*c.Key)
	}
	switch *c.Kind {
	case eventMatch:
		if c.Pattern == nil {
			return nil, matrix.MissingParam.With("A condition event_match needs pattern")
		}
		read.pattern = newGlob(*c.Pattern)
	case propertyIs, propertyContains:
		var ok bool
		if read.value, ok = readScalar(c.Value); !ok {
			return nil, matrix.BadJSON.Withf("A condition %s needs value: a string, an integer, a boolean or null", *c.Kind)
		}
	case memberCount:
		if c.Is == nil {
			return nil, matrix.MissingParam.With("A condition room_member_count needs is")
		}
		digits := strings.TrimLeft(*c.Is, "<>=")
		n, err := strconv.ParseInt(digits, 10, 64)
		read.op, read.count = strings.TrimSuffix(*c.Is, digits), n
		if err != nil || !strings.Contains(" == < > <= >=  ", " "+read.op+" ") || digits[0] == '+' || digits[0] == '-' {
			return nil, matrix.InvalidParam.Withf("room_member_count: %.20q is not a number that may have ==, <, >, <= or >= before it", *c.Is)
		}
	}
	return read, nil
}

// readScalar reads a value that is no object, no list and no fraction.
func readScalar(written json.RawMessage) (value any, ok bool) {
	if len(written) == 0 {
		return nil, false
	}
	decoder := json.NewDecoder(strings.NewReader(string(written)))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return nil, false
	}
	switch v := value.(type) {
	case string, bool, nil:
		return value, true
	case json.Number:
		n, err := v.Int64()
		return value, err == nil && n >= -matrix.MaxSafeInteger && n <= matrix.MaxSafeInteger
	}
	return nil, false
}

// splitPath takes a dot-separated path apart: \. and \\ stand for a dot and a backslash
// in a name (appendices, "Dot-separated property paths").
func splitPath(key string) []string {
	var path []string
	var name strings.Builder
	for i := 0; i < len(key); i++ {
		switch {
		case key[i] == '\\' && i+1 < len(key) && (key[i+1] == '.' || key[i+1] == '\\'):
			i++
			name.WriteByte(key[i])
		case key[i] == '.':
			path = append(path, name.String())
			name.Reset()
		default:
			name.WriteByte(key[i])
		}
	}
	return append(path, name.String())
}
