package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/tests/harness"
)

// A list that denies a server denies it however its name is written, and everything in the
// room (F21, F42).
func TestDeniedServers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	room := alice.PublicRoom()
	bob := s.User("bob")
	joined := s.Join(room, bob)
	s.Handle(KeysPattern, func(w http.ResponseWriter, r *http.Request) { // for whatever name it is asked by
		signer := *s.Signer
		signer.ServerName = r.Host
		var keys harness.Object
		if err := json.Unmarshal(s.Keys(harness.Object{"server_name": r.Host}), &keys); err != nil {
			t.Error(err)
		}
		delete(keys, "signatures")
		signed, err := signer.SignJSON(jsonOf(t, keys))
		if err != nil {
			t.Error(err)
		}
		s.respond(w, 200, signed)
	})
	capitals := *s.Signer
	capitals.ServerName = strings.ToUpper(s.Name)
	said := alice.Text(room, "hello")
	uris := []string{V1 + "/event/" + said, harness.Path(V1+"/state/%s", room) + "?event_id=" + said, harness.Path(V1+"/state_ids/%s", room) + "?event_id=" + said,
		harness.Path(V1+"/event_auth/%s/%s", room, said), harness.Path(V1+"/backfill/%s", room) + "?limit=5&v=" + said,
		harness.Path(V1+"/timestamp_to_event/%s", room) + "?ts=0&dir=f", harness.Path(V1+"/make_leave/%s/%s", room, bob)}
	for _, uri := range uris {
		s.Get(uri).OK()
	}
	for _, list := range []harness.Object{
		{"allow": harness.List{"*"}, "deny": harness.List{"LocalHost"}}, {"allow": harness.List{"*"}, "deny": harness.List{"localhost."}},
		{"allow": harness.List{"*"}, "deny": harness.List{"l?calh*"}}, {"allow": harness.List{"*.test"}}, {"deny": harness.List{}},
	} {
		alice.SetState(room, "m.room.server_acl", "", list).OK()
		for _, uri := range uris {
			s.Get(uri).Refused(fmt.Sprint(list), 403)
			s.Request("GET", uri, nil, xmatrix.Sign(&capitals, victim.Name, "GET", uri, nil)).Refused(fmt.Sprint("in capitals with ", list), 403)
		}
		s.Post(harness.Path(V1+"/get_missing_events/%s", room), harness.Object{"latest_events": harness.List{said}, "earliest_events": harness.List{}}).Refused("get_missing_events", 403)
		message := joined.Say(bob, "I am denied")
		if refused := s.Send(message); refused[message.ID] == "" {
			t.Errorf("%v: an event is taken in", list)
		}
	}
	alice.SetState(room, "m.room.server_acl", "", harness.Object{"allow": harness.List{"*"}}).OK()
	for _, uri := range uris {
		s.Get(uri).OK()
	}
}

// A list as large as an event can be, of patterns that are hard to compare with, costs the
// room nothing: those it denies are refused, and the others go on (F41).
func TestEvilLists(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, other := New(t, victim), New(t, victim)
	alice := victim.Register(t, "alice").Lax()
	mallory := s.Mallory()
	patterns := func(pattern func(i int) string) harness.List {
		list := harness.List{}
		for size := 0; size < 55_000; size += len(pattern(0)) + 6 {
			list = append(list, pattern(len(list)))
		}
		return list
	}
	room := s.NewRoom("12")
	alice.Post(harness.Path("/v3/join/%s", room.ID)+harness.Query("via", s.Name), nil).OK()
	carol := other.User("carol")
	joined := other.Join(room.ID, carol)
	room.Add(s.AwaitEvent(joined.Heads()[0].ID))
	for name, deny := range map[string]harness.List{
		"stars": patterns(func(i int) string { return strings.Repeat("*l*o", 50) + fmt.Sprint("*", i) }),
		"marks": patterns(func(i int) string { return "*" + strings.Repeat("?", 100) + fmt.Sprint(i, "?*") }),
		"names": patterns(func(i int) string { return fmt.Sprint("n", i) }),
		"junk":  {5, nil, harness.List{}, harness.Object{}, "", "*\x00*", strings.Repeat("*", 50_000)[:0] + "**x**"},
	} {
		room.SetState(mallory, "m.room.server_acl", "", harness.Object{"allow": harness.List{"*"}, "deny": deny})
		list := room.Heads()[0]
		if refused := s.Send(list); len(refused) != 0 {
			t.Fatalf("%s: %v", name, refused)
		}
		joined.Add(list)
		message := joined.Say(carol, name)
		if refused := other.Send(message); len(refused) != 0 {
			t.Errorf("%s: %v", name, refused)
		}
		room.Add(message)
		other.Get(V1 + "/event/" + message.ID).OK()
		alice.SyncUntilEvent(room.ID, message.ID)
	}
	list := room.SetState(mallory, "m.room.server_acl", "", harness.Object{"allow": harness.List{"*"}, "deny": append(patterns(func(i int) string { return fmt.Sprint("*", i, "*x") }), "*o*h?st*")})
	if refused := s.Send(list); len(refused) != 0 {
		t.Fatal(refused)
	}
	message := joined.Say(carol, "denied")
	if refused := other.Send(message); refused[message.ID] == "" {
		t.Error("the last pattern of a long list does not count")
	}
}

// Events of a room that no user of this server is in any more are ignored, and nobody is asked
// anything because of them (F50).
func TestEventsOfRoomsThatWereLeft(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	for _, v := range []matrix.RoomVersion{"11", "12"} {
		left, invited := s.NewRoom(v), s.NewRoomWith(v, matrix.NewRoomID(s.Name), harness.Object{"x": 1})
		alice.Post(harness.Path("/v3/join/%s", left.ID)+harness.Query("via", s.Name), nil).OK()
		alice.Leave(left.ID)
		shown, err := json.Marshal(invited.InviteState())
		if err != nil {
			t.Fatal(err)
		}
		s.offer(s.Build(invited.invite(alice.UserID)), string(shown)).OK()
		for _, room := range []*Room{left, invited} {
			room.Say(s.Mallory(), "missing")
			room.SetState(s.Mallory(), "m.room.topic", "", harness.Object{"topic": "missing"})
			before := len(s.Asked("GET ")) + len(s.Asked("POST "))
			last := room.Say(s.Mallory(), "last")
			if refused := s.Send(last); refused[last.ID] == "" {
				t.Errorf("version %s: an event is taken in", v)
			}
			if after := len(s.Asked("GET ")) + len(s.Asked("POST ")); after != before {
				t.Errorf("version %s: %d requests because of an event of a room that nobody is in", v, after-before)
			}
			s.SendEDU("m.typing", harness.Object{"room_id": room.ID, "user_id": s.Mallory(), "typing": true})
			alice.Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, last.ID)).Fails(404, "M_NOT_FOUND")
		}
	}
}
