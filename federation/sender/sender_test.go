package sender_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/federation/remote"
	"beep/federation/sender"
	"beep/roomserver"
	"beep/storage"
)

const near, far = "near.example", "far.example"

// What a server is sent comes in order, in transactions within the limits, one after the
// other.
func TestOrderAndBatches(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(time.Second, nil)
		room := w.room(near)
		w.say(room, 1, 130)
		time.Sleep(10 * time.Second)
		equal(t, "texts", texts(1, 130), p.said())
		ids := map[string]bool{}
		for _, sent := range p.transactions() {
			if ids[sent.ID] || sent.ID == "" || sent.OriginServerTS == 0 {
				t.Errorf("transaction %q of %d", sent.ID, sent.OriginServerTS)
			}
			ids[sent.ID] = true
			if len(sent.PDUs) > 50 {
				t.Errorf("%d events in a transaction", len(sent.PDUs))
			}
		}
		if len(ids) > 4 {
			t.Errorf("%d transactions for 130 events", len(ids))
		}
		if p.most != 1 {
			t.Errorf("%d transactions at once", p.most)
		}
		if n := len(w.net.peer(own).tries()); n != 0 {
			t.Errorf("%d transactions to itself", n)
		}
	})
}

func TestFailedTransactionIsSentAgain(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(0, unreachable)
		room := w.room(near)
		w.say(room, 1, 3)
		time.Sleep(5 * time.Second)
		w.say(room, 4, 6) // has to wait for its turn
		time.Sleep(time.Second)
		p.behave(0, nil)
		time.Sleep(10 * time.Second)
		tries := p.tries()
		if len(tries) < 4 || len(p.transactions()) != 2 {
			t.Fatalf("%d attempts, %d transactions", len(tries), len(p.transactions()))
		}
		first := p.transactions()[0]
		for _, try := range tries[:len(tries)-1] {
			if try.ID != first.ID || try.OriginServerTS != first.OriginServerTS || !cmp.Equal(try.PDUs, first.PDUs) {
				t.Errorf("transaction %s was tried again as %s", first.ID, try.ID)
			}
		}
		equal(t, "texts", texts(1, 6), p.said())
	})
}

// A server that does not answer is asked less and less often, and at once when it is
// heard from (F52).
func TestBackoff(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(0, unreachable)
		room := w.room(near)
		w.say(room, 1, 1)
		time.Sleep(2 * time.Hour)
		if n := len(p.times()); n > 1500 {
			t.Errorf("%d attempts in 2 hours", n)
		}
		early := len(p.times())
		time.Sleep(12 * time.Hour)
		times := p.times()
		if n := len(times) - early; n < 60 || n > 200 {
			t.Errorf("%d attempts in the 12 hours after that", n)
		}
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < 500*time.Millisecond || gap > 11*time.Minute {
				t.Errorf("%v between two attempts", gap)
			}
		}
		p.behave(0, nil)
		w.sender.Alive(near)
		time.Sleep(time.Second)
		equal(t, "texts", texts(1, 1), p.said())
		time.Sleep(2 * time.Second)
		if rows := w.destinations(); len(rows) != 1 || rows[0].Server != "" {
			t.Errorf("a server that has everything has a row: %v", rows)
		}
	})
}

// A server that could not be reached for some minutes gets what waits for it seconds after it
// can be; not so when many are away, or when it answers that it cannot take anything.
func TestSoonAgain(t *testing.T) {
	busy := func(*remote.Transaction) error { return &remote.PeerError{Server: near, Status: http.StatusBadGateway} }
	for _, test := range []struct {
		what     string
		behave   func(*remote.Transaction) error
		others   int
		attempts [2]int // in ten minutes, at least and at most
		soon     bool
	}{
		{"alone", unreachable, 0, [2]int{100, 140}, true},
		{"with many others", unreachable, 200, [2]int{25, 50}, false},
		{"busy", busy, 0, [2]int{25, 50}, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				p.behave(0, test.behave)
				w.say(w.room(near), 1, 3)
				for i := range test.others {
					other := fmt.Sprintf("away%d.example", i)
					w.net.peer(other).behave(0, unreachable)
					w.queue(i, other)
				}
				time.Sleep(10 * time.Minute)
				if n := len(p.tries()); n < test.attempts[0] || n > test.attempts[1] {
					t.Errorf("%d attempts in 10 minutes", n)
				}
				p.behave(0, nil)
				time.Sleep(7 * time.Second)
				if test.soon {
					equal(t, "texts", texts(1, 3), p.said())
				}
				time.Sleep(3 * time.Minute)
				equal(t, "texts after minutes", texts(1, 3), p.said())
			})
		})
	}
}

// A server that asks us something all the time and cannot be reached is not tried all the
// time (F52).
func TestHeardFromButUnreachable(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(0, unreachable)
		w.say(w.room(near), 1, 1)
		for range 6000 {
			time.Sleep(100 * time.Millisecond)
			w.sender.Alive(near)
		}
		if n := len(p.tries()); n > 600 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
	})
}

// Servers that hang do not keep others from getting what is for them (F52).
func TestDeadServersDelayNobody(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.say(w.room(near), 1, 1) // which proves to be alive
		time.Sleep(time.Second)
		all := []string{near}
		for i := range 600 {
			server := fmt.Sprintf("dead%d.example", i)
			w.net.peer(server).behave(2*time.Minute, unreachable)
			all = append(all, server)
		}
		room := w.room(all...)
		p := w.net.peer(near)
		for i := range 5 {
			w.say(room, 10*i+2, 10*i+11)
			time.Sleep(200 * time.Millisecond)
			equal(t, "texts", texts(1, 10*i+11), p.said())
		}
	})
}

// A new sender goes on where the old one was.
func TestRestart(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		slow, quick := w.net.peer(near), w.net.peer(far)
		slow.behave(time.Second, nil)
		room := w.room(near, far)
		for i := range 8 {
			w.say(room, 30*i+1, 30*i+30)
			time.Sleep(700 * time.Millisecond)
			w.restart()
		}
		time.Sleep(10 * time.Second)
		equal(t, "texts", texts(1, 240), slow.said()) // what was cut off was not taken
		equal(t, "texts", texts(1, 240), quick.said())
		equal(t, "rows", 1, len(w.destinations()))
	})
}

// A crash repeats something, and loses nothing.
func TestCrash(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		slow, quick := w.net.peer(near), w.net.peer(far)
		slow.behave(time.Second, nil)
		room := w.room(near, far)
		w.say(room, 1, 100)
		time.Sleep(1500 * time.Millisecond)
		rows := w.destinations()
		w.say(room, 101, 150)
		time.Sleep(2500 * time.Millisecond)
		w.crash(rows)
		w.say(room, 151, 160)
		time.Sleep(10 * time.Second)
		equal(t, "texts", texts(1, 160), slow.saidOnce())
		equal(t, "texts", texts(1, 160), quick.saidOnce())
		w.crash(nil)
		time.Sleep(10 * time.Second)
		equal(t, "texts after a crash before the first row", texts(1, 160), slow.saidOnce())
	})
}

// A slow server gets more than there is in memory for it, in order.
func TestSlowServer(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(time.Second, nil)
		room, other := w.room(near), w.room(near)
		for i := range 20 {
			w.say(room, 40*i+1, 40*i+20)
			w.say(other, 40*i+21, 40*i+40)
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		equal(t, "texts", texts(1, 800), p.said())
		if n := len(p.transactions()); n > 40 {
			t.Errorf("%d transactions for 800 events", n)
		}
	})
}

// After some minutes a server gets everything that it has missed.
func TestShortOutage(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		room := w.room(near)
		w.say(room, 1, 1)
		time.Sleep(time.Second)
		p.behave(0, unreachable)
		for i := range 15 {
			w.say(room, 20*i+2, 20*i+21)
			time.Sleep(time.Minute)
			if i%5 == 0 {
				w.restart()
			}
		}
		p.behave(0, nil)
		time.Sleep(5 * time.Minute)
		equal(t, "texts", texts(1, 301), p.said())
		w.say(room, 302, 303)
		time.Sleep(time.Second)
		equal(t, "texts", texts(1, 303), p.said())
	})
}

// A server that fails in the middle of much gets the rest later.
func TestOutageInTheMiddle(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				p.behave(10*time.Second, nil)
				room := w.room(near)
				w.say(room, 1, 80)
				time.Sleep(15 * time.Second) // some of these have arrived
				p.behave(0, unreachable)
				if restart {
					w.restart()
				}
				time.Sleep(2 * time.Minute)
				w.say(room, 81, 90)
				p.behave(0, nil)
				time.Sleep(5 * time.Minute)
				equal(t, "texts", texts(1, 90), p.said())
			})
		})
	}
}

// After hours it gets the newest events of each room, the oldest of these first, and then
// what is new.
func TestLongOutage(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				busy, quiet := w.room(near), w.room(near)
				p.behave(0, unreachable)
				w.say(quiet, 1, 3)
				w.say(busy, 4, 133)
				w.say(quiet, 134, 134)
				time.Sleep(3 * time.Hour)
				if restart {
					w.restart()
				}
				p.behave(0, nil)
				w.sender.Alive(near)
				time.Sleep(10 * time.Second)
				want := slices.Concat(texts(1, 3), texts(84, 134))
				equal(t, "texts", want, p.said())
				w.say(busy, 135, 200)
				time.Sleep(10 * time.Second)
				equal(t, "texts", append(want, texts(135, 200)...), p.said())
				p.behave(0, unreachable) // not for long
				w.say(busy, 201, 300)
				time.Sleep(time.Minute)
				p.behave(0, nil)
				time.Sleep(time.Minute)
				equal(t, "texts", append(want, texts(135, 300)...), p.said())
			})
		})
	}
}

// What has left the window of the log is found in the database.
func TestLostWindow(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p, q := w.net.peer(near), w.net.peer(far)
		room, other := w.room(near, far), w.room(far)
		w.say(room, 1, 5)
		time.Sleep(time.Second)
		held := w.db.Clock.Reserve()
		w.say(room, 6, 10)
		w.say(other, 11, 12)
		w.db.Log.Lose(held + 4)
		w.db.Clock.Done(held)
		w.say(room, 13, 14)
		time.Sleep(time.Second)
		equal(t, "texts", slices.Concat(texts(1, 10), texts(13, 14)), p.said())
		equal(t, "texts", texts(1, 14), q.said())
	})
}

// An event that is redacted before anybody has read it goes out all the same.
func TestRedactedUnread(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room := w.room(near)
		held := w.db.Clock.Reserve()
		eventID := w.sayText(room, "1")
		if _, err := w.rooms.Send(t.Context(), room, roomserver.Draft{Type: "m.room.redaction", Sender: alice, Redacts: eventID,
			Content: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		w.say(room, 2, 2)
		w.db.Clock.Done(held)
		time.Sleep(time.Second)
		sent := w.net.peer(near).transactions()
		if len(sent) != 1 || len(sent[0].PDUs) != 3 {
			t.Fatalf("%d transactions: %s", len(sent), sent[0].PDUs)
		}
		equal(t, "texts", texts(2, 2), w.net.peer(near).said())
	})
}

// A server hears of the end of its part in a room, and of nothing after.
func TestServerThatLeaves(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				room := w.room(near, far)
				if restart {
					p.behave(0, unreachable)
				}
				w.say(room, 1, 2)
				w.members(room, 0, near) // the last thing that it has to hear of is 2
				w.say(room, 3, 4)
				if restart {
					time.Sleep(time.Second)
					p.behave(0, nil)
					w.restart()
				}
				time.Sleep(time.Minute)
				equal(t, "texts", texts(1, 2), p.said())
				w.members(room, 1, near)
				w.say(room, 5, 5)
				time.Sleep(time.Second)
				equal(t, "texts", []string{"1", "2", "5"}, p.said())
				equal(t, "texts elsewhere", texts(1, 5), w.net.peer(far).said())
			})
		})
	}
}

// Something that a server refuses does not keep it from the rest (F52).
func TestRefusedEvent(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(100*time.Millisecond, func(sent *remote.Transaction) error {
			for _, pdu := range sent.PDUs {
				if bodyOf(pdu) == "77" {
					return &remote.PeerError{Server: near, Status: http.StatusBadRequest, Code: "M_BAD_JSON"}
				}
			}
			return nil
		})
		room := w.room(near)
		for i := range 40 {
			w.say(room, 3*i+1, 3*i+3)
			w.queue(i, near)
		}
		time.Sleep(time.Minute)
		equal(t, "EDUs", queuedEDUs(0, 39), p.edus())
		equal(t, "texts", slices.DeleteFunc(texts(1, 120), func(s string) bool { return s == "77" }), p.said())
		if n := len(p.tries()); n > 30 {
			t.Errorf("%d attempts", n)
		}
		w.say(room, 121, 230)
		time.Sleep(time.Minute)
		if n := len(p.said()); n != 229 {
			t.Errorf("%d texts", n)
		}
	})
}

// A status that does not come from a homeserver says nothing about the transaction.
func TestErrorsOfProxies(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		for _, status := range []int{400, 403, 404, 413, 429, 500, 502} {
			p.behave(0, func(*remote.Transaction) error { return &remote.PeerError{Server: near, Status: status} })
			w.say(w.room(near), 1, 5)
			time.Sleep(time.Minute)
			if len(p.transactions()) != 0 || len(p.tries()) < 3 {
				t.Fatalf("%d: %d attempts, %d transactions", status, len(p.tries()), len(p.transactions()))
			}
			p.behave(0, nil)
			time.Sleep(5 * time.Minute)
			equal(t, fmt.Sprint("texts after ", status), texts(1, 5), p.said())
			p.mu.Lock()
			p.attempts, p.taken, p.at = nil, nil, nil
			p.mu.Unlock()
		}
	})
}

func TestRetryAfter(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(0, func(*remote.Transaction) error {
			return &remote.PeerError{Server: near, Status: http.StatusTooManyRequests, Code: "M_LIMIT_EXCEEDED", RetryAfter: time.Minute}
		})
		w.say(w.room(near), 1, 5)
		time.Sleep(59 * time.Second)
		if n := len(p.tries()); n != 1 {
			t.Errorf("%d attempts in the minute that the server asked for", n)
		}
		p.behave(0, nil)
		time.Sleep(3 * time.Second)
		equal(t, "texts", texts(1, 5), p.said())
	})
}

// An event that was queued, and one that is passed on, reach those they are for, after a
// restart too.
func TestQueuedEvents(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		const third = "third.example"
		room := w.room(near, third)
		w.stop() // so that only the database can tell
		eventID := w.sayText(room, "to an outsider")
		relayed := w.foreign(room, "@carol:"+third, "of another server")
		e, err := w.db.EventByID(t.Context(), eventID)
		if err != nil {
			t.Fatal(err)
		}
		w.write(func(tx *storage.Tx) error {
			if err := tx.QueueEvent(t.Context(), &e, []string{far}); err != nil {
				return err
			}
			return tx.RelayEvent(t.Context(), relayed)
		})
		w.net.peer(near).behave(0, unreachable)
		w.start()
		time.Sleep(10 * time.Second)
		w.restart()
		w.net.peer(near).behave(0, nil)
		time.Sleep(time.Minute)
		equal(t, "texts inside", []string{"to an outsider", "of another server"}, w.net.peer(near).said())
		equal(t, "texts at the sender's", []string{"to an outsider"}, w.net.peer(third).said())
		equal(t, "texts outside", []string{"to an outsider"}, w.net.peer(far).said())
		time.Sleep(2 * time.Second)
		w.crash(nil) // the queue alone would bring them back
		time.Sleep(2 * time.Second)
		equal(t, "texts outside", []string{"to an outsider"}, w.net.peer(far).said())
	})
}

// What is heard of a server while this one starts counts as much as what is heard later.
func TestHeardFromAtTheStart(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		p := w.net.peer(near)
		p.behave(0, unreachable)
		w.say(w.room(near), 1, 1)
		time.Sleep(24 * time.Hour)
		w.stop()
		p.behave(0, nil)
		s := sender.New(sender.Options{DB: w.db, ServerName: own, Send: w.net.send})
		s.Alive(near)
		s.Alive(far)
		w.stop = run(t, s)
		time.Sleep(time.Second)
		equal(t, "texts", texts(1, 1), p.said())
	})
}
