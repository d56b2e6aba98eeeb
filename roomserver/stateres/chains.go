package stateres

// chain gives visit the events and all events of their auth chains, each once, until
// visit returns false. Cycles, which only a forger can make, do no harm.
func (r *resolver) chain(from []int64, visit func(int64) bool) {
	seen := make(map[int64]struct{}, 2*len(from))
	next := make([]int64, 0, 2*len(from))
	add := func(events []int64) {
		for _, event := range events {
			if _, ok := seen[event]; !ok {
				seen[event] = struct{}{}
				next = append(next, event)
			}
		}
	}
	add(from)
	for len(next) > 0 {
		event := next[len(next)-1]
		next = next[:len(next)-1]
		if !visit(event) {
			return
		}
		add(r.in.Graph(event).Auth)
	}
}

// fullConflicted is the full conflicted set: the conflicted events, the auth difference
// and in room version 12 the conflicted state subgraph.
//
// A state's full auth chain is that of the agreed events, which all states have in common,
// and that of its conflicted events. So only the latter are gone through for each
// state; the former matters in that nothing in it is a difference.
func (r *resolver) fullConflicted(agreed, conflicted []Entry) map[int64]struct{} {
	full := make(map[int64]struct{}, 2*len(conflicted))
	for _, entry := range conflicted {
		full[entry.Event] = struct{}{}
	}
	holders := map[int64]int{} // in how many of the chains an event is
	for _, set := range r.sets {
		r.chain(except(set, agreed), func(event int64) bool {
			holders[event]++
			return true
		})
	}
	differing := map[int64]struct{}{}
	for event, n := range holders {
		if _, known := full[event]; !known && n < len(r.sets) {
			differing[event] = struct{}{}
		}
	}
	r.leaveOutChain(differing, agreed)
	if r.isV21() {
		r.addSubgraph(full, conflicted, holders)
	}
	for event := range differing {
		full[event] = struct{}{}
	}
	return full
}

// leaveOutChain removes the agreed events and their auth chain from the events.
func (r *resolver) leaveOutChain(events map[int64]struct{}, agreed []Entry) {
	if len(events) == 0 {
		return
	}
	from := make([]int64, len(agreed))
	for i, entry := range agreed {
		from[i] = entry.Event
	}
	r.chain(from, func(event int64) bool {
		delete(events, event)
		return len(events) > 0
	})
}

// addSubgraph adds the events on the paths between conflicted events: those of their
// chains from which a conflicted event can be reached.
func (r *resolver) addSubgraph(full map[int64]struct{}, conflicted []Entry, chains map[int64]int) {
	citing := make(map[int64][]int64, len(chains))
	for event := range chains {
		for _, cited := range r.in.Graph(event).Auth {
			citing[cited] = append(citing[cited], event)
		}
	}
	next := make([]int64, 0, len(conflicted))
	for _, entry := range conflicted {
		next = append(next, entry.Event)
	}
	for len(next) > 0 {
		event := next[len(next)-1]
		next = next[:len(next)-1]
		for _, above := range citing[event] {
			if _, ok := full[above]; !ok {
				full[above] = struct{}{}
				next = append(next, above)
			}
		}
	}
}
