package sender_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// publishTyping is what the room server publishes of who types.
func (w *world) publishTyping(roomID string, users ...string) {
	w.t.Helper()
	pos := w.db.Clock.Reserve()
	w.db.Log.Publish(stream.Entry{Pos: pos, Kind: stream.Typing, Room: w.number(roomID), Value: users})
	w.db.Clock.Done(pos)
}

func typingEDU(roomID, userID string, typing bool) string {
	return fmt.Sprintf(`m.typing {"room_id":%q,"user_id":%q,"typing":%v}`, roomID, userID, typing)
}

func TestTyping(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room, alone := w.room(near), w.room()
		typing := roomserver.NewTyping(w.rooms)
		start := func(roomID string) {
			t.Helper()
			if err := typing.Start(t.Context(), roomID, alice, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		start(room)
		start(alone)
		time.Sleep(time.Second)
		want := []string{typingEDU(room, alice, true)}
		equal(t, "after the start", want, w.net.peer(near).edus())
		typing.Stop(t.Context(), room, alice)
		start(room)
		typing.Stop(t.Context(), room, alice)
		time.Sleep(time.Second)
		want = append(want, typingEDU(room, alice, false))
		equal(t, "after back and forth", want, w.net.peer(near).edus())
		w.publishTyping(room, "@carol:"+near)
		w.publishTyping(room, bob, "@carol:"+near)
		w.publishTyping(room, "@carol:"+near)
		time.Sleep(time.Second)
		want = append(want, typingEDU(room, bob, false))
		equal(t, "after others", want, w.net.peer(near).edus())
		w.publishTyping(room, bob)
		time.Sleep(65 * time.Second)
		want = append(want, slices.Repeat([]string{typingEDU(room, bob, true)}, 4)...)
		equal(t, "after a minute", want, w.net.peer(near).edus())
		w.publishTyping(room)
		time.Sleep(time.Minute)
		equal(t, "after the end", append(want, typingEDU(room, bob, false)), w.net.peer(near).edus())
	})
}

// Servers that come and go get what they should.
func TestTypingFollowsTheServers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room := w.room(near)
		w.publishTyping(room, alice)
		time.Sleep(time.Second)
		w.members(room, 1, far)
		w.foreignMember(room, "@carol:"+far)
		w.publishTyping(room, alice, bob)
		time.Sleep(time.Second)
		equal(t, "near", []string{typingEDU(room, alice, true), typingEDU(room, bob, true)}, w.net.peer(near).edus())
		equal(t, "far", []string{typingEDU(room, bob, true)}, w.net.peer(far).edus())
	})
}

func TestReceipts(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room, other := w.room(near), w.room(near)
		first, second, third := w.sayText(room, "1"), w.sayText(room, "2"), w.sayText(other, "3")
		time.Sleep(time.Second)
		mark := func(roomID, userID string, m roomserver.ReadMarkers) {
			t.Helper()
			if err := w.rooms.MarkRead(t.Context(), roomID, userID, m); err != nil {
				t.Fatal(err)
			}
		}
		now := time.Now().UnixMilli()
		mark(room, alice, roomserver.ReadMarkers{Read: first})
		mark(room, alice, roomserver.ReadMarkers{Read: second})
		mark(room, alice, roomserver.ReadMarkers{Read: first, ThreadID: roomserver.MainThread})
		mark(room, alice, roomserver.ReadMarkers{ReadPrivate: second})
		mark(other, alice, roomserver.ReadMarkers{Read: third})
		w.write(func(tx *storage.Tx) error {
			return tx.AdvanceReceipt(t.Context(), storage.Receipt{Room: w.number(room), UserID: "@carol:" + far, Type: "m.read", EventID: second, Order: 1, TS: now})
		})
		time.Sleep(time.Second)
		entry := func(roomID, eventID, thread string) string {
			return fmt.Sprintf(`%q:{"m.read":{%q:{"event_ids":[%q],"data":{"ts":%d%s}}}}`, roomID, alice, eventID, now, thread)
		}
		rooms := []string{entry(room, second, ""), entry(other, third, "")}
		slices.Sort(rooms)
		equal(t, "EDUs", []string{"m.receipt {" + strings.Join(rooms, ",") + "}",
			"m.receipt {" + entry(room, first, `,"thread_id":"main"`) + "}"}, w.net.peer(near).edus())
		equal(t, "EDUs elsewhere", []string{}, w.net.peer(far).edus())
	})
}

func TestPresence(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.room(near)
		w.room(near)
		time.Sleep(time.Second)
		put := func(userID, state, message string) {
			w.write(func(tx *storage.Tx) error {
				return tx.PutPresence(t.Context(), storage.Presence{UserID: userID, State: state, StatusMsg: message,
					LastActive: time.Now().UnixMilli()}, false)
			})
		}
		put(alice, "unavailable", "")
		put(alice, "online", "here")
		put(bob, "online", "") // is in no room
		put("@carol:"+far, "online", "")
		time.Sleep(time.Second)
		equal(t, "EDUs", []string{`m.presence {"push":[{"user_id":"` + alice + `","presence":"online","status_msg":"here","last_active_ago":100,"currently_active":true}]}`},
			w.net.peer(near).edus())
		put(alice, "offline", "")
		time.Sleep(time.Second)
		equal(t, "EDUs", `m.presence {"push":[{"user_id":"`+alice+`","presence":"offline","last_active_ago":100,"currently_active":false}]}`,
			w.net.peer(near).edus()[1])
		equal(t, "EDUs elsewhere", []string{}, w.net.peer(far).edus())
	})
}

// News go into transactions of at most 100 EDUs, and not to servers that cannot be reached.
func TestManyNews(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		room := w.room(near)
		var users []string
		for i := range 230 {
			users = append(users, fmt.Sprintf("@user%03d:%s", i, own))
		}
		w.publishTyping(room, users...)
		time.Sleep(time.Second)
		var sizes []int
		for _, sent := range p.transactions() {
			sizes = append(sizes, len(sent.EDUs))
		}
		equal(t, "EDUs of each transaction", []int{100, 100, 30}, sizes)
		p.behave(0, unreachable)
		w.publishTyping(room)
		time.Sleep(10 * time.Second)
		w.publishTyping(room, alice)
		p.behave(0, nil)
		time.Sleep(10 * time.Second)
		w.publishTyping(room, bob)
		time.Sleep(time.Second)
		got := p.edus()[230:]
		equal(t, "after an outage", []string{typingEDU(room, alice, false), typingEDU(room, bob, true)}, got[len(got)-2:])
		if slices.Contains(got, typingEDU(room, alice, true)) {
			t.Error("what happened meanwhile was kept")
		}
	})
}

// News that came while a transaction was under way that failed are not kept.
func TestNewsDuringAFailure(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		room := w.room(near)
		p.behave(time.Second, unreachable)
		w.say(room, 1, 1)
		time.Sleep(500 * time.Millisecond)
		w.publishTyping(room, alice)
		time.Sleep(2 * time.Second)
		w.publishTyping(room)
		p.behave(0, nil)
		time.Sleep(time.Minute)
		equal(t, "texts", texts(1, 1), p.said())
		equal(t, "EDUs", []string{}, p.edus())
	})
}

// What waits for more of its kind does not keep an event waiting.
func TestEventsDoNotLinger(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room := w.room(near)
		w.publishTyping(room, alice)
		time.Sleep(10 * time.Millisecond)
		w.say(room, 1, 1)
		time.Sleep(10 * time.Millisecond)
		equal(t, "texts", texts(1, 1), w.net.peer(near).said())
		equal(t, "transactions", 1, len(w.net.peer(near).tries()))
	})
}

// queue queues an EDU of which only the number matters.
func (w *world) queue(n int, servers ...string) {
	w.t.Helper()
	w.write(func(tx *storage.Tx) error {
		return tx.QueueEDU(w.t.Context(), storage.QueuedEDU{Servers: servers, Type: "m.direct_to_device",
			Content: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))})
	})
}

func queuedEDUs(first, last int) []string {
	all := []string{}
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprintf(`m.direct_to_device {"n":%d}`, i))
	}
	return all
}

// left is how many EDUs are stored for a server.
func (w *world) left(server string) int {
	w.t.Helper()
	left, err := w.db.OutgoingEDUs(w.t.Context(), server, 0, w.db.Clock.Current(), 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(left)
}

// EDUs that are queued survive outages and restarts, in order, and are gone when they
// have arrived.
func TestQueuedEDUs(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p, q := w.net.peer(near), w.net.peer(far)
		for i := range 250 {
			w.queue(i, near, far)
		}
		time.Sleep(3 * time.Second)
		equal(t, "EDUs", queuedEDUs(0, 249), p.edus())
		equal(t, "rows", 0, w.left(near)+w.left(far))
		p.behave(0, unreachable)
		for i := range 250 {
			w.queue(250+i, near, far)
		}
		time.Sleep(time.Minute)
		equal(t, "rows", []int{250, 0}, []int{w.left(near), w.left(far)})
		w.restart()
		time.Sleep(time.Minute)
		p.behave(time.Second, nil)
		time.Sleep(2 * time.Minute)
		w.restart()
		time.Sleep(time.Minute)
		equal(t, "EDUs", queuedEDUs(0, 499), p.edus())
		equal(t, "EDUs of the other", queuedEDUs(0, 499), q.edus())
		equal(t, "rows", 0, w.left(near)+w.left(far))
		for _, sent := range p.transactions() {
			if len(sent.EDUs) > 100 {
				t.Errorf("%d EDUs in a transaction", len(sent.EDUs))
			}
		}
	})
}

// A key that was queued before an event does not come after it, live or from the database.
func TestQueuedEDUsKeepTheirPlace(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live=%v", live), func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				p.behave(time.Second, nil)
				room := w.room(near)
				if !live {
					w.stop()
				}
				for i := range 4 {
					for n := range 30 {
						w.queue(n, near)
					}
					w.say(room, 1, 20)
					if live {
						time.Sleep(500 * time.Millisecond)
					} else if i == 3 {
						w.start()
					}
				}
				time.Sleep(time.Minute)
				edus, pdus := 0, 0
				for _, sent := range p.transactions() {
					edus += len(sent.EDUs)
					pdus += len(sent.PDUs)
					if round := (pdus + 19) / 20; edus < 30*round {
						t.Errorf("%d events and %d of the keys before them were sent", pdus, edus)
					}
				}
				equal(t, "EDUs and events", []int{120, 80}, []int{edus, pdus})
			})
		})
	}
}

// A crash repeats EDUs at most.
func TestQueuedEDUsAndACrash(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		time.Sleep(2 * time.Second)
		rows := w.destinations()
		p.behave(300*time.Millisecond, nil)
		for i := range 130 {
			w.queue(i, near)
		}
		time.Sleep(400 * time.Millisecond)
		w.crash(rows)
		time.Sleep(10 * time.Second)
		seen := map[string]bool{}
		for _, e := range p.edus() {
			seen[e] = true
		}
		for _, want := range queuedEDUs(0, 129) {
			if !seen[want] {
				t.Errorf("%s is lost", want)
			}
		}
	})
}
