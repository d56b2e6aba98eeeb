package hostile

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// oddResults are answers to a transaction that are not what they have to be.
var oddResults = map[string]string{
	"a list for pdus": `{"pdus":[]}`, "null for pdus": `{"pdus":null}`, "text for pdus": `{"pdus":"x"}`, "text for a result": `{"pdus":{"$e":"x"}}`,
	"null for a result": `{"pdus":{"$e":null}}`, "a number for an error": `{"pdus":{"$e":{"error":5}}}`, "a list": `[]`, "null": `null`, "text": `"x"`, "nothing": ``, "no JSON": `<html>`,
	"an error of half a character": `{"pdus":{"$e":{"error":"\ud800"}}}`, "results twice": `{"pdus":{"$e":{},"$e":{}}}`, "deep": `{"pdus":` + strings.Repeat("[", 100_000) + `}`,
}

// Whatever a server answers to a transaction, it is sent the next one, and so are others (F55g).
func TestOddAnswersToTransactions(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, other := New(t, victim), New(t, victim)
	alice := victim.Register(t, "alice")
	room := alice.PublicRoom()
	s.Join(room, s.User("bob"))
	other.Join(room, other.User("carol"))
	flooded := make(chan struct{})
	send := "PUT " + V1 + "/send/{txn}"
	for name, answer := range oddResults {
		s.Handle(send, func(w http.ResponseWriter, r *http.Request) {
			s.takeTransaction(discard{w}, r)
			io.WriteString(w, answer)
		})
		id := alice.Text(room, name)
		s.AwaitEvent(id)
		other.AwaitEvent(id)
	}
	s.Handle(send, func(w http.ResponseWriter, r *http.Request) {
		s.takeTransaction(discard{w}, r)
		io.WriteString(w, `{"pdus":{"`)
		for chunk := strings.Repeat("x", 1<<20); ; { // until nobody reads on
			if _, err := io.WriteString(w, chunk); err != nil {
				close(flooded)
				return
			}
		}
	})
	s.AwaitEvent(alice.Text(room, "a flood"))
	<-flooded
	s.Handle(send, s.takeTransaction)
	id := alice.Text(room, "afterwards")
	s.AwaitEvent(id)
	other.AwaitEvent(id)
}

// discard keeps the header of an answer and drops the rest.
type discard struct{ http.ResponseWriter }

func (d discard) Write(p []byte) (int, error) { return len(p), nil }

// Servers that fail, or never answer, keep no other from what is for it, and get what is for
// them when they are heard from (F52).
func TestFailingServers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	good, failing, hanging := New(t, victim), New(t, victim), New(t, victim)
	alice := victim.Register(t, "alice")
	room := alice.PublicRoom()
	for _, s := range []*Server{good, failing, hanging} {
		s.Join(room, s.User("bob"))
	}
	const send = "PUT " + V1 + "/send/{txn}"
	failing.Answer(send, 500, `{"errcode":"M_UNKNOWN","error":"always"}`)
	hanging.Hang(send)
	for i := range 30 {
		good.AwaitEvent(alice.Text(room, fmt.Sprint("message ", i)))
	}
	failing.AwaitAsked("/send/")
	hanging.AwaitAsked("/send/")
	failing.Handle(send, failing.takeTransaction)
	failing.Send() // it is heard from
	last := alice.Text(room, "are you back?")
	failing.AwaitEvent(last)
}

// A server that does not tell what came before its events harms nobody but itself: what
// others send of the same room is taken in meanwhile (F52).
func TestServersThatHangHoldNobodyUp(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, good := New(t, victim), New(t, victim)
	alice := victim.Register(t, "alice")
	room := alice.PublicRoom()
	bob, carol := s.User("bob"), good.User("carol")
	theirs, ours := s.Join(room, bob), good.Join(room, carol)
	theirs.Say(bob, "missing")
	last := theirs.Say(bob, "last")
	release, done := make(chan struct{}), make(chan struct{})
	answer := sync.OnceFunc(func() { close(release) })
	t.Cleanup(answer)
	s.Handle("POST "+V1+"/get_missing_events/{room}", func(w http.ResponseWriter, r *http.Request) {
		<-release
		s.honest.ServeHTTP(w, r)
	})
	go func() {
		defer close(done)
		s.Transaction([]any{last}, nil)
	}()
	s.AwaitAsked("/get_missing_events/")
	message := ours.Say(carol, "hello")
	if refused := good.Send(message); len(refused) != 0 {
		t.Error(refused)
	}
	select {
	case <-done:
		t.Error("the event of the other server was not waited for")
	default:
	}
	alice.SyncUntilEvent(room, message.ID)
	good.AwaitEvent(alice.Text(room, "hello yourself"))
	good.Join(room, good.User("dave"))
	answer()
	<-done
	if refused := s.Send(last); len(refused) != 0 { // again, as a server does that had no answer
		t.Error(refused)
	}
	alice.SyncUntilEvent(room, last.ID)
}
