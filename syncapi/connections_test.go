package syncapi

import (
	"errors"
	"fmt"
	"testing"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

// answered begins a request and settles it with so many rooms.
func answered(t *testing.T, c *connections, key connectionKey, pos string, rooms int) (string, error) {
	t.Helper()
	turn, err := c.begin(t.Context(), key, pos)
	if err != nil {
		return "", err
	}
	defer turn.end()
	s := &sliding{turn: turn, rules: &rules{}, extensions: &extensions{}, matched: map[int64]*match{}}
	for i := range rooms {
		s.matched[int64(i)] = &match{number: int64(i), config: &config{}}
	}
	turn.record(s.matched)
	a := &slidingAnswer{answer: &answer{upTo: 1}, sliding: s}
	if !turn.settle(a) {
		t.Fatal("the answer does not count")
	}
	return a.pos, nil
}

func TestConnectionsAreBounded(t *testing.T) {
	c := newConnections()
	c.mostConnections, c.mostRooms = 20, 100
	positions := map[connectionKey]string{}
	begin := func(key connectionKey, rooms int) {
		t.Helper()
		pos, err := answered(t, c, key, "", rooms)
		if err != nil {
			t.Fatal(err)
		}
		positions[key] = pos
	}
	lost := func(key connectionKey) bool {
		t.Helper()
		pos, err := answered(t, c, key, positions[key], 0)
		if err == nil {
			positions[key] = pos
		} else if !errors.Is(err, matrix.UnknownPos) {
			t.Fatal(err)
		}
		return err != nil
	}
	phone := func(i int) connectionKey { return connectionKey{"@alice:x", "PHONE", fmt.Sprint(i)} }
	for i := range maxOfDevice {
		begin(phone(i), 1)
	}
	if lost(phone(0)) {
		t.Error("a connection is lost though there is room")
	}
	begin(phone(maxOfDevice), 1)
	if lost(phone(0)) || !lost(phone(1)) {
		t.Error("of a device's connections not the longest unused is forgotten")
	}
	for i := range 30 {
		begin(connectionKey{"@alice:x", fmt.Sprint(i), ""}, 1)
	}
	if len(c.all) != 20 || c.recent.Len() != 20 || !lost(phone(0)) || len(c.own) != 20 {
		t.Errorf("%d connections of %d devices", len(c.all), len(c.own))
	}
	begin(connectionKey{"@bob:x", "PHONE", ""}, 95)
	if c.rooms > 100 || len(c.all) < 2 {
		t.Errorf("%d rooms of %d connections", c.rooms, len(c.all))
	}
	begin(connectionKey{"@bob:x", "TABLET", ""}, 200)
	if len(c.all) != 1 || c.rooms != 200 {
		t.Errorf("%d rooms of %d connections", c.rooms, len(c.all))
	}
	begin(connectionKey{"@bob:x", "TABLET", ""}, 1)
	if len(c.all) != 1 || c.rooms != 1 {
		t.Errorf("%d rooms of %d connections", c.rooms, len(c.all))
	}
}

// What happens while the activity of rooms is loaded is not lost, whether they were in memory or not.
func TestActivityWhileLoading(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		a := newActivities(db)
		empty := ""
		tell := func(room int64, pos stream.Pos, eventType string, stateKey *string) {
			e := &matrix.Event{Type: eventType, StateKey: stateKey, Content: []byte(`{}`)}
			a.take(&stream.Entry{Pos: pos, Kind: stream.Event, Room: room, Value: &roomserver.ClientEvent{}}, e)
		}
		tell(1, 5, "m.room.message", nil) // of a room that nobody asks for
		_, resets := a.begin([]int64{1, 2}, make([]storage.Activity, 2))
		tell(1, 7, "m.room.message", nil)
		tell(1, 8, "m.reaction", nil)
		tell(1, 9, "m.room.encryption", &empty)
		loaded := map[int64]storage.Activity{1: {Last: 6, Bump: 6}, 2: {Last: 3, Bump: 2, Type: "m.space"}}
		a.end(loaded, resets)
		tell(2, 10, "m.room.topic", &empty)
		got, err := a.of(t.Context(), []int64{1, 2})
		want := []storage.Activity{{Last: 9, Bump: 7, Encrypted: true}, {Last: 10, Bump: 2, Type: "m.space"}}
		if err != nil || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("activities %+v, %v; want %+v", got, err, want)
		}
		_, resets = a.begin([]int64{3}, make([]storage.Activity, 1))
		a.clear()
		a.end(map[int64]storage.Activity{3: {Last: 1}}, resets)
		if missing := a.lookup([]int64{1, 3}, make([]storage.Activity, 2)); len(missing) != 2 {
			t.Errorf("what was loaded before everything was forgotten is kept: %v", missing)
		}
	})
}
