package roomserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
)

// publish makes a room and puts it into the directory.
func publish(t testing.TB, db *storage.DB, rooms *roomserver.Rooms, d roomserver.RoomDraft) string {
	t.Helper()
	d.Preset = "public_chat"
	roomID := create(t, rooms, d)
	room := must[storage.Room](t)(db.RoomByID(t.Context(), roomID))
	if err := db.Write(t.Context(), func(tx *storage.Tx) error { return tx.PublishRoom(t.Context(), room.Number, true) }); err != nil {
		t.Fatal(err)
	}
	return roomID
}

func names(page *roomserver.PublishedPage) []string {
	all := []string{}
	for _, r := range page.Chunk {
		all = append(all, r.Name)
	}
	return all
}

func TestPublishedRooms(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		ask := func(q roomserver.PublishedQuery) *roomserver.PublishedPage {
			t.Helper()
			return must[*roomserver.PublishedPage](t)(rooms.PublishedRooms(t.Context(), q))
		}
		if page := ask(roomserver.PublishedQuery{}); page.Chunk == nil || len(page.Chunk) != 0 || page.NextBatch+page.PrevBatch != "" {
			t.Errorf("an empty directory: %+v", page)
		}
		space := json.RawMessage(`"m.space"`)
		ids := []string{
			publish(t, db, rooms, roomserver.RoomDraft{Name: "Small", Topic: "of ÄPFEL"}),
			publish(t, db, rooms, roomserver.RoomDraft{Name: "Space", CreationContent: map[string]json.RawMessage{"type": space}}),
			publish(t, db, rooms, roomserver.RoomDraft{Name: "Inside", CreationContent: map[string]json.RawMessage{"m.federate": json.RawMessage(`false`)}}),
			publish(t, db, rooms, roomserver.RoomDraft{Name: "Large", AliasName: "big"}),
			create(t, rooms, roomserver.RoomDraft{Name: "Unlisted", Preset: "public_chat"}),
		}
		if err := rooms.Join(t.Context(), ids[3], roomserver.MemberChange{Sender: bob}); err != nil {
			t.Fatal(err)
		}
		everything := ask(roomserver.PublishedQuery{})
		want := []roomserver.PublicRoom{
			{RoomID: ids[3], Name: "Large", CanonicalAlias: "#big:hs.example", JoinRule: "public", JoinedMembers: 2},
			{RoomID: ids[0], Name: "Small", Topic: "of ÄPFEL", JoinRule: "public", JoinedMembers: 1},
			{RoomID: ids[1], Name: "Space", RoomType: "m.space", JoinRule: "public", JoinedMembers: 1},
			{RoomID: ids[2], Name: "Inside", JoinRule: "public", JoinedMembers: 1},
		}
		if diff := cmp.Diff(&roomserver.PublishedPage{Chunk: want, Total: 4}, everything); diff != "" {
			t.Errorf("the directory (-want +got):\n%s", diff)
		}
		spaceType, other := "m.space", "other"
		for _, test := range []struct {
			name string
			q    roomserver.PublishedQuery
			want []string
		}{
			{"other servers", roomserver.PublishedQuery{Remote: true}, []string{"Large", "Small", "Space"}},
			{"a name", roomserver.PublishedQuery{Search: " SMA "}, []string{"Small"}},
			{"a topic", roomserver.PublishedQuery{Search: "äpfel"}, []string{"Small"}},
			{"an alias", roomserver.PublishedQuery{Search: "#BIG:hs"}, []string{"Large"}},
			{"nothing", roomserver.PublishedQuery{Search: "%"}, []string{}},
			{"spaces", roomserver.PublishedQuery{Types: []*string{&spaceType}}, []string{"Space"}},
			{"rooms", roomserver.PublishedQuery{Types: []*string{nil}}, []string{"Large", "Small", "Inside"}},
			{"both", roomserver.PublishedQuery{Types: []*string{&spaceType, nil, &other}}, []string{"Large", "Small", "Space", "Inside"}},
			{"no type", roomserver.PublishedQuery{Types: []*string{}}, []string{}},
		} {
			if diff := cmp.Diff(test.want, names(ask(test.q))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
		for _, q := range []roomserver.PublishedQuery{{Limit: -1}, {Since: "x"}, {Since: "n1"}, {Since: "n1_2x"}, {Since: "p99999999999999999999_1"}} {
			if _, err := rooms.PublishedRooms(t.Context(), q); !errors.Is(err, matrix.InvalidParam) {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
}

// Paging goes through all rooms once, forwards and back again.
func TestPublishedRoomsPages(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		rooms := newRooms(t, db)
		var want []string
		for i := range 11 {
			want = append(want, fmt.Sprint("room ", i))
			roomID := publish(t, db, rooms, roomserver.RoomDraft{Name: want[i]})
			if i < 4 {
				if err := rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: bob}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, search := range []string{"", "room"} {
			q := roomserver.PublishedQuery{Limit: 3, Search: search}
			var forwards, backwards []string
			var last *roomserver.PublishedPage
			for range 10 {
				page := must[*roomserver.PublishedPage](t)(rooms.PublishedRooms(t.Context(), q))
				forwards = append(forwards, names(page)...)
				if q.Since == "" && page.PrevBatch != "" {
					t.Error("there is something before the first page")
				}
				last, q.Since = page, page.NextBatch
				if q.Since == "" {
					break
				}
			}
			if diff := cmp.Diff(want, forwards); diff != "" {
				t.Errorf("forwards (-want +got):\n%s", diff)
			}
			q.Since = last.PrevBatch
			for q.Since != "" {
				page := must[*roomserver.PublishedPage](t)(rooms.PublishedRooms(t.Context(), q))
				backwards = append(names(page), backwards...)
				if page.NextBatch == "" {
					t.Error("there is nothing after a page before the last")
				}
				q.Since = page.PrevBatch
			}
			if diff := cmp.Diff(want[:9], backwards); diff != "" {
				t.Errorf("backwards (-want +got):\n%s", diff)
			}
		}
	})
}

// A space shows other servers which of its rooms they might enter.
func TestServingHierarchy(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice := userOf("a", "alice")
		space := map[string]json.RawMessage{"type": json.RawMessage(`"m.space"`)}
		rule := func(content string) []roomserver.StateDraft {
			return []roomserver.StateDraft{{Type: "m.room.join_rules", Content: json.RawMessage(content)}}
		}
		root := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Name: "Root", CreationContent: space})
		club := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Name: "Club"})
		restricted := rule(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"` + club + `"},{"type":"m.room_membership","room_id":"!x\u0000"}]}`)
		children := map[string]string{
			"public":     create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Name: "public"}),
			"private":    create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat", Name: "private"}),
			"knock":      create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Name: "knock", InitialState: rule(`{"join_rule":"knock"}`)}),
			"old knock":  create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Version: "6", Name: "old knock", InitialState: rule(`{"join_rule":"knock"}`)}),
			"restricted": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Name: "restricted", InitialState: restricted}),
			"too early": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Version: "9", Name: "too early",
				InitialState: rule(`{"join_rule":"knock_restricted","allow":[{"type":"m.room_membership","room_id":"` + club + `"}]}`)}),
			"invited": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat", Name: "invited", Invite: []string{userOf("b", "bob")}}),
			"readable": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat", Name: "readable", InitialState: []roomserver.StateDraft{
				{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"world_readable"}`)}}}),
			"inside": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Name: "inside",
				CreationContent: map[string]json.RawMessage{"m.federate": json.RawMessage(`false`)}}),
			"closed": create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Name: "closed", InitialState: []roomserver.StateDraft{
				{Type: "m.room.server_acl", Content: json.RawMessage(`{"allow":["a.test"]}`)}}}),
			"elsewhere": "!elsewhere:c.test",
			"no via":    "!novia:c.test",
		}
		for name, child := range children {
			content := fmt.Sprintf(`{"via":["a.test"],"suggested":%v}`, name == "public")
			if name == "no via" {
				content = `{"suggested":true}`
			}
			must[string](t)(a.rooms.SendState(t.Context(), root, roomserver.Draft{Type: "m.space.child", StateKey: &child, Sender: alice, Content: json.RawMessage(content)}))
		}
		look := func(suggested bool) (open, shut []string) {
			h := must[*roomserver.Hierarchy](t)(a.serving.Hierarchy(t.Context(), "b.test", root, suggested))
			for _, c := range h.Children {
				open = append(open, c.Name)
			}
			for name, id := range children {
				if slices.Contains(h.Inaccessible, id) {
					shut = append(shut, name)
				}
			}
			if h.Room.Name != "Root" || h.Room.RoomType != "m.space" || !suggested && len(h.Room.ChildrenState) != len(children)-1 {
				t.Errorf("the space: %+v", h.Room)
			}
			slices.Sort(open)
			slices.Sort(shut)
			return open, shut
		}
		check := func(suggested bool, wantOpen, wantShut string) {
			t.Helper()
			open, shut := look(suggested)
			if diff := cmp.Diff([]string{wantOpen, wantShut}, []string{strings.Join(open, ","), strings.Join(shut, ",")}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		check(false, "invited,knock,public,readable", "closed,inside,old knock,private,restricted,too early")
		check(true, "public", "")
		b.join(club, userOf("b", "bob"), "a")
		net.deliver()
		check(false, "invited,knock,public,readable,restricted", "closed,inside,old knock,private,too early")
		for _, id := range []string{children["private"], children["closed"], "!unknown:a.test"} {
			if _, err := a.serving.Hierarchy(t.Context(), "b.test", id, false); !errors.Is(err, matrix.NotFound) {
				t.Errorf("%s: %v", id, err)
			}
		}
		h := must[*roomserver.Hierarchy](t)(a.serving.Hierarchy(t.Context(), "b.test", children["public"], false))
		if h.Children == nil || h.Inaccessible == nil || h.Room.ChildrenState == nil || h.Room.RoomVersion != "12" {
			t.Errorf("of a room that is no space: %+v", h)
		}
	})
}
