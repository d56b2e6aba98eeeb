package sender_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/federation/remote"
	"beep/federation/sender"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/stream/bubbletest"
)

const (
	own   = "hs.example"
	alice = "@alice:" + own
	bob   = "@bob:" + own
)

// world is a server with rooms, and a network of other servers, in a bubble of time.
type world struct {
	t      *testing.T
	db     *storage.DB
	rooms  *roomserver.Rooms
	net    *network
	sender *sender.Sender
	stop   func()
}

// eachWorld runs a test on both engines.
func eachWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for engine, url := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		t.Run(engine, func(t *testing.T) {
			at := url(t)
			bubbletest.Test(t, func(t *testing.T) {
				w := &world{t: t, db: storagetest.Open(t, at), net: &network{peers: map[string]*peer{}}}
				w.rooms = newRooms(t, w.db)
				w.start()
				t.Cleanup(func() { w.stop() })
				test(t, w)
			})
		})
	}
}

func newRooms(t testing.TB, db *storage.DB) *roomserver.Rooms {
	t.Helper()
	err := db.Write(t.Context(), func(tx *storage.Tx) error {
		for _, id := range []string{alice, bob} {
			if err := tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: id}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrExists) {
		t.Fatal(err)
	}
	return roomserver.New(roomserver.Options{DB: db, DefaultVersion: "12", Logger: slog.New(slog.DiscardHandler),
		Signer: &matrix.Signer{ServerName: own, KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}})
}

// start runs a new sender.
func (w *world) start() {
	w.t.Helper()
	w.sender = sender.New(sender.Options{DB: w.db, ServerName: own, Send: w.net.send})
	w.stop = run(w.t, w.sender)
	time.Sleep(time.Millisecond) // it has begun then
}

func run(t testing.TB, s *sender.Sender) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// restart is a new sender in the place of the old one.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// crash is restart, but nothing of what the old one wrote since the rows was durable.
func (w *world) crash(rows []storage.Destination) {
	w.t.Helper()
	w.stop()
	var servers []string
	for _, d := range w.destinations() {
		servers = append(servers, d.Server)
	}
	w.write(func(tx *storage.Tx) error {
		if err := tx.DeleteDestinations(w.t.Context(), servers); err != nil {
			return err
		}
		return tx.SetDestinations(w.t.Context(), rows)
	})
	w.start()
}

func (w *world) destinations() []storage.Destination {
	w.t.Helper()
	rows, err := w.db.Destinations(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

func (w *world) write(fn func(tx *storage.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// room makes a room with members of the servers.
func (w *world) room(servers ...string) string {
	w.t.Helper()
	time.Sleep(time.Millisecond) // the time is part of a room's id
	roomID, err := w.rooms.Create(w.t.Context(), roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.members(roomID, 1, servers...)
	return roomID
}

// members says how many members servers have in a room.
func (w *world) members(roomID string, members int64, servers ...string) {
	w.t.Helper()
	number := w.number(roomID)
	w.write(func(tx *storage.Tx) error {
		pos := tx.Reserve()
		for _, server := range servers {
			if err := tx.SetRoomServer(w.t.Context(), storage.RoomServer{Room: number, Server: server, Members: members}, pos); err != nil {
				return err
			}
		}
		return nil
	})
	w.rooms = newRooms(w.t, w.db) // which reads it
}

func (w *world) number(roomID string) int64 {
	w.t.Helper()
	room, err := w.db.RoomByID(w.t.Context(), roomID)
	if err != nil {
		w.t.Fatal(err)
	}
	return room.Number
}

// say sends messages with the numbers from first to last as their texts.
func (w *world) say(roomID string, first, last int) {
	w.t.Helper()
	for i := first; i <= last; i++ {
		w.sayText(roomID, fmt.Sprint(i))
	}
}

func (w *world) sayText(roomID, body string) string {
	w.t.Helper()
	eventID, err := w.rooms.Send(w.t.Context(), roomID, roomserver.Draft{Type: "m.room.message", Sender: alice,
		Content: json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body))})
	if err != nil {
		w.t.Fatal(err)
	}
	return eventID
}

// texts are the numbers from first to last.
func texts(first, last int) []string {
	all := []string{}
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// network are the other servers.
type network struct {
	mu    sync.Mutex
	peers map[string]*peer
}

// peer is another server, which remembers everything that it was sent.
type peer struct {
	mu     sync.Mutex
	answer func(t *remote.Transaction) error // nil accepts
	takes  time.Duration                     // how long an answer takes

	attempts []*remote.Transaction
	at       []time.Time
	taken    []*remote.Transaction
	open     int // under way
	most     int // under way at once
}

func (n *network) peer(server string) *peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers[server] == nil {
		n.peers[server] = &peer{}
	}
	return n.peers[server]
}

func (n *network) send(ctx context.Context, server string, t *remote.Transaction) (*remote.Results, error) {
	p := n.peer(server)
	copied := *t
	t = &copied
	p.mu.Lock()
	p.attempts, p.at = append(p.attempts, t), append(p.at, time.Now())
	p.open++
	p.most = max(p.most, p.open)
	answer, takes := p.answer, p.takes
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if answer != nil {
		if err := answer(t); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = append(p.taken, t)
	return &remote.Results{}, nil
}

// behave sets how the peer answers from now on.
func (p *peer) behave(takes time.Duration, answer func(t *remote.Transaction) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes, p.answer = takes, answer
}

func unreachable(*remote.Transaction) error {
	return &remote.UnreachableError{Server: "peer", Cause: errors.New("no route")}
}

// tries are the attempts so far.
func (p *peer) tries() []*remote.Transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.attempts)
}

// times are when they were.
func (p *peer) times() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.at)
}

// transactions are those that the peer has taken.
func (p *peer) transactions() []*remote.Transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.taken)
}

// said are the texts of the messages that the peer was given, in order.
func (p *peer) said() []string {
	all := []string{}
	for _, t := range p.transactions() {
		for _, pdu := range t.PDUs {
			if body := bodyOf(pdu); body != "" {
				all = append(all, body)
			}
		}
	}
	return all
}

// saidOnce is said without repetitions.
func (p *peer) saidOnce() []string {
	once := []string{}
	for _, body := range p.said() {
		if !slices.Contains(once, body) {
			once = append(once, body)
		}
	}
	return once
}

func bodyOf(pdu json.RawMessage) string {
	var event struct{ Content struct{ Body string } }
	if json.Unmarshal(pdu, &event) != nil {
		return ""
	}
	return event.Content.Body
}

// ephemeral is an EDU.
type ephemeral struct {
	Type    string          `json:"edu_type"`
	Content json.RawMessage `json:"content"`
}

// edus are the EDUs that the peer has taken, as type and content.
func (p *peer) edus() []string {
	all := []string{}
	for _, t := range p.transactions() {
		for _, raw := range t.EDUs {
			var e ephemeral
			if err := json.Unmarshal(raw, &e); err != nil {
				all = append(all, err.Error())
			}
			all = append(all, e.Type+" "+string(e.Content))
		}
	}
	return all
}

func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// foreign stores an event of another server's user.
func (w *world) foreign(roomID, userID, body string) *storage.Event {
	w.t.Helper()
	signer := &matrix.Signer{ServerName: matrix.ServerOf(userID), KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	built, err := signer.Build(&matrix.Proto{Version: "12", RoomID: roomID, Type: "m.room.message", Sender: userID,
		Content: json.RawMessage(fmt.Sprintf(`{"body":%q}`, body)), OriginServerTS: 1, Depth: 9})
	if err != nil {
		w.t.Fatal(err)
	}
	e := &storage.Event{Event: built, Room: w.number(roomID)}
	w.write(func(tx *storage.Tx) error {
		e.Pos = tx.Reserve()
		e.At, e.Order = e.Pos, int64(e.Pos)*storage.OrderScale
		return tx.InsertEvent(w.t.Context(), e)
	})
	return e
}

// foreignMember publishes that another server's user has joined.
func (w *world) foreignMember(roomID, userID string) {
	w.t.Helper()
	signer := &matrix.Signer{ServerName: matrix.ServerOf(userID), KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	built, err := signer.Build(&matrix.Proto{Version: "12", RoomID: roomID, Type: "m.room.member", StateKey: &userID, Sender: userID,
		Content: json.RawMessage(`{"membership":"join"}`), OriginServerTS: 1, Depth: 9})
	if err != nil {
		w.t.Fatal(err)
	}
	number := w.number(roomID)
	w.write(func(tx *storage.Tx) error {
		e := &storage.Event{Event: built, Room: number, Pos: tx.Reserve()}
		tx.Publish(stream.Entry{Pos: e.Pos, Kind: stream.Event, Room: number, User: userID, Value: roomserver.NewClientEvent(e)})
		return nil
	})
}
