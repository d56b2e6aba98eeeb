package sender_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"beep/federation/remote"
	"beep/federation/sender"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/stream/bubbletest"
)

// towns are whole servers, with rooms and senders, that reach each other by calls which
// take a while.
type towns struct {
	t       *testing.T
	servers map[string]*town
}

type town struct {
	roomserver.Remote // what nobody asks for here

	net    *towns
	name   string
	db     *storage.DB
	signer *matrix.Signer
	rooms  *roomserver.Rooms
	serve  *roomserver.Serving
	sender atomic.Pointer[sender.Sender]
	stop   func()
	cut    atomic.Bool         // from all others
	turn   chan struct{}       // has an item while a transaction is taken in
	seen   map[string]bool     // transactions
	heard  map[string][]string // the texts of messages in the order in which they came, by server
}

const pace = 20 * time.Millisecond

var errCut = &remote.UnreachableError{Server: "town", Cause: errors.New("cut off")}

func eachTowns(t *testing.T, n int, test func(t *testing.T, net *towns)) {
	for engine, url := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		t.Run(engine, func(t *testing.T) {
			var urls []string
			for range n {
				urls = append(urls, url(t))
			}
			bubbletest.Test(t, func(t *testing.T) {
				net := &towns{t: t, servers: map[string]*town{}}
				for i, url := range urls {
					net.add(fmt.Sprintf("%c.test", 'a'+i), url)
				}
				test(t, net)
			})
		})
	}
}

func (n *towns) add(name, url string) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	p := &town{net: n, name: name, db: storagetest.Open(n.t, url), turn: make(chan struct{}, 1), seen: map[string]bool{}, heard: map[string][]string{},
		signer: &matrix.Signer{ServerName: name, KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(seed)}}
	n.servers[name] = p
	p.rooms = roomserver.New(roomserver.Options{DB: p.db, Signer: p.signer, DefaultVersion: "12", Remote: p, Logger: slog.New(slog.DiscardHandler)})
	p.serve = roomserver.NewServing(p.rooms)
	err := p.db.Write(n.t.Context(), func(tx *storage.Tx) error {
		return tx.InsertUser(n.t.Context(), &storage.Credentials{User: storage.User{ID: p.user()}})
	})
	if err != nil {
		n.t.Fatal(err)
	}
	p.run()
	n.t.Cleanup(func() { p.stop() })
}

func (p *town) run() {
	s := sender.New(sender.Options{DB: p.db, ServerName: p.name, Send: p.send})
	p.sender.Store(s)
	p.stop = run(p.net.t, s)
	time.Sleep(time.Millisecond)
}

func (p *town) user() string { return "@user:" + p.name }

func (p *town) reach(server string) (*town, error) {
	time.Sleep(pace)
	to := p.net.servers[server]
	if to == nil || to.cut.Load() || p.cut.Load() {
		return nil, errCut
	}
	return to, nil
}

// send delivers a transaction as the other server's inbound side would take it.
func (p *town) send(ctx context.Context, server string, sent *remote.Transaction) (*remote.Results, error) {
	to, err := p.reach(server)
	if err != nil {
		return nil, err
	}
	to.sender.Load().Alive(p.name)
	to.turn <- struct{}{}
	defer func() { <-to.turn }()
	if to.seen[p.name+sent.ID] {
		return &remote.Results{}, nil
	}
	for _, pdu := range sent.PDUs {
		var where struct {
			RoomID string `json:"room_id"`
		}
		if err := json.Unmarshal(pdu, &where); err != nil {
			return nil, err
		}
		if text := bodyOf(pdu); text != "" && !slices.Contains(to.heard[p.name], text) {
			to.heard[p.name] = append(to.heard[p.name], text)
		}
		if _, err := to.rooms.Receive(ctx, p.name, where.RoomID, []json.RawMessage{pdu}); err != nil {
			return nil, err
		}
	}
	to.seen[p.name+sent.ID] = true
	return &remote.Results{}, nil
}

// Verify serves [roomserver.Remote].
func (p *town) Verify(_ context.Context, events []*matrix.Event) []error {
	errs := make([]error, len(events))
	for i, e := range events {
		for _, server := range e.Signers() {
			signature, err := base64.RawStdEncoding.DecodeString(e.Signatures()[server]["ed25519:k"])
			signer := p.net.servers[server]
			if err != nil || signer == nil || !ed25519.Verify(signer.signer.Key.Public().(ed25519.PublicKey), e.SignedForm(), signature) {
				errs[i] = fmt.Errorf("no valid signature of %s", server)
			}
		}
	}
	return errs
}

// MakeMember serves [roomserver.Remote].
func (p *town) MakeMember(ctx context.Context, server, membership, roomID, userID string, versions []matrix.RoomVersion) (*roomserver.Template, error) {
	to, err := p.reach(server)
	if err != nil {
		return nil, err
	}
	return to.rooms.MakeMember(ctx, roomID, userID, membership, versions)
}

// SendJoin serves [roomserver.Remote].
func (p *town) SendJoin(ctx context.Context, server string, join *matrix.Event, _ bool) (*roomserver.SendJoinAnswer, error) {
	to, err := p.reach(server)
	if err != nil {
		return nil, err
	}
	signed, err := to.rooms.AcceptMember(ctx, p.name, join.RoomID, join.ID, "join", join.JSON)
	if err != nil {
		return nil, err
	}
	answer, err := to.rooms.JoinState(ctx, signed, false)
	if err != nil {
		return nil, err
	}
	return &roomserver.SendJoinAnswer{State: rawEvents(answer.State), AuthChain: rawEvents(answer.AuthChain), Event: signed.JSON}, nil
}

// MissingEvents serves [roomserver.Remote].
func (p *town) MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error) {
	to, err := p.reach(server)
	if err != nil {
		return nil, err
	}
	events, err := to.serve.MissingEvents(ctx, p.name, roomID, roomserver.MissingQuery{Earliest: earliest, Latest: latest, Limit: limit})
	return rawEvents(events), err
}

// StateIDs serves [roomserver.Remote].
func (p *town) StateIDs(context.Context, string, string, string) (state, auth []string, err error) {
	return nil, nil, errCut
}

func rawEvents(events []*matrix.Event) []json.RawMessage {
	var raws []json.RawMessage
	for _, e := range events {
		raws = append(raws, e.JSON)
	}
	return raws
}

func (p *town) join(roomID, via string) {
	p.net.t.Helper()
	err := p.rooms.Join(p.net.t.Context(), roomID, roomserver.MemberChange{Sender: p.user(), Via: []string{via}})
	if err != nil {
		p.net.t.Fatal(err)
	}
}

func (p *town) say(roomID, body string) {
	p.net.t.Helper()
	_, err := p.rooms.Send(p.net.t.Context(), roomID, roomserver.Draft{Type: "m.room.message", Sender: p.user(),
		Content: json.RawMessage(fmt.Sprintf(`{"body":%q}`, body))})
	if err != nil {
		p.net.t.Fatal(err)
	}
}

// timeline are the messages of others in the order in which they came, and the changes of
// membership in the room.
func (p *town) timeline(roomID string) []string {
	p.net.t.Helper()
	room, err := p.db.RoomByID(p.net.t.Context(), roomID)
	if err != nil {
		p.net.t.Fatal(err)
	}
	events, err := p.db.EventsForward(p.net.t.Context(), room.Number, 0, 1<<62, 10_000)
	if err != nil {
		p.net.t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		if e.Type == "m.room.member" {
			all = append(all, *e.StateKey+" "+e.Membership())
		} else if e.Type == "m.room.message" && e.Sender != p.user() {
			all = append(all, e.ContentString("body"))
		}
	}
	return all
}

// Three servers lose nothing that is said, in whatever order they are cut off and started
// anew; members that come and go are known to all.
func TestServersTalk(t *testing.T) {
	eachTowns(t, 3, func(t *testing.T, net *towns) {
		a, b, c := net.servers["a.test"], net.servers["b.test"], net.servers["c.test"]
		roomID, err := a.rooms.Create(t.Context(), roomserver.RoomDraft{Creator: a.user(), Preset: "public_chat"})
		if err != nil {
			t.Fatal(err)
		}
		b.join(roomID, "a.test")
		time.Sleep(time.Second)
		c.join(roomID, "a.test") // a has to tell b
		time.Sleep(time.Second)
		all := []*town{a, b, c}
		for i := range 12 {
			for _, p := range all {
				for n := range 4 {
					p.say(roomID, fmt.Sprintf("%s %02d", p.name, 4*i+n))
				}
			}
			p := all[i%3]
			switch i % 4 {
			case 0:
				p.cut.Store(true)
			case 1:
				p.stop()
				p.run()
			case 3:
				for _, p := range all {
					p.cut.Store(false)
				}
			}
			time.Sleep(time.Duration(i) * 10 * time.Second)
		}
		time.Sleep(5 * time.Minute)
		for _, p := range all {
			p.turn <- struct{}{}
			heard := maps.Clone(p.heard)
			<-p.turn
			for _, other := range all {
				if other == p {
					continue
				}
				var want []string
				for n := range 48 {
					want = append(want, fmt.Sprintf("%s %02d", other.name, n))
				}
				equal(t, p.name+" has heard of "+other.name, want, heard[other.name])
			}
			equal(t, "messages in the timeline of "+p.name, 96, len(slices.DeleteFunc(p.timeline(roomID), func(s string) bool { return s[0] == '@' })))
		}
		if !slices.Contains(b.timeline(roomID), c.user()+" join") {
			t.Errorf("b does not know of c: %v", b.timeline(roomID))
		}
		for _, p := range all {
			p.checkDatabase()
		}

		// The kick of its last user reaches c, and nothing after.
		c.cut.Store(true)
		err = a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: a.user(), Target: c.user()})
		if err != nil {
			t.Fatal(err)
		}
		a.say(roomID, "in private")
		time.Sleep(time.Minute)
		a.stop()
		a.run()
		c.cut.Store(false)
		time.Sleep(5 * time.Minute)
		got := c.timeline(roomID)
		equal(t, "last at c", c.user()+" leave", got[len(got)-1])
		heard := b.timeline(roomID)
		equal(t, "last at b", []string{c.user() + " leave", "in private"}, heard[len(heard)-2:])
		a.checkDatabase()
	})
}

// checkDatabase compares what the log says of whom events are for with what the database
// says. Of events that are passed on only the log knows.
func (p *town) checkDatabase() {
	p.net.t.Helper()
	upTo := p.db.Clock.Current()
	live := map[string][]string{}
	p.db.Log.Range(p.db.Log.Floor(), upTo, func(e *stream.Entry) bool {
		if event, ok := e.Value.(*roomserver.ClientEvent); ok && event.Sender == p.user() {
			for _, server := range event.Servers {
				live[server] = append(live[server], fmt.Sprint(e.Pos))
			}
		}
		return true
	})
	stored := map[string][]string{}
	for server := range p.net.servers {
		events, err := p.db.PendingEvents(p.net.t.Context(), storage.Pending{Own: p.name, Server: server, UpTo: upTo, Limit: 10_000})
		if err != nil {
			p.net.t.Fatal(err)
		}
		for _, e := range events {
			if server != p.name {
				stored[server] = append(stored[server], fmt.Sprint(e.At))
			}
		}
	}
	equal(p.net.t, "events for others, by log and database of "+p.name, live, stored)
	servers, err := p.db.PendingServers(p.net.t.Context(), p.name, 0, upTo)
	if err != nil {
		p.net.t.Fatal(err)
	}
	for server := range live {
		if !slices.Contains(servers, server) {
			p.net.t.Errorf("%s is not among %v", server, servers)
		}
	}
}
