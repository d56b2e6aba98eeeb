package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/storage"
)

type jsonText = json.RawMessage

// view is what a server holds of a room.
type view struct {
	server *server
	row    storage.Room
	state  map[string]string         // current event ids by type and key
	events map[string]*storage.Event // all that it knows, by id
	ids    map[int64]string          // by position
}

func (w *world) view(s *server, r *room) *view {
	p, ctx := s.now, context.Background()
	v := &view{server: s, row: p.roomRow(r.id), state: map[string]string{}, events: map[string]*storage.Event{}, ids: map[int64]string{}}
	entries, err := p.db.CurrentState(ctx, v.row.Number)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		v.state[e.Type+" "+*e.StateKey] = e.ID
	}
	events, err := p.db.EventsBackward(ctx, v.row.Number, math.MaxInt64, math.MinInt64, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range events {
		v.events[events[i].ID] = &events[i]
		v.ids[int64(events[i].Pos)] = events[i].ID
	}
	return v
}

// residents are the views of the servers that take part in a room, by their own word.
func (w *world) residents(r *room) []*view {
	var views []*view
	for _, s := range w.servers {
		if v := w.view(s, r); v.row.Resident {
			views = append(views, v)
		}
	}
	return views
}

// islands are the servers in a room that hold each other to be in it, those with most of
// them first. Usually there is one. When the room was closed while some, who had not heard
// of it, let others in, those others are not in it for who closed it: their joins fail
// softly, or are taken back when states are resolved, and nothing in the protocol tells
// them, as they are sent nothing.
func islands(views []*view) [][]*view {
	var found [][]*view
	for len(views) > 0 {
		island := views[:1:1]
		views = views[1:]
		for i := 0; i < len(island); i++ {
			views = slices.DeleteFunc(slices.Clone(views), func(v *view) bool {
				if v.refused(island[i]) || island[i].refused(v) {
					return false
				}
				island = append(island, v)
				return true
			})
		}
		found = append(found, island)
	}
	slices.SortStableFunc(found, func(a, b []*view) int { return len(b) - len(a) })
	return found
}

// refused tells whether none of the users of another server who are in the room by that
// server's word is there by this one's, which knows that they joined; and whether the other
// one has heard what put them out here, if anything did.
func (v *view) refused(other *view) bool {
	for name, id := range other.state {
		join := other.events[id]
		if join == nil || join.Type != "m.room.member" || join.Membership() != "join" || matrix.ServerOf(*join.StateKey) != other.server.name {
			continue
		}
		here := v.events[v.state[name]]
		if v.events[id] == nil || here != nil && here.Membership() == "join" {
			return false
		}
		if out := v.putOut(here); out != nil && other.events[out.ID] == nil {
			return false
		}
	}
	return true
}

// putOut is the event that ended a membership, of those that led to the present one; nil for
// none.
func (v *view) putOut(member *storage.Event) *storage.Event {
	for member != nil {
		before := v.events[v.ids[int64(member.Replaces)]]
		if before != nil && before.Membership() == "join" {
			return member
		}
		member = before
	}
	return nil
}

// noteApart counts the servers that are in a room only for themselves, or a few others.
func (w *world) noteApart(r *room, islands [][]*view) {
	for _, island := range islands[1:] {
		for _, v := range island {
			w.note("%s is not in %s for most others", v.server.name, r.id)
			w.apart++
		}
	}
}

// agreed tells whether all servers in each room hold the same of it, and know each other.
func (w *world) agreed() bool {
	for _, r := range w.rooms {
		if w.differences(r) != "" {
			return false
		}
	}
	return true
}

func (w *world) disagreement() {
	for _, r := range w.rooms {
		if text := w.differences(r); text != "" {
			w.violated("the servers in %s do not agree: %s", r.id, text)
		}
	}
}

func (w *world) differences(r *room) string {
	views, text := w.residents(r), ""
	for _, island := range islands(views) {
		text += differences(r, island, views)
	}
	return text
}

// differences are those between the servers of an island.
func differences(r *room, island, all []*view) string {
	first, names, text := island[0], namesOf(island), ""
	others := slices.DeleteFunc(namesOf(all), func(name string) bool { return slices.Contains(names, name) })
	for _, v := range island {
		known := slices.DeleteFunc(slices.Sorted(maps.Keys(v.servers())), func(name string) bool { return r.outside[name] || slices.Contains(others, name) })
		if diff := cmp.Diff(names, known); diff != "" {
			text += fmt.Sprintf("%s does not know which servers are there (-want +got):\n%s", v.server.name, diff)
		}
		if diff := cmp.Diff(first.state, v.state); diff != "" {
			text += fmt.Sprintf("the state at %s and %s (-%s +%s):\n%s", first.server.name, v.server.name, first.server.name, v.server.name, diff)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(first.row.Extremities)), slices.Sorted(slices.Values(v.row.Extremities))); diff != "" {
			text += fmt.Sprintf("the last events at %s and %s:\n%s", first.server.name, v.server.name, diff)
		}
	}
	return text
}

func namesOf(views []*view) []string {
	names := make([]string, len(views))
	for i, v := range views {
		names[i] = v.server.name
	}
	slices.Sort(names)
	return names
}

// servers are the servers in the room, and how many members each has, as they are stored.
func (v *view) servers() map[string]int64 {
	rows, err := v.server.now.db.ServersIn(context.Background(), v.row.Number)
	if err != nil {
		v.server.world.t.Fatal(err)
	}
	servers := map[string]int64{}
	for _, row := range rows {
		servers[row.Server] = row.Members
	}
	return servers
}

// check holds what the servers have against what has to be.
func (w *world) check() {
	for _, r := range w.rooms {
		views := w.residents(r)
		if len(views) == 0 {
			continue
		}
		parts := islands(views)
		w.noteApart(r, parts)
		for _, v := range views {
			w.checkCurrent(r, v)
			w.checkCounts(r, v)
			w.checkExtremities(r, v)
		}
		for _, island := range parts {
			w.checkAcknowledged(r, island)
		}
		w.checkVerdicts(r, views)
		w.checkSaid(r, views)
		w.checkRedactions(r, views)
	}
}

// checkCurrent holds the current state as it is looked up against that in the history.
func (w *world) checkCurrent(r *room, v *view) {
	states, err := v.server.now.rooms.StatesAt(context.Background(), []int64{v.row.State})
	if err != nil {
		w.t.Fatal(err)
	}
	packed := map[string]string{}
	for _, pos := range states[v.row.State] {
		if e := v.events[v.ids[pos]]; e != nil {
			packed[e.Type+" "+*e.StateKey] = e.ID
		}
	}
	if diff := cmp.Diff(packed, v.state); diff != "" {
		w.violated("%s: the current state of %s (-in the history +looked up):\n%s", v.server.name, r.id, diff)
	}
}

// checkCounts counts the members again.
func (w *world) checkCounts(r *room, v *view) {
	joined, invited, servers := int64(0), int64(0), map[string]int64{}
	for name, id := range v.state {
		e := v.events[id]
		if e == nil || e.Type+" "+*e.StateKey != name {
			w.violated("%s: the state of %s has %s for %s", v.server.name, r.id, id, name)
			continue
		}
		if e.Type != "m.room.member" {
			continue
		}
		switch e.Membership() {
		case "join":
			joined++
			servers[matrix.ServerOf(*e.StateKey)]++
		case "invite":
			invited++
		}
	}
	if v.row.Joined != joined || v.row.Invited != invited {
		w.violated("%s counts %d joined and %d invited in %s, not %d and %d", v.server.name, v.row.Joined, v.row.Invited, r.id, joined, invited)
	}
	if diff := cmp.Diff(servers, v.servers()); diff != "" {
		w.violated("%s counts the members of the servers in %s wrongly (-want +got):\n%s", v.server.name, r.id, diff)
	}
	if v.row.Resident != (servers[v.server.name] > 0) {
		w.violated("%s: resident in %s is %v", v.server.name, r.id, v.row.Resident)
	}
}

func (w *world) checkExtremities(r *room, v *view) {
	if len(v.row.Extremities) != 1 {
		w.violated("%s: %s ends in %d events", v.server.name, r.id, len(v.row.Extremities))
	}
}

func placed(e *storage.Event) bool {
	return e != nil && (e.Status == storage.Accepted || e.Status == storage.SoftFailed || e.Status == storage.Rejected)
}

// checkVerdicts holds the servers to the same verdicts, and the same states before the events.
func (w *world) checkVerdicts(r *room, views []*view) {
	type finding struct {
		by       *view
		rejected bool
		before   []string
	}
	first := map[string]finding{}
	for _, v := range views {
		states := v.statesBefore()
		for id, e := range v.events {
			if !placed(e) || e.StateBefore == 0 {
				continue
			}
			found := finding{v, e.Status == storage.Rejected, states[e.StateBefore]}
			one, known := first[id]
			if !known {
				first[id] = found
				continue
			}
			if one.rejected != found.rejected {
				w.violated("%s: rejected at %s is %v, at %s %v", id, one.by.server.name, one.rejected, v.server.name, found.rejected)
			}
			if !slices.Equal(one.before, found.before) {
				w.violated("the state before %s: (-%s +%s)\n%s", id, one.by.server.name, v.server.name, cmp.Diff(one.before, found.before))
			}
		}
	}
}

// statesBefore are the states before the events, as type, key and id of each event, by id.
func (v *view) statesBefore() map[int64][]string {
	ids := map[int64]bool{}
	for _, e := range v.events {
		if placed(e) && e.StateBefore != 0 {
			ids[e.StateBefore] = true
		}
	}
	states, err := v.server.now.rooms.StatesAt(context.Background(), slices.Collect(maps.Keys(ids)))
	if err != nil {
		v.server.world.t.Fatal(err)
	}
	texts := map[int64][]string{}
	for id, positions := range states {
		var names []string
		for _, pos := range positions {
			e := v.events[v.ids[pos]]
			if e == nil {
				names = append(names, fmt.Sprint("unknown position ", pos))
				continue
			}
			names = append(names, fmt.Sprintf("%s %q %s", e.Type, *e.StateKey, e.ID))
		}
		slices.Sort(names)
		texts[id] = names
	}
	return texts
}

// checkAcknowledged looks for what was stored for somebody: at the server itself it is in
// the timeline, and every server that was in the room all the time knows it, if it was
// sent there or one of the others has accepted it. One that is refused by all others does not
// come to a server that its own did not know of.
func (w *world) checkAcknowledged(r *room, views []*view) {
	for _, id := range slices.Sorted(maps.Keys(w.acks)) {
		a := w.acks[id]
		if a.room != r.id {
			continue
		}
		if e, err := a.from.now.db.EventByID(context.Background(), id); err != nil || e.Status != storage.Accepted && e.Status != storage.OutOfBand {
			w.violated("%s has lost its own %s: %v", a.from.name, id, err)
		}
		accepted := slices.ContainsFunc(views, func(v *view) bool {
			e := v.events[id]
			return v.server != a.from && e != nil && e.Status == storage.Accepted && a.present[v.server.name] == v.server.since(r.id)
		})
		for _, v := range views {
			since, present := a.present[v.server.name]
			if !present || since != v.server.since(r.id) || !accepted && !slices.Contains(a.sent, v.server.name) {
				continue
			}
			if e := v.events[id]; !placed(e) {
				w.violated("%s, which was there, does not know %s of %s", v.server.name, id, a.from.name)
			}
		}
	}
}

// checkSaid looks for messages that became two events.
func (w *world) checkSaid(r *room, views []*view) {
	said := map[string]string{}
	for _, v := range views {
		for id, e := range v.events {
			if body := e.ContentString("body"); e.Type == "m.room.message" && body != "" {
				if said[body] != "" && said[body] != id {
					w.violated("%q is both %s and %s", body, said[body], id)
				}
				said[body] = id
			}
		}
	}
}

// checkRedactions holds the servers to have pruned what was redacted. What was pruned
// before it came, as the server may not see it, has no redaction.
func (w *world) checkRedactions(r *room, views []*view) {
	for _, v := range views {
		for id, e := range v.events {
			target := v.events[e.Redacts]
			if e.Status != storage.Accepted || e.Redacts == "" || !placed(target) || matrix.ServerOf(target.Sender) != matrix.ServerOf(e.Sender) {
				continue
			}
			if pruned := target.Version.Redact(target.JSON); string(pruned) != string(target.JSON) {
				w.violated("%s has %s, which %s redacts, whole: %s", v.server.name, target.ID, id, target.JSON)
			}
		}
	}
}
