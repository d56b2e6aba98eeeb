package simulation

import (
	"testing/synctest"
	"time"
)

func faults() []act {
	return []act{{4, (*world).split}, {3, (*world).isolate}, {2, (*world).blockWay}, {3, (*world).mend}, {4, (*world).changeWeather},
		{3, (*world).crash}, {2, (*world).restart}}
}

// split cuts the network into two or three parts.
func (w *world) split() {
	groups, n := map[string]int{}, 2+w.random.IntN(2)
	for _, s := range w.servers {
		groups[s.name] = w.random.IntN(n)
	}
	w.note("the network splits: %v", groups)
	w.net.split(groups)
}

// isolate cuts one server off.
func (w *world) isolate() {
	alone := pick(w, w.servers)
	groups := map[string]int{alone.name: 1}
	w.note("%s is cut off", alone.name)
	w.net.split(groups)
}

// blockWay cuts one way between two servers.
func (w *world) blockWay() {
	l := link{pick(w, w.servers).name, pick(w, w.servers).name}
	w.note("%s does not reach %s", l.from, l.to)
	w.net.block(l, true)
}

func (w *world) mend() {
	w.note("the network is whole")
	w.net.calm()
}

func (w *world) changeWeather() {
	bad := weather{lost: 0.3 * w.random.Float64(), unanswered: 0.3 * w.random.Float64(), slow: 0.1 * w.random.Float64(), again: 0.3 * w.random.Float64()}
	w.note("the weather turns %+v", bad)
	w.net.turn(bad)
}

// crash ends a server in the middle of its work.
func (w *world) crash() {
	s := pick(w, w.servers)
	if s.running() == nil {
		return
	}
	w.note("%s is killed", s.name)
	s.kill()
	w.returns(s, w.within(30*time.Second))
}

// restart ends a server and starts it again.
func (w *world) restart() {
	s := pick(w, w.servers)
	if s.running() == nil {
		return
	}
	w.note("%s stops", s.name)
	s.stop()
	w.returns(s, w.within(5*time.Second))
}

// returns starts a server again after some time. The world's own goroutine does it, so
// that nothing else happens meanwhile.
func (w *world) returns(s *server, after time.Duration) {
	w.absent[s] = time.Now().Add(after)
}

// comeBack starts the servers that are to be back by now.
func (w *world) comeBack() {
	for _, s := range w.servers {
		at, absent := w.absent[s]
		if absent && !time.Now().Before(at) {
			delete(w.absent, s)
			w.note("%s is back", s.name)
			s.start()
			synctest.Wait() // what is left from before is on its way before anything else happens
		}
	}
}
