package roomserver_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
)

const (
	alice = "@alice:hs.example"
	bob   = "@bob:hs.example"
	carol = "@carol:hs.example"
)

func newRooms(t testing.TB, db *storage.DB) *roomserver.Rooms {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx *storage.Tx) error {
		for _, id := range []string{alice, bob, carol} {
			if err := tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: id}}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil && !errors.Is(err, storage.ErrExists) {
		t.Fatal(err)
	}
	return roomserver.New(roomserver.Options{
		DB: db, DefaultVersion: "12", Logger: slog.New(slog.DiscardHandler),
		Signer: &matrix.Signer{ServerName: "hs.example", KeyID: "ed25519:k", Key: key},
	})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func create(t testing.TB, rooms *roomserver.Rooms, d roomserver.RoomDraft) string {
	t.Helper()
	if d.Creator == "" {
		d.Creator = alice
	}
	return must[string](t)(rooms.Create(t.Context(), d))
}

func text(body string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body))
}

func say(t testing.TB, rooms *roomserver.Rooms, roomID, sender, body string) string {
	t.Helper()
	return must[string](t)(rooms.Send(t.Context(), roomID, roomserver.Draft{Type: "m.room.message", Sender: sender, Content: text(body)}))
}

func setState(t testing.TB, rooms *roomserver.Rooms, roomID, sender, eventType, content string) {
	t.Helper()
	empty := ""
	must[string](t)(rooms.SendState(t.Context(), roomID, roomserver.Draft{Type: eventType, StateKey: &empty, Sender: sender,
		Content: json.RawMessage(content)}))
}

// bodies are the texts of the messages that the user finds by paging from the end.
func bodies(t testing.TB, rooms *roomserver.Rooms, roomID, userID string) []string {
	t.Helper()
	access := must[roomserver.Access](t)(rooms.Access(t.Context(), roomID, userID))
	q := roomserver.PageQuery{Backwards: true, Limit: 3,
		Keep: func(e *matrix.Event) bool { return e.Type == "m.room.message" }}
	q.From = must[roomserver.Token](t)(rooms.FirstToken("", true))
	found := []string{}
	for {
		page := must[roomserver.Page](t)(rooms.Messages(t.Context(), access, q))
		for _, e := range page.Events {
			found = append(found, e.ContentString("body"))
		}
		if !page.More {
			slices.Reverse(found)
			return found
		}
		q.From = page.End
	}
}

func TestCreateInAllVersions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		for _, v := range matrix.RoomVersions() {
			for _, preset := range []string{"private_chat", "trusted_private_chat", "public_chat"} {
				name := fmt.Sprintf("%s in version %s", preset, v)
				id := create(t, rooms, roomserver.RoomDraft{Version: v, Preset: preset, Name: name, Topic: "about", AliasName: preset + "-" + string(v),
					Invite: []string{bob, bob, alice}, InitialState: []roomserver.StateDraft{{Type: "m.room.encryption", Content: json.RawMessage(`{"algorithm":"m.megolm.v1.aes-sha2"}`)}}})
				if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				access := must[roomserver.Access](t)(rooms.Access(t.Context(), id, bob))
				got := map[string]bool{}
				for _, e := range must[[]*roomserver.ClientEvent](t)(rooms.State(t.Context(), access)) {
					got[e.Type+"|"+*e.StateKey] = true
				}
				want := map[string]bool{"m.room.create|": true, "m.room.power_levels|": true, "m.room.join_rules|": true,
					"m.room.history_visibility|": true, "m.room.guest_access|": true, "m.room.canonical_alias|": true,
					"m.room.encryption|": true, "m.room.name|": true, "m.room.topic|": true,
					"m.room.member|" + alice: true, "m.room.member|" + bob: true}
				if preset == "public_chat" {
					delete(want, "m.room.guest_access|") // forbidden is what a room without the event has
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: state (-want +got)\n%s", name, diff)
				}
				if access.Room.Joined != 2 || access.Room.Invited != 0 {
					t.Errorf("%s: %d joined, %d invited", name, access.Room.Joined, access.Room.Invited)
				}
				// A trusted user may do what the creator may.
				empty := ""
				_, err := rooms.Send(t.Context(), id, roomserver.Draft{Type: "m.room.name", StateKey: &empty, Sender: bob, Content: json.RawMessage(`{"name":"n"}`)})
				if trusted := preset == "trusted_private_chat"; trusted != (err == nil) {
					t.Errorf("%s: bob names the room: %v", name, err)
				}
			}
		}
	})
}

// TestCreateIsAllOrNothing: what fails at its last step leaves nothing behind.
func TestCreateIsAllOrNothing(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		for name, d := range map[string]roomserver.RoomDraft{
			"unknown version":      {Version: "99"},
			"unknown invitee":      {Invite: []string{"@nobody:hs.example"}},
			"invitee elsewhere":    {Invite: []string{"@x:other.example"}},
			"bad preset":           {Preset: "none"},
			"state without power":  {PowerLevelsOverride: map[string]json.RawMessage{"state_default": json.RawMessage(`"x"`)}},
			"creator in levels":    {PowerLevelsOverride: map[string]json.RawMessage{"users": json.RawMessage(`{"` + alice + `":100}`)}},
			"additional creators":  {CreationContent: map[string]json.RawMessage{"additional_creators": json.RawMessage(`[5]`)}},
			"member in state":      {InitialState: []roomserver.StateDraft{{Type: "m.room.member", StateKey: alice, Content: json.RawMessage(`{}`)}}},
			"foreign user's state": {InitialState: []roomserver.StateDraft{{Type: "x", StateKey: bob, Content: json.RawMessage(`{}`)}}},
			"float":                {InitialState: []roomserver.StateDraft{{Type: "x", Content: json.RawMessage(`{"a":1.5}`)}}},
		} {
			d.Creator, d.AliasName = alice, "taken"
			if _, err := rooms.Create(t.Context(), d); err == nil {
				t.Errorf("%s: no error", name)
			}
			if _, _, err := rooms.ResolveAlias(t.Context(), "#taken:hs.example"); !errors.Is(err, matrix.NotFound) {
				t.Errorf("%s: the alias was made: %v", name, err)
			}
		}
		if joined := must[[]string](t)(rooms.JoinedRooms(t.Context(), alice)); len(joined) != 0 {
			t.Errorf("rooms were made: %v", joined)
		}
	})
}

func TestParallelCreatesDiffer(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		var mu sync.Mutex
		var all sync.WaitGroup
		ids := map[string]bool{}
		for range 50 {
			all.Go(func() {
				id, err := rooms.Create(t.Context(), roomserver.RoomDraft{Creator: alice})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				ids[id] = true
				mu.Unlock()
			})
		}
		all.Wait()
		if len(ids) != 50 {
			t.Errorf("%d different rooms", len(ids))
		}
	})
}

func TestTransactionsAreIdempotent(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		id := create(t, rooms, roomserver.RoomDraft{Invite: []string{bob}})
		if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
			t.Fatal(err)
		}
		d := roomserver.Draft{Type: "m.room.message", Sender: bob, Device: "D", TxnID: "1", Content: text("once")}
		first := must[string](t)(rooms.Send(t.Context(), id, d))
		d.Content = text("other words")
		if again := must[string](t)(rooms.Send(t.Context(), id, d)); again != first {
			t.Errorf("the same transaction made %s, then %s", first, again)
		}
		other := d
		other.Device = "E"
		if second := must[string](t)(rooms.Send(t.Context(), id, other)); second == first {
			t.Error("another device's transaction gave the same event")
		}
		// A new process, and a user who may no longer send: the answer stays.
		rooms = newRooms(t, db)
		if err := rooms.Kick(t.Context(), id, roomserver.MemberChange{Sender: alice, Target: bob}); err != nil {
			t.Fatal(err)
		}
		if again := must[string](t)(rooms.Send(t.Context(), id, d)); again != first {
			t.Errorf("after restart and kick: %s, first %s", again, first)
		}
		if _, err := rooms.Send(t.Context(), id, roomserver.Draft{Type: "m.room.message", Sender: bob, Device: "D", TxnID: "2", Content: text("x")}); !errors.Is(err, matrix.Forbidden) {
			t.Errorf("a kicked user sends: %v", err)
		}
		if diff := cmp.Diff([]string{"once", "other words"}, bodies(t, rooms, id, alice)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestParallelSendsMakeOneLine(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		id := create(t, rooms, roomserver.RoomDraft{})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range 10 {
					say(t, rooms, id, alice, fmt.Sprintf("%d-%d", i, n))
				}
			})
		}
		all.Wait()
		room := must[storage.Room](t)(db.RoomByID(t.Context(), id))
		events := must[[]storage.Event](t)(db.EventsForward(t.Context(), room.Number, 0, 1<<62, 1000))
		for i, e := range events[1:] {
			if diff := cmp.Diff([]string{events[i].ID}, e.PrevEvents()); diff != "" {
				t.Fatalf("event %d: %s", i+1, diff)
			}
			if e.Depth != events[i].Depth+1 || e.StateBefore != events[i].StateAfter {
				t.Fatalf("event %d: depth %d after %d, state %d after %d", i+1, e.Depth, events[i].Depth, e.StateBefore, events[i].StateAfter)
			}
		}
		if last := events[len(events)-1]; len(events) != 80+6 || !slices.Equal(room.Extremities, []string{last.ID}) {
			t.Errorf("%d events, extremities %v", len(events), room.Extremities)
		}
	})
}

// TestHistoryVisibility has three users read a room whose visibility changes:
// alice is there always, bob is invited, joins, and leaves, carol comes last.
func TestHistoryVisibility(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for visibility, want := range map[string]struct{ bob, carol []string }{
			"world_readable": {[]string{"before", "invited", "joined", "left", "end"}, []string{"before", "invited", "joined", "left", "end"}},
			"shared":         {[]string{"before", "invited", "joined"}, []string{"before", "invited", "joined", "left", "end"}},
			"invited":        {[]string{"invited", "joined"}, []string{"end"}},
			"joined":         {[]string{"joined"}, []string{"end"}},
		} {
			t.Run(visibility, func(t *testing.T) {
				rooms := newRooms(t, db)
				id := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat"})
				setState(t, rooms, id, alice, "m.room.history_visibility", `{"history_visibility":"`+visibility+`"}`)
				say(t, rooms, id, alice, "before")
				steps := []func() error{
					func() error {
						return rooms.Invite(t.Context(), id, roomserver.MemberChange{Sender: alice, Target: bob})
					},
					func() error { return rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}) },
					func() error { return rooms.Leave(t.Context(), id, roomserver.MemberChange{Sender: bob}) },
					func() error { return rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: carol}) },
				}
				for i, body := range []string{"invited", "joined", "left", "end"} {
					if err := steps[i](); err != nil {
						t.Fatal(err)
					}
					say(t, rooms, id, alice, body)
				}
				if diff := cmp.Diff(want.bob, bodies(t, rooms, id, bob)); diff != "" {
					t.Errorf("bob (-want +got)\n%s", diff)
				}
				if diff := cmp.Diff(want.carol, bodies(t, rooms, id, carol)); diff != "" {
					t.Errorf("carol (-want +got)\n%s", diff)
				}
				if all := bodies(t, rooms, id, alice); len(all) != 5 {
					t.Errorf("alice sees %v", all)
				}
				_, err := rooms.Access(t.Context(), id, "@stranger:hs.example")
				if open := visibility == "world_readable"; open != (err == nil) {
					t.Errorf("a stranger: %v", err)
				}
			})
		}
	})
}

// TestStateOfTheTimeOfLeaving: one who left reads the state as it was then.
func TestStateOfTheTimeOfLeaving(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		id := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat", Name: "first"})
		if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
			t.Fatal(err)
		}
		if err := rooms.Ban(t.Context(), id, roomserver.MemberChange{Sender: alice, Target: bob, Reason: "noise"}); err != nil {
			t.Fatal(err)
		}
		setState(t, rooms, id, alice, "m.room.name", `{"name":"second"}`)
		setState(t, rooms, id, alice, "m.room.topic", `{"topic":"secret"}`)
		access := must[roomserver.Access](t)(rooms.Access(t.Context(), id, bob))
		name := must[*roomserver.ClientEvent](t)(rooms.StateEvent(t.Context(), access, "m.room.name", ""))
		if got := name.ContentString("name"); got != "first" {
			t.Errorf("name %q", got)
		}
		if _, err := rooms.StateEvent(t.Context(), access, "m.room.topic", ""); !errors.Is(err, matrix.NotFound) {
			t.Errorf("topic: %v", err)
		}
		if err := rooms.Forget(t.Context(), id, bob); err != nil {
			t.Fatal(err)
		}
		if _, err := rooms.Access(t.Context(), id, bob); !errors.Is(err, matrix.Forbidden) {
			t.Errorf("a forgotten room: %v", err)
		}
	})
}

func TestRedaction(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, v := range []matrix.RoomVersion{"1", "10", "11", "12"} {
			rooms := newRooms(t, db)
			id := create(t, rooms, roomserver.RoomDraft{Version: v, Preset: "public_chat"})
			if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
				t.Fatal(err)
			}
			redact := func(sender, target string) (string, error) {
				return rooms.Send(t.Context(), id, roomserver.Draft{Type: "m.room.redaction", Sender: sender, Redacts: target, Content: json.RawMessage(`{"reason":"r"}`)})
			}
			mine, hers := say(t, rooms, id, bob, "mine"), say(t, rooms, id, alice, "hers")
			if _, err := redact(bob, hers); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("version %s: bob redacts alice: %v", v, err)
			}
			if _, err := redact(bob, mine); err != nil {
				t.Errorf("version %s: %v", v, err)
			}
			by, err := rooms.Send(t.Context(), id, roomserver.Draft{Type: "m.room.redaction", Sender: alice,
				Content: json.RawMessage(fmt.Sprintf(`{"redacts":%q}`, hers))})
			if err != nil {
				t.Fatalf("version %s: %v", v, err)
			}
			e, _, err := rooms.Event(t.Context(), id, bob, hers)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Content  map[string]any
				Unsigned struct {
					Because struct {
						EventID string `json:"event_id"`
						Redacts string
						Content struct{ Redacts string }
					} `json:"redacted_because"`
				}
			}
			if err := json.Unmarshal(e.AppendJSON(nil, roomserver.View{}), &got); err != nil {
				t.Fatal(err)
			}
			because := got.Unsigned.Because
			if len(got.Content) != 0 || because.EventID != by || because.Redacts != hers || because.Content.Redacts != hers {
				t.Errorf("version %s: %+v", v, got)
			}
			if _, err := redact(alice, "$unknown:hs.example"); !errors.Is(err, matrix.InvalidParam) {
				t.Errorf("version %s: unknown target: %v", v, err)
			}
			room := must[storage.Room](t)(db.RoomByID(t.Context(), id))
			first := must[storage.StateEntry](t)(db.CurrentStateEvent(t.Context(), room.Number, "m.room.create", ""))
			if _, err := redact(alice, first.ID); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("version %s: the create event is redacted: %v", v, err)
			}
		}
	})
}

func TestRestrictedJoin(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		for _, rule := range []string{"restricted", "knock_restricted"} {
			gate := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat"})
			id := create(t, rooms, roomserver.RoomDraft{})
			setState(t, rooms, id, alice, "m.room.join_rules",
				fmt.Sprintf(`{"join_rule":%q,"allow":[{"type":"m.room_membership","room_id":%q}]}`, rule, gate))
			if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("%s: bob joins from outside: %v", rule, err)
			}
			if err := rooms.Knock(t.Context(), id, roomserver.MemberChange{Sender: carol}); (err == nil) != (rule == "knock_restricted") {
				t.Errorf("%s: carol knocks: %v", rule, err)
			}
			if err := rooms.Join(t.Context(), gate, roomserver.MemberChange{Sender: bob}); err != nil {
				t.Fatal(err)
			}
			if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
				t.Errorf("%s: %v", rule, err)
			}
			access := must[roomserver.Access](t)(rooms.Access(t.Context(), id, bob))
			member := must[*roomserver.ClientEvent](t)(rooms.StateEvent(t.Context(), access, "m.room.member", bob))
			if got := member.ContentString("join_authorised_via_users_server"); got != alice {
				t.Errorf("%s: authorised by %q", rule, got)
			}
		}
	})
}

// TestStateHistory sets keys at random and then asks for the state after every
// event, which a plain list of what was set must agree with.
func TestStateHistory(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		random := mathrand.New(mathrand.NewPCG(1, 2))
		id := create(t, rooms, roomserver.RoomDraft{})
		room := must[storage.Room](t)(db.RoomByID(t.Context(), id))
		for n := range 400 {
			key := fmt.Sprint(random.IntN(120))
			must[string](t)(rooms.Send(t.Context(), id, roomserver.Draft{Type: "x", StateKey: &key, Sender: alice,
				Content: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}))
		}
		rooms = newRooms(t, db) // with nothing in its caches
		events := must[[]storage.Event](t)(db.EventsForward(t.Context(), room.Number, 0, 1<<62, 1000))
		want := map[string]string{}
		layers := map[int]int{}
		for i, e := range events {
			want[e.Type+"|"+*e.StateKey] = e.ID
			if i%7 != 0 && i < len(events)-30 {
				continue
			}
			got := map[string]string{}
			for _, s := range must[[]*roomserver.ClientEvent](t)(rooms.State(t.Context(), roomserver.Access{Room: room, Left: e.Pos, State: e.StateAfter})) {
				got[s.Type+"|"+*s.StateKey] = s.ID
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("after event %d: %s", i, diff)
			}
			rows := must[[]storage.StateRow](t)(db.States(t.Context(), []int64{e.StateAfter}))
			layers[rows[0].Layer]++
		}
		if len(layers) < 3 {
			t.Errorf("states were stored in layers %v only", layers)
		}
	})
}

func TestJoinedAnswersAlikeForUnknownRooms(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		id := create(t, rooms, roomserver.RoomDraft{})
		_, private := rooms.Access(t.Context(), id, bob)
		_, unknown := rooms.Access(t.Context(), "!unknown:hs.example", bob)
		if private == nil || unknown == nil || private.Error() != unknown.Error() {
			t.Errorf("private room: %v; unknown room: %v", private, unknown)
		}
	})
}

// TestErase: who was there keeps what an erased user wrote, who comes later does not get it.
func TestErase(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		id := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat"})
		if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: bob}); err != nil {
			t.Fatal(err)
		}
		written := say(t, rooms, id, bob, "personal")
		if err := db.Write(t.Context(), func(tx *storage.Tx) error { return tx.DeactivateUser(t.Context(), bob, true) }); err != nil {
			t.Fatal(err)
		}
		if err := rooms.LeaveAll(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		if err := rooms.Join(t.Context(), id, roomserver.MemberChange{Sender: carol}); err != nil {
			t.Fatal(err)
		}
		for reader, want := range map[string]string{alice: "personal", carol: ""} {
			if diff := cmp.Diff([]string{want}, bodies(t, rooms, id, reader)); diff != "" {
				t.Errorf("%s pages: %s", reader, diff)
			}
			e, _, err := rooms.Event(t.Context(), id, reader, written)
			if err != nil || e.ContentString("body") != want {
				t.Errorf("%s reads %s, %v", reader, e.Content, err)
			}
		}
	})
}

// TestMembershipTransitions tries every act on a user of every membership in a
// public room.
func TestMembershipTransitions(t *testing.T) {
	type acts = map[string]func(*roomserver.Rooms, *testing.T, string) error
	by := func(sender string, act func(*roomserver.Rooms) func(ctx context.Context, roomID string, c roomserver.MemberChange) error) func(*roomserver.Rooms, *testing.T, string) error {
		return func(r *roomserver.Rooms, t *testing.T, id string) error {
			return act(r)(t.Context(), id, roomserver.MemberChange{Sender: sender, Target: bob})
		}
	}
	type method = func(context.Context, string, roomserver.MemberChange) error
	all := acts{
		"join":   by(bob, func(r *roomserver.Rooms) method { return r.Join }),
		"leave":  by(bob, func(r *roomserver.Rooms) method { return r.Leave }),
		"invite": by(alice, func(r *roomserver.Rooms) method { return r.Invite }),
		"kick":   by(alice, func(r *roomserver.Rooms) method { return r.Kick }),
		"ban":    by(alice, func(r *roomserver.Rooms) method { return r.Ban }),
		"unban":  by(alice, func(r *roomserver.Rooms) method { return r.Unban }),
	}
	// What each membership becomes by each act; "-" for a refusal.
	want := map[string]map[string]string{
		"none":   {"join": "join", "leave": "-", "invite": "invite", "kick": "-", "ban": "ban", "unban": "-"},
		"invite": {"join": "join", "leave": "leave", "invite": "invite", "kick": "leave", "ban": "ban", "unban": "-"},
		"join":   {"join": "join", "leave": "leave", "invite": "-", "kick": "leave", "ban": "ban", "unban": "-"},
		"leave":  {"join": "join", "leave": "leave", "invite": "invite", "kick": "-", "ban": "ban", "unban": "-"},
		"ban":    {"join": "-", "leave": "-", "invite": "-", "kick": "-", "ban": "ban", "unban": "leave"},
	}
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		for from, results := range want {
			for act, to := range results {
				id := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat"})
				steps := map[string][]string{"none": nil, "invite": {"invite"}, "join": {"join"}, "leave": {"join", "leave"}, "ban": {"ban"}}
				for _, step := range steps[from] {
					if err := all[step](rooms, t, id); err != nil {
						t.Fatalf("%s: %s: %v", from, step, err)
					}
				}
				err := all[act](rooms, t, id)
				room := must[storage.Room](t)(db.RoomByID(t.Context(), id))
				m, _ := db.MembershipIn(t.Context(), room.Number, bob)
				switch {
				case to == "-" && err == nil:
					t.Errorf("%s, then %s: allowed, became %s", from, act, m.Membership)
				case to == "-" && m.Membership != from && from != "none":
					t.Errorf("%s, then a refused %s: %s", from, act, m.Membership)
				case to != "-" && (err != nil || m.Membership != to):
					t.Errorf("%s, then %s: %s, %v; want %s", from, act, m.Membership, err, to)
				}
			}
		}
	})
}
