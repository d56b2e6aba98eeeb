package roomserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
)

// receiptsWorld is a room with some events.
type receiptsWorld struct {
	t      *testing.T
	db     *storage.DB
	rooms  *roomserver.Rooms
	roomID string
	number int64
}

func eachReceiptsWorld(t *testing.T, test func(w *receiptsWorld)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := &receiptsWorld{t: t, db: db, rooms: newRooms(t, db)}
		w.roomID = create(t, w.rooms, roomserver.RoomDraft{Preset: "public_chat"})
		w.number = must[int64](t)(w.rooms.Joined(t.Context(), w.roomID, alice))
		test(w)
	})
}

func (w *receiptsWorld) mark(userID string, m roomserver.ReadMarkers) error {
	return w.rooms.MarkRead(w.t.Context(), w.roomID, userID, m)
}

// receipts are the room's receipts as user, type, thread and event.
func (w *receiptsWorld) receipts() []string {
	w.t.Helper()
	found := []string{}
	for _, r := range must[[]storage.Receipt](w.t)(w.db.ReceiptsOf(w.t.Context(), []int64{w.number})) {
		found = append(found, fmt.Sprint(r.UserID, " ", r.Type, " ", r.ThreadID, " ", r.EventID))
	}
	slices.Sort(found)
	return found
}

func (w *receiptsWorld) fullyRead(userID string) string {
	w.t.Helper()
	d, err := w.db.AccountData(w.t.Context(), userID, w.number, "m.fully_read")
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		w.t.Fatal(err)
	}
	return string(d.Content)
}

func TestMarkReadMovesForward(t *testing.T) {
	eachReceiptsWorld(t, func(w *receiptsWorld) {
		first, second := say(w.t, w.rooms, w.roomID, alice, "1"), say(w.t, w.rooms, w.roomID, alice, "2")
		for i, step := range []struct {
			mark      roomserver.ReadMarkers
			receipts  []string
			fullyRead string
		}{
			{roomserver.ReadMarkers{}, []string{}, ""},
			{roomserver.ReadMarkers{Read: first}, []string{alice + " m.read  " + first}, ""},
			{roomserver.ReadMarkers{Read: second, ReadPrivate: first, FullyRead: second},
				[]string{alice + " m.read  " + second, alice + " m.read.private  " + first}, second},
			{roomserver.ReadMarkers{Read: first, ReadPrivate: first, FullyRead: first},
				[]string{alice + " m.read  " + second, alice + " m.read.private  " + first}, second},
			{roomserver.ReadMarkers{Read: first, ThreadID: roomserver.MainThread},
				[]string{alice + " m.read  " + second, alice + " m.read main " + first, alice + " m.read.private  " + first}, second},
		} {
			if err := w.mark(alice, step.mark); err != nil {
				w.t.Fatalf("step %d: %v", i, err)
			}
			if diff := cmp.Diff(step.receipts, w.receipts()); diff != "" {
				w.t.Errorf("step %d: %s", i, diff)
			}
			want := ""
			if step.fullyRead != "" {
				want = `{"event_id":"` + step.fullyRead + `"}`
			}
			if got := w.fullyRead(alice); got != want {
				w.t.Errorf("step %d: fully read %s", i, got)
			}
		}
	})
}

// Who is not in a room reads nothing there (F43).
func TestMarkReadRefuses(t *testing.T) {
	eachReceiptsWorld(t, func(w *receiptsWorld) {
		here := say(w.t, w.rooms, w.roomID, alice, "here")
		elsewhere := say(w.t, w.rooms, create(w.t, w.rooms, roomserver.RoomDraft{}), alice, "elsewhere")
		if err := w.rooms.Join(w.t.Context(), w.roomID, roomserver.MemberChange{Sender: carol}); err != nil {
			w.t.Fatal(err)
		}
		if err := w.rooms.Leave(w.t.Context(), w.roomID, roomserver.MemberChange{Sender: carol}); err != nil {
			w.t.Fatal(err)
		}
		for _, test := range []struct {
			user string
			mark roomserver.ReadMarkers
			want error
		}{
			{bob, roomserver.ReadMarkers{Read: here}, matrix.Forbidden},
			{carol, roomserver.ReadMarkers{Read: here}, matrix.Forbidden},
			{alice, roomserver.ReadMarkers{Read: elsewhere}, matrix.NotFound},
			{alice, roomserver.ReadMarkers{Read: here, FullyRead: elsewhere}, matrix.NotFound},
			{alice, roomserver.ReadMarkers{ReadPrivate: "$nowhere"}, matrix.NotFound},
			{alice, roomserver.ReadMarkers{Read: here, ThreadID: "$nowhere"}, matrix.InvalidParam},
		} {
			if err := w.mark(test.user, test.mark); !errors.Is(err, test.want) {
				w.t.Errorf("%s %+v: %v", test.user, test.mark, err)
			}
		}
		if err := w.rooms.MarkRead(w.t.Context(), "!unknown:hs.example", alice, roomserver.ReadMarkers{Read: here}); !errors.Is(err, matrix.Forbidden) {
			w.t.Errorf("in an unknown room: %v", err)
		}
		if got := w.receipts(); len(got) != 0 || w.fullyRead(alice) != "" {
			w.t.Errorf("receipts %v", got)
		}
	})
}

func TestMarkReadInThreads(t *testing.T) {
	eachReceiptsWorld(t, func(w *receiptsWorld) {
		send := func(content string, args ...any) string {
			w.t.Helper()
			return must[string](w.t)(w.rooms.Send(w.t.Context(), w.roomID, roomserver.Draft{Type: "m.room.message",
				Sender: alice, Content: json.RawMessage(fmt.Sprintf(content, args...))}))
		}
		const relates = `{"m.relates_to":{"rel_type":%q,"event_id":%q}}`
		root, other := send(`{}`), send(`{}`)
		inThread := send(relates, "m.thread", root)
		edit := send(relates, "m.replace", inThread)
		reaction := send(relates, "m.annotation", edit)
		onRoot := send(relates, "m.replace", root)
		toNowhere := send(relates, "m.reference", "$nowhere")
		reply := send(`{"m.relates_to":{"m.in_reply_to":{"event_id":%q}}}`, inThread)
		odd := send(`{"m.relates_to":7}`)
		redacted := send(relates, "m.thread", root)
		must[string](w.t)(w.rooms.Send(w.t.Context(), w.roomID, roomserver.Draft{Type: "m.room.redaction", Redacts: redacted,
			Sender: alice, Content: json.RawMessage(`{}`)}))
		const main = roomserver.MainThread
		for _, test := range []struct {
			name, event, thread string
			allowed             bool
		}{
			{"a plain event in main", other, main, true},
			{"a plain event in a thread", other, root, false},
			{"a root in main", root, main, true},
			{"a root in its thread", root, root, true},
			{"a threaded event in its thread", inThread, root, true},
			{"a threaded event in main", inThread, main, false},
			{"a threaded event in another thread", inThread, other, false},
			{"an edit in its event's thread", edit, root, true},
			{"an edit of a threaded event in main", edit, main, false},
			{"a reaction to an edit in the thread", reaction, root, true},
			{"an edit of a root in main", onRoot, main, true},
			{"an edit of a root in the root's thread", onRoot, root, true},
			{"an edit of a root in another thread", onRoot, other, false},
			{"something about an unknown event", toNowhere, root, true},
			{"something about an unknown event in main", toNowhere, main, true},
			{"something about an unknown event in an unknown thread", toNowhere, "$unknown", false},
			{"a reply without a thread", reply, root, true},
			{"an odd relation", odd, root, true},
			{"a redacted event", redacted, root, true},
			{"a redacted event in main", redacted, main, true},
			{"a redacted event in an unknown thread", redacted, "$unknown", false},
		} {
			err := w.mark(alice, roomserver.ReadMarkers{Read: test.event, ThreadID: test.thread})
			if test.allowed && err != nil || !test.allowed && !errors.Is(err, matrix.InvalidParam) {
				w.t.Errorf("%s: %v", test.name, err)
			}
		}
	})
}
