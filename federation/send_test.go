package federation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/federation"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
)

// TestSend: events of several rooms and versions arrive, each has its result, and what
// comes a second time changes nothing.
func TestSend(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		bob := p.user("bob")
		var events []*matrix.Event
		for _, v := range matrix.RoomVersions() {
			roomID := s.create(roomserver.RoomDraft{Preset: "public_chat", Version: v})
			join := p.join(roomID, bob)
			first := p.message(roomID, bob, "first", join)
			events = append(events, first, p.message(roomID, bob, "second", first))
		}
		slices.Reverse(events) // the later one of each room comes first
		r := p.tell("t1", jsonOf(events...))
		if refused := r.refused(s.t); len(r.PDUs) != len(events) || len(refused) != 0 {
			s.t.Errorf("%d results, refused %v", len(r.PDUs), refused)
		}
		for _, e := range events {
			if !s.has(e.ID) {
				s.t.Errorf("%s in version %s is not there", e.Content, e.Version)
			}
		}
		again := p.tell("t2", jsonOf(events...))
		if refused := again.refused(s.t); len(again.PDUs) != len(events) || len(refused) != 0 {
			s.t.Errorf("a second time: %d results, refused %v", len(again.PDUs), refused)
		}
	})
}

// TestSendBadPDU: one PDU that is nothing, or nothing good, does not harm the others
// (F01, F03, F05).
func TestSendBadPDU(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		p.lax = true
		bob := p.user("bob")
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		last := p.join(roomID, bob)
		base := p.message(roomID, bob, "bad", last)
		replaced := func(old, by string) string { return strings.Replace(string(base.JSON), old, by, 1) }
		depth := fmt.Sprintf(`"depth":%d`, base.Depth)
		empty := ""
		notAllowed := p.event(roomID, bob, "m.room.topic", &empty, `{"topic":"x"}`, last)
		unsigned, err := (&matrix.Signer{ServerName: p.name, KeyID: "ed25519:k", Key: newSigner("", 77).Key}).Build(&matrix.Proto{Version: "12", RoomID: roomID,
			Type: "m.room.message", Sender: bob, Content: []byte(`{}`), OriginServerTS: 1, PrevEvents: []matrix.Reference{last.Reference()}})
		s.check(err)
		bad := map[string]string{
			"null": `null`, "number": `5`, "text": `"x"`, "list": `[]`, "nothing": `{}`, "no room": `{"room_id":5}`, "another room": replaced(roomID, "!unknown:x"),
			"room with NUL": replaced(roomID, `!x\u0000`), "not allowed": string(notAllowed.JSON), "not signed": string(unsigned.JSON),
			"depth 2^53": replaced(depth, `"depth":9007199254740992`), "depth 2^63-1": replaced(depth, `"depth":9223372036854775807`),
			"depth 1e400": replaced(depth, `"depth":1e400`), "depth in quotes": replaced(depth, `"depth":"5"`), "depth -1": replaced(depth, `"depth":-1`),
			"depth 1.0": replaced(depth, `"depth":1.0`), "no depth": replaced(depth, `"depth":null`), "float": replaced(`"bad"`, `1.5`),
			"large number": replaced(`"bad"`, `9007199254740992`), "deep": replaced(`"bad"`, strings.Repeat("[", 500)+strings.Repeat("]", 500)),
			"content is no object": replaced(`"content":{`, `"content":[],"x":{`), "large": replaced(`"bad"`, `"`+strings.Repeat("x", 70_000)+`"`),
			"Sender beside sender": replaced(`"sender"`, `"Sender":"@x:y","sender"`),
		}
		n := 0
		for name, pdu := range bad {
			first := p.message(roomID, bob, name+" before", last)
			second := p.message(roomID, bob, name+" after", first)
			r := p.tell(fmt.Sprint("bad", n), []string{string(first.JSON), pdu, string(second.JSON)})
			n++
			if _, ok := r.PDUs[first.ID]; !ok || !s.has(first.ID) || !s.has(second.ID) {
				s.t.Errorf("%s: the good ones did not arrive: %v", name, r)
			}
			delete(r.PDUs, notAllowed.ID) // it counts as taken in: as rejected
			if refused := r.refused(s.t); slices.Contains(refused, first.ID) || slices.Contains(refused, second.ID) || len(r.PDUs)-len(refused) != 2 {
				s.t.Errorf("%s: %v", name, r)
			}
			last = second
		}
		if s.has(notAllowed.ID) {
			s.t.Error("what is not allowed is in the room")
		}
		// Before room version 6 numbers of any kind were allowed.
		old := s.create(roomserver.RoomDraft{Preset: "public_chat", Version: "5"})
		e := p.event(old, bob, "m.room.message", nil, `{"x":1.5}`, p.join(old, bob))
		if r := p.tell("float", jsonOf(e)); len(r.refused(s.t)) != 0 || !s.has(e.ID) {
			s.t.Errorf("a float in version 5: %v", r)
		}
	})
}

// TestSendLimits: a transaction has a size (F10).
func TestSendLimits(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		p.lax = true
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		last := p.join(roomID, p.user("bob"))
		var events []*matrix.Event
		for i := range 51 {
			last = p.message(roomID, p.user("bob"), fmt.Sprint(i), last)
			events = append(events, last)
		}
		if a := p.transaction("many", jsonOf(events...), nil); a.status != 400 || s.has(events[0].ID) {
			s.t.Errorf("51 PDUs: %v", a)
		}
		edus := slices.Repeat([]string{`{"edu_type":"x","content":{}}`}, 101)
		if a := p.transaction("edus", nil, edus); a.status != 400 {
			s.t.Errorf("101 EDUs: %v", a)
		}
		if r := p.tell("most", jsonOf(events[:50]...), edus[:100]...); len(r.PDUs) != 50 || len(r.refused(s.t)) != 0 || !s.has(events[49].ID) {
			s.t.Errorf("50 PDUs and 100 EDUs: %v", r)
		}
		for name, body := range map[string]string{"list": `[]`, "text": `"x"`, "null": `null`, "pdus": `{"pdus":{}}`, "edus": `{"pdus":[],"edus":5}`} {
			if a := p.ask(http.MethodPut, v1+"/send/"+name, []byte(body)); a.status != 400 {
				s.t.Errorf("%s: %v", name, a)
			}
		}
		if a := p.ask(http.MethodPut, v1+"/send/none", nil); a.status != 400 {
			s.t.Errorf("without a body: %v", a)
		}
		if a := p.transaction(strings.Repeat("t", 256), nil, nil); a.status != 400 {
			s.t.Errorf("a long id: %v", a)
		}
	})
}

// TestSendAgain: a transaction is taken in once, whatever comes under its id later, and
// another server's is another one.
func TestSendAgain(t *testing.T) {
	var taken atomic.Int64
	count := func(context.Context, string, []json.RawMessage) error { taken.Add(1); return nil }
	eachServer(t, options{edus: map[string]federation.EDUHandler{"x.count": count}}, func(s *server) {
		taken.Store(0)
		p, other := s.newPeer(1), s.newPeer(2)
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		join := p.join(roomID, p.user("bob"))
		empty := ""
		refused := p.event(roomID, p.user("bob"), "m.room.topic", &empty, `{"topic":"x"}`, join)
		edu := `{"edu_type":"x.count","content":{}}`
		first := p.transaction("t", jsonOf(refused), []string{edu})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if a := p.transaction("t", jsonOf(refused), []string{edu}); string(a.body) != string(first.body) {
					s.t.Errorf("%v, before %v", a, first)
				}
			})
		}
		all.Wait()
		if n := taken.Load(); n != 1 || len(first.body) < 20 {
			s.t.Errorf("taken in %d times: %v", n, first)
		}
		other.tell("t", nil, edu)
		p.tell("t2", nil, edu)
		if n := taken.Load(); n != 3 {
			s.t.Errorf("%d were taken in, not 3", n)
		}
		if _, err := s.db.ReceivedAnswer(s.t.Context(), p.name, "t2"); err != nil {
			s.t.Errorf("t2 is not remembered: %v", err)
		}
		// What may come twice is not remembered: it comes often.
		p.tell("t3", nil, `{"edu_type":"m.typing","content":{"room_id":"`+roomID+`","user_id":"`+p.user("bob")+`","typing":true}}`)
		if _, err := s.db.ReceivedAnswer(s.t.Context(), p.name, "t3"); !errors.Is(err, storage.ErrNotFound) {
			s.t.Errorf("t3 is remembered: %v", err)
		}
	})
}

// TestSendQueue: a server sends one transaction after the other; few may wait.
func TestSendQueue(t *testing.T) {
	started, release := make(chan bool, 20), make(chan bool)
	wait := func(context.Context, string, []json.RawMessage) error {
		started <- true
		<-release
		return nil
	}
	eachServer(t, options{edus: map[string]federation.EDUHandler{"x.wait": wait}}, func(s *server) {
		p, other := s.newPeer(1), s.newPeer(2)
		statuses := make(chan int, 20)
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				statuses <- p.transaction(fmt.Sprint(i), nil, []string{`{"edu_type":"x.wait","content":{}}`}).status
			})
		}
		for range 6 {
			if status := <-statuses; status != 429 {
				s.t.Errorf("one too many: %d", status)
			}
		}
		<-started
		if len(started) != 0 {
			s.t.Error("two transactions of one server at the same time")
		}
		other.tell("t", nil) // it does not wait for the first one
		for range 4 {
			release <- true
		}
		all.Wait()
		close(statuses)
		for status := range statuses {
			if status != 200 {
				s.t.Errorf("one of the first: %d", status)
			}
		}
		for range 3 {
			<-started
		}
	})
}

// TestSendKeysFirst: messages to devices are there before the events beside them, of which
// they may have the keys; other EDUs come after the events.
func TestSendKeysFirst(t *testing.T) {
	var look func(eduType string)
	handlers := map[string]federation.EDUHandler{}
	for _, eduType := range []string{"x.other", "m.direct_to_device"} {
		handlers[eduType] = func(context.Context, string, []json.RawMessage) error { look(eduType); return nil }
	}
	eachServer(t, options{edus: handlers}, func(s *server) {
		p := s.newPeer(1)
		p.lax = true
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		join := p.join(roomID, p.user("bob"))
		message := p.event(roomID, p.user("bob"), "m.room.encrypted", nil, `{"algorithm":"x"}`, join)
		there := map[string]bool{}
		look = func(eduType string) { there[eduType] = s.has(message.ID) }
		p.tell("t", jsonOf(message), `{"edu_type":"x.other","content":{}}`, `{"edu_type":"m.direct_to_device","content":{}}`)
		if diff := cmp.Diff(map[string]bool{"m.direct_to_device": false, "x.other": true}, there); diff != "" {
			s.t.Errorf("which came after the event (-want +got):\n%s", diff)
		}
	})
}

// TestSendEDUHandlers: an EDU that is refused harms nothing; one that could not be taken in
// makes the other server come again.
func TestSendEDUHandlers(t *testing.T) {
	var failing error
	var got [][]json.RawMessage
	handlers := map[string]federation.EDUHandler{
		"x.refuse": func(context.Context, string, []json.RawMessage) error { return matrix.Forbidden },
		"x.fail":   func(context.Context, string, []json.RawMessage) error { return failing },
		"x.keep": func(_ context.Context, origin string, contents []json.RawMessage) error {
			got = append(got, contents)
			return nil
		},
	}
	eachServer(t, options{edus: handlers}, func(s *server) {
		got = nil
		p := s.newPeer(1)
		p.lax = true
		edu := func(eduType, content string) string {
			return fmt.Sprintf(`{"edu_type":%q,"content":%s}`, eduType, content)
		}
		p.tell("t1", nil, edu("x.refuse", `{}`), edu("x.keep", `{"n":1}`), `5`, `null`, `{}`, `{"edu_type":5}`, edu("x.keep", `[]`), edu("x.unknown", `{}`),
			edu("m.typing", `{"room_id":5}`), edu("m.receipt", `{"!r:x":5,"!s:x":{"m.read":{"@a:b":[]}}}`), edu("m.presence", `{"push":[5,{"user_id":1}]}`), edu("x.keep", `{"n":2}`))
		want := [][]json.RawMessage{{json.RawMessage(`{"n":1}`), json.RawMessage(`{"n":2}`)}}
		if diff := cmp.Diff(want, got); diff != "" {
			s.t.Errorf("(-want +got):\n%s", diff)
		}
		for status, err := range map[int]error{500: errors.New("the disk is full"), 503: matrix.ServiceUnavailable} {
			failing = err
			if a := p.transaction("t2", nil, []string{edu("x.fail", `{}`)}); a.status != status || strings.Contains(string(a.body), "disk") {
				s.t.Errorf("failed: %v", a)
			}
		}
		failing = nil
		p.tell("t2", nil, edu("x.fail", `{}`))
	})
}

// TestSendRooms: events of rooms that this server is not in, or that are closed to the
// sender, are not worked on (F21, F42, F50).
func TestSendRooms(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		bob := p.user("bob")
		left := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		shut := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		open := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		events := map[string]*matrix.Event{}
		for _, roomID := range []string{left, shut, open} {
			join := p.join(roomID, bob)
			events[roomID] = p.message(roomID, bob, "x", join)
		}
		s.check(s.rooms.Leave(s.t.Context(), left, roomserver.MemberChange{Sender: alice}))
		s.setState(shut, "m.room.server_acl", `{"allow":["*"],"deny":["127.0.0.*"]}`)
		r := p.tell("t", jsonOf(events[left], events[shut], events[open]),
			`{"edu_type":"m.typing","content":{"room_id":"`+shut+`","user_id":"`+bob+`","typing":true}}`,
			`{"edu_type":"m.typing","content":{"room_id":"`+open+`","user_id":"`+bob+`","typing":true}}`)
		want := []string{events[left].ID, events[shut].ID}
		slices.Sort(want)
		if diff := cmp.Diff(want, r.refused(s.t)); diff != "" || len(r.PDUs) != 3 {
			s.t.Errorf("results %v (-want +got):\n%s", r, diff)
		}
		if s.has(events[left].ID) || s.has(events[shut].ID) || !s.has(events[open].ID) {
			s.t.Error("the wrong events were taken in")
		}
		for roomID, want := range map[string][]string{shut: {}, open: {bob}} {
			if got, _ := s.typing.In(roomID); cmp.Diff(want, got) != "" {
				s.t.Errorf("typing are %v, not %v", got, want)
			}
		}
	})
}

// TestSendAgainWhatCannotBeJudged: a server that does not answer what is asked about its
// events sends the transaction again. What else is in it is taken in.
func TestSendAgainWhatCannotBeJudged(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		bob := p.user("bob")
		roomID, other := s.create(roomserver.RoomDraft{Preset: "public_chat"}), s.create(roomserver.RoomDraft{Preset: "public_chat"})
		unsent := p.message(roomID, bob, "unsent", p.join(roomID, bob))
		pdus := jsonOf(p.message(roomID, bob, "after it", unsent), p.message(other, bob, "fine", p.join(other, bob)))
		p.failed.Store(true)
		if a := p.transaction("t", pdus, nil); a.status != http.StatusBadGateway {
			s.t.Errorf("of a server that does not answer: %v", a)
		}
		p.failed.Store(false)
		r := p.tell("t", pdus)
		if refused := r.refused(s.t); len(r.PDUs) != 2 || len(refused) != 1 {
			s.t.Errorf("of a server that does not tell: %v", r)
		}
		fine, err := matrix.Parse("12", json.RawMessage(pdus[1]))
		s.check(err)
		if !s.has(fine.ID) {
			s.t.Error("an event of another room was lost")
		}
	})
}

// TestSendEDUs: a server's users type, read and are present, and nobody else in its name
// (F43, F44).
func TestSendEDUs(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p, other := s.newPeer(1), s.newPeer(2)
		bob, carol := p.user("bob"), other.user("carol")
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		p.join(roomID, bob)
		other.join(roomID, carol)
		message := s.say(roomID, "hello")
		typing := func(userID string) string {
			return fmt.Sprintf(`{"edu_type":"m.typing","content":{"room_id":%q,"user_id":%q,"typing":true}}`, roomID, userID)
		}
		receipt := func(userID, receiptType string) string {
			return fmt.Sprintf(`{"edu_type":"m.receipt","content":{%q:{%q:{%q:{"event_ids":[%q],"data":{"ts":7}}}}}}`, roomID, receiptType, userID, message)
		}
		presence := func(userID string) string {
			return fmt.Sprintf(`{"edu_type":"m.presence","content":{"push":[{"user_id":%q,"presence":"online","last_active_ago":5,"status_msg":"here"}]}}`, userID)
		}
		p.lax = true
		p.tell("forged", nil, typing(carol), typing(alice), receipt(carol, "m.read"), receipt(alice, "m.read"), receipt(bob, "m.read.private"), presence(carol), presence(alice))
		room, err := s.db.RoomByID(s.t.Context(), roomID)
		s.check(err)
		state := func() (all []string) {
			users, _ := s.typing.In(roomID)
			receipts, err := s.db.ReceiptsOf(s.t.Context(), []int64{room.Number})
			s.check(err)
			for _, r := range receipts {
				users = append(users, fmt.Sprint(r.UserID, " ", r.Type, " ", r.EventID == message, " ", r.TS))
			}
			present, err := s.db.PresenceOf(s.t.Context(), []string{alice, bob, carol})
			s.check(err)
			for _, q := range present {
				users = append(users, q.UserID+" "+q.State+" "+q.StatusMsg)
			}
			return users
		}
		if got := state(); len(got) != 0 {
			s.t.Errorf("in another's name: %v", got)
		}
		p.lax = false
		p.tell("own", nil, typing(bob), receipt(bob, "m.read"), presence(bob))
		if diff := cmp.Diff([]string{bob, bob + " m.read true 7", bob + " online here"}, state()); diff != "" {
			s.t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// BenchmarkSend takes in a transaction of one event, over HTTP.
func BenchmarkSend(b *testing.B) {
	s := newServer(b, storagetest.Open(b, storagetest.SQLiteURL(b)), options{})
	p := s.newPeer(1).unchecked()
	roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
	last := p.join(roomID, p.user("bob"))
	n := 0
	for b.Loop() {
		b.StopTimer()
		last = p.message(roomID, p.user("bob"), "x", last)
		n++
		b.StartTimer()
		p.tell(fmt.Sprint(n), jsonOf(last))
	}
}
