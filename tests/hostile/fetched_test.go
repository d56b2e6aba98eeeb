package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

const (
	missingPattern  = "POST " + V1 + "/get_missing_events/{room}"
	backfillPattern = "GET " + V1 + "/backfill/{room}"
	authPattern     = "GET " + V1 + "/event_auth/{room}/{event}"
	stateIDsPattern = "GET " + V1 + "/state_ids/{room}"
	statePattern    = "GET " + V1 + "/state/{room}"
	eventPattern    = "GET " + V1 + "/event/{event}"
)

// forgeries are events that nobody may take for those of a room: of its users, and badly
// signed, or signed well, and of others.
func forgeries(s, other *Server, room *Room, bob, alice string) map[string]*Forged {
	draft := func(sender string) harness.Object {
		return Fields(s.t, s.Build(room.Draft(sender, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": "forged"})))
	}
	stranger := NewSigner(s.t, s.Name)
	elsewhere := draft(bob)
	elsewhere["room_id"] = s.NewRoom(room.Version).ID
	changed := s.Forge(room.Version, draft(bob))
	broken := ForgeBy(s, room.Version, draft(bob), s.Signer)
	broken.JSON = json.RawMessage(string(broken.JSON[:len(broken.JSON)-1]) + `,"signatures":{}}`)
	all := map[string]*Forged{
		"not signed":                 ForgeBy(s, room.Version, draft(bob)),
		"signed with an unknown key": ForgeBy(s, room.Version, draft(bob), stranger),
		"a local user's":             s.Forge(room.Version, draft(alice)),
		"a third server's user's":    s.Forge(room.Version, draft(other.User("carol"))),
		"another room's":             s.Forge(room.Version, elsewhere),
	}
	text := harness.Object{}
	if parsed, err := harness.ParseJSON(changed.JSON); err == nil {
		text = parsed.Value().(harness.Object)
	}
	for _, keys := range text["signatures"].(harness.Object) {
		for id := range keys.(harness.Object) {
			keys.(harness.Object)[id] = "AAAA"
		}
	}
	all["signed with nonsense"] = &Forged{ID: changed.ID, JSON: jsonOf(s.t, text)}
	return all
}

// What comes in an answer is judged like what is sent: forged events between two others, in the
// past, in a state or among those that authorise, are dropped, and those beside them are not
// (F20, F03).
func TestForgedEventsInAnswers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s, other := New(t, victim), New(t, victim)
	bob := s.User("bob")
	for _, v := range []string{"2", "6", "12"} {
		room := publicRoom(alice, s, v, bob)
		for what, forged := range forgeries(s, other, room, bob, alice.UserID) {
			// Between two events: the one that was missed is good, the other is forged.
			missed := room.Say(bob, "missed before "+what)
			s.Change(missingPattern, func(_ *http.Request, a harness.Object) {
				a["events"] = append(harness.List{forged.JSON, "$x", nil}, a["events"].(harness.List)...)
			})
			after := room.Say(bob, "after "+what)
			if refused := s.Send(after); len(refused) != 0 {
				t.Errorf("version %s, %s: %v", v, what, refused)
			}
			shown(t, alice, room.ID, missed.ID, what)
			hidden(t, alice, room.ID, forged.ID, what)

			// The forged event is the one that is missing, so that what follows it has no place.
			orphan := room.Draft(bob, "m.room.message", nil, harness.Object{"body": "orphan"})
			orphan.PrevEvents = []matrix.Reference{{ID: forged.ID}}
			child := s.Build(orphan)
			s.Answer(missingPattern, 200, harness.Object{"events": harness.List{forged.JSON}})
			s.Send(child)
			hidden(t, alice, room.ID, forged.ID, "missing, "+what)

			// It is what an event is authorised by.
			unfounded := room.Draft(bob, "m.room.message", nil, harness.Object{"body": "unfounded"})
			unfounded.AuthEvents = append(unfounded.AuthEvents, matrix.Reference{ID: forged.ID})
			s.Answer(authPattern, 200, harness.Object{"auth_chain": harness.List{forged.JSON}})
			e := s.Build(unfounded)
			s.Send(e)
			hidden(t, alice, room.ID, e.ID, "authorised by one "+what)
			hidden(t, alice, room.ID, forged.ID, "authorising, "+what)
			s.Handle(missingPattern, nil)
			s.Handle(authPattern, nil)
		}
		usable(t, alice, s, room.ID)
	}
}

// Forged events do not come into the past of a room either (F20).
func TestForgedEventsInThePast(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, other := New(t, victim), New(t, victim)
	for _, v := range []matrix.RoomVersion{"2", "6", "12"} {
		alice := victim.Register(t, "alice")
		room := s.NewRoom(v)
		first := room.Say(s.Mallory(), "first")
		forged := forgeries(s, other, room, s.Mallory(), alice.UserID)
		for i := range 5 {
			room.Say(s.Mallory(), fmt.Sprint(i))
		}
		s.Change(backfillPattern, func(_ *http.Request, a harness.Object) {
			for _, e := range forged {
				a["pdus"] = append(harness.List{e.JSON, "$x"}, a["pdus"].(harness.List)...)
			}
		})
		join(alice, room.ID, s.Name).OK()
		past := alice.History(room.ID)
		if len(s.Asked("/backfill/")) == 0 || !slices.ContainsFunc(past, func(e harness.JSON) bool { return e.At("event_id").Str() == first.ID }) {
			t.Errorf("version %s: the past is not there: %v", v, past)
		}
		for what, e := range forged {
			hidden(t, alice, room.ID, e.ID, what)
			for _, shown := range past {
				if shown.At("content", "body").Str() == "forged" {
					t.Errorf("version %s: the past has %v", v, shown)
				}
			}
		}
	}
}

// gap sends an event behind a gap whose beginning the hostile server does not tell, so that it is
// asked for the state there. It gives what it says to be the state.
func gap(t *testing.T, s *Server, room *Room, bob string, claim func(state []*matrix.Event) (state2, chain []*matrix.Event)) (last *matrix.Event) {
	t.Helper()
	var missed []*matrix.Event
	for i := range 15 {
		missed = append(missed, room.Say(bob, fmt.Sprint(i)))
	}
	known := map[string]bool{missed[0].ID: true}
	s.Change(missingPattern, func(_ *http.Request, a harness.Object) {
		replaced(a, "events", func(e harness.Object) any {
			if parsed, err := matrix.Parse(room.Version, jsonOf(t, e)); err != nil || known[parsed.ID] {
				return nil
			}
			return e
		})
	})
	answer := func(r *http.Request) (state, chain []*matrix.Event) {
		return claim(room.stateBefore(r))
	}
	s.Change(stateIDsPattern, func(r *http.Request, a harness.Object) {
		state, chain := answer(r)
		a["pdu_ids"], a["auth_chain_ids"] = IDs(state), IDs(chain)
	})
	s.Change(statePattern, func(r *http.Request, a harness.Object) {
		state, chain := answer(r)
		a["pdus"], a["auth_chain"] = RawEvents(state), RawEvents(chain)
	})
	defer func() {
		s.Handle(missingPattern, nil)
		s.Handle(stateIDsPattern, nil)
		s.Handle(statePattern, nil)
	}()
	last = room.Say(bob, "after the gap")
	before := len(s.Asked("/state_ids/"))
	s.Send(last)
	if len(s.Asked("/state_ids/")) == before {
		t.Fatalf("nobody has asked for the state: %v", s.Asked("GET "))
	}
	return last
}

// A server that says of the state at a gap that there was less of it, or something else, does
// not change the room's state by that: the create event, the power levels and whatever else
// others know stay (F12, F19, F20).
func TestStateOfAGapWithoutTheRest(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice, carol := victim.Register(t, "alice"), victim.Register(t, "carol")
		s := New(t, victim)
		bob, empty := s.User("bob"), ""
		only := func(types ...string) func(state []*matrix.Event) (state2, chain []*matrix.Event) {
			return func(state []*matrix.Event) (kept, _ []*matrix.Event) {
				for _, e := range state {
					if slices.Contains(types, e.Type) {
						kept = append(kept, e)
					}
				}
				return kept, nil
			}
		}
		for _, v := range []string{"1", "6", "12"} {
			for what, claim := range map[string]func(*Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event){
				"nothing": func(*Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event) { return only() },
				"no create event": func(*Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
					return only("m.room.member", "m.room.power_levels")
				},
				"the create event and members": func(*Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
					return only("m.room.create", "m.room.member")
				},
				"levels that nobody has signed": func(room *Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
					levels := Fields(t, s.Build(room.Draft(bob, "m.room.power_levels", &empty, harness.Object{"users": harness.Object{bob: 100}})))
					levels["sender"] = alice.UserID
					forged, err := matrix.Parse(room.Version, s.Forge(room.Version, levels).JSON)
					if err != nil {
						t.Fatal(err)
					}
					room.mu.Lock()
					room.events[forged.ID] = forged
					room.mu.Unlock()
					return func(state []*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
						for i, e := range state {
							if e.Type == "m.room.power_levels" {
								state = append(slices.Delete(slices.Clone(state), i, i+1), forged)
							}
						}
						return state, room.AuthChain(state...)
					}
				},
				"levels that were refused": func(room *Room) func([]*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
					refused := s.Build(room.Draft(bob, "m.room.power_levels", &empty, harness.Object{"users": harness.Object{bob: 100}}))
					s.Send(refused)
					room.mu.Lock()
					room.events[refused.ID] = refused
					room.mu.Unlock()
					return func(state []*matrix.Event) ([]*matrix.Event, []*matrix.Event) {
						for i, e := range state {
							if e.Type == "m.room.power_levels" {
								state = append(slices.Delete(slices.Clone(state), i, i+1), refused)
							}
						}
						return state, room.AuthChain(state...)
					}
				},
			} {
				room := publicRoom(alice, s, v, bob)
				carol.Join(room.ID)
				alice.SetState(room.ID, "m.room.topic", "", harness.Object{"topic": "hers"}).OK()
				s.AwaitEvent(alice.Text(room.ID, "before"))
				before := stateIDs(alice, room.ID)
				last := gap(t, s, room, bob, claim(room))
				shownOrNot := sees(alice, room.ID, last.ID) // either is right
				alice.Text(room.ID, "after")
				for name, id := range stateIDs(alice, room.ID) {
					if before[name] != id {
						t.Errorf("version %s, %s (shown: %v): %s is %s, was %s", v, what, shownOrNot, name, id, before[name])
					}
					delete(before, name)
				}
				if len(before) != 0 {
					t.Errorf("version %s, %s: the state has lost %v", v, what, before)
				}
				carol.Text(room.ID, "and she too")
				alice.SetState(room.ID, "m.room.topic", "", harness.Object{"topic": "still hers"}).OK()
			}
		}
	})
}

// An answer about what authorises an event has nothing of consequence but that: what was not
// asked for is not kept, and is no state (F27).
func TestAuthEventsNobodyAskedFor(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob, carol := s.User("bob"), s.User("carol")
	for _, v := range []string{"1", "6", "12"} {
		room := publicRoom(alice, s, v, bob)
		before := stateIDs(alice, room.ID)
		// A profile of bob that nobody has been sent authorises what he says, and is asked for.
		profile := s.Build(room.Draft(bob, "m.room.member", &bob, harness.Object{"membership": "join", "displayname": "Bob"}))
		stray := s.Build(room.Draft(carol, "m.room.member", &carol, harness.Object{"membership": "join"}))
		cite := func(e *matrix.Event) *matrix.Event {
			p := room.Draft(*e.StateKey, "m.room.message", nil, harness.Object{"body": "x"})
			p.AuthEvents = slices.DeleteFunc(p.AuthEvents, func(r matrix.Reference) bool { return r.ID == room.State().Get("m.room.member", bob).ID })
			p.AuthEvents = append(p.AuthEvents, e.Reference())
			return s.Build(p)
		}
		answers := func(more ...*matrix.Event) {
			s.Change(authPattern, func(_ *http.Request, a harness.Object) {
				a["auth_chain"] = RawEvents(append(more, append(room.AuthChain(profile), profile)...))
			})
		}
		answers(stray)
		asked := len(s.Asked("/event_auth/"))
		s.Send(cite(profile))
		if len(s.Asked("/event_auth/")) != asked+1 {
			t.Fatalf("version %s: nobody has asked what authorises the event", v)
		}
		after := stateIDs(alice, room.ID)
		for name, id := range after {
			if before[name] != id {
				t.Errorf("version %s: %s is %s, was %s", v, name, id, before[name])
			}
		}
		// Had it been kept, it would not be asked for.
		answers()
		s.Send(cite(profile))
		if len(s.Asked("/event_auth/")) != asked+1 {
			t.Errorf("version %s: what was asked for is asked for again", v)
		}
		e := cite(stray)
		s.Send(e)
		if len(s.Asked("/event_auth/")) != asked+2 {
			t.Errorf("version %s: what nobody asked for was kept", v)
		}
		hidden(t, alice, room.ID, e.ID, "authorised by what is not known")
		usable(t, alice, s, room.ID)
	}
}

// What a room's rules have refused stays refused, whoever refers to it: as what authorises an
// event, as what it follows, as part of a state. The room goes on (F19).
func TestRefusedEventsStayRefused(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice := victim.Register(t, "alice")
		s := New(t, victim)
		bob, empty := s.User("bob"), ""
		for _, v := range []string{"1", "6", "11", "12"} {
			room := publicRoom(alice, s, v, bob)
			before := stateIDs(alice, room.ID)
			levels := s.Build(room.Draft(bob, "m.room.power_levels", &empty, harness.Object{"users": harness.Object{bob: 100}}))
			s.Send(levels)
			hidden(t, alice, room.ID, levels.ID, "levels that bob may not set")
			// The rules would let him set a topic, by these levels.
			p := room.Draft(bob, "m.room.topic", &empty, harness.Object{"topic": "mine"})
			p.AuthEvents = slices.DeleteFunc(p.AuthEvents, func(r matrix.Reference) bool { return r.ID == room.State().Get("m.room.power_levels", "").ID })
			p.AuthEvents = append(p.AuthEvents, levels.Reference())
			topic := s.Build(p)
			p.PrevEvents = []matrix.Reference{levels.Reference()}
			p.Depth++
			behind := s.Build(p)
			s.Send(topic, behind)
			hidden(t, alice, room.ID, topic.ID, "a topic by refused levels")
			hidden(t, alice, room.ID, behind.ID, "a topic by refused levels, after them")
			// He may still speak, also after what was refused.
			p = room.Draft(bob, "m.room.message", nil, harness.Object{"body": "x", "msgtype": "m.text"})
			p.PrevEvents = []matrix.Reference{behind.Reference()}
			p.Depth += 2
			after := s.Build(p)
			if refused := s.Send(after); len(refused) != 0 {
				t.Errorf("version %s: a message after what was refused: %v", v, refused)
			}
			shown(t, alice, room.ID, after.ID, "a message after what was refused")
			for name, id := range stateIDs(alice, room.ID) {
				if before[name] != id {
					t.Errorf("version %s: %s is %s, was %s", v, name, id, before[name])
				}
			}
			s.Send(levels, topic, behind) // again
			hidden(t, alice, room.ID, levels.ID, "levels that bob may not set, again")
			usable(t, alice, s, room.ID)
		}
	})
}
