package mediaapi

import "sync"

// arrivals wakes those who wait for an upload.
type arrivals struct {
	mu      sync.Mutex
	waiting map[string]*arrival // by media id
}

type arrival struct {
	done  chan struct{} // closed when it is there
	users int
}

func newArrivals() *arrivals { return &arrivals{waiting: map[string]*arrival{}} }

// await gives a channel that is closed when an upload has come. Whoever looks afterwards
// whether it is there misses none. They call leave in the end.
func (a *arrivals) await(id string) (done <-chan struct{}, leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.waiting[id]
	if w == nil {
		w = &arrival{done: make(chan struct{})}
		a.waiting[id] = w
	}
	w.users++
	return w.done, func() { a.leave(id, w) }
}

func (a *arrivals) leave(id string, w *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.users--; w.users == 0 && a.waiting[id] == w {
		delete(a.waiting, id)
	}
}

// announce says that an upload is there.
func (a *arrivals) announce(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.waiting[id]; w != nil {
		delete(a.waiting, id)
		close(w.done)
	}
}
