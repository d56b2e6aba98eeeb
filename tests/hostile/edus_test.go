package hostile

import (
	"testing"

	"beep/tests/harness"
)

// A server's EDUs are about its own users, in rooms where they are. What it says in the name
// of others nobody hears of, and it does not harm what comes with it (F43, F44, F55a).
func TestEDUsInTheNameOfOthers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, other := New(t, victim), New(t, victim)
	alice, dave := victim.Register(t, "alice"), victim.Register(t, "dave")
	room := alice.PublicRoom(dave)
	bob, carol := s.User("bob"), other.User("carol")
	joined := s.Join(room, bob)
	other.Join(room, carol)
	elsewhere := alice.PublicRoom(dave) // bob is not here
	said, saidElsewhere := alice.Text(room, "hello"), alice.Text(elsewhere, "hello")
	type object = harness.Object
	edu := func(eduType string, content any) any { return object{"edu_type": eduType, "content": content} }
	typing := func(room string, user any) any {
		return edu("m.typing", object{"room_id": room, "user_id": user, "typing": true})
	}
	receipt := func(room, event, user string) any {
		return edu("m.receipt", object{room: object{"m.read": object{user: object{"event_ids": harness.List{event}, "data": object{"ts": 5}}}}})
	}
	toDevice := func(sender any) any {
		return edu("m.direct_to_device", object{"sender": sender, "type": "m.secret", "message_id": "forged",
			"messages": object{alice.UserID: object{alice.DeviceID: object{"a": 1}, "*": object{"a": 1}}}})
	}
	var edus []any
	for _, user := range []string{carol, dave.UserID, alice.UserID, "@bob:" + s.Name + "0", "@nobody:" + s.Name, "@bob", "", "@bob:" + s.Name + "\x00"} {
		edus = append(edus, typing(room, user), receipt(room, said, user),
			edu("m.presence", object{"push": harness.List{object{"user_id": user, "presence": "online", "status_msg": "forged", "last_active_ago": 1}}}),
			edu("m.device_list_update", object{"user_id": user, "device_id": "FORGED", "stream_id": 1, "device_display_name": "forged"}),
			edu("m.signing_key_update", object{"user_id": user, "master_key": object{"user_id": user, "usage": harness.List{"master"}, "keys": object{"ed25519:x": "x"}}}))
		if user != "@nobody:"+s.Name {
			edus = append(edus, toDevice(user))
		}
	}
	edus = append(edus, toDevice(5), toDevice(nil), edu("m.direct_to_device", object{"type": "m.secret", "messages": object{alice.UserID: object{"*": object{}}}}),
		typing(room, 5), typing(elsewhere, bob), typing("", bob), receipt(elsewhere, saidElsewhere, bob), receipt(room, saidElsewhere, bob),
		edu("m.receipt", object{room: object{"m.read.private": object{bob: object{"event_ids": harness.List{said}, "data": object{"ts": 5}}}}}))
	message := joined.Say(bob, "along with them")
	s.Transaction([]any{message}, edus).OK()
	for _, who := range []*harness.Client{alice, dave} {
		who.SyncUntilEvent(room, message.ID)
		who.Since = ""
		r := who.Sync()
		for _, e := range append(r.Ephemeral(room).List(), r.Ephemeral(elsewhere).List()...) {
			t.Errorf("%s sees %v", who.UserID, e)
		}
		for _, e := range append(r.At("to_device", "events").List(), r.At("device_lists", "changed").List()...) {
			t.Errorf("%s gets %v", who.UserID, e)
		}
		for _, e := range r.At("presence", "events").List() {
			if e.At("content", "status_msg").Exists() {
				t.Errorf("%s sees %v", who.UserID, e)
			}
		}
	}
	// What the server may say arrives.
	s.Transaction(nil, []any{typing(room, bob), receipt(room, said, bob)}).OK()
	alice.SyncUntil("bob's typing and receipt", func(r *harness.Response) bool {
		events := r.Ephemeral(room)
		return events.Find("type", "m.typing").At("content", "user_ids", 0).Str() == bob && events.Find("type", "m.receipt").At("content", said, "m.read", bob).Exists()
	})
}

// Who is not in a room tells nobody there what was read (F43).
func TestReceiptsOfStrangers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice, eve := victim.Register(t, "alice"), victim.Register(t, "eve")
	room := alice.PublicRoom()
	eve.Post(harness.Path("/v3/rooms/%s/receipt/m.read/%s", room, alice.Text(room, "x")), nil).Fails(403, "M_FORBIDDEN")
}

// Of the devices and keys of users there is nothing to be had here but of this server's own:
// what is known of others is nobody's business (F45).
func TestKeysOfOthersAreNotGiven(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, other := New(t, victim), New(t, victim)
	room := victim.Register(t, "alice").PublicRoom()
	s.Join(room, s.User("bob"))
	carol := other.User("carol")
	other.Join(room, carol)
	for name, answer := range map[string]*Answer{
		"devices":    s.Get(harness.Path(V1+"/user/devices/%s", carol)),
		"keys/query": s.Post(V1+"/user/keys/query", harness.Object{"device_keys": harness.Object{carol: harness.List{}}}),
		"keys/claim": s.Post(V1+"/user/keys/claim", harness.Object{"one_time_keys": harness.Object{carol: harness.Object{"D": "signed_curve25519"}}}),
		"profile":    s.Get(V1 + "/query/profile" + harness.Query("user_id", carol)),
	} {
		answer.Refused(name, 400, 403, 404)
	}
	if asked := other.Asked("/user/"); len(asked) != 0 {
		t.Errorf("the other server was asked: %v", asked)
	}
}
