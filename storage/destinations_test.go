package storage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

func equal(t *testing.T, what string, want, got any, err error) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
	}
}

// insertEvent stores as much of an event as it takes to tell whom it is for.
func insertEvent(t *testing.T, db *storage.DB, room int64, pos, order int64, sender string) {
	t.Helper()
	write(t, db, func(tx *storage.Tx) error {
		return tx.Exec(t.Context(), `INSERT INTO events (pos, ord, room, event_id, type, sender, ts, state_before, state_after, auth, json)
			VALUES ($1, $2, $3, $4, 'm.room.message', $5, $6, 0, 0, $7, $8)`, pos, order, room, fmt.Sprint("$", pos), sender, 1000+pos,
			[]byte{}, fmt.Appendf(nil, `{"n":%d}`, pos))
	})
}

func setRoomServer(t *testing.T, db *storage.DB, room int64, server string, members int64, pos stream.Pos) {
	t.Helper()
	write(t, db, func(tx *storage.Tx) error {
		return tx.SetRoomServer(t.Context(), storage.RoomServer{Room: room, Server: server, Members: members}, pos)
	})
}

func TestDestinations(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		set := func(all ...storage.Destination) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error { return tx.SetDestinations(t.Context(), all) })
		}
		rows := func() map[string]storage.Destination {
			t.Helper()
			all, err := db.Destinations(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]storage.Destination{}
			for _, d := range all {
				found[d.Server] = d
			}
			return found
		}
		a, b, others := storage.Destination{Server: "a", Cursor: 5, Failures: 3, RetryTS: 99}, storage.Destination{Server: "b", Cursor: 7}, storage.Destination{Cursor: 9}
		set(a, b, others)
		equal(t, "rows", map[string]storage.Destination{"a": a, "b": b, "": others}, rows(), nil)
		a.Cursor, a.Failures, others.Cursor = 8, 0, 12
		set(a, others)
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteDestinations(t.Context(), []string{"b", "c"}) })
		equal(t, "rows after changes", map[string]storage.Destination{"a": a, "": others}, rows(), nil)
	})
}

func TestPendingEvents(t *testing.T) {
	const own, scale = "hs", storage.OrderScale
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		for pos := int64(10); pos < 40; pos++ {
			sender := "@a:hs"
			switch pos % 3 {
			case 1:
				sender = "@a:else"
			case 2:
				sender = "@a:not-hs" // ends in the same letters
			}
			insertEvent(t, db, 1+pos%2, pos, pos*scale, sender) // own: 12, 15, 18 … 39; even in room 1
		}
		insertEvent(t, db, 1, 50, 20*scale+7, "@a:hs") // came by backfill
		insertEvent(t, db, 1, 51, -51, "@a:hs")        // an outlier
		insertEvent(t, db, 1, 9, 22*scale, "@a:hs")    // an outlier that has got a place
		setRoomServer(t, db, 1, "far", 1, 12)          // is not told of 12
		setRoomServer(t, db, 2, "far", 1, 0)           //
		setRoomServer(t, db, 2, "far", 0, 27)          // is told of 27
		setRoomServer(t, db, 1, "near", 1, 30)         //
		setRoomServer(t, db, 2, own, 1, 0)             //
		write(t, db, func(tx *storage.Tx) error {      //
			if err := tx.QueueEvent(ctx, &storage.Event{Pos: 33, At: 33}, []string{"far", "out"}); err != nil {
				return err
			}
			return tx.RelayEvent(ctx, &storage.Event{Pos: 34, At: 34}) // of else, in room 1
		})
		pending := func(p storage.Pending) []int64 {
			t.Helper()
			p.Own = own
			if p.Limit == 0 {
				p.Limit = 100
			}
			events, err := db.PendingEvents(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			found := []int64{}
			for i, e := range events {
				found = append(found, int64(e.Pos))
				if i > 0 && e.At <= events[i-1].At {
					t.Errorf("%d comes after %d", e.At, events[i-1].At)
				}
			}
			return found
		}
		all := []int64{15, 18, 21, 24, 27, 30, 33, 34, 36}
		equal(t, "all", all, pending(storage.Pending{Server: "far", UpTo: 100}), nil)
		equal(t, "a part", all[2:6], pending(storage.Pending{Server: "far", After: 18, UpTo: 30}), nil)
		equal(t, "a page", all[1:4], pending(storage.Pending{Server: "far", After: 15, UpTo: 100, Limit: 3}), nil)
		equal(t, "the newest", []int64{21, 27, 30, 33, 34, 36}, pending(storage.Pending{Server: "far", UpTo: 100, PerRoom: 2}), nil)
		equal(t, "late", []int64{34, 36}, pending(storage.Pending{Server: "near", UpTo: 100}), nil)
		equal(t, "outside", []int64{33}, pending(storage.Pending{Server: "out", UpTo: 100}), nil)
		equal(t, "nowhere", []int64{}, pending(storage.Pending{Server: "nowhere", UpTo: 100}), nil)
		servers := func(after, upTo stream.Pos) []string {
			t.Helper()
			found, err := db.PendingServers(ctx, own, after, upTo)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(found)
			return found
		}
		equal(t, "servers of all", []string{"far", own, "near", "out"}, servers(0, 100), nil)
		equal(t, "servers of the first", []string{"far", own}, servers(0, 15), nil)
		equal(t, "servers of none", []string{}, servers(0, 14), nil)
		equal(t, "servers of what is passed on", []string{"far", "near"}, servers(33, 34), nil)
		pdus, err := db.PDUs(ctx, []int64{24, 9, 15})
		equal(t, "PDUs", []storage.PDU{{At: 15, OriginServerTS: 1015, JSON: json.RawMessage(`{"n":15}`)},
			{At: 22, OriginServerTS: 1009, JSON: json.RawMessage(`{"n":9}`)},
			{At: 24, OriginServerTS: 1024, JSON: json.RawMessage(`{"n":24}`)}}, pdus, err)

		setRoomServer(t, db, 1, "else", 1, 0) // whose own the event is
		equal(t, "at the sender's", []int64{12, 18, 24, 30, 36}, pending(storage.Pending{Server: "else", UpTo: 100}), nil)
	})
}

func TestQueuedEDUs(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		for n := range 3 {
			write(t, db, func(tx *storage.Tx) error {
				return tx.QueueEDU(ctx, storage.QueuedEDU{Servers: []string{"a", "b"}, Type: "m.x", Content: fmt.Appendf(nil, `{"n":%d}`, n)})
			})
		}
		write(t, db, func(tx *storage.Tx) error { return tx.QueueEDU(ctx, storage.QueuedEDU{Type: "m.x"}) })
		if values := published(t, db, start); len(values) != 3 || values[0].(storage.QueuedEDU).Servers[1] != "b" {
			t.Errorf("published: %v", values)
		}
		left := func(server string, after stream.Pos, limit int) []string {
			t.Helper()
			edus, err := db.OutgoingEDUs(ctx, server, after, db.Clock.Current(), limit)
			if err != nil {
				t.Fatal(err)
			}
			found := []string{}
			for _, e := range edus {
				found = append(found, e.Type+e.Content)
			}
			return found
		}
		equal(t, "all", []string{`m.x{"n":0}`, `m.x{"n":1}`, `m.x{"n":2}`}, left("a", 0, 10), nil)
		equal(t, "a page", []string{`m.x{"n":1}`}, left("a", start+1, 1), nil)
		write(t, db, func(tx *storage.Tx) error {
			if err := tx.QueueEvent(ctx, &storage.Event{Pos: 1, At: start + 1}, []string{"a", "b"}); err != nil {
				return err
			}
			if err := tx.RelayEvent(ctx, &storage.Event{Pos: 2, At: start + 2}); err != nil {
				return err
			}
			if err := tx.SetDestinations(ctx, []storage.Destination{{Server: "a", Cursor: start + 1}, {Cursor: start + 2}}); err != nil {
				return err
			}
			return tx.DeleteDelivered(ctx, []string{"a", "b"})
		})
		equal(t, "of a server that is behind", []string{`m.x{"n":1}`, `m.x{"n":2}`}, left("a", 0, 10), nil)
		equal(t, "of one without a row", []string{`m.x{"n":2}`}, left("b", 0, 10), nil)
		relayed := func() int64 {
			t.Helper()
			n, err := storage.Select[int64](ctx, &db.Reader, `SELECT count(*) FROM outgoing_events`)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		equal(t, "events while one is behind", int64(1), relayed(), nil)
		write(t, db, func(tx *storage.Tx) error {
			if err := tx.DeleteDestinations(ctx, []string{"a"}); err != nil {
				return err
			}
			return tx.DeleteDelivered(ctx, nil)
		})
		equal(t, "events when none is", int64(0), relayed(), nil)
		equal(t, "of a server that was not named", 2, len(left("a", 0, 10)), nil)
	})
}

// What was queued for servers that are given up is gone, with the events that were passed on
// for none but them; others keep what is theirs, and so does what came later.
func TestGiveUp(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, start := t.Context(), db.Clock.Current()
		for range 4 {
			write(t, db, func(tx *storage.Tx) error {
				return tx.QueueEDU(ctx, storage.QueuedEDU{Servers: []string{"dead", "behind"}, Type: "m.x"})
			})
		}
		write(t, db, func(tx *storage.Tx) error {
			for n := stream.Pos(1); n <= 4; n++ {
				if err := tx.QueueEvent(ctx, &storage.Event{Pos: n, At: start + n}, []string{"dead", "behind"}); err != nil {
					return err
				}
				if err := tx.RelayEvent(ctx, &storage.Event{Pos: n, At: start + n}); err != nil {
					return err
				}
			}
			return tx.SetDestinations(ctx, []storage.Destination{{Server: "dead", Failing: 7}, {Server: "behind", Cursor: start + 2}, {Cursor: start + 4}})
		})
		rows, err := db.Destinations(ctx)
		equal(t, "since", true, slices.Contains(rows, storage.Destination{Server: "dead", Failing: 7}), err)
		left := func(table string) string {
			t.Helper()
			found, err := storage.Select[string](ctx, &db.Reader, `SELECT string_agg(server, ' ' ORDER BY server) FROM `+table)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		for _, want := range []int64{6, 2, 0} {
			var n int64
			write(t, db, func(tx *storage.Tx) (err error) {
				n, err = tx.GiveUp(ctx, []string{"dead"}, start+3, 2)
				return err
			})
			equal(t, "removed", want, n, nil)
		}
		equal(t, "EDUs", "behind behind behind behind dead", left("outgoing_edus"), nil)
		equal(t, "events", "  behind behind behind behind dead", left("outgoing_events"), nil)
	})
}

func TestAudiences(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		write(t, db, func(tx *storage.Tx) error {
			for room := int64(1); room <= 3; room++ {
				if err := tx.InsertRoom(ctx, &storage.Room{Number: room, ID: fmt.Sprint("!", room), Version: "12"}); err != nil {
					return err
				}
			}
			for i, k := range []storage.StateKey{{StateKey: "@a:hs", Membership: "join"}, {StateKey: "@b:hs", Membership: "leave"}} {
				k.Key, k.Pos, k.Type = int64(i+1), stream.Pos(i+1), "m.room.member"
				for room := int64(1); room <= 2; room++ {
					if err := tx.SetCurrentState(ctx, room, k); err != nil {
						return err
					}
				}
			}
			return nil
		})
		setRoomServer(t, db, 1, "far", 2, 5)
		setRoomServer(t, db, 1, "gone", 2, 5)
		setRoomServer(t, db, 1, "gone", 0, 6)
		setRoomServer(t, db, 1, "hs", 2, 5)
		setRoomServer(t, db, 2, "far", 2, 5)
		setRoomServer(t, db, 3, "near", 2, 5)
		found, err := db.Audiences(ctx, "hs", []int64{1, 3, 4})
		equal(t, "audiences", map[int64]storage.Audience{1: {RoomID: "!1", Servers: []string{"far"}}, 3: {RoomID: "!3", Servers: []string{"near"}}}, found, err)
		around, err := db.ServersAround(ctx, "hs", []string{"@a:hs", "@b:hs", "@c:hs"})
		equal(t, "servers around", map[string][]string{"@a:hs": {"far"}}, around, err)
	})
}
