package matrix

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What a filter may hold at most. A pattern costs time for every event, a plain
// name does not.
const (
	// MaxFilterSize is the largest filter in bytes.
	MaxFilterSize   = 64 << 10
	maxFilterGlobs  = 100
	maxFilterFields = 256
	maxFilterText   = 255 // bytes of a type or a path
)

// filterJSON and those below are the forms of the specification.
type filterJSON struct {
	EventFields []string       `json:"event_fields"`
	EventFormat string         `json:"event_format"`
	Presence    eventFilter    `json:"presence"`
	AccountData eventFilter    `json:"account_data"`
	Room        roomFilterJSON `json:"room"`
}

type roomFilterJSON struct {
	Rooms        []string        `json:"rooms"`
	NotRooms     []string        `json:"not_rooms"`
	IncludeLeave bool            `json:"include_leave"`
	Ephemeral    roomEventFilter `json:"ephemeral"`
	State        roomEventFilter `json:"state"`
	Timeline     roomEventFilter `json:"timeline"`
	AccountData  roomEventFilter `json:"account_data"`
}

type eventFilter struct {
	Limit      *int64   `json:"limit"`
	Types      []string `json:"types"`
	NotTypes   []string `json:"not_types"`
	Senders    []string `json:"senders"`
	NotSenders []string `json:"not_senders"`
}

type roomEventFilter struct {
	eventFilter
	Rooms                   []string `json:"rooms"`
	NotRooms                []string `json:"not_rooms"`
	LazyLoadMembers         bool     `json:"lazy_load_members"`
	IncludeRedundantMembers bool     `json:"include_redundant_members"`
	UnreadThreads           bool     `json:"unread_thread_notifications"`
	ContainsURL             *bool    `json:"contains_url"`
}

// ParseFilter reads a filter as clients define it or give it inline. Its errors
// are for the client: M_NOT_JSON, M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE. Keys
// that it does not know have no effect.
func ParseFilter(text []byte) (*Filter, error) {
	var from filterJSON
	if err := decodeFilter(text, &from); err != nil {
		return nil, err
	}
	if from.EventFormat != "" && from.EventFormat != "client" && from.EventFormat != "federation" {
		return nil, InvalidParam.With("A filter's event_format is client or federation")
	}
	f := &Filter{Federation: from.EventFormat == "federation", Room: RoomFilter{IncludeLeave: from.Room.IncludeLeave}}
	return f, from.into(f)
}

func (from *filterJSON) into(f *Filter) (err error) {
	if f.Fields, err = parseFields(from.EventFields); err != nil {
		return err
	}
	if err := from.Presence.into(&f.Presence); err != nil {
		return err
	}
	if err := from.AccountData.into(&f.AccountData); err != nil {
		return err
	}
	if f.Room.rooms, err = nameFilter(from.Room.Rooms, from.Room.NotRooms, ValidRoomID); err != nil {
		return err
	}
	for _, part := range []struct {
		from *roomEventFilter
		into *RoomEventFilter
	}{
		{&from.Room.Ephemeral, &f.Room.Ephemeral},
		{&from.Room.State, &f.Room.State},
		{&from.Room.Timeline, &f.Room.Timeline},
		{&from.Room.AccountData, &f.Room.AccountData},
	} {
		if err := part.from.into(part.into); err != nil {
			return err
		}
	}
	return nil
}

// ParseRoomEventFilter reads the filter of /messages, /context and /search. Its
// errors are those of [ParseFilter].
func ParseRoomEventFilter(text []byte) (*RoomEventFilter, error) {
	var from roomEventFilter
	if err := decodeFilter(text, &from); err != nil {
		return nil, err
	}
	f := &RoomEventFilter{}
	return f, from.into(f)
}

func decodeFilter(text []byte, into any) error {
	if len(text) > MaxFilterSize {
		return TooLarge.Withf("A filter may have at most %d bytes", MaxFilterSize)
	}
	err := json.Unmarshal(text, into)
	var meaning *json.SemanticError
	switch {
	case errors.As(err, &meaning) && meaning.JSONPointer != "":
		return BadJSON.Withf("The filter's member %s is not of the expected form", shorten(meaning.JSONPointer)).Because(err)
	case errors.As(err, &meaning), errors.Is(err, jsontext.ErrDuplicateName):
		return BadJSON.With("The filter is not of the expected form").Because(err)
	case err != nil:
		return NotJSON.With("The filter is not valid JSON").Because(err)
	case jsontext.Value(text).Kind() != '{':
		return BadJSON.With("A filter must be an object")
	}
	return nil
}

// shorten keeps an answer from repeating at length what it was sent.
func shorten(p jsontext.Pointer) string {
	const longest = 100
	if len(p) > longest {
		return strings.ToValidUTF8(string(p[:longest]), "") + "…"
	}
	return string(p)
}

func (from *eventFilter) into(f *EventFilter) (err error) {
	if from.Limit != nil {
		if *from.Limit < 0 {
			return InvalidParam.With("A filter's limit must be greater than 0")
		}
		if f.Limit = int(min(*from.Limit, MaxFilterLimit)); f.Limit == 0 {
			f.Limit = -1
		}
	}
	if f.types, err = typeFilter(from.Types, from.NotTypes); err != nil {
		return err
	}
	f.senders, err = nameFilter(from.Senders, from.NotSenders, ValidUserID)
	return err
}

func (from *roomEventFilter) into(f *RoomEventFilter) (err error) {
	f.LazyLoadMembers = from.LazyLoadMembers
	f.IncludeRedundantMembers = from.IncludeRedundantMembers
	f.UnreadThreadNotifications = from.UnreadThreads
	f.containsURL = from.ContainsURL
	if f.rooms, err = nameFilter(from.Rooms, from.NotRooms, ValidRoomID); err != nil {
		return err
	}
	return from.eventFilter.into(&f.EventFilter)
}

func nameFilter(wanted, unwanted []string, valid func(string) bool) (names, error) {
	for _, list := range [][]string{wanted, unwanted} {
		for _, id := range list {
			if !valid(id) {
				return names{}, InvalidParam.With("A filter lists something that is not the id of a user or a room")
			}
		}
	}
	return names{wanted: set(wanted), unwanted: set(unwanted)}, nil
}

// set is nil of a list that is nil, which means that there was none.
func set(list []string) map[string]struct{} {
	if list == nil {
		return nil
	}
	s := make(map[string]struct{}, len(list))
	for _, item := range list {
		s[item] = struct{}{}
	}
	return s
}

func typeFilter(wanted, unwanted []string) (t types, err error) {
	if t.wanted, t.wantedGlobs, err = splitTypes(wanted); err != nil {
		return t, err
	}
	t.unwanted, t.unwantedGlobs, err = splitTypes(unwanted)
	return t, err
}

// splitTypes parts the names from the patterns.
func splitTypes(list []string) (exact map[string]struct{}, globs []glob, err error) {
	exact = set(list)
	for _, item := range list {
		if len(item) > maxFilterText {
			return nil, nil, InvalidParam.Withf("An event type has at most %d bytes", maxFilterText)
		}
		if !strings.Contains(item, "*") {
			continue
		}
		delete(exact, item)
		globs = append(globs, strings.Split(item, "*"))
	}
	if len(globs) > maxFilterGlobs {
		return nil, nil, InvalidParam.Withf("A filter may list at most %d patterns of types", maxFilterGlobs)
	}
	return exact, globs, nil
}
