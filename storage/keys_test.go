package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

const algorithm = "signed_curve25519"

func insertDevices(t *testing.T, db *storage.DB, userID string, deviceIDs ...string) {
	t.Helper()
	write(t, db, func(tx *storage.Tx) error {
		for _, id := range deviceIDs {
			if _, err := tx.InsertDevice(t.Context(), &storage.Device{UserID: userID, ID: id}); err != nil {
				return err
			}
		}
		return nil
	})
}

// addKeys gives a device one-time keys, in this order.
func addKeys(t *testing.T, db *storage.DB, userID, deviceID string, ids ...string) {
	t.Helper()
	write(t, db, func(tx *storage.Tx) error {
		holder, err := tx.LockKeys(t.Context(), userID, deviceID)
		if err != nil {
			return err
		}
		for _, id := range ids {
			key := storage.OneTimeKey{Algorithm: algorithm, ID: id, Key: json.RawMessage(`"` + id + `"`)}
			if err := tx.AddOneTimeKeys(t.Context(), holder.ID, []storage.OneTimeKey{key}); err != nil {
				return err
			}
		}
		_, err = tx.PublishKeyCounts(t.Context(), []int64{holder.ID})
		return err
	})
}

// claim gives the ids of the keys that devices of a user gave out, "" for none.
func claim(t *testing.T, db *storage.DB, userID string, deviceIDs ...string) []string {
	t.Helper()
	var claims []storage.KeyClaim
	for _, id := range deviceIDs {
		claims = append(claims, storage.KeyClaim{UserID: userID, DeviceID: id, Algorithm: algorithm})
	}
	var keys map[storage.KeyClaim]storage.OneTimeKey
	write(t, db, func(tx *storage.Tx) (err error) {
		keys, err = tx.ClaimKeys(t.Context(), claims, 1)
		return err
	})
	var ids []string
	for _, c := range claims {
		key := keys[c]
		if key.ID != "" && string(key.Key) != `"`+key.ID+`"` {
			t.Errorf("the key %s is %s", key.ID, key.Key)
		}
		ids = append(ids, key.ID)
	}
	return ids
}

func TestClaimInOrder(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		insertDevices(t, db, "@a:x", "A", "B")
		insertDevices(t, db, "@b:x", "A")
		addKeys(t, db, "@a:x", "A", "z", "m")
		addKeys(t, db, "@a:x", "A", "a")
		addKeys(t, db, "@a:x", "B", "z")
		addKeys(t, db, "@b:x", "A", "z") // the same names, of another user
		for _, want := range [][]string{{"z", "z", ""}, {"m", "", ""}, {"a", "", ""}, {"", "", ""}} {
			if got := claim(t, db, "@a:x", "A", "B", "unknown"); !slices.Equal(got, want) {
				t.Errorf("claimed %q, not %q", got, want)
			}
		}
		counts, err := db.KeyCounts(t.Context(), "@b:x", "A")
		if err != nil || counts.OneTime[algorithm] != 1 {
			t.Errorf("the other user's device has %v, %v", counts, err)
		}
	})
}

// Every key is given out once however many ask at the same time.
func TestClaimsRace(t *testing.T) {
	const askers, each = 16, 20
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		insertDevices(t, db, "@a:x", "A", "B")
		var ids []string
		for i := range askers * each {
			ids = append(ids, fmt.Sprintf("K%04d", i))
		}
		addKeys(t, db, "@a:x", "A", ids...)
		addKeys(t, db, "@a:x", "B", ids...)
		var mu sync.Mutex
		got := map[string][]string{}
		var group sync.WaitGroup
		for range askers {
			group.Go(func() {
				for range each {
					for _, device := range []string{"A", "B"} {
						c := storage.KeyClaim{UserID: "@a:x", DeviceID: device, Algorithm: algorithm}
						var keys map[storage.KeyClaim]storage.OneTimeKey
						err := db.Write(t.Context(), func(tx *storage.Tx) (err error) {
							keys, err = tx.ClaimKeys(t.Context(), []storage.KeyClaim{c}, 1)
							return err
						})
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						got[device] = append(got[device], keys[c].ID)
						mu.Unlock()
					}
				}
			})
		}
		group.Wait()
		for _, device := range []string{"A", "B"} {
			if slices.Sort(got[device]); !slices.Equal(got[device], ids) {
				t.Errorf("%s: %d keys were claimed, and not each once: %v", device, len(got[device]), got[device])
			}
		}
	})
}

func TestClaimThatIsUndone(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		insertDevices(t, db, "@a:x", "A")
		addKeys(t, db, "@a:x", "A", "1")
		undone := errors.New("undone")
		err := db.Write(t.Context(), func(tx *storage.Tx) error {
			_, err := tx.ClaimKeys(t.Context(), []storage.KeyClaim{{UserID: "@a:x", DeviceID: "A", Algorithm: algorithm}}, 1)
			return errors.Join(err, undone)
		})
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		if got := claim(t, db, "@a:x", "A"); got[0] != "1" {
			t.Errorf("after a claim that was undone: %q", got)
		}
	})
}

func TestClaimedKeysAreRemembered(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertDevices(t, db, "@a:x", "A")
		addKeys(t, db, "@a:x", "A", "1", "2")
		claim(t, db, "@a:x", "A")
		write(t, db, func(tx *storage.Tx) error {
			holder, err := tx.LockKeys(ctx, "@a:x", "A")
			if err != nil {
				return err
			}
			keys, err := tx.OneTimeKeys(ctx, holder.ID, []string{"1", "2", "3"})
			slices.SortFunc(keys, func(a, b storage.OneTimeKey) int { return len(a.Key) - len(b.Key) })
			want := []storage.OneTimeKey{{Algorithm: algorithm, ID: "1", Key: json.RawMessage{}}, {Algorithm: algorithm, ID: "2", Key: json.RawMessage(`"2"`)}}
			if diff := cmp.Diff(want, keys); diff != "" {
				t.Error(diff)
			}
			return err
		})
		write(t, db, func(tx *storage.Tx) error {
			n, err := tx.ForgetClaimedKeys(ctx, time.Now().UnixMilli(), 10)
			if n != 1 {
				t.Errorf("%d claimed keys were forgotten", n)
			}
			return err
		})
		if got := claim(t, db, "@a:x", "A"); got[0] != "2" {
			t.Errorf("the next is %q", got)
		}
	})
}

func TestFallbackKeys(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertDevices(t, db, "@a:x", "A")
		addKeys(t, db, "@a:x", "A", "1")
		put := func(id string) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error {
				holder, err := tx.LockKeys(ctx, "@a:x", "A")
				if err != nil {
					return err
				}
				return tx.PutFallbackKeys(ctx, holder.ID, []storage.OneTimeKey{{Algorithm: algorithm, ID: id, Key: json.RawMessage(`"` + id + `"`)}})
			})
		}
		unused := func(want ...string) {
			t.Helper()
			counts, err := db.KeyCounts(ctx, "@a:x", "A")
			if err != nil || !slices.Equal(counts.Unused, want) {
				t.Errorf("unused are %q, %v, not %q", counts.Unused, err, want)
			}
		}
		put("F")
		unused(algorithm)
		for i, want := range []string{"1", "F", "F"} {
			if got := claim(t, db, "@a:x", "A"); got[0] != want {
				t.Errorf("claim %d gave %q", i, got)
			}
		}
		unused()
		put("F") // the client had no answer
		unused()
		start := db.Clock.Current()
		claim(t, db, "@a:x", "A")
		if values := published(t, db, start); len(values) != 0 {
			t.Errorf("nothing has changed, and the log has %v", values)
		}
		put("G")
		unused(algorithm)
		if got := claim(t, db, "@a:x", "A"); got[0] != "G" {
			t.Errorf("the new fallback key: %q", got)
		}
	})
}

func TestKeyCountsAreTold(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		insertDevices(t, db, "@a:x", "A", "B")
		addKeys(t, db, "@a:x", "A", "1", "2")
		addKeys(t, db, "@a:x", "B", "1")
		start := db.Clock.Current()
		claim(t, db, "@a:x", "A", "B")
		pos := db.Clock.Current()
		want := []any{[]storage.KeyCounts{
			{UserID: "@a:x", DeviceID: "A", OneTime: map[string]int64{algorithm: 1}, Pos: pos},
			{UserID: "@a:x", DeviceID: "B", OneTime: map[string]int64{}, Pos: pos},
		}}
		byDevice := cmp.Transformer("sort", func(all []storage.KeyCounts) []storage.KeyCounts {
			sorted := slices.Clone(all)
			slices.SortFunc(sorted, func(a, b storage.KeyCounts) int { return int(a.DeviceID[0]) - int(b.DeviceID[0]) })
			return sorted
		})
		if diff := cmp.Diff(want, published(t, db, start), cmp.FilterPath(func(p cmp.Path) bool { return len(p) == 3 }, byDevice)); diff != "" {
			t.Error(diff)
		}
		counts, err := db.KeyCounts(t.Context(), "@a:x", "A")
		if err != nil || counts.Pos != pos || counts.OneTime[algorithm] != 1 {
			t.Errorf("counts %v, %v", counts, err)
		}
	})
}

func TestDeviceKeys(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertDevices(t, db, "@a:x", "A", "B")
		insertDevices(t, db, "@b:x", "A")
		put := func(userID, deviceID string) {
			write(t, db, func(tx *storage.Tx) error {
				holder, err := tx.LockKeys(ctx, userID, deviceID)
				if err != nil {
					return err
				}
				return tx.SetDeviceKeys(ctx, holder.ID, json.RawMessage(`{"of":"`+userID+deviceID+`"}`))
			})
		}
		put("@a:x", "A")
		put("@b:x", "A")
		addKeys(t, db, "@a:x", "B", "1") // no identity keys
		write(t, db, func(tx *storage.Tx) error { return tx.RenameDevice(ctx, "@a:x", "A", "phone") })
		keys, err := db.DeviceKeys(ctx, []string{"@a:x", "@b:x", "@c:x"})
		want := []storage.DeviceKeys{
			{UserID: "@a:x", DeviceID: "A", DisplayName: "phone", Keys: json.RawMessage(`{"of":"@a:xA"}`)},
			{UserID: "@b:x", DeviceID: "A", Keys: json.RawMessage(`{"of":"@b:xA"}`)},
		}
		if diff := cmp.Diff(want, keys); diff != "" || err != nil {
			t.Error(diff, err)
		}
		err = db.Write(ctx, func(tx *storage.Tx) error {
			_, err := tx.LockKeys(ctx, "@a:x", "unknown")
			return err
		})
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("keys of a device that does not exist: %v", err)
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteDeviceKeys(ctx, "@a:x", []string{"A", "B"}) })
		if keys, err := db.DeviceKeys(ctx, []string{"@a:x", "@b:x"}); len(keys) != 1 || err != nil {
			t.Errorf("left are %v, %v", keys, err)
		}
		if got := claim(t, db, "@a:x", "B"); got[0] != "" {
			t.Errorf("a device that is gone gives out %q", got)
		}
	})
}

func message(deviceID, content string) storage.ToDeviceMessage {
	return storage.ToDeviceMessage{UserID: "@a:x", DeviceID: deviceID, Sender: "@s:x", Type: "m.t", Content: json.RawMessage(content)}
}

func TestToDevice(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertDevices(t, db, "@a:x", "A", "B")
		start := db.Clock.Current()
		var positions []stream.Pos
		for i := range 3 {
			write(t, db, func(tx *storage.Tx) error {
				return tx.AddToDevice(ctx, [][]storage.ToDeviceMessage{{message("A", fmt.Sprintf(`{"n":%d}`, i)), message("B", `{}`)}})
			})
			positions = append(positions, db.Clock.Current())
		}
		for _, v := range published(t, db, start) {
			if diff := cmp.Diff(storage.ToDevice{Devices: map[string][]string{"@a:x": {"A", "B"}}}, v); diff != "" {
				t.Error(diff)
			}
		}
		got := func(after, upTo stream.Pos, limit int) (contents []string) {
			t.Helper()
			messages, err := db.ToDeviceMessages(ctx, "@a:x", "A", after, upTo, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				contents = append(contents, string(m.Content))
			}
			return contents
		}
		now := db.Clock.Current()
		for _, test := range []struct {
			after, upTo stream.Pos
			limit       int
			want        []string
		}{
			{0, now, 10, []string{`{"n":0}`, `{"n":1}`, `{"n":2}`}},
			{0, now, 2, []string{`{"n":0}`, `{"n":1}`}},
			{positions[0], now, 10, []string{`{"n":1}`, `{"n":2}`}},
			{0, positions[1], 10, []string{`{"n":0}`, `{"n":1}`}},
			{now, now, 10, nil},
		} {
			if got := got(test.after, test.upTo, test.limit); !slices.Equal(got, test.want) {
				t.Errorf("after %d up to %d: %v, not %v", test.after, test.upTo, got, test.want)
			}
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteToDevice(ctx, "@a:x", "A", positions[1]) })
		if got := got(0, now, 10); !slices.Equal(got, []string{`{"n":2}`}) {
			t.Errorf("left are %v", got)
		}
		for upTo, want := range map[stream.Pos]bool{positions[1]: false, positions[2]: true} {
			if waiting, err := db.HasToDevice(ctx, "@a:x", "A", upTo); waiting != want || err != nil {
				t.Errorf("messages up to %d: %v, %v", upTo, waiting, err)
			}
		}
	})
}

// The queue of a device is as large as what is in it, whatever comes and goes.
func TestToDeviceQueues(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertDevices(t, db, "@a:x", "A", "B")
		insertDevices(t, db, "@b:x", "A")
		type queues = map[string][2]int64
		check := func(want queues) {
			t.Helper()
			got := queues{}
			all, err := db.ToDeviceQueues(ctx, []string{"@a:x", "@b:x", "@unknown:x"})
			for _, w := range all {
				got[w.UserID+w.DeviceID] = [2]int64{w.Messages, w.Bytes}
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		}
		message := func(userID, deviceID, content string) storage.ToDeviceMessage {
			return storage.ToDeviceMessage{UserID: userID, DeviceID: deviceID, Sender: "@s:x", Type: "m.t", Content: json.RawMessage(content)}
		}
		check(queues{"@a:xA": {}, "@a:xB": {}, "@b:xA": {}})
		var first stream.Pos
		for range 3 {
			write(t, db, func(tx *storage.Tx) error {
				return tx.AddToDevice(ctx, [][]storage.ToDeviceMessage{
					{message("@a:x", "A", `{}`), message("@b:x", "A", `{"x":"ü"}`)}, nil, {message("@a:x", "A", `{"a":1}`)},
				})
			})
			if first == 0 {
				first = db.Clock.Current()
			}
		}
		check(queues{"@a:xA": {6, 3 * (7 + 2 + 7 + 7)}, "@a:xB": {}, "@b:xA": {3, 3 * (7 + 10)}})
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteToDevice(ctx, "@a:x", "A", first) })
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteToDevice(ctx, "@a:x", "A", first) })
		check(queues{"@a:xA": {4, 2 * (7 + 2 + 7 + 7)}, "@a:xB": {}, "@b:xA": {3, 3 * (7 + 10)}})
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteDeviceKeys(ctx, "@b:x", []string{"A"}) })
		check(queues{"@a:xA": {4, 2 * (7 + 2 + 7 + 7)}, "@a:xB": {}, "@b:xA": {}})
	})
}

func TestToDeviceTransactions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		add := func(txn storage.ToDeviceTxn, now int64) (isNew bool) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) (err error) {
				isNew, err = tx.AddToDeviceTxn(ctx, txn, now)
				return err
			})
			return isNew
		}
		first := storage.ToDeviceTxn{Sender: "@a:x", DeviceID: "A", Type: "m.t", TxnID: "1"}
		if !add(first, 10) || add(first, 11) {
			t.Error("the same was new twice, or never")
		}
		for _, other := range []storage.ToDeviceTxn{{"@b:x", "A", "m.t", "1"}, {"@a:x", "B", "m.t", "1"}, {"@a:x", "A", "m.u", "1"}, {"@a:x", "A", "m.t", "2"}} {
			if !add(other, 20) {
				t.Errorf("%v is the same as %v", other, first)
			}
		}
		write(t, db, func(tx *storage.Tx) error {
			n, err := tx.ForgetToDeviceTxns(ctx, 15, 10)
			if n != 1 {
				t.Errorf("%d were forgotten", n)
			}
			return err
		})
		if !add(first, 30) {
			t.Error("what was forgotten is not new")
		}
	})
}

func TestDeviceLists(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		changes := db.Clock.Current()
		for _, userID := range []string{"@a:x", "@b:x", "@stranger:x"} {
			write(t, db, func(tx *storage.Tx) error { return tx.ChangeDeviceList(ctx, userID) })
		}
		write(t, db, func(tx *storage.Tx) error {
			for room, members := range map[int64][]string{1: {"@a:x", "@b:x", "@c:x"}, 2: {"@stranger:x"}} {
				for i, userID := range members {
					key := storage.StateKey{Key: int64(i + 1), Type: "m.room.member", StateKey: userID, Pos: 1, Changed: changes + 10, Membership: "join"}
					if err := tx.SetCurrentState(ctx, room, key); err != nil {
						return err
					}
				}
			}
			return nil
		})
		sorted := func(ids []string, err error) []string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(ids)
			return ids
		}
		if got := sorted(db.DeviceListsSince(ctx, "@a:x", []int64{1}, changes, changes+9)); !slices.Equal(got, []string{"@a:x", "@b:x"}) {
			t.Errorf("changed for a: %v", got)
		}
		if got := sorted(db.DeviceListsSince(ctx, "@c:x", []int64{1, 3}, changes+1, changes+9)); !slices.Equal(got, []string{"@b:x"}) {
			t.Errorf("changed for c after a's: %v", got)
		}
		if got := sorted(db.DeviceListsSince(ctx, "@a:x", nil, changes, changes)); len(got) != 0 {
			t.Errorf("before anything changed: %v", got)
		}
		if got := sorted(db.JoinedToAny(ctx, []int64{1}, []string{"@b:x", "@stranger:x", "@unknown:x"})); !slices.Equal(got, []string{"@b:x"}) {
			t.Errorf("sharing: %v", got)
		}
		if got := sorted(db.JoinedMembers(ctx, []int64{1, 2})); !slices.Equal(got, []string{"@a:x", "@b:x", "@c:x", "@stranger:x"}) {
			t.Errorf("members: %v", got)
		}
		write(t, db, func(tx *storage.Tx) error {
			key := storage.StateKey{Key: 2, Type: "m.room.member", StateKey: "@b:x", Pos: 2, Changed: changes + 20, Membership: "leave"}
			return tx.SetCurrentState(ctx, 1, key)
		})
		joined, gone, err := db.MembersSince(ctx, []int64{1}, changes+15, changes+25)
		if !slices.Equal(gone, []string{"@b:x"}) || len(joined) != 0 || err != nil {
			t.Errorf("joined %v, gone %v, %v", joined, gone, err)
		}
		joined, _, err = db.MembersSince(ctx, []int64{1}, changes, changes+15)
		if !slices.Equal(sorted(joined, err), []string{"@a:x", "@c:x"}) {
			t.Errorf("joined %v", joined)
		}
		write(t, db, func(tx *storage.Tx) error {
			ids, before, err := tx.NextUpdate(ctx, "@a:x", 2)
			if len(ids) != 2 || before != 0 || ids[1] <= ids[0] {
				t.Errorf("the first updates are %v after %d", ids, before)
			}
			next, last, err2 := tx.NextUpdate(ctx, "@a:x", 1)
			if last != ids[1] || next[0] <= last {
				t.Errorf("the next update is %v after %d", next, last)
			}
			return errors.Join(err, err2)
		})
	})
}

func TestKeySignatures(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		keys := []storage.CrossSigningKey{
			{UserID: "@a:x", Usage: storage.MasterKey, ID: "M", Key: json.RawMessage(`{}`)},
			{UserID: "@a:x", Usage: storage.SelfSigningKey, ID: "S", Key: json.RawMessage(`{"s":1}`)},
		}
		own := storage.KeySignature{UserID: "@a:x", KeyID: "D", Signer: "@a:x", SignerKey: "ed25519:S", Signature: "1"}
		ofOther := storage.KeySignature{UserID: "@b:x", KeyID: "N", Signer: "@a:x", SignerKey: "ed25519:U", Signature: "2"}
		start := db.Clock.Current()
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tx.SetCrossSigningKeys(ctx, "@a:x", keys), tx.AddKeySignatures(ctx, "@a:x", []storage.KeySignature{own, ofOther}))
		})
		if diff := cmp.Diff([]any{[]string{"@b:x"}}, published(t, db, start)); diff != "" {
			t.Error(diff)
		}
		write(t, db, func(tx *storage.Tx) error { return tx.AddKeySignatures(ctx, "@a:x", []storage.KeySignature{own}) }) // once more
		got, err := db.CrossSigningKeys(ctx, []string{"@a:x", "@b:x"})
		slices.SortFunc(got, func(a, b storage.CrossSigningKey) int { return len(a.Key) - len(b.Key) })
		if diff := cmp.Diff(keys, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		seen := func(asker string, want ...storage.KeySignature) {
			t.Helper()
			got, err := db.KeySignatures(ctx, []string{"@a:x", "@b:x"}, asker)
			slices.SortFunc(got, func(a, b storage.KeySignature) int { return int(a.Signature[0]) - int(b.Signature[0]) })
			if diff := cmp.Diff(append([]storage.KeySignature{}, want...), got); diff != "" || err != nil {
				t.Errorf("%s: %s, %v", asker, diff, err)
			}
		}
		seen("@a:x", own, ofOther)
		seen("@b:x", own)
		seen("", own)
		for after, want := range map[stream.Pos]int{start: 1, db.Clock.Current(): 0} {
			if got, err := db.SignedSince(ctx, "@a:x", after, db.Clock.Current()); len(got) != want || err != nil {
				t.Errorf("signed after %d: %v, %v", after, got, err)
			}
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteSignatures(ctx, "@a:x", []string{"U"}) })
		seen("@a:x", own)
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteSignatures(ctx, "@a:x", []string{"D"}) })
		seen("@a:x")
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tx.AddKeySignatures(ctx, "@a:x", []storage.KeySignature{own, ofOther}), tx.DeleteAllSignatures(ctx, "@a:x"))
		})
		seen("@a:x")
	})
}
