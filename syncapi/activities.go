package syncapi

import (
	"context"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// sharedActivities is of how many rooms the activity stays in memory: about 150 bytes each.
const sharedActivities = 100_000

// activities remember what it takes to sort rooms and to choose among them. The log keeps
// them true. As nearly everything changes one of them, other than of [shared] the changes
// during a load are taken into what it finds.
type activities struct {
	db      *storage.DB
	loading chan struct{} // whoever asks the database holds its one item

	mu     sync.Mutex
	values *lru.Cache[int64, storage.Activity]
	missed map[int64]storage.Activity // what came during a load, of rooms that are not in memory; nil without one
	resets int                        // how often everything was forgotten
}

func newActivities(db *storage.DB) *activities {
	// The constructor fails only for a size that is not positive.
	values, _ := lru.New[int64, storage.Activity](sharedActivities)
	return &activities{db: db, loading: make(chan struct{}, 1), values: values}
}

// of gives the activity of each room.
func (a *activities) of(ctx context.Context, rooms []int64) ([]storage.Activity, error) {
	found := make([]storage.Activity, len(rooms))
	if missing := a.lookup(rooms, found); len(missing) == 0 {
		return found, nil
	}
	select {
	case a.loading <- struct{}{}:
		defer func() { <-a.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	missing, resets := a.begin(rooms, found)
	loaded, err := a.db.Activities(ctx, missing)
	a.end(loaded, resets)
	for i, room := range rooms {
		if value, ok := loaded[room]; ok {
			found[i] = value
		}
	}
	return found, err
}

// lookup fills in what is in memory, and gives the rooms that are not.
func (a *activities) lookup(rooms []int64, found []storage.Activity) (missing []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, room := range rooms {
		value, ok := a.values.Get(room)
		if !ok {
			missing = append(missing, room)
		}
		found[i] = value
	}
	return missing
}

func (a *activities) begin(rooms []int64, found []storage.Activity) (missing []int64, resets int) {
	missing = a.lookup(rooms, found)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed = map[int64]storage.Activity{}
	return missing, a.resets
}

// end puts what was loaded into memory, with what has come meanwhile.
func (a *activities) end(loaded map[int64]storage.Activity, resets int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for room, value := range loaded {
		value = merge(value, a.missed[room])
		loaded[room] = value
		if resets == a.resets {
			a.values.Add(room, value)
		}
	}
	a.missed = nil
}

// merge is the later of two. The type of a room never changes, and what was encrypted is
// taken for encrypted ever after, as clients do.
func merge(a, b storage.Activity) storage.Activity {
	if a.Type == "" {
		a.Type = b.Type
	}
	return storage.Activity{Last: max(a.Last, b.Last), Bump: max(a.Bump, b.Bump), Encrypted: a.Encrypted || b.Encrypted, Type: a.Type}
}

// take takes in an event of the log.
func (a *activities) take(entry *stream.Entry, e *matrix.Event) {
	news := storage.Activity{Last: entry.Pos}
	if entry.Kind == stream.Event && storage.Bumps(e.Type) {
		news.Bump = entry.Pos
	}
	if e.StateKey != nil && *e.StateKey == "" {
		switch e.Type {
		case "m.room.encryption":
			news.Encrypted = true
		case "m.room.create":
			news.Type = e.ContentString("type")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if value, ok := a.values.Peek(entry.Room); ok {
		a.values.Add(entry.Room, merge(value, news))
	} else if a.missed != nil {
		a.missed[entry.Room] = merge(a.missed[entry.Room], news)
	}
}

// clear forgets everything, as entries of the log were lost.
func (a *activities) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.values.Purge()
	a.resets++
}
