package roomserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// policyServer is what policy servers of a network do: there is one key for all.
type policyServer struct {
	key ed25519.PrivateKey

	mu      sync.Mutex
	version matrix.RoomVersion
	asked   [][]byte
	// answer, if not nil, is given in the place of a good signature.
	answer func(ctx context.Context, e *matrix.Event) (string, error)
}

func newPolicyServer() *policyServer {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = 99
	return &policyServer{key: ed25519.NewKeyFromSeed(seed)}
}

func encode(signature []byte) string { return base64.RawStdEncoding.EncodeToString(signature) }

func (s *policyServer) sign(ctx context.Context, event []byte) (string, error) {
	s.mu.Lock()
	s.asked = append(s.asked, event)
	version, answer := s.version, s.answer
	s.mu.Unlock()
	e, err := matrix.Parse(version, event)
	if err != nil {
		return "", err
	}
	if answer != nil {
		return answer(ctx, e)
	}
	return s.good(e)
}

func (s *policyServer) good(e *matrix.Event) (string, error) {
	if bytes.Contains(e.Content, []byte("spam")) {
		return "", matrix.Forbidden.With("This is spam")
	}
	return encode(ed25519.Sign(s.key, e.SignedForm())), nil
}

func (s *policyServer) set(v matrix.RoomVersion, answer func(ctx context.Context, e *matrix.Event) (string, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.answer, s.asked = v, answer, nil
}

// asks are how often it was asked since set.
func (s *policyServer) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// content is that of m.room.policy.
func (s *policyServer) content(server string) string {
	return fmt.Sprintf(`{"via":%q,"public_keys":{"ed25519":%q}}`, server, encode(s.key.Public().(ed25519.PublicKey)))
}

// signed tells whether the event that the server has stored is signed by the policy server.
func (p *peer) signed(eventID string) bool {
	p.net.t.Helper()
	e := must[storage.Event](p.net.t)(p.db.EventByID(p.net.t.Context(), eventID))
	signature, err := base64.RawStdEncoding.DecodeString(e.Signatures()["c.test"]["ed25519:policy_server"])
	return err == nil && ed25519.Verify(p.net.policy.key.Public().(ed25519.PublicKey), e.SignedForm(), signature)
}

// policed makes a room with the policy server c.test and users on three servers.
func (n *network) policed(v matrix.RoomVersion) string {
	n.t.Helper()
	a := n.at("a")
	n.policy.set(v, nil)
	roomID := create(n.t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v})
	n.at("b").join(roomID, userOf("b", "bob"), "a")
	n.deliver()
	n.at("c").join(roomID, userOf("c", "carol"), "a")
	n.deliver()
	setState(n.t, a.rooms, roomID, userOf("a", "alice"), "m.room.policy", n.policy.content("c.test"))
	n.deliver()
	if n.policy.asks() != 0 {
		n.t.Errorf("it was asked %d times before it was the room's policy server", n.policy.asks())
	}
	return roomID
}

func draft(sender, body string) roomserver.Draft {
	return roomserver.Draft{Type: "m.room.message", Sender: sender, Content: text(body)}
}

// The policy server of a room signs whatever anybody does in it, or it is not done.
func TestPolicyServer(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range matrix.RoomVersions() {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := net.policed(v)
				for _, p := range []*peer{a, b, net.at("c")} {
					sender := map[string]string{"a.test": "@alice:a.test", "b.test": "@bob:b.test", "c.test": "@carol:c.test"}[p.name]
					id := say(t, p.rooms, roomID, sender, "hello")
					net.deliver()
					if !a.signed(id) || !b.signed(id) {
						t.Errorf("what %s says is not signed", sender)
					}
					before := p.extremities(roomID)
					if _, err := p.rooms.Send(t.Context(), roomID, draft(sender, "spam")); !errors.Is(err, matrix.Forbidden) || err.(*matrix.Error).Message != "This is spam" {
						t.Errorf("spam: %v", err)
					}
					if diff := cmp.Diff(before, p.extremities(roomID)); diff != "" {
						t.Errorf("spam has changed the room:\n%s", diff)
					}
				}
				setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"x"}`)
				invite := roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "alice")}
				if err := a.rooms.Invite(t.Context(), roomID, invite); err != nil {
					t.Fatal(err)
				}
				net.deliver()
				if !b.signed(a.stateEvent(roomID, "m.room.topic", "")) || !b.signed(b.stateEvent(roomID, "m.room.member", userOf("b", "alice"))) {
					t.Error("state is not signed")
				}
				spam := invite
				if spam.Target, spam.Reason = userOf("b", "carol"), "spam"; !errors.Is(a.rooms.Invite(t.Context(), roomID, spam), matrix.Forbidden) || b.membership(roomID, spam.Target) != "" {
					t.Error("an invite was sent that the policy server refuses")
				}
				want := []string{"hello", "hello", "hello"}
				if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, userOf("b", "bob"))); diff != "" {
					t.Errorf("said at b (-want +got):\n%s", diff)
				}
				net.agree(roomID, "a", "b", "c")
			})
		}
	})
}

// A user who joins by way of this server does so with the policy server's word.
func TestPolicyOfJoins(t *testing.T) {
	eachNetwork(t, 4, func(t *testing.T, net *network) {
		a, b, d := net.at("a"), net.at("b"), net.at("d")
		for _, v := range []matrix.RoomVersion{"1", "10", "12"} {
			net.t = t
			roomID := net.policed(v)
			net.policy.set(v, func(context.Context, *matrix.Event) (string, error) { return "", matrix.Forbidden })
			dave := userOf("d", "alice")
			join := roomserver.MemberChange{Sender: dave, Via: []string{"a.test"}}
			if err := d.rooms.Join(t.Context(), roomID, join); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("a join that is refused: %v", err)
			}
			net.policy.set(v, nil)
			if err := d.rooms.Join(t.Context(), roomID, join); err != nil {
				t.Fatal(err)
			}
			net.deliver()
			for _, p := range []*peer{a, b, d} {
				if id := p.stateEvent(roomID, "m.room.member", dave); !p.signed(id) {
					t.Errorf("version %s: %s has the join without the signature", v, p.name)
				}
			}
			if err := d.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: dave}); err != nil {
				t.Error(err)
			}
			net.deliver()
			net.agree(roomID, "a", "b", "c")
		}
	})
}

// Without its policy server a room is silent, but for those who may do without it.
func TestPolicyServerGone(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, c := net.at("a"), net.at("c")
		roomID := net.policed("12")
		say(t, a.rooms, roomID, userOf("a", "alice"), "before")
		net.deliver()
		c.down = true
		if _, err := a.rooms.Send(t.Context(), roomID, draft(userOf("a", "alice"), "x")); err == nil {
			t.Error("a message is sent without the policy server")
		}
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.policy", `{}`)
		say(t, a.rooms, roomID, userOf("a", "alice"), "after")
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.policy", net.policy.content("c.test"))
		c.down = false
		net.deliver()
		say(t, a.rooms, roomID, userOf("a", "alice"), "with it again")
		if err := a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("c", "carol")}); err != nil {
			t.Fatal(err)
		}
		net.policy.set("12", nil)
		say(t, a.rooms, roomID, userOf("a", "alice"), "without it for good")
		net.deliver()
		if n := net.policy.asks(); n != 0 {
			t.Errorf("a server that has left is asked %d times", n)
		}
		want := []string{"before", "after", "with it again", "without it for good"}
		if diff := cmp.Diff(want, bodies(t, net.at("b").rooms, roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("said at b (-want +got):\n%s", diff)
		}
	})
}

// What a policy server answers has to be its signature of the whole event, in time (F54).
func TestHostilePolicyServer(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		a.rooms.SetPolicyTime(100 * time.Millisecond)
		roomID := net.policed("11")
		sign := func(message []byte) (string, error) { return encode(ed25519.Sign(net.policy.key, message)), nil }
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		for name, answer := range map[string]func(ctx context.Context, e *matrix.Event) (string, error){
			"another key": func(_ context.Context, e *matrix.Event) (string, error) {
				return encode(ed25519.Sign(a.signer.Key, e.SignedForm())), nil
			},
			"the id alone":        func(_ context.Context, e *matrix.Event) (string, error) { return sign([]byte(e.ID)) },
			"the content alone":   func(_ context.Context, e *matrix.Event) (string, error) { return sign(e.Content) },
			"the unredacted form": func(_ context.Context, e *matrix.Event) (string, error) { return sign(e.JSON) },
			"no base64":           func(context.Context, *matrix.Event) (string, error) { return "\x00", nil },
			"nothing":             func(context.Context, *matrix.Event) (string, error) { return "", nil },
			"too much": func(context.Context, *matrix.Event) (string, error) {
				return string(bytes.Repeat([]byte("A"), 1<<20)), nil
			},
			"a failure": func(context.Context, *matrix.Event) (string, error) { return "", errDown },
			"silence": func(ctx context.Context, _ *matrix.Event) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			},
		} {
			net.policy.set("11", answer)
			before := a.extremities(roomID)
			_, err := a.rooms.Send(t.Context(), roomID, draft(alice, "x"))
			if err == nil || errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, matrix.Unknown) {
				t.Errorf("%s: %v", name, err)
			}
			foreign := b.forge(roomID, bob, "m.room.message", nil, `{"body":"y"}`)
			if err := a.get("b.test", roomID, foreign)[0]; err != nil || a.status(foreign.ID) != storage.SoftFailed {
				t.Errorf("%s: an event of another server: %v, status %d", name, err, a.status(foreign.ID))
			}
			if diff := cmp.Diff(before, a.extremities(roomID)); diff != "" {
				t.Errorf("%s: the room has changed:\n%s", name, diff)
			}
		}
	})
}

// Events of other servers are judged like those of this one: what lacks the signature is
// shown to the policy server, once, and is hidden if that does not sign it.
func TestPolicyOnReceipt(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		empty, other := "", "other"
		for _, v := range []matrix.RoomVersion{"1", "6", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := net.policed(v)
				level := `{"users":{"@alice:a.test":100,"@bob:b.test":100}}`
				if v.PrivilegedCreators() {
					level = `{"users":{"@bob:b.test":100}}`
				}
				setState(t, a.rooms, roomID, alice, "m.room.power_levels", level)
				net.deliver()
				good := func(e *matrix.Event) *matrix.Event {
					signature := must[string](t)(net.policy.good(e))
					return must[*matrix.Event](t)(e.WithSignature("c.test", "ed25519:policy_server", signature))
				}
				forge := func(eventType string, key *string, content string) *matrix.Event {
					return b.forge(roomID, bob, eventType, key, content)
				}
				message := forge("m.room.message", nil, `{"body":"x"}`)
				wrong := must[*matrix.Event](t)(forge("m.room.message", nil, `{"body":"z"}`).WithSignature("c.test", "ed25519:policy_server", encode(make([]byte, 64))))
				another := must[*matrix.Event](t)(forge("m.room.message", nil, `{"body":"spam 2"}`).WithSignature("c.test", "ed25519:policy_server", must[string](t)(net.policy.good(message))))
				for _, c := range []struct {
					name   string
					event  *matrix.Event
					status storage.Status
					asks   int
				}{
					{"unsigned spam", forge("m.room.message", nil, `{"body":"spam"}`), storage.SoftFailed, 1},
					{"spam with another's signature", another, storage.SoftFailed, 1},
					{"unsigned state", forge("m.room.topic", &empty, `{"topic":"spam"}`), storage.SoftFailed, 1},
					{"another policy", forge("m.room.policy", &other, `{"via":"spam"}`), storage.SoftFailed, 1},
					{"a message about policy", forge("m.room.policy", nil, `{"via":"spam"}`), storage.SoftFailed, 1},
					{"what is rejected anyway", forge("m.room.member", &other, `{"membership":"x"}`), storage.Rejected, 0},
					{"unsigned", message, storage.Accepted, 1},
					{"wrongly signed", wrong, storage.Accepted, 1},
					{"signed", good(forge("m.room.message", nil, `{"body":"signed"}`)), storage.Accepted, 0},
					{"signed and pruned", must[*matrix.Event](t)(good(forge("m.room.message", nil, `{"body":"pruned"}`)).Redacted()), storage.Accepted, 0},
				} {
					net.policy.set(v, nil)
					a.get("b.test", roomID, c.event)
					a.get("b.test", roomID, c.event)
					if status, asks := a.status(c.event.ID), net.policy.asks(); status != c.status || asks != c.asks {
						t.Errorf("%s: status %d after %d questions", c.name, status, asks)
					}
					if c.status == storage.Accepted && c.asks > 0 && !a.signed(c.event.ID) {
						t.Errorf("%s: the signature was not kept", c.name)
					}
				}
				net.policy.set(v, nil)
				for _, e := range []struct {
					eventType, content string
					key                *string
				}{{"m.room.policy", `{"via":"spam.test","public_keys":{"ed25519":"x"}}`, &empty}, {"m.room.message", `{"body":"spam 3"}`, nil}} {
					event := b.forge(roomID, bob, e.eventType, e.key, e.content, a.extremities(roomID)...)
					a.get("b.test", roomID, event)
					if status, asks := a.status(event.ID), net.policy.asks(); status != storage.Accepted || asks != 0 {
						t.Errorf("%s: status %d after %d questions", e.eventType, status, asks)
					}
				}
			})
		}
	})
}

// Several events come at once: those that are signed are not held up by the others.
func TestPolicyOfManyEvents(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		bob := userOf("b", "bob")
		roomID := net.policed("12")
		var events []*matrix.Event
		previous := b.extremities(roomID)
		for i := range 30 {
			body := fmt.Sprint("message ", i)
			if i%3 == 1 {
				body = fmt.Sprint("spam ", i)
			}
			e := b.forge(roomID, bob, "m.room.message", nil, fmt.Sprintf(`{"body":%q}`, body), previous...)
			events = append(events, e)
			if i%3 != 1 {
				previous = []string{e.ID}
			}
		}
		for i, err := range a.get("b.test", roomID, events...) {
			want := storage.Accepted
			if i%3 == 1 {
				want = storage.SoftFailed
			}
			if got := a.status(events[i].ID); err != nil || got != want {
				t.Errorf("event %d: %v, status %d", i, err, got)
			}
		}
		if n := net.policy.asks(); n != len(events) {
			t.Errorf("%d questions", n)
		}
		if got := a.extremities(roomID); !slices.Equal(got, previous) {
			t.Errorf("the room ends with %v", got)
		}
	})
}

// While the policy server thinks, the room goes on; what it signs has its place all the same,
// and is sent once.
func TestPolicyServerTakesItsTime(t *testing.T) {
	eachNetwork(t, 4, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob, dave := userOf("a", "alice"), userOf("b", "bob"), userOf("d", "alice")
		roomID := net.policed("12")
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: dave}); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		n := 0
		meanwhile := func(_ context.Context, e *matrix.Event) (string, error) {
			if e.Sender == alice {
				n++
				id := say(t, b.rooms, roomID, bob, fmt.Sprint("meanwhile ", n))
				a.get("b.test", roomID, must[storage.Event](t)(b.db.EventByID(t.Context(), id)).Event)
				if a.status(id) != storage.Accepted {
					t.Error("the room is held up")
				}
			}
			return net.policy.good(e)
		}
		net.policy.set("12", meanwhile)
		d1 := draft(alice, "hello")
		d1.Device, d1.TxnID = "PHONE", "1"
		first := must[string](t)(a.rooms.Send(t.Context(), roomID, d1))
		if again := must[string](t)(a.rooms.Send(t.Context(), roomID, d1)); again != first || n != 1 {
			t.Errorf("sent again it is %s, not %s; %d questions", again, first, n)
		}
		if err := a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: dave}); err != nil {
			t.Fatal(err)
		}
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: userOf("a", "bob")}); err != nil {
			t.Fatal(err)
		}
		net.policy.set("12", nil)
		a.gather()
		kick := a.stateEvent(roomID, "m.room.member", dave)
		if !slices.ContainsFunc(a.queues["d.test"], func(e *roomserver.ClientEvent) bool { return e.ID == kick }) {
			t.Error("the server of the user who was invited does not hear of the end of that")
		}
		net.deliver()
		if err := a.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "bob")}); err != nil {
			t.Error(err)
		}
		net.deliver()
		net.agree(roomID, "a", "b", "c")
	})
}

// Many users of a server speak at the same time.
func TestPolicyOfManySenders(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a := net.at("a")
		roomID := net.policed("12")
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if _, err := a.rooms.Send(t.Context(), roomID, draft(userOf("a", "alice"), fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		say(t, a.rooms, roomID, userOf("a", "alice"), "the last one")
		net.deliver()
		if got := bodies(t, net.at("b").rooms, roomID, userOf("b", "bob")); len(got) != 41 {
			t.Errorf("b has heard %d messages", len(got))
		}
		net.agree(roomID, "a", "b", "c")
	})
}
