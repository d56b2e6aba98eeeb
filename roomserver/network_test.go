package roomserver_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

// network are servers that reach each other without a network: what one asks of
// another is a call.
type network struct {
	t         testing.TB
	servers   map[string]*peer
	identity  *identityServer
	policy    *policyServer
	mu        sync.Mutex
	dialed    []string            // whom anybody wanted to reach, in order; guarded by mu
	prepare   func(roomID string) // what [network.crowd] does before b joins; nil: nothing
	meanwhile func(roomID string) // what it does after b has joined, before the others hear of that; nil: nothing
	invited   func()              // is called when an invite was accepted, before that is answered; nil for nothing
	making    func()              // is called when a server wants to join, leave or knock by way of another; nil for nothing
	letIn     func()              // is called when a join was accepted, before it is answered; nil for nothing
}

// peer is one server.
type peer struct {
	net     *network
	name    string
	db      *storage.DB
	signer  *matrix.Signer
	rooms   *roomserver.Rooms
	serving *roomserver.Serving
	read    stream.Pos // up to where it is known what it has for others
	queues  map[string][]*roomserver.ClientEvent
	down    bool // nobody reaches it
	mute    bool // it answers no questions about rooms
	lies    lies
	silent  bool               // it tells nobody the state at an event
	old     storage.StateEntry // a membership that is over
	stop    func()             // ends [peer.complete]
	hold    chan struct{}      // until it is closed, the server waits for the states that it asks for; nil: it does not
}

var errDown = errors.New("the server is down")

// newNetwork makes servers a.test, b.test …, each with the users alice, bob and carol.
func newNetwork(t testing.TB, n int, open func(testing.TB) string) *network {
	net := &network{t: t, servers: map[string]*peer{}, identity: newIdentityServer(), policy: newPolicyServer()}
	for i := range n {
		name := string(rune('a'+i)) + ".test"
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i)
		p := &peer{net: net, name: name, db: storagetest.Open(t, open(t)),
			signer: &matrix.Signer{ServerName: name, KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(seed)}}
		p.rooms = roomserver.New(roomserver.Options{DB: p.db, Signer: p.signer, DefaultVersion: "12", Remote: p, Identity: net.identity,
			Logger: slog.New(slog.DiscardHandler)})
		p.serving = roomserver.NewServing(p.rooms)
		p.read, p.queues = p.db.Clock.Current(), map[string][]*roomserver.ClientEvent{}
		net.servers[name] = p
		err := p.db.Write(t.Context(), func(tx *storage.Tx) error {
			for _, user := range []string{"alice", "bob", "carol"} {
				if err := tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: "@" + user + ":" + name}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return net
}

func (n *network) at(name string) *peer { return n.servers[name+".test"] }

func (n *network) reach(server string) (*peer, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, server)
	n.mu.Unlock()
	p := n.servers[server]
	if p == nil || p.down {
		return nil, errDown
	}
	return p, nil
}

// deliver sends what the servers have for each other, until nothing is left.
func (n *network) deliver() {
	n.t.Helper()
	for again := true; again; {
		again = false
		for _, p := range n.servers {
			again = p.flush() || again
		}
	}
}

// gather puts a server's new events into the queues of those they are for.
func (p *peer) gather() {
	upTo := p.db.Clock.Current()
	p.db.Log.Range(p.read, upTo, func(e *stream.Entry) bool {
		if event, ok := e.Value.(*roomserver.ClientEvent); ok {
			for _, server := range event.Servers {
				p.queues[server] = append(p.queues[server], event)
			}
		}
		return true
	})
	p.read = upTo
}

// flush sends what a server has to those servers that are up. It tells whether there
// was anything.
func (p *peer) flush() (any bool) {
	p.net.t.Helper()
	p.gather()
	for server, queue := range p.queues {
		to, err := p.net.reach(server)
		if err != nil || p.down {
			continue
		}
		delete(p.queues, server)
		for _, event := range queue {
			any = true
			to.receive(p.name, event)
		}
	}
	return any
}

func (p *peer) receive(from string, event *roomserver.ClientEvent) {
	p.net.t.Helper()
	refused, err := p.rooms.Receive(p.net.t.Context(), from, event.RoomID, []json.RawMessage{event.JSON})
	if err != nil {
		p.net.t.Fatalf("%s → %s: %v", from, p.name, err)
	}
	if refused[0] != nil {
		p.net.t.Logf("%s refuses %s of %s: %v", p.name, event.ID, from, refused[0])
	}
}

// Verify serves [roomserver.Remote]: everybody knows everybody's key.
func (p *peer) Verify(_ context.Context, events []*matrix.Event) []error {
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

func (p *peer) MakeMember(ctx context.Context, server, membership, roomID, userID string, versions []matrix.RoomVersion) (*roomserver.Template, error) {
	to, err := p.net.reach(server)
	if err != nil {
		return nil, err
	}
	if p.net.making != nil {
		p.net.making()
	}
	return to.rooms.MakeMember(ctx, roomID, userID, membership, versions)
}

func (p *peer) SendJoin(ctx context.Context, server string, join *matrix.Event, omit bool) (*roomserver.SendJoinAnswer, error) {
	to, err := p.net.reach(server)
	if err != nil {
		return nil, err
	}
	signed, err := to.rooms.AcceptMember(ctx, p.name, join.RoomID, join.ID, "join", join.JSON)
	if err != nil {
		return nil, err
	}
	if p.net.letIn != nil {
		p.net.letIn()
	}
	answer, err := to.rooms.JoinState(ctx, signed, omit)
	if err != nil {
		return nil, err
	}
	return &roomserver.SendJoinAnswer{State: jsonOf(answer.State), AuthChain: jsonOf(answer.AuthChain), Event: answer.Event.JSON,
		MembersOmitted: omit, Servers: answer.Servers}, nil
}

func jsonOf(events []*matrix.Event) []json.RawMessage {
	raws := make([]json.RawMessage, len(events))
	for i, e := range events {
		raws[i] = e.JSON
	}
	return raws
}

func (p *peer) SendLeave(ctx context.Context, server string, leave *matrix.Event) error {
	to, err := p.net.reach(server)
	if err != nil {
		return err
	}
	_, err = to.rooms.AcceptMember(ctx, p.name, leave.RoomID, leave.ID, "leave", leave.JSON)
	return err
}

func (p *peer) SendKnock(ctx context.Context, server string, knock *matrix.Event) ([]json.RawMessage, error) {
	to, err := p.net.reach(server)
	if err != nil {
		return nil, err
	}
	if _, err := to.rooms.AcceptMember(ctx, p.name, knock.RoomID, knock.ID, "knock", knock.JSON); err != nil {
		return nil, err
	}
	return to.rooms.KnockState(ctx, knock.RoomID)
}

func (p *peer) SendInvite(ctx context.Context, server string, invite *matrix.Event, state []json.RawMessage) (json.RawMessage, error) {
	to, err := p.net.reach(server)
	if err != nil {
		return nil, err
	}
	signed, err := to.rooms.AcceptInvite(ctx, p.name, roomserver.InviteOffer{RoomID: invite.RoomID, EventID: invite.ID,
		Version: invite.Version, Event: invite.JSON, State: state})
	if err != nil {
		return nil, err
	}
	if p.net.invited != nil {
		p.net.invited()
	}
	return signed.JSON, nil
}

// ExchangeThirdPartyInvite serves [roomserver.Remote].
func (p *peer) ExchangeThirdPartyInvite(ctx context.Context, server, roomID string, event []byte) error {
	to, err := p.net.reach(server)
	if err != nil {
		return err
	}
	return to.rooms.Exchange(ctx, p.name, roomID, event)
}

// PolicySign serves [roomserver.Remote].
func (p *peer) PolicySign(ctx context.Context, server string, event []byte) (string, error) {
	if _, err := p.net.reach(server); err != nil {
		return "", err
	}
	return p.net.policy.sign(ctx, event)
}

// membership is what the server holds for a user's membership in a room.
func (p *peer) membership(roomID, userID string) string {
	p.net.t.Helper()
	room, err := p.db.RoomByID(p.net.t.Context(), roomID)
	if err != nil {
		p.net.t.Fatal(err)
	}
	entry, err := p.db.CurrentStateEvent(p.net.t.Context(), room.Number, "m.room.member", userID)
	if errors.Is(err, storage.ErrNotFound) {
		return ""
	} else if err != nil {
		p.net.t.Fatal(err)
	}
	return entry.Membership()
}

// state is the server's current state of a room, as event ids.
func (p *peer) state(roomID string) []string {
	p.net.t.Helper()
	room, err := p.db.RoomByID(p.net.t.Context(), roomID)
	if err != nil {
		p.net.t.Fatal(err)
	}
	entries, err := p.db.CurrentState(p.net.t.Context(), room.Number)
	if err != nil {
		p.net.t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Type+"|"+*e.StateKey+"|"+e.ID)
	}
	slices.Sort(ids)
	return ids
}

// agree fails the test unless the servers have the same state of a room.
func (n *network) agree(roomID string, names ...string) {
	n.t.Helper()
	want := n.at(names[0]).state(roomID)
	for _, name := range names[1:] {
		if diff := cmp.Diff(want, n.at(name).state(roomID)); diff != "" {
			n.t.Errorf("%s and %s differ about the state of %s (-%s +%s):\n%s", names[0], name, roomID, names[0], name, diff)
		}
	}
}

// eachNetwork runs a test with n servers on each engine.
func eachNetwork(t *testing.T, n int, test func(t *testing.T, net *network)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newNetwork(t, n, storagetest.SQLiteURL)) })
	t.Run("postgres", func(t *testing.T) { test(t, newNetwork(t, n, storagetest.OpenPostgresURL)) })
}

// Users of two servers meet in a room of every version, and talk both ways.
func TestTwoServersTalk(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range matrix.RoomVersions() {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: "@alice:a.test", Preset: "public_chat", Version: v, Name: "Planning"})
				say(t, a.rooms, roomID, "@alice:a.test", "before")
				err := b.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: "@bob:b.test", Via: []string{"a.test"}})
				if err != nil {
					t.Fatal(err)
				}
				net.deliver()
				net.agree(roomID, "a", "b")
				say(t, a.rooms, roomID, "@alice:a.test", "hello")
				net.deliver()
				say(t, b.rooms, roomID, "@bob:b.test", "hello yourself")
				setState(t, a.rooms, roomID, "@alice:a.test", "m.room.topic", `{"topic":"x"}`)
				net.deliver()
				net.agree(roomID, "a", "b")
				want := []string{"before", "hello", "hello yourself"}
				if diff := cmp.Diff(want, bodies(t, a.rooms, roomID, "@alice:a.test")); diff != "" {
					t.Errorf("at a (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, "@bob:b.test")); diff != "" {
					t.Errorf("at b (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func userOf(server, name string) string { return "@" + name + ":" + server + ".test" }

// join lets a user of a server join a room by way of another server.
func (p *peer) join(roomID, user, via string) {
	p.net.t.Helper()
	if err := p.rooms.Join(p.net.t.Context(), roomID, roomserver.MemberChange{Sender: user, Via: []string{via + ".test"}}); err != nil {
		p.net.t.Fatal(err)
	}
}

// What is said and done on both sides of a partition is there on both sides when it
// heals, and both agree what the state is (F53).
func TestPartitionHeals(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		for _, v := range []matrix.RoomVersion{"1", "2", "6", "10", "11", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v})
				b.join(roomID, userOf("b", "bob"), "a")
				net.deliver()
				c.join(roomID, userOf("c", "carol"), "b")
				net.deliver()
				net.agree(roomID, "a", "b", "c")
				level := `{"users":{"@alice:a.test":100,"@bob:b.test":100}}`
				if v.PrivilegedCreators() {
					level = `{"users":{"@bob:b.test":100}}`
				}
				setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.power_levels", level)
				net.deliver()
				c.down = true
				for i := range 5 {
					say(t, a.rooms, roomID, userOf("a", "alice"), fmt.Sprint("a", i))
					say(t, c.rooms, roomID, userOf("c", "carol"), fmt.Sprint("c", i))
				}
				setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"of a"}`)
				setState(t, b.rooms, roomID, userOf("b", "bob"), "m.room.topic", `{"topic":"of b"}`)
				if err := a.rooms.Ban(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("c", "carol")}); err != nil {
					t.Fatal(err)
				}
				net.deliver()
				c.down = false
				net.deliver()
				net.agree(roomID, "a", "b") // c hears of the ban and is out
				if got := c.membership(roomID, userOf("c", "carol")); got != "ban" {
					t.Errorf("at c carol is %s", got)
				}
				said := bodies(t, a.rooms, roomID, userOf("a", "alice"))
				if slices.ContainsFunc(said, func(body string) bool { return body[0] == 'c' }) {
					t.Errorf("what somebody banned has said is heard: %q", said)
				}
				if diff := cmp.Diff(said, bodies(t, b.rooms, roomID, userOf("b", "bob"))); len(said) < 5 || diff != "" {
					t.Errorf("a and b have heard different things (-a +b):\n%s", diff)
				}
				say(t, a.rooms, roomID, userOf("a", "alice"), "after")
				net.deliver()
				net.agree(roomID, "a", "b")
			})
		}
	})
}

func TestInvitesAcrossServers(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range matrix.RoomVersions() {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Version: v, Name: "Planning",
					Invite: []string{userOf("b", "bob")}})
				net.deliver()
				if got := b.membership(roomID, userOf("b", "bob")); got != "invite" {
					t.Fatalf("b has bob as %q", got)
				}
				if got := a.membership(roomID, userOf("b", "bob")); got != "invite" {
					t.Fatalf("a has bob as %q", got)
				}
				if err := b.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob")}); err != nil {
					t.Fatal(err)
				}
				net.deliver()
				net.agree(roomID, "a", "b")
				// The next one declines.
				invite := roomserver.MemberChange{Sender: userOf("b", "bob"), Target: userOf("b", "carol")}
				if err := b.rooms.Invite(t.Context(), roomID, invite); err != nil {
					t.Fatal(err)
				}
				if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "carol")}); err != nil {
					t.Fatal(err)
				}
				net.deliver()
				net.agree(roomID, "a", "b")
			})
		}
	})
}

// Who answers an invite as soon as it is there is let in, though the server that invites has
// not heard yet that it was accepted.
func TestInvitesAreAnsweredAtOnce(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for name, answer := range map[string]func(*roomserver.Rooms, context.Context, string, roomserver.MemberChange) error{
			"join": (*roomserver.Rooms).Join, "leave": (*roomserver.Rooms).Leave,
		} {
			net.t, net.invited, net.making = t, nil, nil
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice")})
			asked, answered := make(chan struct{}), make(chan error, 1)
			net.making = func() { close(asked) }
			net.invited = func() {
				go func() {
					answered <- answer(b.rooms, t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob")})
				}()
				<-asked
			}
			invite := roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "bob")}
			if err := a.rooms.Invite(t.Context(), roomID, invite); err != nil {
				t.Fatal(err)
			}
			if err := <-answered; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			net.deliver()
			if got := a.membership(roomID, userOf("b", "bob")); got != name {
				t.Errorf("a has bob as %q after %s", got, name)
			}
		}
	})
}

// Nobody is invited whose server may not take part, by whatever way.
func TestInviteesAreAdmitted(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a := net.at("a")
		var asked []string
		refused := matrix.Forbidden.With("not of the list")
		a.rooms = roomserver.New(roomserver.Options{DB: a.db, Signer: a.signer, DefaultVersion: "12", Remote: a, Logger: slog.New(slog.DiscardHandler),
			AdmitInvitee: func(_ context.Context, userID string) error {
				asked = append(asked, userID)
				return refused
			}})
		roomID, err := a.rooms.Create(t.Context(), roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "private_chat", Invite: []string{userOf("a", "bob")}})
		if err != nil {
			t.Fatal(err)
		}
		guest := userOf("b", "alice")
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: guest}); !errors.Is(err, refused) {
			t.Errorf("invite: %v", err)
		}
		if _, err := a.rooms.SendState(t.Context(), roomID, roomserver.Draft{Type: "m.room.member", StateKey: &guest, Sender: userOf("a", "alice"),
			Content: json.RawMessage(`{"membership":"invite"}`)}); !errors.Is(err, refused) {
			t.Errorf("state: %v", err)
		}
		if _, err := a.rooms.Create(t.Context(), roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "private_chat", Invite: []string{guest}}); !errors.Is(err, refused) {
			t.Errorf("create: %v", err)
		}
		if diff := cmp.Diff([]string{guest, guest, guest}, asked); diff != "" {
			t.Error(diff)
		}
	})
}

// Who declines an invite to a room that the server is not in leaves it everywhere, and
// here also if nobody can be told.
func TestDeclineAcrossServers(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, down := range []bool{false, true} {
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Invite: []string{userOf("b", "bob")}})
			net.deliver()
			a.down = down
			if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob"), Reason: "no"}); err != nil {
				t.Fatal(err)
			}
			a.down = false
			net.deliver()
			want := "leave"
			if got := b.membership(roomID, userOf("b", "bob")); got != want {
				t.Errorf("b has bob as %q", got)
			}
			if down {
				want = "invite"
			}
			if got := a.membership(roomID, userOf("b", "bob")); got != want {
				t.Errorf("a has bob as %q, want %q", got, want)
			}
		}
	})
}

func TestKnockAcrossServers(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"),
			InitialState: []roomserver.StateDraft{{Type: "m.room.join_rules", Content: json.RawMessage(`{"join_rule":"knock"}`)}}})
		if err := b.rooms.Knock(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob"), Via: []string{"a.test"}}); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		for _, p := range []*peer{a, b} {
			if got := p.membership(roomID, userOf("b", "bob")); got != "knock" {
				t.Errorf("%s has bob as %q", p.name, got)
			}
		}
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "bob")}); err != nil {
			t.Fatal(err)
		}
		if got := b.membership(roomID, userOf("b", "bob")); got != "invite" {
			t.Errorf("after the invite b has bob as %q", got)
		}
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		net.agree(roomID, "a", "b")
	})
}

// A room that admits the members of another room admits them across servers too, with
// the word of somebody who may invite.
func TestRestrictedAcrossServers(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		space := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		rules := fmt.Sprintf(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}`, space)
		for _, v := range []matrix.RoomVersion{"8", "10", "11", "12"} {
			net.t = t
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Version: v,
				InitialState: []roomserver.StateDraft{{Type: "m.room.join_rules", Content: json.RawMessage(rules)}}})
			err := b.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob"), Via: []string{"a.test"}})
			if v == "8" && !errors.Is(err, matrix.Forbidden) {
				t.Fatalf("who is not in the space joins: %v", err)
			}
			if v == "8" {
				b.join(space, userOf("b", "bob"), "a")
				c.join(space, userOf("c", "carol"), "a")
				net.deliver()
				b.join(roomID, userOf("b", "bob"), "a")
			} else if err != nil {
				t.Fatal(err)
			}
			net.deliver()
			net.agree(roomID, "a", "b")
			// b is in the room, but none of its users may invite: a has to help.
			c.join(roomID, userOf("c", "carol"), "a")
			net.deliver()
			net.agree(roomID, "a", "b", "c")
		}
	})
}

// A server that was not there for long asks for what it has missed, and whoever reads
// back finds it.
func TestGapsAreFilled(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, missed := range []int{1, 30, 700} {
			net.t = t
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
			var want []string
			speak := func(text string) {
				want = append(want, text)
				say(t, a.rooms, roomID, userOf("a", "alice"), text)
			}
			for i := range 150 {
				speak(fmt.Sprint("before ", i))
			}
			b.join(roomID, userOf("b", "bob"), "a")
			net.deliver()
			speak("joined")
			net.deliver()
			for i := range missed {
				speak(fmt.Sprint("missed ", i))
			}
			setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"missed too"}`)
			a.gather()
			clear(a.queues) // the network has lost all this
			speak("after")
			net.deliver()
			net.agree(roomID, "a", "b")
			if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, userOf("b", "bob"))); diff != "" {
				t.Errorf("%d missed (-want +got):\n%s", missed, diff)
			}
		}
	})
}

// readBack gives a page of messages backwards from a token.
func readBack(t testing.TB, p *peer, roomID, userID string, from roomserver.Token, limit int) []roomserver.Shown {
	t.Helper()
	access := must[roomserver.Access](t)(p.rooms.Access(t.Context(), roomID, userID))
	return must[roomserver.Page](t)(p.rooms.Messages(t.Context(), access, roomserver.PageQuery{Backwards: true, From: from, Limit: limit})).Events
}

// A page that begins right below an event finds what is missing before that: that is where
// the timelines of /sync are cut off.
func TestPageBeginsWithAGap(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		say(t, a.rooms, roomID, userOf("a", "alice"), "before")
		b.join(roomID, userOf("b", "bob"), "a")
		room := must[storage.Room](t)(b.db.RoomByID(t.Context(), roomID))
		last := must[[]storage.Event](t)(b.db.EventsBackward(t.Context(), room.Number, math.MaxInt64, 0, 1))
		if len(last) != 1 || last[0].Type != "m.room.member" {
			t.Fatalf("the last event is %v", last)
		}
		found := readBack(t, b, roomID, userOf("b", "bob"), roomserver.TokenBefore(&last[0]), 5)
		if len(found) != 5 || found[0].ContentString("body") != "before" {
			t.Errorf("%d events before the join", len(found))
		}
	})
}

// Messages that change nothing can be read back though nobody tells the state before
// them, up to the last event that changed it.
func TestBackfillWithoutStates(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		var old []string
		for i := range 30 {
			old = append(old, fmt.Sprint("old ", i))
			say(t, a.rooms, roomID, userOf("a", "alice"), old[i])
		}
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"new"}`)
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint("new ", i))
			say(t, a.rooms, roomID, userOf("a", "alice"), want[i])
		}
		a.silent = true
		b.join(roomID, userOf("b", "bob"), "a")
		if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("without states (-want +got):\n%s", diff)
		}
		a.silent = false
		if diff := cmp.Diff(append(old, want...), bodies(t, b.rooms, roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("with states (-want +got):\n%s", diff)
		}
		net.deliver()
		net.agree(roomID, "a", "b")
	})
}

// Guests are let into rooms of other servers that welcome guests, and taken out of them
// when those do so no more.
func TestGuestsAcrossServers(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		guest := userOf("b", "guest")
		err := b.db.Write(t.Context(), func(tx *storage.Tx) error {
			return tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: guest, Guest: true}})
		})
		if err != nil {
			t.Fatal(err)
		}
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		enter := func() error {
			return b.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: guest, Guest: true, Via: []string{"a.test"}})
		}
		if err := enter(); !errors.Is(err, matrix.GuestAccessForbidden) {
			t.Errorf("where guests are not welcome: %v", err)
		}
		if got := a.membership(roomID, guest); got != "" {
			t.Errorf("the room has the guest as %q", got)
		}
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.guest_access", `{"guest_access":"can_join"}`)
		if err := enter(); err != nil {
			t.Fatal(err)
		}
		b.join(roomID, userOf("b", "bob"), "a")
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"for all"}`)
		net.deliver()
		if got := a.membership(roomID, guest); got != "join" {
			t.Fatalf("where guests are welcome: %q", got)
		}
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.guest_access", `{"guest_access":"forbidden"}`)
		net.deliver()
		for _, p := range []*peer{a, b} {
			if guest, other := p.membership(roomID, guest), p.membership(roomID, userOf("b", "bob")); guest != "leave" || other != "join" {
				t.Errorf("%s has the guest as %q and the other user as %q", p.name, guest, other)
			}
		}
		net.agree(roomID, "a", "b")
	})
}
