package syncapi

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// What a request of sliding sync may have. More is refused, or cut where the answer shows it.
const (
	maxSlidingBody   = 256 << 10
	maxLists         = 100
	maxSubscriptions = 100
	maxRanges        = 100
	maxRequired      = 500 // elements of one required_state
	maxConnID        = 255 // bytes
	maxListKey       = 255
	maxRequiredName  = 255 // of a type or a key, as of those of events
)

// roomsRequest is what a client wants of the rooms that a list or a subscription names.
type roomsRequest struct {
	TimelineLimit *int64      `json:"timeline_limit"`
	RequiredState [][2]string `json:"required_state"`
}

type listRequest struct {
	roomsRequest
	Ranges  [][2]int64   `json:"ranges"`
	Filters *roomFilters `json:"filters"`
}

// roomFilters choose among rooms. What is nil chooses nothing.
type roomFilters struct {
	IsDM         *bool      `json:"is_dm"`
	Spaces       *[]string  `json:"spaces"`
	IsEncrypted  *bool      `json:"is_encrypted"`
	IsInvite     *bool      `json:"is_invite"`
	RoomTypes    *[]*string `json:"room_types"`
	NotRoomTypes *[]*string `json:"not_room_types"`
	Tags         *[]string  `json:"tags"`
	NotTags      *[]string  `json:"not_tags"`
}

// rules are the lists and subscriptions of a request.
type rules struct {
	lists         []listRule // by key
	subscriptions map[string]rule
	configs       map[uint64]*config // all that rooms may have by these rules
	size          int                // elements of all required_state
}

type rule struct {
	required *required
	limit    int
}

type listRule struct {
	rule
	key     string
	ranges  [][2]int64 // empty: all
	filters roomFilters
}

func newRules(body *slidingBody) (*rules, error) {
	switch {
	case len(body.ConnID) > maxConnID:
		return nil, matrix.InvalidParam.Withf("conn_id has more than %d bytes", maxConnID)
	case len(body.Lists) > maxLists:
		return nil, matrix.InvalidParam.Withf("There are more than %d lists", maxLists)
	case len(body.Subscriptions) > maxSubscriptions:
		return nil, matrix.InvalidParam.Withf("There are more than %d room_subscriptions", maxSubscriptions)
	}
	r := &rules{subscriptions: make(map[string]rule, len(body.Subscriptions)), configs: map[uint64]*config{}}
	for _, key := range slices.Sorted(maps.Keys(body.Lists)) {
		list, err := newListRule(key, body.Lists[key])
		if err != nil {
			return nil, err
		}
		r.lists = append(r.lists, list)
		r.size += len(body.Lists[key].RequiredState)
	}
	for roomID, request := range body.Subscriptions {
		var err error
		if r.subscriptions[roomID], err = request.rule("room_subscriptions." + roomID); err != nil {
			return nil, err
		}
		r.size += len(request.RequiredState)
	}
	return r, nil
}

func newListRule(key string, request listRequest) (listRule, error) {
	l := listRule{key: key, ranges: request.Ranges}
	if key == "" || len(key) > maxListKey {
		return l, matrix.InvalidParam.Withf("The key of a list has between 1 and %d bytes", maxListKey)
	}
	if len(l.ranges) > maxRanges {
		return l, matrix.InvalidParam.Withf("lists.%s has more than %d ranges", key, maxRanges)
	}
	for _, r := range l.ranges {
		if r[0] < 0 || r[1] < r[0] {
			return l, matrix.InvalidParam.Withf("lists.%s.ranges: a range is from a number to one that is not smaller, both not negative", key)
		}
	}
	if request.Filters != nil {
		l.filters = *request.Filters
	}
	var err error
	l.rule, err = request.rule("lists." + key)
	return l, err
}

func (r *roomsRequest) rule(name string) (rule, error) {
	switch {
	case r.TimelineLimit == nil:
		return rule{}, matrix.MissingParam.Withf("%s.timeline_limit is required", name)
	case *r.TimelineLimit < 0:
		return rule{}, matrix.InvalidParam.Withf("%s.timeline_limit must not be negative", name)
	case len(r.RequiredState) > maxRequired:
		return rule{}, matrix.InvalidParam.Withf("%s.required_state has more than %d elements", name, maxRequired)
	}
	for _, e := range r.RequiredState {
		if max(len(e[0]), len(e[1])) > maxRequiredName {
			return rule{}, matrix.InvalidParam.Withf("%s.required_state: a type and a key have at most %d bytes", name, maxRequiredName)
		}
	}
	return rule{newRequired(r.RequiredState), int(min(*r.TimelineLimit, maxTimeline))}, nil
}

// What stands for more than itself in required_state.
const (
	anything = "*"
	lazily   = "$LAZY"
	myself   = "$ME"
)

// required is one required_state. Where all is wanted, what stands beside it says of which keys
// of its type: ["*", "*"] and ["m.room.member", "$LAZY"] are all state, but the members as they are needed.
type required struct {
	key   uint64
	types map[string]map[string]bool // keys by type, * for all of either
	lazy  bool
}

var seed = maphash.MakeSeed()

func newRequired(elements [][2]string) *required {
	r := &required{types: map[string]map[string]bool{}}
	for _, e := range elements {
		eventType, stateKey := e[0], e[1]
		if r.types[eventType] == nil {
			r.types[eventType] = map[string]bool{}
		}
		if stateKey == lazily {
			r.lazy = r.lazy || eventType == "m.room.member" || eventType == anything
		} else {
			r.types[eventType][stateKey] = true
		}
	}
	var text []byte
	add := func(s string) { text = append(binary.AppendUvarint(text, uint64(len(s))), s...) }
	for _, eventType := range slices.Sorted(maps.Keys(r.types)) {
		add(eventType)
		text = binary.AppendUvarint(text, uint64(len(r.types[eventType])))
		for _, key := range slices.Sorted(maps.Keys(r.types[eventType])) {
			add(key)
		}
	}
	if r.lazy {
		text = append(text, 1)
	}
	r.key = maphash.Bytes(seed, text)
	return r
}

// all tells that all types of events are wanted, with all their keys.
func (r *required) all() bool { return r.types[anything][anything] }

// wants tells whether an event of this type and key is wanted by the user.
func (r *required) wants(eventType, stateKey, userID string) bool {
	has := func(keys map[string]bool) bool {
		return keys[anything] || keys[stateKey] || keys[myself] && stateKey == userID
	}
	keys, named := r.types[eventType]
	return has(keys) || has(r.types[anything]) && !(named && r.all() && !r.types[anything][stateKey])
}

// allMembers tells that the member events of everybody are wanted.
func (r *required) allMembers() bool {
	return r.wants("m.room.member", "\x00", "")
}

// config is what is wanted of a room: all that the rules want that it matches.
type config struct {
	key   uint64
	parts []*required // each once
}

func (c *config) wants(e *storage.Event, userID string) bool {
	return c != nil && slices.ContainsFunc(c.parts, func(r *required) bool { return r.wants(e.Type, *e.StateKey, userID) })
}

func (c *config) lazy() bool {
	return slices.ContainsFunc(c.parts, func(r *required) bool { return r.lazy })
}

func (c *config) allMembers() bool { return slices.ContainsFunc(c.parts, (*required).allMembers) }

// types are the types of events that may be wanted; all tells that these may be any.
func (c *config) types() (types []string, all bool) {
	for _, r := range c.parts {
		for eventType := range r.types {
			if eventType == anything {
				return nil, true
			}
			types = append(types, eventType)
		}
	}
	return types, false
}

// members are the users whose member events are wanted by name.
func (c *config) members(userID string) (userIDs []string) {
	for _, r := range c.parts {
		for _, keys := range []map[string]bool{r.types["m.room.member"], r.types[anything]} {
			for key := range keys {
				switch key {
				case anything:
				case myself:
					userIDs = append(userIDs, userID)
				default:
					userIDs = append(userIDs, key)
				}
			}
		}
	}
	return userIDs
}

// combine is what is wanted of a room that matches these rules.
func (r *rules) combine(parts []*required) *config {
	slices.SortFunc(parts, func(a, b *required) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	parts = slices.CompactFunc(parts, func(a, b *required) bool { return a.key == b.key })
	var text []byte
	for _, part := range parts {
		text = binary.LittleEndian.AppendUint64(text, part.key)
	}
	key := maphash.Bytes(seed, text)
	if r.configs[key] == nil {
		r.configs[key] = &config{key, parts}
	}
	return r.configs[key]
}
