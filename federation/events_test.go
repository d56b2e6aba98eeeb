package federation_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
)

// found are the events of an answer.
type found struct {
	PDUs      []json.RawMessage `json:"pdus"`
	AuthChain []json.RawMessage `json:"auth_chain"`
	Events    []json.RawMessage `json:"events"`
	StateIDs  []string          `json:"pdu_ids"`
	ChainIDs  []string          `json:"auth_chain_ids"`
}

// ids are those of events, which have to be whole.
func ids(t testing.TB, v matrix.RoomVersion, raws []json.RawMessage) []string {
	t.Helper()
	all := []string{}
	for _, raw := range raws {
		e, err := matrix.Parse(v, raw)
		if err != nil || !e.HashMatches() {
			t.Fatalf("%s: %v", raw, err)
		}
		all = append(all, e.ID)
	}
	slices.Sort(all)
	return all
}

// TestRoomReads: what a server that is in a room gets of it, in every version.
func TestRoomReads(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		for _, v := range matrix.RoomVersions() {
			roomID := s.create(roomserver.RoomDraft{Preset: "public_chat", Version: v})
			join := p.join(roomID, p.user("bob"))
			first, second := s.say(roomID, "first"), s.say(roomID, "second")
			get := func(path string, query url.Values, segments ...string) (f found) {
				a := p.get(path, query, segments...)
				if a.status != 200 {
					s.t.Fatalf("version %s: %s: %v", v, path, a)
				}
				a.into(s.t, &f)
				return f
			}
			if got := ids(s.t, v, get("/event", nil, first).PDUs); cmp.Diff([]string{first}, got) != "" {
				s.t.Errorf("version %s: event: %v", v, got)
			}
			state, stateIDs := get("/state", url.Values{"event_id": {first}}, roomID), get("/state_ids", url.Values{"event_id": {first}}, roomID)
			slices.Sort(stateIDs.StateIDs)
			slices.Sort(stateIDs.ChainIDs)
			if diff := cmp.Diff(stateIDs.StateIDs, ids(s.t, v, state.PDUs)); diff != "" || !slices.Contains(stateIDs.StateIDs, join.ID) {
				s.t.Errorf("version %s: state (-ids +events):\n%s", v, diff)
			}
			if diff := cmp.Diff(stateIDs.ChainIDs, ids(s.t, v, state.AuthChain)); diff != "" || len(stateIDs.ChainIDs) < 3 {
				s.t.Errorf("version %s: auth chain (-ids +events):\n%s", v, diff)
			}
			if auth := get("/event_auth", nil, roomID, second); len(auth.AuthChain) < 3 {
				s.t.Errorf("version %s: event_auth %v", v, ids(s.t, v, auth.AuthChain))
			}
			want := []string{first, second}
			slices.Sort(want)
			if got := ids(s.t, v, get("/backfill", url.Values{"v": {second}, "limit": {"2"}}, roomID).PDUs); cmp.Diff(want, got) != "" {
				s.t.Errorf("version %s: backfill %v", v, got)
			}
			var missing found
			p.ask(http.MethodPost, target(v1+"/get_missing_events", roomID), map[string]any{"latest_events": []string{second}, "earliest_events": []string{join.ID}}).into(s.t, &missing)
			if got := ids(s.t, v, missing.Events); cmp.Diff([]string{first}, got) != "" {
				s.t.Errorf("version %s: missing events %v", v, got)
			}
			var at struct {
				EventID string `json:"event_id"`
			}
			p.get("/timestamp_to_event", url.Values{"ts": {"9000000000000"}, "dir": {"b"}}, roomID).into(s.t, &at)
			if at.EventID != second {
				s.t.Errorf("version %s: timestamp_to_event %s", v, at.EventID)
			}
		}
	})
}

// TestLargeState is sent in pieces, and is whole.
func TestLargeState(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		p.join(roomID, p.user("bob"))
		for i := range 450 {
			key := fmt.Sprint("k", i)
			_, err := s.rooms.SendState(s.t.Context(), roomID, roomserver.Draft{Type: "x", StateKey: &key, Sender: alice, Content: json.RawMessage(`{}`)})
			s.check(err)
		}
		var f found
		p.get("/state", url.Values{"event_id": {s.say(roomID, "x")}}, roomID).into(s.t, &f)
		if n := len(slices.Compact(ids(s.t, "12", f.PDUs))); n < 455 {
			s.t.Errorf("%d events", n)
		}
	})
}

// TestRoomReadsRefused: who is not in the room gets nothing, and neither does who asks
// wrongly (F34, F35, F36).
func TestRoomReadsRefused(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		member, left, denied, stranger := s.newPeer(1), s.newPeer(2), s.newPeer(3), s.newPeer(4)
		roomID := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		for _, p := range []*peer{member, left, denied} {
			p.join(roomID, p.user("bob"))
		}
		left.leave(roomID, left.user("bob"))
		id := s.say(roomID, "secret")
		ask := map[string]func(p *peer) answer{
			"event":     func(p *peer) answer { return p.get("/event", nil, id) },
			"state":     func(p *peer) answer { return p.get("/state", url.Values{"event_id": {id}}, roomID) },
			"state_ids": func(p *peer) answer { return p.get("/state_ids", url.Values{"event_id": {id}}, roomID) },
			"auth":      func(p *peer) answer { return p.get("/event_auth", nil, roomID, id) },
			"backfill":  func(p *peer) answer { return p.get("/backfill", url.Values{"v": {id}, "limit": {"10"}}, roomID) },
			"missing": func(p *peer) answer {
				return p.ask(http.MethodPost, target(v1+"/get_missing_events", roomID), map[string]any{"latest_events": []string{id}, "earliest_events": []string{}})
			},
			"time": func(p *peer) answer {
				return p.get("/timestamp_to_event", url.Values{"ts": {"0"}, "dir": {"f"}}, roomID)
			},
		}
		expect := func(p *peer, who string, status int) {
			s.t.Helper()
			for name, request := range ask {
				if a := request(p); a.status != status || status == 403 && a.errcode() != "M_FORBIDDEN" {
					s.t.Errorf("%s to %s: %v", name, who, a)
				}
			}
		}
		expect(member, "a member", 200)
		expect(left, "one that has left", 403)
		expect(stranger, "a stranger", 403)
		s.setState(roomID, "m.room.server_acl", `{"allow":["*"],"deny":["`+"127.0.0.?"+`"]}`)
		expect(denied, "one that is denied", 403)
		s.setState(roomID, "m.room.server_acl", `{"allow":["*"]}`)
		empty := ""
		refused := member.event(roomID, member.user("bob"), "m.room.topic", &empty, `{"topic":"x"}`)
		member.tell("t", jsonOf(refused))
		member.lax = true
		for name, a := range map[string]answer{
			"404 event":         member.get("/event", nil, "$unknown"),
			"404 refused event": member.get("/event", nil, refused.ID),
			"404 state":         member.get("/state", url.Values{"event_id": {refused.ID}}, roomID),
			"404 state_ids":     member.get("/state_ids", url.Values{"event_id": {"$unknown"}}, roomID),
			"404 auth":          member.get("/event_auth", nil, roomID, refused.ID),
			"404 time":          member.get("/timestamp_to_event", url.Values{"ts": {"9000000000000"}, "dir": {"f"}}, roomID),
			"400 no event":      member.get("/state", nil, roomID),
			"400 no v":          member.get("/backfill", url.Values{"limit": {"10"}}, roomID),
			"400 no limit":      member.get("/backfill", url.Values{"v": {id}}, roomID),
			"400 limit":         member.get("/backfill", url.Values{"v": {id}, "limit": {"0"}}, roomID),
			"400 limit text":    member.get("/backfill", url.Values{"v": {id}, "limit": {"x"}}, roomID),
			"400 direction":     member.get("/timestamp_to_event", url.Values{"ts": {"0"}, "dir": {"x"}}, roomID),
			"400 NUL":           member.get("/event", nil, "$\x00"),
			"400 latest":        member.ask(http.MethodPost, target(v1+"/get_missing_events", roomID), map[string]any{"latest_events": "x"}),
			"405 method":        member.ask(http.MethodPost, target(v1+"/event", id), map[string]any{}),
		} {
			if fmt.Sprint(a.status) != name[:3] {
				s.t.Errorf("%s: %v", name, a)
			}
		}
		if a := member.get("/backfill", url.Values{"v": {"$unknown"}, "limit": {"10"}}, roomID); a.status != 200 {
			s.t.Errorf("backfill from what is not known: %v", a)
		}
	})
}

// TestRoomReadsStayInTheRoom: who is in one room reads no other through it, whatever ids it
// names, and does not even learn that there are such events (F55b, F55c).
func TestRoomReadsStayInTheRoom(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1).unchecked()
		open, secret := s.create(roomserver.RoomDraft{Preset: "public_chat"}), s.create(roomserver.RoomDraft{Preset: "private_chat"})
		join := p.join(open, p.user("bob"))
		first := s.say(open, "first")
		before := s.say(secret, "before")
		hidden := s.say(secret, "hidden")
		last := s.say(open, "last")
		missing := func(latest, earliest []string) []string {
			a := p.ask(http.MethodPost, target(v1+"/get_missing_events", open), map[string]any{"latest_events": latest, "earliest_events": earliest, "limit": 20})
			if a.status != 200 {
				s.t.Fatalf("from %v to %v: %v", earliest, latest, a)
			}
			var f found
			a.into(s.t, &f)
			return ids(s.t, "12", f.Events)
		}
		for _, earliest := range [][]string{{first}, {before}, {"$unknown"}, {}} {
			if got := missing([]string{hidden}, earliest); len(got) != 0 {
				s.t.Errorf("before an event of the other room, from %v: %v", earliest, got)
			}
		}
		for name, got := range map[string][]string{
			"beside an event of the other room":          missing([]string{last, hidden}, []string{join.ID}),
			"with an event of the other room as the end": missing([]string{last}, []string{join.ID, before}),
		} {
			if diff := cmp.Diff([]string{first}, got); diff != "" {
				s.t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		var f found
		p.get("/backfill", url.Values{"v": {hidden}, "limit": {"10"}}, open).into(s.t, &f)
		if len(f.PDUs) != 0 {
			s.t.Errorf("backfill: %s", f.PDUs)
		}
		for name, ask := range map[string]func(id string) answer{
			"event_auth": func(id string) answer { return p.get("/event_auth", nil, open, id) },
			"state":      func(id string) answer { return p.get("/state", url.Values{"event_id": {id}}, open) },
			"state_ids":  func(id string) answer { return p.get("/state_ids", url.Values{"event_id": {id}}, open) },
		} {
			got, unknown := ask(hidden), ask("$unknown")
			if got.status != 404 || got.errcode() != "M_NOT_FOUND" || string(got.body) != string(unknown.body) {
				s.t.Errorf("%s: %v, of an unknown event: %v", name, got, unknown)
			}
			if a := ask(last); a.status != 200 || len(a.body) < 100 {
				s.t.Errorf("%s of an event of the room: %v", name, a)
			}
		}
		if a := p.get("/event", nil, hidden); a.status != 403 {
			s.t.Errorf("the event itself: %v", a)
		}
	})
}
