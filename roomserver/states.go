package roomserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/storage"
)

// The history of a room's state is a tree of packed changes in fixed layers: a
// state differs from its parent, which lies in a higher layer, by at most
// layerCaps[layer] entries, and a state of fullLayer is complete. Any state is
// read in at most four rows, and a change costs a few entries on average.
var layerCaps = [...]int{8, 64, 1024}

const fullLayer = len(layerCaps)

// change sets one key of the state to the event at pos, or removes it with pos 0.
type change struct{ key, pos int64 }

// packed is one stored state. It is never changed once made.
type packed struct {
	id, parent int64
	layer      int
	changes    []change // by key
}

func (p *packed) find(key int64) (pos int64, found bool) {
	i, found := slices.BinarySearchFunc(p.changes, key, func(c change, key int64) int { return int(min(max(c.key-key, -1), 1)) })
	if !found {
		return 0, false
	}
	return p.changes[i].pos, true
}

// merge is the changes of under with those of over on top.
func merge(under, over []change) []change {
	merged := make([]change, 0, len(under)+len(over))
	for len(under) > 0 && len(over) > 0 {
		switch u, o := under[0], over[0]; {
		case u.key < o.key:
			merged, under = append(merged, u), under[1:]
		case u.key > o.key:
			merged, over = append(merged, o), over[1:]
		default:
			merged, under, over = append(merged, o), under[1:], over[1:]
		}
	}
	return append(append(merged, under...), over...)
}

// row packs the state for storage: pairs of varints, keys as differences.
func (p *packed) row(room int64) *storage.StateRow {
	delta := make([]byte, 0, 6*len(p.changes))
	last := int64(0)
	for _, c := range p.changes {
		delta = binary.AppendUvarint(delta, uint64(c.key-last))
		delta = binary.AppendUvarint(delta, uint64(c.pos))
		last = c.key
	}
	return &storage.StateRow{ID: p.id, Room: room, Parent: p.parent, Layer: p.layer, Delta: delta}
}

func unpack(row storage.StateRow) (*packed, error) {
	p := &packed{id: row.ID, parent: row.Parent, layer: row.Layer}
	key := int64(0)
	for rest := row.Delta; len(rest) > 0; {
		step, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, fmt.Errorf("state %d is damaged", row.ID)
		}
		pos, m := binary.Uvarint(rest[n:])
		if m <= 0 {
			return nil, fmt.Errorf("state %d is damaged", row.ID)
		}
		key += int64(step)
		p.changes = append(p.changes, change{key, int64(pos)})
		rest = rest[n+m:]
	}
	return p, nil
}

// states reads stored states, and keeps those read lately.
type states struct {
	cache *lru.Cache[int64, *packed]
}

// statesCached is how many stored states are kept in memory.
const statesCached = 2048

func newStates() *states {
	cache, err := lru.New[int64, *packed](statesCached)
	if err != nil {
		panic(err) // the size is positive
	}
	return &states{cache: cache}
}

// load gives the states with these ids.
func (s *states) load(ctx context.Context, q *storage.Reader, ids []int64) (map[int64]*packed, error) {
	found := make(map[int64]*packed, len(ids))
	var missing []int64
	for _, id := range ids {
		if p, ok := s.cache.Get(id); ok {
			found[id] = p
		} else if !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	rows, err := q.States(ctx, missing)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		p, err := unpack(row)
		if err != nil {
			return nil, err
		}
		found[p.id] = p
		s.cache.Add(p.id, p)
	}
	for _, id := range missing {
		if found[id] == nil {
			return nil, fmt.Errorf("state %d is not stored", id)
		}
	}
	return found, nil
}

var errParent = errors.New("a state has no parent")

// extend is the state with id that differs from top by changes, which are ordered by
// key. A nil top is the empty state. Read the parents through q, which may be a
// transaction.
func (s *states) extend(ctx context.Context, q *storage.Reader, top *packed, id int64, changes []change) (*packed, error) {
	if top == nil {
		return &packed{id: id, layer: fullLayer, changes: changes}, nil
	}
	for layer := range layerCaps {
		if top.layer == layer {
			changes = merge(top.changes, changes)
			if len(changes) <= layerCaps[layer] {
				return &packed{id: id, parent: top.parent, layer: layer, changes: changes}, nil
			}
			parents, err := s.load(ctx, q, []int64{top.parent})
			if err != nil {
				return nil, err
			}
			if top = parents[top.parent]; top == nil {
				return nil, errParent
			}
			continue
		}
		if len(changes) <= layerCaps[layer] {
			return &packed{id: id, parent: top.id, layer: layer, changes: changes}, nil
		}
	}
	return &packed{id: id, layer: fullLayer, changes: slices.DeleteFunc(merge(top.changes, changes),
		func(c change) bool { return c.pos == 0 })}, nil
}

// lookup finds what each state has under each key: positions by state and key,
// left out where a state has none. It takes at most one query per layer.
func (s *states) lookup(ctx context.Context, q *storage.Reader, ids, keys []int64) (map[int64]map[int64]int64, error) {
	each := make(map[int64][]int64, len(ids))
	for _, id := range ids {
		each[id] = keys
	}
	return s.lookupEach(ctx, q, each)
}

// lookupEach is lookup with keys of its own for each state.
func (s *states) lookupEach(ctx context.Context, q *storage.Reader, keys map[int64][]int64) (map[int64]map[int64]int64, error) {
	results := make(map[int64]map[int64]int64, len(keys))
	next := make(map[int64]int64, len(keys))
	for id := range keys {
		if id != 0 {
			results[id], next[id] = map[int64]int64{}, id
		}
	}
	for len(next) > 0 {
		wanted := make([]int64, 0, len(next))
		for _, at := range next {
			wanted = append(wanted, at)
		}
		loaded, err := s.load(ctx, q, wanted)
		if err != nil {
			return nil, err
		}
		for id, at := range next {
			p := loaded[at]
			for _, key := range keys[id] {
				if _, known := results[id][key]; known {
					continue
				}
				if pos, found := p.find(key); found {
					results[id][key] = pos
				}
			}
			if p.parent == 0 || len(results[id]) == len(keys[id]) {
				delete(next, id)
			} else {
				next[id] = p.parent
			}
		}
	}
	for _, found := range results {
		for key, pos := range found {
			if pos == 0 {
				delete(found, key)
			}
		}
	}
	return results, nil
}

// StatesAt are the positions of the events of stored states, by the id of the
// state: [storage.Event.StateAfter] and its like.
func (r *Rooms) StatesAt(ctx context.Context, ids []int64) (map[int64][]int64, error) {
	changes := make(map[int64][]change, len(ids))
	next := make(map[int64]int64, len(ids))
	for _, id := range ids {
		if id != 0 {
			next[id] = id
		}
	}
	for len(next) > 0 {
		wanted := make([]int64, 0, len(next))
		for _, at := range next {
			wanted = append(wanted, at)
		}
		loaded, err := r.states.load(ctx, &r.db.Reader, wanted)
		if err != nil {
			return nil, err
		}
		for id, at := range next {
			p := loaded[at]
			changes[id] = merge(p.changes, changes[id])
			if p.parent == 0 {
				delete(next, id)
			} else {
				next[id] = p.parent
			}
		}
	}
	positions := make(map[int64][]int64, len(changes))
	for id, all := range changes {
		all = slices.DeleteFunc(all, func(c change) bool { return c.pos == 0 })
		for _, c := range all {
			positions[id] = append(positions[id], c.pos)
		}
	}
	return positions, nil
}

// whole is a stored state with all its keys, ordered by them.
func (s *states) whole(ctx context.Context, q *storage.Reader, id int64) ([]change, error) {
	var changes []change
	for id != 0 {
		loaded, err := s.load(ctx, q, []int64{id})
		if err != nil {
			return nil, err
		}
		changes = merge(loaded[id].changes, changes)
		id = loaded[id].parent
	}
	return slices.DeleteFunc(changes, func(c change) bool { return c.pos == 0 }), nil
}

// full is the whole state: the positions of its events.
func (s *states) full(ctx context.Context, q *storage.Reader, id int64) ([]int64, error) {
	changes, err := s.whole(ctx, q, id)
	positions := make([]int64, len(changes))
	for i, c := range changes {
		positions[i] = c.pos
	}
	return positions, err
}

// difference is what has to change of a state to make it another one; both have all
// their keys, ordered.
func difference(from, to []change) []change {
	var changes []change
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].key < to[0].key:
			changes, from = append(changes, change{from[0].key, 0}), from[1:]
		case len(from) == 0 || to[0].key < from[0].key:
			changes, to = append(changes, to[0]), to[1:]
		default:
			if from[0].pos != to[0].pos {
				changes = append(changes, to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return changes
}
