package keys_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/keys"
	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
)

const (
	own   = "us.test"
	other = "them.test"
	alice = "@alice:us.test"
	bob   = "@bob:them.test"
)

// peer is another server under the test's control.
type peer struct {
	mu      sync.Mutex
	devices map[string]json.RawMessage // bob's
	stream  int64
	master  json.RawMessage // bob's
	asked   []string
	down    bool
	partly  bool   // it knows queries of keys alone
	during  func() // happens while the server answers
}

func (p *peer) answer(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, what)
	if p.during != nil {
		p.during()
	}
	if p.down || p.partly && what == "devices" {
		return errors.New("down")
	}
	return nil
}

func (p *peer) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *peer) QueryKeys(context.Context, string, map[string][]string) (*keys.UserKeys, error) {
	devices := p.devices
	return &keys.UserKeys{DeviceKeys: map[string]map[string]json.RawMessage{bob: devices}, MasterKeys: map[string]json.RawMessage{bob: p.master}}, p.answer("query")
}

func (p *peer) ClaimKeys(context.Context, string, map[string]map[string]string) (map[string]map[string]map[string]json.RawMessage, error) {
	return nil, p.answer("claim")
}

func (p *peer) UserDevices(context.Context, string) (*keys.UserDevices, error) {
	answer := &keys.UserDevices{UserID: bob, StreamID: p.stream, MasterKey: p.master}
	for id, raw := range p.devices {
		answer.Devices = append(answer.Devices, keys.UserDevice{DeviceID: id, Keys: raw})
	}
	return answer, p.answer("devices")
}

// theirKeys are identity keys as another server sends them.
func theirKeys(userID, deviceID string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"user_id":%q,"device_id":%q,"algorithms":[],"keys":{"ed25519:%s":"x"},"signatures":{%q:{}}}`, userID, deviceID, deviceID, userID))
}

// eachKeys runs a test with keys whose user alice shares a room with bob of another server.
func eachKeys(t *testing.T, test func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		p := &peer{devices: map[string]json.RawMessage{"B": theirKeys(bob, "B")}, stream: 5}
		write(t, db, func(tx *storage.Tx) error {
			_, err := tx.InsertDevice(t.Context(), &storage.Device{UserID: alice, ID: "A"})
			return errors.Join(err, member(t, tx, 1, alice, "join"), member(t, tx, 2, bob, "join"),
				tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: alice}}),
				tx.SetRoomServer(t.Context(), storage.RoomServer{Room: 1, Server: own, Members: 1}, 1),
				tx.SetRoomServer(t.Context(), storage.RoomServer{Room: 1, Server: other, Members: 1}, 1))
		})
		test(t, keys.New(keys.Options{DB: db, ServerName: own, Federation: true, Remote: p}), db, p)
	})
}

func member(t *testing.T, tx *storage.Tx, key int64, userID, membership string) error {
	return tx.SetCurrentState(t.Context(), 1, storage.StateKey{Key: key, Type: "m.room.member", StateKey: userID, Pos: 1, Changed: 1, Membership: membership})
}

func write(t *testing.T, db *storage.DB, fn func(tx *storage.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// bobs are bob's devices as alice sees them.
func bobs(t *testing.T, k *keys.Keys) []string {
	t.Helper()
	found, err := k.Query(t.Context(), alice, map[string][]string{bob: nil}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for id := range found.DeviceKeys[bob] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func update(t *testing.T, k *keys.Keys, deviceID string, id int64, prev ...int64) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"user_id": bob, "device_id": deviceID, "stream_id": id, "prev_id": prev, "keys": theirKeys(bob, deviceID)})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.TakeDeviceLists(t.Context(), other, []json.RawMessage{content}); err != nil {
		t.Fatal(err)
	}
}

// running runs the keys until something is so.
func running(t *testing.T, k *keys.Keys, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	for !so() {
		if t.Context().Err() != nil {
			t.Fatal("the test has ended")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// renewed runs the keys until bob's list is no longer stale.
func renewed(t *testing.T, k *keys.Keys, db *storage.DB) {
	t.Helper()
	running(t, k, func() bool {
		lists, err := db.RemoteLists(t.Context(), []string{bob})
		return err == nil && !lists[bob].Stale
	})
}

func TestListIsKeptAndFollowed(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		has := func(when string, questions int, want ...string) {
			t.Helper()
			if got := bobs(t, k); !slices.Equal(got, want) {
				t.Errorf("%s bob has %v", when, got)
			}
			if got := p.questions(); len(got) != questions || slices.Contains(got, "query") {
				t.Errorf("%s: asked were %v", when, got)
			}
		}
		has("first", 1, "B")
		has("again", 1, "B")
		update(t, k, "C", 5, 4) // it came with the list
		update(t, k, "D", 6, 5)
		update(t, k, "D", 6, 5) // once more
		has("after an update", 1, "B", "D")
		// One is missed.
		p.devices["D"], p.devices["E"], p.stream = theirKeys(bob, "D"), theirKeys(bob, "E"), 8
		update(t, k, "E", 8, 7)
		renewed(t, k, db)
		has("after the gap", 2, "B", "D", "E")
		update(t, k, "F", 9, 8)
		has("after another update", 2, "B", "D", "E", "F")
		for i, lost := range []func(){
			func() { update(t, k, "X", 11, 8) },     // of one that follows on an older one
			func() { update(t, k, "X", 12, 10, 7) }, // or on several
			func() { update(t, k, "X", 14) },        // or on nothing
			func() { update(t, k, "X", 3, 2) },      // of one that is older than the list
		} {
			p.devices["F"], p.stream = theirKeys(bob, "F"), int64(10+i)
			lost()
			has("when it cannot be told what is missed", 3+i, "B", "D", "E", "F")
		}
		gone, err := json.Marshal(map[string]any{"user_id": bob, "device_id": "B", "stream_id": 20, "prev_id": []int{13}, "deleted": true})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.TakeDeviceLists(t.Context(), other, []json.RawMessage{gone}); err != nil {
			t.Fatal(err)
		}
		has("in the end", 6, "D", "E", "F")
	})
}

// The list of a user whom nobody has asked for is there when the user's server is not, and
// clients hear of what is new in a list when it is known, and not of what is not new.
func TestListIsFetchedBeforeItIsNeeded(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		told := func(want bool, when string, do func()) {
			t.Helper()
			before := db.Clock.Current()
			do()
			users, err := db.DeviceListsSince(t.Context(), alice, []int64{1}, before, db.Clock.Current())
			if err != nil || slices.Contains(users, bob) != want {
				t.Errorf("%s clients are told of %v, %v", when, users, err)
			}
		}
		told(true, "at the first update", func() { update(t, k, "B", 5, 4) })
		told(false, "when the list is there", func() { renewed(t, k, db) })
		p.down = true
		told(false, "when it is asked for", func() {
			if got := bobs(t, k); !slices.Equal(got, []string{"B"}) {
				t.Errorf("while the server is down bob has %v", got)
			}
		})
		again := func(want bool, deviceID string) {
			t.Helper()
			p.down = true
			told(true, "of a gap", func() { update(t, k, deviceID, p.stream+2, p.stream+1) })
			bobs(t, k)
			p.down = false
			p.devices[deviceID], p.stream = theirKeys(bob, deviceID), p.stream+2
			told(want, "after "+deviceID+" was asked for in vain", func() { renewed(t, k, db) })
		}
		again(true, "C")
		again(false, "C")
		p.master = masterKey(t, bob)
		again(true, "C")
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tx.MarkStale(t.Context(), bob), tx.PostponeRenewal(t.Context(), bob, 1, 0))
		})
		p.devices["D"] = theirKeys(bob, "D")
		told(true, "after failures", func() { renewed(t, k, db) })
	})
}

// Clients hear of a list that is asked for the first time: they may know an older one.
func TestClientsHearOfNewLists(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, _ *peer) {
		before := db.Clock.Current()
		bobs(t, k)
		after := db.Clock.Current()
		bobs(t, k)
		users, err := db.DeviceListsSince(t.Context(), alice, []int64{1}, before, after)
		if err != nil || !slices.Equal(users, []string{bob}) || db.Clock.Current() != after {
			t.Errorf("clients are told of %v, %v", users, err)
		}
	})
}

// A server that is silent is asked for one list, not for each of those that are missing, and
// for all of them when this server starts again.
func TestSilentServerIsLeftAlone(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		const users = 20
		var all []string
		write(t, db, func(tx *storage.Tx) error {
			all = nil
			var errs []error
			for i := range users {
				all = append(all, fmt.Sprintf("@bob%d:them.test", i))
				errs = append(errs, member(t, tx, int64(10+i), all[i], "join"), tx.MarkStale(t.Context(), all[i]))
			}
			return errors.Join(errs...)
		})
		waiting := func(k *keys.Keys, failures int64) {
			t.Helper()
			running(t, k, func() bool {
				lists, err := db.RemoteLists(t.Context(), all)
				return err == nil && len(lists) == users && !slices.ContainsFunc(all, func(userID string) bool { return lists[userID].Failures != failures })
			})
		}
		p.down = true
		waiting(k, 1)
		if n := len(p.questions()); n > 8 {
			t.Errorf("a silent server was asked %d times", n)
		}
		if lists, err := db.StaleLists(t.Context(), time.Now().UnixMilli(), 100); err != nil || len(lists) != 0 {
			t.Errorf("to be asked for again at once are %v, %v", lists, err)
		}
		waiting(keys.New(keys.Options{DB: db, ServerName: own, Federation: true, Remote: p}), 2)
		one := func(userID string) bool { return userID == all[3] }
		write(t, db, func(tx *storage.Tx) error { return tx.RetryRenewals(t.Context(), one) })
		if lists, err := db.StaleLists(t.Context(), time.Now().UnixMilli(), 100); err != nil || len(lists) != 1 || !one(lists[0].UserID) {
			t.Errorf("one is chosen, and asked for are %v, %v", lists, err)
		}
	})
}

// Clients that ask at the same time have the list asked for once.
func TestListIsFetchedOnce(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, _ *storage.DB, p *peer) {
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if got := bobs(t, k); !slices.Equal(got, []string{"B"}) {
					t.Errorf("bob has %v", got)
				}
			})
		}
		if group.Wait(); len(p.questions()) != 1 {
			t.Errorf("asked were %v", p.questions())
		}
	})
}

// A server that gives no lists, and servers with many users, are asked for keys.
func TestKeysAreQueriedWhereListsAreNot(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		p.partly = true
		for range 2 {
			if got := bobs(t, k); !slices.Equal(got, []string{"B"}) {
				t.Errorf("bob has %v", got)
			}
		}
		if got := p.questions(); !slices.Equal(got, []string{"devices", "query"}) {
			t.Errorf("asked were %v", got)
		}
		p.partly = false
		update(t, k, "B", 6, 5) // where the list stands is not known
		renewed(t, k, db)
		wanted := map[string][]string{}
		write(t, db, func(tx *storage.Tx) error {
			var errs []error
			for i := range 30 {
				userID := fmt.Sprintf("@bob%d:them.test", i)
				wanted[userID] = nil
				errs = append(errs, member(t, tx, int64(10+i), userID, "join"))
			}
			return errors.Join(errs...)
		})
		if _, err := k.Query(t.Context(), alice, wanted, nil); err != nil {
			t.Fatal(err)
		}
		if got := p.questions(); !slices.Equal(got, []string{"devices", "query", "devices", "query"}) {
			t.Errorf("asked were %v", got)
		}
	})
}

// Another server cannot fill the database with the devices of one user.
func TestDevicesOfAUserAreBounded(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		bobs(t, k)
		var contents []json.RawMessage
		for i := range 1300 {
			id := fmt.Sprint("X", i)
			contents = append(contents, json.RawMessage(fmt.Sprintf(`{"user_id":%q,"device_id":%q,"stream_id":%d,"prev_id":[%d],"keys":%s}`, bob, id, 6+i, 5+i, theirKeys(bob, id))))
		}
		for part := range slices.Chunk(contents, 100) {
			if err := k.TakeDeviceLists(t.Context(), other, part); err != nil {
				t.Fatal(err)
			}
		}
		p.down = true
		if got := bobs(t, k); len(got) != 0 {
			t.Errorf("of bob's many devices %d are believed", len(got))
		}
		if n, err := db.CountRemoteDevices(t.Context(), bob); err != nil || n > 1100 {
			t.Errorf("%d devices are kept, %v", n, err)
		}
	})
}

// masterKey is a master key as another server sends it.
func masterKey(t *testing.T, userID string) json.RawMessage {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawStdEncoding.EncodeToString(public)
	return json.RawMessage(fmt.Sprintf(`{"keys":{"ed25519:%s":%q},"usage":["master"],"user_id":%q}`, text, text, userID))
}

// Cross-signing keys of users of other servers are kept with their devices, and follow
// updates of these servers alone.
func TestTheirSigningKeys(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		master := func() string {
			t.Helper()
			found, err := k.Query(t.Context(), alice, map[string][]string{bob: nil}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return string(found.MasterKeys[bob])
		}
		p.master = masterKey(t, alice)
		if got := master(); got != "" {
			t.Errorf("the key of another user: %s", got)
		}
		first := masterKey(t, bob)
		p.master = first
		told := func(origin string) {
			t.Helper()
			update := json.RawMessage(`{"user_id":"` + bob + `"}`)
			if err := k.TakeSigningKeys(t.Context(), origin, []json.RawMessage{update}); err != nil {
				t.Fatal(err)
			}
		}
		told("third.test")
		if got := master(); got != "" {
			t.Errorf("a third server has the key asked for: %s", got)
		}
		told(other)
		renewed(t, k, db)
		if got := master(); got != string(first) {
			t.Errorf("the key is %s, not %s", got, first)
		}
		if got := p.questions(); !slices.Equal(got, []string{"devices", "devices"}) {
			t.Errorf("asked were %v", got)
		}
	})
}

// A list that changes while it is asked for, and one of somebody who shares no room, is not kept.
func TestListIsNotKept(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		asked := func(want ...string) {
			t.Helper()
			bobs(t, k)
			bobs(t, k)
			if got := p.questions(); !slices.Equal(got, want) {
				t.Errorf("asked were %v", got)
			}
		}
		p.during = func() { p.during = nil; update(t, k, "C", 6, 5) }
		asked("devices", "query")
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(member(t, tx, 2, bob, "leave"), tx.DropRemoteLists(t.Context(), own, []string{bob}, nil))
		})
		asked("devices", "query", "query", "query")
		write(t, db, func(tx *storage.Tx) error { return member(t, tx, 2, bob, "join") })
		p.during = func() {
			p.during = nil
			write(t, db, func(tx *storage.Tx) error { return member(t, tx, 2, bob, "leave") })
		}
		asked("devices", "query", "query", "query", "devices", "query", "query")
		if lists, err := db.RemoteLists(t.Context(), []string{bob}); err != nil || len(lists) != 0 {
			t.Errorf("of who has left are kept: %v, %v", lists, err)
		}
		p.down = true
		found, err := k.Query(t.Context(), alice, map[string][]string{bob: nil}, nil)
		if _, failed := found.Failures[other]; !failed || err != nil || found.DeviceKeys[bob] != nil {
			t.Errorf("of a server that is down: %+v, %v", found, err)
		}
	})
}

// What another server says of devices that are not its users' own, or are no devices, is dropped.
func TestForeignDevices(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, p *peer) {
		p.devices = map[string]json.RawMessage{
			"B": theirKeys(bob, "OTHER"), "C": theirKeys(alice, "C"), "D": json.RawMessage(`{}`), "": theirKeys(bob, ""),
			"E": json.RawMessage(`{"user_id":"@bob:them.test","device_id":"E","algorithms":[],"keys":{"ed25519:E":5},"signatures":{}}`),
			"F": json.RawMessage(`"x"`), strings.Repeat("x", 300): theirKeys(bob, strings.Repeat("x", 300)),
		}
		if got := bobs(t, k); len(got) != 0 {
			t.Errorf("bob has %v", got)
		}
		before := db.Clock.Current()
		for _, content := range []string{
			`{"user_id":"@alice:us.test","device_id":"X","stream_id":1}`,
			`{"user_id":"@carol:third.test","device_id":"X","stream_id":1}`,
			`{"user_id":"@unknown:them.test","device_id":"X","stream_id":1}`, // shares no room
			`{"user_id":5}`, `[]`, `{"user_id":"@bob:them.test","device_id":"","stream_id":1}`, `{"user_id":"@bob:them.test","device_id":"X","stream_id":"1"}`,
		} {
			if err := k.TakeDeviceLists(t.Context(), other, []json.RawMessage{json.RawMessage(content)}); err != nil {
				t.Errorf("%s: %v", content, err)
			}
		}
		if db.Clock.Current() != before {
			t.Error("somebody was told of a change")
		}
	})
}

// Messages in the name of users of other servers arrive nowhere.
func TestForeignSenders(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, db *storage.DB, _ *peer) {
		messages := map[string]any{alice: map[string]any{"A": map[string]any{"n": 1}}}
		var contents []json.RawMessage
		for i, sender := range []any{"@alice:us.test", "@carol:third.test", "@bob:them.test:8448", "bob", "", 5, nil, "@bob:THEM.test", bob} {
			content, err := json.Marshal(map[string]any{"sender": sender, "type": "m.t", "message_id": fmt.Sprint(i), "messages": messages})
			if err != nil {
				t.Fatal(err)
			}
			contents = append(contents, content)
		}
		long, err := json.Marshal(map[string]any{"sender": bob, "type": "m.t", "message_id": strings.Repeat("x", 33), "messages": messages})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time all of it has been there
			if err := k.TakeToDevice(t.Context(), other, append(contents, long)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := db.ToDeviceMessages(t.Context(), alice, "A", 0, db.Clock.Current(), 100)
		if err != nil || len(got) != 1 || got[0].Sender != bob {
			t.Errorf("arrived are %v, %v", got, err)
		}
	})
}

// Other servers are told of users of this one only, whatever is known of others.
func TestServedUsers(t *testing.T) {
	eachKeys(t, func(t *testing.T, k *keys.Keys, _ *storage.DB, _ *peer) {
		bobs(t, k)
		ctx := t.Context()
		for _, userID := range []string{bob, "@x:third.test", "alice", "", "@alice:us.test:443"} {
			_, devices := k.ServeDevices(ctx, userID)
			_, query := k.ServeQuery(ctx, map[string][]string{alice: nil, userID: nil})
			_, claim := k.ServeClaim(ctx, map[string]map[string]string{alice: {"A": "x"}, userID: {"B": "x"}})
			for what, err := range map[string]error{"devices": devices, "query": query, "claim": claim} {
				if !errors.Is(err, matrix.InvalidParam) {
					t.Errorf("%s of %q: %v", what, userID, err)
				}
			}
		}
		if _, err := k.ServeDevices(ctx, "@unknown:us.test"); !errors.Is(err, matrix.NotFound) {
			t.Errorf("devices of nobody: %v", err)
		}
		if got, err := k.ServeDevices(ctx, alice); err != nil || got.UserID != alice {
			t.Errorf("devices of alice: %v, %v", got, err)
		}
	})
}
