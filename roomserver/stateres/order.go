package stateres

import (
	"cmp"
	"container/heap"
	"math"
	"slices"

	"beep/roomserver/authrules"
)

// powerOrder is the reverse topological power ordering: an event comes after those of its
// auth_events that are in the list; of the events that could be next, that one comes whose sender
// has most power, then the oldest. Events that cite each other in a circle are left out.
func (r *resolver) powerOrder(list []*candidate) []*candidate {
	before := make(map[int64]int, len(list)) // how many events must come before it
	after := make(map[int64][]*ranked, len(list))
	for _, c := range list {
		before[c.number] = 0
	}
	ready := &queue{}
	for _, c := range list {
		one := &ranked{c, r.senderLevel(c)}
		for _, number := range c.auth {
			if _, listed := before[number]; listed {
				before[c.number]++
				after[number] = append(after[number], one)
			}
		}
		if before[c.number] == 0 {
			heap.Push(ready, one)
		}
	}
	ordered := make([]*candidate, 0, len(list))
	for ready.Len() > 0 {
		c := heap.Pop(ready).(*ranked).candidate
		ordered = append(ordered, c)
		for _, one := range after[c.number] {
			if before[one.number]--; before[one.number] == 0 {
				heap.Push(ready, one)
			}
		}
	}
	return ordered
}

// senderLevel is the power level of the event's sender by the event's own auth_events.
func (r *resolver) senderLevel(c *candidate) int64 {
	create := r.create
	if create == 0 {
		create = r.cited(c.auth, r.createKey)
	}
	levels := r.cited(c.auth, r.levelsKey)
	return authrules.ReadPowerLevels(r.events[create], r.events[levels]).User(c.Sender)
}

type ranked struct {
	*candidate
	level int64
}

// queue is a heap of events, the next one first.
type queue []*ranked

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if q[i].level != q[j].level {
		return q[i].level > q[j].level
	}
	return byTime(q[i].candidate, q[j].candidate) < 0
}

// Push is for package heap.
func (q *queue) Push(x any) { *q = append(*q, x.(*ranked)) }

// Pop is for package heap.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func byTime(a, b *candidate) int {
	return cmp.Or(cmp.Compare(a.OriginServerTS, b.OriginServerTS), cmp.Compare(a.ID, b.ID))
}

// offMainline is the mainline position of an event that is based on nothing in the mainline.
const offMainline = math.MaxInt

// mainlineOrder is the mainline ordering based on the power levels event, 0 if there is
// none. It needs the graph alone.
func (r *resolver) mainlineOrder(list []*candidate, levels int64) []*candidate {
	positions := map[int64]int{}
	for i := 0; levels != 0; i++ {
		if _, circle := positions[levels]; circle {
			break
		}
		positions[levels] = i
		levels = r.cited(r.in.Graph(levels).Auth, r.levelsKey)
	}
	ranks := make(map[int64]int, len(list))
	for _, c := range list {
		ranks[c.number] = r.mainlinePosition(c.auth, positions)
	}
	slices.SortFunc(list, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(ranks[b.number], ranks[a.number]), byTime(a, b))
	})
	return list
}

// mainlinePosition goes from power levels to power levels until it meets the mainline.
// positions remembers the way, so that nothing is walked twice.
func (r *resolver) mainlinePosition(auth []int64, positions map[int64]int) int {
	var way []int64
	position := offMainline
	for at := r.cited(auth, r.levelsKey); at != 0; at = r.cited(r.in.Graph(at).Auth, r.levelsKey) {
		if known, ok := positions[at]; ok {
			position = known
			break
		}
		positions[at] = offMainline // until it is known; ends circles
		way = append(way, at)
	}
	for _, at := range way {
		positions[at] = position
	}
	return position
}
