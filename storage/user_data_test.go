package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

func write(t *testing.T, db *storage.DB, fn func(tx *storage.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// published are the values in the log after a position.
func published(t *testing.T, db *storage.DB, after stream.Pos) []any {
	t.Helper()
	values := []any{}
	if !db.Log.Range(after, db.Clock.Current(), func(e *stream.Entry) bool {
		values = append(values, e.Value)
		return true
	}) {
		t.Fatal("the log does not reach back")
	}
	return values
}

func TestAccountData(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		put := func(userID string, room int64, dataType, content string) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error {
				return tx.PutAccountData(ctx, userID, room, dataType, json.RawMessage(content))
			})
		}
		if _, err := db.AccountData(ctx, "@a:x", 0, "m.direct"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("nothing there yet: %v", err)
		}
		put("@a:x", 0, "m.direct", `{"a":1}`)
		put("@a:x", 7, "m.tag", `{"tags":{}}`)
		put("@b:x", 0, "m.direct", `{"b":1}`)
		put("@a:x", 0, "m.direct", `{"a":2}`)
		direct, err := db.AccountData(ctx, "@a:x", 0, "m.direct")
		if err != nil {
			t.Fatal(err)
		}
		want := storage.AccountData{UserID: "@a:x", Type: "m.direct", Content: json.RawMessage(`{"a":2}`), Pos: db.Clock.Current()}
		if diff := cmp.Diff(want, direct); diff != "" {
			t.Error(diff)
		}
		all, err := db.AccountDataAll(ctx, "@a:x")
		if err != nil || len(all) != 2 || all[0].Type != "m.tag" || all[1].Pos != direct.Pos {
			t.Errorf("all: %v, %v", all, err)
		}
		since, err := db.AccountDataSince(ctx, "@a:x", all[0].Pos, db.Clock.Current())
		if diff := cmp.Diff([]storage.AccountData{want}, since); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if until, err := db.AccountDataSince(ctx, "@a:x", start, direct.Pos-1); err != nil || len(until) != 1 || until[0].Room != 7 {
			t.Errorf("up to before the last: %v, %v", until, err)
		}
		if values := published(t, db, start); len(values) != 4 || cmp.Diff(want, values[3]) != "" {
			t.Errorf("published: %v", values)
		}
		size, err := db.AccountDataSize(ctx, "@a:x")
		if wantSize := int64(len(`{"a":2}`) + len("m.direct") + len(`{"tags":{}}`) + len("m.tag")); size != wantSize || err != nil {
			t.Errorf("size %d, %v; want %d", size, err, wantSize)
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteAccountData(ctx, "@a:x") })
		if all, err := db.AccountDataAll(ctx, "@a:x"); err != nil || len(all) != 0 {
			t.Errorf("after the deletion: %v, %v", all, err)
		}
		if size, err := db.AccountDataSize(ctx, "@a:x"); size != 0 || err != nil {
			t.Errorf("size of nothing: %d, %v", size, err)
		}
	})
}

func TestUpdateAccountData(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		update := func(content json.RawMessage, failure error) (old json.RawMessage, err error) {
			err = db.Write(ctx, func(tx *storage.Tx) error {
				return tx.UpdateAccountData(ctx, "@a:x", 7, "m.tag", func(before json.RawMessage) (json.RawMessage, error) {
					old = before
					return content, failure
				})
			})
			return old, err
		}
		if old, err := update(nil, nil); old != nil || err != nil {
			t.Errorf("nothing there: %s, %v", old, err)
		}
		if _, err := db.AccountData(ctx, "@a:x", 7, "m.tag"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("no change made a row: %v", err)
		}
		if old, err := update(json.RawMessage(`{"n":1}`), nil); old != nil || err != nil {
			t.Errorf("the first: %s, %v", old, err)
		}
		if old, err := update(nil, nil); string(old) != `{"n":1}` || err != nil {
			t.Errorf("left alone: %s, %v", old, err)
		}
		refused := errors.New("refused")
		if _, err := update(json.RawMessage(`{"n":2}`), refused); !errors.Is(err, refused) {
			t.Errorf("refused: %v", err)
		}
		d, err := db.AccountData(ctx, "@a:x", 7, "m.tag")
		if err != nil || string(d.Content) != `{"n":1}` {
			t.Errorf("%s, %v", d.Content, err)
		}
		if values := published(t, db, start); len(values) != 1 {
			t.Errorf("published: %v", values)
		}
	})
}

// TestUpdateAccountDataAtOnce looks for lost updates, and for a last entry of the
// log that is not what is stored.
func TestUpdateAccountDataAtOnce(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		const writers, each = 8, 10
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for range each {
					err := db.Write(ctx, func(tx *storage.Tx) error {
						return tx.UpdateAccountData(ctx, "@a:x", 0, "n", func(old json.RawMessage) (json.RawMessage, error) {
							var n int
							if old != nil {
								if err := json.Unmarshal(old, &n); err != nil {
									return nil, err
								}
							}
							return json.Marshal(n + 1)
						})
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		d, err := db.AccountData(ctx, "@a:x", 0, "n")
		if err != nil || string(d.Content) != fmt.Sprint(writers*each) {
			t.Errorf("%s of %d updates are left: %v", d.Content, writers*each, err)
		}
		values := published(t, db, start)
		for i, v := range values {
			if got := string(v.(storage.AccountData).Content); got != fmt.Sprint(i+1) {
				t.Fatalf("entry %d of the log has %s", i, got)
			}
		}
		if len(values) != writers*each {
			t.Errorf("%d entries", len(values))
		}
	})
}

func TestReceipts(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		advance := func(room int64, userID, receiptType, thread, eventID string, order int64) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error {
				return tx.AdvanceReceipt(ctx, storage.Receipt{Room: room, UserID: userID, Type: receiptType, ThreadID: thread,
					EventID: eventID, Order: order, TS: 1000 + order})
			})
		}
		advance(1, "@a:x", "m.read", "", "$20", 20)
		advance(1, "@a:x", "m.read", "", "$10", 10) // back: no effect
		advance(1, "@a:x", "m.read", "", "$20", 20) // the same: no effect
		advance(1, "@a:x", "m.read", "main", "$10", 10)
		advance(1, "@a:x", "m.read.private", "", "$30", 30)
		advance(2, "@b:x", "m.read", "", "$5", 5)
		advance(1, "@a:x", "m.read", "", "$40", 40)
		type row struct {
			Room                           int64
			User, Type, Thread, Event, Seq string
		}
		rows := func(receipts []storage.Receipt, err error) (rows []row) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range receipts {
				if r.TS != 1000+r.Order {
					t.Errorf("receipt %+v", r)
				}
				rows = append(rows, row{r.Room, r.UserID, r.Type, r.ThreadID, r.EventID, fmt.Sprint(r.Pos - start)})
			}
			return rows
		}
		main := row{1, "@a:x", "m.read", "main", "$10", "2"}
		private := row{1, "@a:x", "m.read.private", "", "$30", "3"}
		other := row{2, "@b:x", "m.read", "", "$5", "4"}
		last := row{1, "@a:x", "m.read", "", "$40", "5"}
		if diff := cmp.Diff([]row{main, private, last, other}, rows(db.ReceiptsOf(ctx, []int64{1, 2, 3}))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]row{private, other}, rows(db.ReceiptsSince(ctx, []int64{1, 2}, start+2, start+4))); diff != "" {
			t.Error(diff)
		}
		if got := rows(db.ReceiptsSince(ctx, nil, 0, start+9)); got != nil {
			t.Errorf("in no room: %v", got)
		}
		var events []string
		for _, v := range published(t, db, start) {
			r := v.(storage.Receipt)
			events = append(events, fmt.Sprint(r.EventID, " ", r.Pos-start))
		}
		if diff := cmp.Diff([]string{"$20 1", "$10 2", "$30 3", "$5 4", "$40 5"}, events); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFilters(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		for range 2 {
			write(t, db, func(tx *storage.Tx) error { return tx.PutFilter(ctx, "@a:x", "id", `{"room":{}}`) })
		}
		if got, err := db.Filter(ctx, "@a:x", "id"); got != `{"room":{}}` || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		for _, absent := range [][2]string{{"@a:x", "other"}, {"@b:x", "id"}} {
			if _, err := db.Filter(ctx, absent[0], absent[1]); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%v: %v", absent, err)
			}
		}
	})
}

func TestPresence(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		put := func(p storage.Presence) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error { return tx.PutPresence(ctx, p, p.StatusMsg == "keep") })
		}
		put(storage.Presence{UserID: "@a:x", State: "online", LastActive: 5})
		put(storage.Presence{UserID: "@b:x", State: "online", StatusMsg: "lunch"})
		put(storage.Presence{UserID: "@b:x", State: "unavailable", StatusMsg: "keep"})
		put(storage.Presence{UserID: "@c:x", State: "online"})
		put(storage.Presence{UserID: "@c:x", State: "offline", LastActive: 9})
		b := storage.Presence{UserID: "@b:x", State: "unavailable", StatusMsg: "lunch", Pos: start + 3}
		c := storage.Presence{UserID: "@c:x", State: "offline", LastActive: 9, Pos: start + 5}
		got, err := db.PresenceSince(ctx, []string{"@a:x", "@b:x", "@c:x", "@d:x"}, start+1, start+5)
		if diff := cmp.Diff([]storage.Presence{b, c}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if got, err := db.PresenceSince(ctx, []string{"@b:x"}, start, start+1); len(got) != 0 || err != nil {
			t.Errorf("up to before: %v, %v", got, err)
		}
		if got, err := db.PresenceOf(ctx, []string{"@c:x", "@d:x"}); err != nil || len(got) != 1 || got[0] != c {
			t.Errorf("of c: %v, %v", got, err)
		}
		if got, err := db.PresentUsers(ctx, "", 10); err != nil || len(got) != 2 || got[1] != b {
			t.Errorf("present: %v, %v", got, err)
		}
		if got, err := db.PresentUsers(ctx, "@a:x", 1); err != nil || len(got) != 1 || got[0] != b {
			t.Errorf("present after a: %v, %v", got, err)
		}
		if values := published(t, db, start); len(values) != 5 || values[2] != b || values[4] != c {
			t.Errorf("published: %v", values)
		}
	})
}
