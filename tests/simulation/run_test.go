package simulation

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/stream/bubbletest"
)

// report is what a simulation came to.
type report struct {
	violations []string
	trace      []string
	events     int
	rounds     int
	apart      int // servers that are in a room for themselves and a few others only
}

// sorted is the trace with what happens at the same instant in an order: at different
// servers it has none.
func (r *report) sorted() []string { return slices.Sorted(slices.Values(r.trace)) }

// simulate runs the simulation of a seed on databases that open makes.
func simulate(t *testing.T, seed uint64, open func(t *testing.T) string) *report {
	cryptotest.SetGlobalRandom(t, seed)
	urls := make([]string, maxServers)
	for i := range urls {
		urls[i] = open(t)
	}
	var r *report
	bubbletest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.build(urls)
		w.live()
		rounds := w.heal()
		w.readAll()
		w.check()
		for _, s := range w.servers {
			s.stop()
		}
		r = &report{violations: w.violations, trace: w.trace, events: len(w.acks), rounds: rounds, apart: w.apart}
	})
	return r
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), net: newNetwork(seed), start: time.Now(),
		acks: map[string]*ack{}, absent: map[*server]time.Time{}}
}

// add makes a server and starts it.
func (w *world) add(url string) *server {
	s := newServer(w, len(w.servers), url)
	s.skew = w.random.Int64N(int64(2*time.Hour/time.Millisecond)) - int64(time.Hour/time.Millisecond)
	w.servers = append(w.servers, s)
	w.net.servers[s.name] = s
	s.start()
	s.now.register()
	return s
}

const (
	minServers = 3
	maxServers = 5
)

// versions are those that differ in how events, rules or resolutions are.
var versions = []matrix.RoomVersion{"1", "6", "10", "11", "12"}

// build makes the servers, and rooms with members of most of them.
func (w *world) build(urls []string) {
	for i := range minServers + w.random.IntN(maxServers-minServers+1) {
		w.add(urls[i])
	}
	for range 1 + w.random.IntN(3) {
		w.makeRoom(pick(w, versions))
	}
	for _, r := range w.rooms {
		for _, s := range w.servers {
			for _, user := range s.users {
				if w.chance(0.5) {
					w.change(someone{s.now, user, r}, "joins", user, func(rooms *roomserver.Rooms, ctx context.Context, roomID string, c roomserver.MemberChange) error {
						c.Via = []string{r.home.name}
						return rooms.Join(ctx, roomID, c)
					})
					w.pass(w.within(time.Second))
				}
			}
		}
	}
}

// makeRoom makes a room in which users of several servers have power.
func (w *world) makeRoom(v matrix.RoomVersion) {
	home := pick(w, w.servers)
	creator := pick(w, home.users)
	users := map[string]int{}
	if !v.PrivilegedCreators() {
		users[creator] = 100
	}
	for _, s := range w.servers {
		if user := pick(w, s.users); user != creator && w.chance(0.7) {
			users[user] = pick(w, []int{50, 50, 100})
		}
	}
	id, err := home.now.rooms.Create(context.Background(), roomserver.RoomDraft{Creator: creator, Version: v, Preset: "public_chat",
		PowerLevelsOverride: map[string]jsonText{"users": encode(users)}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.note("%s makes %s of version %s with powers %v", creator, id, v, users)
	w.rooms = append(w.rooms, &room{id, v, home, map[string]bool{}})
	w.pass(w.within(time.Second))
}

// live lets things happen.
func (w *world) live() {
	usual, bad := acts(), faults()
	trouble := 0.3 * w.random.Float64()
	for range 20 + w.random.IntN(60) {
		w.comeBack()
		if w.chance(trouble) {
			w.doSomething(bad)
		} else {
			w.doSomething(usual)
		}
		pause := 300 * time.Millisecond
		if w.chance(0.1) {
			pause = 40 * time.Second
		}
		w.pass(w.within(pause))
	}
}

const (
	// drainTime is how long it may take until nothing is under way any more.
	drainTime = 40 * time.Minute
	// maxRounds is how often somebody of every server has to speak until all agree. Each
	// time it is somebody else: others may not know that one of them is there.
	maxRounds = 2 * usersEach
)

// heal mends everything, and lets the servers find together: what was queued arrives, who
// failed to join tries again, and somebody of every server speaks, a few times. It gives
// the number of rounds that took.
func (w *world) heal() int {
	w.note("everything is mended")
	w.net.calm()
	for _, s := range w.servers {
		if _, absent := w.absent[s]; absent {
			w.absent[s] = time.Now()
		}
	}
	w.comeBack()
	w.drain()
	for round := 1; round <= maxRounds; round++ {
		w.note("round %d", round)
		w.joinAgain()
		for _, r := range w.rooms {
			w.everywhere(r, func(one someone) {
				w.speak(one.other(round))
				w.drain()
			})
		}
		if w.agreed() {
			return round
		}
	}
	w.disagreement()
	return maxRounds
}

// readAll lets somebody of every server read all of its rooms, which closes the gaps.
func (w *world) readAll() {
	for _, r := range w.rooms {
		w.everywhere(r, func(one someone) {
			if err := one.readBack(one.ctx, math.MaxInt); err != nil {
				w.violated("%s: %s cannot read %s: %v", one.name, one.user, r.id, err)
			}
		})
	}
	w.drain()
}

func (w *world) speak(one someone) {
	id, err := one.rooms.Send(one.ctx, one.room.id, roomserver.Draft{Type: "m.room.message", Sender: one.user, Content: w.text()})
	w.note("%s: %s speaks in %s: %s %v", one.name, one.user, one.room.id, id, err)
	if err != nil {
		w.violated("%s: %s may not speak in %s: %v", one.name, one.user, one.room.id, err)
	}
}

// drain waits until nothing is under way.
func (w *world) drain() {
	w.clients.Wait()
	deadline := time.Now().Add(drainTime)
	for quiet := 0; quiet < 2; {
		w.pass(1100 * time.Millisecond)
		if quiet++; w.busy() {
			quiet = 0
		}
		if time.Now().After(deadline) {
			w.violated("after %v %d requests are still under way, and the servers have something for %v others", drainTime, w.net.flying.Load(), w.pending())
			return
		}
	}
}

// longestDelay is longer than senders leave a server alone that has not been away for days.
const longestDelay = 10 * time.Minute

// pending is how many others each server has something for.
func (w *world) pending() (others []int) {
	for _, s := range w.servers {
		others = append(others, s.now.pending())
	}
	return others
}

// busy tells whether something is under way. Senders remember servers that have failed, also when
// there is nothing for them any more: then nothing is sent for long.
func (w *world) busy() bool {
	return w.net.flying.Load() > 0 || slices.Max(w.pending()) > 0 && !w.net.silent(longestDelay)
}

// joinAgain lets those join again who are members by the word of another server while their
// own, which has not heard the answer to the join, or that they are not put out any more, is
// not in the room. The rules may not let them.
func (w *world) joinAgain() {
	for _, r := range w.rooms {
		clear(r.outside)
		for _, s := range w.servers {
			if s.now.roomRow(r.id).Resident {
				continue
			}
			for _, other := range w.servers {
				user := slices.IndexFunc(s.users, func(u string) bool { return other.now.membership(r.id, u) == "join" })
				if !other.now.roomRow(r.id).Resident || user < 0 {
					continue
				}
				err := s.now.rooms.Join(s.now.ctx, r.id, roomserver.MemberChange{Sender: s.users[user], Via: []string{other.name}})
				w.note("%s: %s joins %s again via %s: %v", s.name, s.users[user], r.id, other.name, err)
				if errors.Is(err, matrix.Forbidden) && s.now.wasPutOut(r.id, s.users[user], other.now) {
					r.outside[s.name] = true
				}
				w.drain()
				break
			}
		}
	}
}

// wasPutOut tells whether somebody has put the user out of the room, as another server knows
// too that has taken it back since then, when states were resolved; or whether the user has
// left when the other server was not in the room for this one.
func (p *process) wasPutOut(roomID, user string, other *process) bool {
	e := p.stateEvent(roomID, "m.room.member", user)
	if e == nil || e.Membership() != "leave" && e.Membership() != "ban" {
		return false
	}
	if e.Sender == user {
		left := p.world.acks[e.ID]
		return left != nil && !slices.Contains(left.sent, other.name)
	}
	known, err := other.db.EventByID(context.Background(), e.ID)
	return err == nil && placed(&known)
}
