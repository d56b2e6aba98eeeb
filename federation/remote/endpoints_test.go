package remote

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
)

// scripted is a peer that answers every request with the text of the moment and remembers
// what it was asked.
type scripted struct {
	*peer
	mu     sync.Mutex
	status []int
	text   []string
	asked  []string
}

func newScripted(t testing.TB, w *world) *scripted {
	s := &scripted{peer: w.newPeer(t, "peer.test")}
	s.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+string(body)))
		status, text := s.status[0], s.text[0]
		if len(s.status) > 1 {
			s.status, s.text = s.status[1:], s.text[1:]
		}
		rw.WriteHeader(status)
		io.WriteString(rw, text)
	})
	return s
}

// says sets the answers that follow; the last one stays.
func (s *scripted) says(answers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.text, s.asked = nil, nil, nil
	for _, answer := range answers {
		status := http.StatusOK
		if code, rest, ok := strings.Cut(answer, " "); ok && len(code) == 3 && code[0] >= '2' && code[0] <= '5' {
			fmt.Sscan(code, &status)
			answer = rest
		}
		s.status, s.text = append(s.status, status), append(s.text, answer)
	}
}

func raw(texts ...string) []stdjson.RawMessage {
	list := []stdjson.RawMessage{}
	for _, text := range texts {
		list = append(list, stdjson.RawMessage(text))
	}
	return list
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScripted(t, w)
	c, server := w.client, s.name
	const text = `{"type":"m.room.member"}`
	event := &matrix.Event{RoomID: "!r", ID: "$e", JSON: []byte(text)}
	user := "@u:" + server
	userPath := "/@u:" + server
	mspace := "m.space"
	for _, e := range []struct {
		name   string
		call   func(context.Context) (any, error)
		asked  string
		answer string
		want   any
	}{
		{"make_join", func(ctx context.Context) (any, error) {
			return c.MakeMember(ctx, server, "join", "!r:x.test", "@u:us.test", []matrix.RoomVersion{"1", "12"})
		}, "GET /_matrix/federation/v1/make_join/%21r:x.test/@u:us.test?ver=1&ver=12",
			`{"room_version":"12","event":{"type":"m.room.member"}}`, &roomserver.Template{Version: "12", Event: stdjson.RawMessage(text)}},
		{"make_knock", func(ctx context.Context) (any, error) {
			return c.MakeMember(ctx, server, "knock", "!r", "@u:us.test", []matrix.RoomVersion{"7"})
		}, "GET /_matrix/federation/v1/make_knock/%21r/@u:us.test?ver=7", `{"event":{},"room_version":"7"}`, &roomserver.Template{Version: "7", Event: stdjson.RawMessage(`{}`)}},
		{"make_leave", func(ctx context.Context) (any, error) {
			return c.MakeMember(ctx, server, "leave", "!r", "@u:us.test", []matrix.RoomVersion{"7"})
		}, "GET /_matrix/federation/v1/make_leave/%21r/@u:us.test", `{"event":{}}`, &roomserver.Template{Version: "1", Event: stdjson.RawMessage(`{}`)}},
		{"send_join", func(ctx context.Context) (any, error) { return c.SendJoin(ctx, server, event, true) },
			"PUT /_matrix/federation/v2/send_join/%21r/$e?omit_members=true " + text,
			`{"state":[{"a":1}],"auth_chain":[{"b":1.5,"b":2}],"event":{"c":1},"members_omitted":true,"servers_in_room":["x.test","x.test","not one",""]}`,
			&roomserver.SendJoinAnswer{State: raw(`{"a":1}`), AuthChain: raw(`{"b":1.5,"b":2}`), Event: stdjson.RawMessage(`{"c":1}`), MembersOmitted: true, Servers: []string{"x.test"}}},
		{"send_join, whole", func(ctx context.Context) (any, error) { return c.SendJoin(ctx, server, event, false) },
			"PUT /_matrix/federation/v2/send_join/%21r/$e?omit_members=false " + text,
			`{"state":[],"auth_chain":[],"event":null,"servers_in_room":["x.test"]}`, &roomserver.SendJoinAnswer{State: raw(), AuthChain: raw()}},
		{"send_leave", func(ctx context.Context) (any, error) { return nil, c.SendLeave(ctx, server, event) },
			"PUT /_matrix/federation/v2/send_leave/%21r/$e " + text, `{}`, nil},
		{"send_knock", func(ctx context.Context) (any, error) { return c.SendKnock(ctx, server, event) },
			"PUT /_matrix/federation/v1/send_knock/%21r/$e " + text, `{"knock_room_state":[{"a":1}]}`, raw(`{"a":1}`)},
		{"exchange_third_party_invite", func(ctx context.Context) (any, error) {
			return nil, c.ExchangeThirdPartyInvite(ctx, server, "!r", []byte(text))
		}, "PUT /_matrix/federation/v1/exchange_third_party_invite/%21r " + text, `{}`, nil},
		{"backfill", func(ctx context.Context) (any, error) { return c.Backfill(ctx, server, "!r", []string{"$a", "$b"}, 2) },
			"GET /_matrix/federation/v1/backfill/%21r?limit=2&v=%24a&v=%24b", `{"pdus":[{"a":1},{"a":2},{"a":3}]}`, raw(`{"a":1}`, `{"a":2}`)},
		{"get_missing_events", func(ctx context.Context) (any, error) {
			return c.MissingEvents(ctx, server, "!r", nil, []string{"$l"}, 1)
		}, `POST /_matrix/federation/v1/get_missing_events/%21r {"earliest_events":[],"latest_events":["$l"],"limit":1}`,
			`{"events":[{"a":1},5]}`, raw(`{"a":1}`)},
		{"state", func(ctx context.Context) (any, error) {
			state, auth, err := c.State(ctx, server, "!r", "$e")
			return [][]stdjson.RawMessage{state, auth}, err
		}, "GET /_matrix/federation/v1/state/%21r?event_id=%24e", `{"pdus":[{}],"auth_chain":[]}`, [][]stdjson.RawMessage{raw(`{}`), raw()}},
		{"state_ids", func(ctx context.Context) (any, error) {
			state, auth, err := c.StateIDs(ctx, server, "!r", "$e")
			return [][]string{state, auth}, err
		}, "GET /_matrix/federation/v1/state_ids/%21r?event_id=%24e", `{"pdu_ids":["$a"],"auth_chain_ids":["$b"]}`, [][]string{{"$a"}, {"$b"}}},
		{"event", func(ctx context.Context) (any, error) { return c.Event(ctx, server, "$e/x") },
			"GET /_matrix/federation/v1/event/$e%2Fx", `{"origin":5,"pdus":[{"a":1}]}`, stdjson.RawMessage(`{"a":1}`)},
		{"event_auth", func(ctx context.Context) (any, error) { return c.EventAuth(ctx, server, "!r", "$e") },
			"GET /_matrix/federation/v1/event_auth/%21r/$e", `{"auth_chain":[{"a":1}]}`, raw(`{"a":1}`)},
		{"timestamp_to_event", func(ctx context.Context) (any, error) { return c.TimestampToEvent(ctx, server, "!r", 12, true) },
			"GET /_matrix/federation/v1/timestamp_to_event/%21r?dir=f&ts=12", `{"event_id":"$e","origin_server_ts":13}`, &EventAt{"$e", 13}},
		{"policy sign", func(ctx context.Context) (any, error) { return c.PolicySign(ctx, server, []byte(text)) },
			"POST /_matrix/policy/v1/sign " + text, `{"` + server + `":{"ed25519:policy_server":"c2ln"},"x":{}}`, "c2ln"},
		{"directory", func(ctx context.Context) (any, error) {
			roomID, servers, err := c.ResolveAlias(ctx, "#a b:"+server)
			return append(servers, roomID), err
		},
			"GET /_matrix/federation/v1/query/directory?room_alias=%23a%20b%3A" + strings.ReplaceAll(server, ":", "%3A"),
			`{"room_id":"!r:x.test","servers":["x.test","/"]}`, []string{"x.test", "!r:x.test"}},
		{"profile", func(ctx context.Context) (any, error) { return c.QueryProfile(ctx, user, "") },
			"GET /_matrix/federation/v1/query/profile?user_id=%40u%3A" + strings.ReplaceAll(server, ":", "%3A"),
			`{"displayname":"U","avatar_url":null,"m.tz":"x","own":{"a":1}}`,
			map[string]stdjson.RawMessage{"displayname": []byte(`"U"`), "m.tz": []byte(`"x"`), "own": []byte(`{"a":1}`)}},
		{"profile of another form", func(ctx context.Context) (any, error) { return c.QueryProfile(ctx, user, "") },
			"GET /_matrix/federation/v1/query/profile?user_id=%40u%3A" + strings.ReplaceAll(server, ":", "%3A"),
			`{"displayname":5,"avatar_url":"https://evil.test/","m.tz":{},"own":5}`, map[string]stdjson.RawMessage{"own": []byte(`5`)}},
		{"profile field", func(ctx context.Context) (any, error) { return c.QueryProfile(ctx, user, "m.tz") },
			"GET /_matrix/federation/v1/query/profile?field=m.tz&user_id=%40u%3A" + strings.ReplaceAll(server, ":", "%3A"),
			`{"displayname":"U","m.tz":"x"}`, map[string]stdjson.RawMessage{"m.tz": []byte(`"x"`)}},
		{"public rooms", func(ctx context.Context) (any, error) {
			return c.PublicRooms(ctx, server, &PublicRoomsFilter{Limit: 5, Since: "s", ThirdPartyInstanceID: "i"})
		}, "GET /_matrix/federation/v1/publicRooms?include_all_networks=false&limit=5&since=s&third_party_instance_id=i",
			`{"chunk":[{"room_id":"!a:x","name":null,"num_joined_members":3},{"room_id":"bad"},{"room_id":"!b:x","name":5},7,{"room_id":"!c","world_readable":true}],"next_batch":"n","total_room_count_estimate":9}`,
			&PublicRooms{[]RoomSummary{{RoomID: "!a:x", JoinedMembers: 3}, {RoomID: "!c", WorldReadable: true}}, "n", "", 9}},
		{"public rooms, searched", func(ctx context.Context) (any, error) {
			return c.PublicRooms(ctx, server, &PublicRoomsFilter{SearchTerm: "x", RoomTypes: []*string{nil, &mspace}, IncludeAllNetworks: true})
		}, `POST /_matrix/federation/v1/publicRooms {"filter":{"generic_search_term":"x","room_types":[null,"m.space"]},"include_all_networks":true}`,
			`{"chunk":[]}`, &PublicRooms{Rooms: []RoomSummary{}}},
		{"hierarchy", func(ctx context.Context) (any, error) { return c.Hierarchy(ctx, server, "!r", true) },
			"GET /_matrix/federation/v1/hierarchy/%21r?suggested_only=true",
			`{"room":{"room_id":"!r","children_state":[{"type":"m.space.child"}]},"children":[{"room_id":"!c","room_type":"m.space"},[]],"inaccessible_children":["!s"]}`,
			&Hierarchy{RoomSummary{RoomID: "!r", ChildrenState: raw(`{"type":"m.space.child"}`)}, []RoomSummary{{RoomID: "!c", RoomType: "m.space"}}, []string{"!s"}}},
		{"user devices", func(ctx context.Context) (any, error) { return c.UserDevices(ctx, user) },
			"GET /_matrix/federation/v1/user/devices" + userPath,
			`{"user_id":"` + user + `","stream_id":5,"devices":[{"device_id":"D","keys":{"a":1},"device_display_name":"n"}],"master_key":{"m":1}}`,
			&UserDevices{UserID: user, StreamID: 5, Devices: []UserDevice{{DeviceID: "D", Keys: stdjson.RawMessage(`{"a":1}`), DisplayName: "n"}}, MasterKey: stdjson.RawMessage(`{"m":1}`)}},
		{"keys/claim", func(ctx context.Context) (any, error) {
			return c.ClaimKeys(ctx, server, map[string]map[string]string{user: {"D": "signed_curve25519"}})
		}, `POST /_matrix/federation/v1/user/keys/claim {"one_time_keys":{"` + user + `":{"D":"signed_curve25519"}}}`,
			`{"one_time_keys":{"` + user + `":{"D":{"k:1":{"key":"x"}},"E":{"k:2":"y"}},"@evil:x.test":{"D":{"k:3":"z"}}}}`,
			map[string]map[string]map[string]stdjson.RawMessage{user: {"D": {"k:1": []byte(`{"key":"x"}`)}}}},
		{"keys/query", func(ctx context.Context) (any, error) {
			return c.QueryKeys(ctx, server, map[string][]string{user: nil})
		}, `POST /_matrix/federation/v1/user/keys/query {"device_keys":{"` + user + `":[]}}`,
			`{"device_keys":{"` + user + `":{"D":{"a":1}},"@evil:x.test":{}},"master_keys":{"@evil:x.test":{}},"self_signing_keys":{"` + user + `":{}}}`,
			&UserKeys{DeviceKeys: map[string]map[string]stdjson.RawMessage{user: {"D": []byte(`{"a":1}`)}},
				MasterKeys: map[string]stdjson.RawMessage{}, SelfSigningKeys: map[string]stdjson.RawMessage{user: []byte(`{}`)}}},
		{"openid", func(ctx context.Context) (any, error) { return c.OpenIDUser(ctx, server, "t o&k") },
			"GET /_matrix/federation/v1/openid/userinfo?access_token=t%20o%26k", `{"sub":"` + user + `"}`, user},
		{"version", func(ctx context.Context) (any, error) {
			name, version, err := c.Version(ctx, server)
			return name + "/" + version, err
		}, "GET /_matrix/federation/v1/version", `{"server":{"name":"n","version":"v"}}`, "n/v"},
	} {
		s.says(e.answer)
		got, err := e.call(t.Context())
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
		if diff := cmp.Diff([]string{e.asked}, s.asked); diff != "" {
			t.Errorf("%s: asked %s", e.name, diff)
		}
		if diff := cmp.Diff(e.want, got); diff != "" {
			t.Errorf("%s: %s", e.name, diff)
		}
		// A refusal is a refusal everywhere.
		s.says(`403 {"errcode":"M_FORBIDDEN"}`)
		if _, err := e.call(t.Context()); !errors.Is(err, matrix.Forbidden) {
			t.Errorf("%s, refused: %v", e.name, err)
		}
	}
}

// What another server answers that is not what was asked for is an error (F26).
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScripted(t, w)
	c, ctx, server := w.client, t.Context(), s.name
	event := &matrix.Event{RoomID: "!r", ID: "$e", JSON: []byte(`{}`)}
	user := "@u:" + server
	for _, e := range []struct {
		name    string
		call    func() error
		answers []string
	}{
		{"make_join", func() error { _, err := c.MakeMember(ctx, server, "join", "!r", "@u:us.test", nil); return err },
			[]string{`{}`, `[]`, `{"event":null}`, `{"event":"x"}`, `{"event":[]}`, `{"room_version":12,"event":{}}`}},
		{"send_join", func() error { _, err := c.SendJoin(ctx, server, event, false); return err },
			[]string{`{}`, `{"state":[]}`, `{"auth_chain":[]}`, `{"state":{},"auth_chain":[]}`, `{"state":null,"auth_chain":[]}`,
				`{"state":[],"auth_chain":[],"members_omitted":true,"servers_in_room":["x.test"]}`}},
		{"send_join, partial", func() error { _, err := c.SendJoin(ctx, server, event, true); return err },
			[]string{`{"state":[],"auth_chain":[],"members_omitted":true}`, `{"state":[],"auth_chain":[],"members_omitted":true,"servers_in_room":["/"]}`}},
		{"send_knock", func() error { _, err := c.SendKnock(ctx, server, event); return err }, []string{`{}`, `{"knock_room_state":null}`, `{"knock_room_state":"x"}`}},
		{"backfill", func() error { _, err := c.Backfill(ctx, server, "!r", nil, 1); return err }, []string{`{}`, `{"pdus":{}}`, `null`}},
		{"get_missing_events", func() error { _, err := c.MissingEvents(ctx, server, "!r", nil, nil, 0); return err }, []string{`{}`, `{"events":5}`}},
		{"state", func() error { _, _, err := c.State(ctx, server, "!r", "$e"); return err }, []string{`{}`, `{"pdus":[]}`, `{"auth_chain":[]}`}},
		{"state_ids", func() error { _, _, err := c.StateIDs(ctx, server, "!r", "$e"); return err }, []string{`{}`, `{"pdu_ids":[]}`, `{"pdu_ids":[5],"auth_chain_ids":[]}`}},
		{"event", func() error { _, err := c.Event(ctx, server, "$e"); return err }, []string{`{}`, `{"pdus":[]}`, `{"pdus":[{},{}]}`}},
		{"event_auth", func() error { _, err := c.EventAuth(ctx, server, "!r", "$e"); return err }, []string{`{}`, `{"auth_chain":"x"}`}},
		{"timestamp_to_event", func() error { _, err := c.TimestampToEvent(ctx, server, "!r", 1, false); return err }, []string{`{}`, `{"event_id":"x"}`, `{"event_id":5}`}},
		{"policy sign", func() error { _, err := c.PolicySign(ctx, server, []byte(`{}`)); return err },
			[]string{`{}`, `{"other.test":{"ed25519:policy_server":"x"}}`, `{"` + server + `":{"ed25519:1":"x"}}`, `{"` + server + `":5}`}},
		{"directory", func() error { _, _, err := c.ResolveAlias(ctx, "#a:"+server); return err }, []string{`{}`, `{"room_id":"r"}`, `{"room_id":"!r:x","servers":"x"}`}},
		{"profile", func() error { _, err := c.QueryProfile(ctx, user, ""); return err }, []string{`[]`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}"}},
		{"public rooms", func() error { _, err := c.PublicRooms(ctx, server, &PublicRoomsFilter{}); return err }, []string{`[]`, `{"chunk":{}}`, `{"chunk":[],"next_batch":5}`}},
		{"hierarchy", func() error { _, err := c.Hierarchy(ctx, server, "!r", false); return err }, []string{`{}`, `{"room":{"room_id":"!other"}}`, `{"room":{}}`}},
		{"user devices", func() error { _, err := c.UserDevices(ctx, user); return err }, []string{`{}`, `{"user_id":"@other:x.test"}`}},
		{"keys/query", func() error { _, err := c.QueryKeys(ctx, server, nil); return err }, []string{`[]`, `{"device_keys":[]}`}},
		{"keys/claim", func() error { _, err := c.ClaimKeys(ctx, server, nil); return err }, []string{`[]`, `{"one_time_keys":[]}`}},
		{"openid", func() error { _, err := c.OpenIDUser(ctx, server, "t"); return err }, []string{`{}`, `{"sub":"@u:other.test"}`, `{"sub":"u"}`, `{"sub":5}`}},
		{"version", func() error { _, err := c.getVersion(ctx, server); return err }, []string{`[]`, `{"server":5}`}},
	} {
		for _, answer := range e.answers {
			s.says(answer)
			err := e.call()
			if _, ok := errors.AsType[*AnswerError](err); !ok {
				t.Errorf("%s, %s: %v", e.name, answer, err)
			}
		}
	}
}

// TestTransactions: whatever a server says with status 200, it has the transaction (F55g).
func TestTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScripted(t, w)
	transaction := &Transaction{ID: "7", OriginServerTS: 5, EDUs: raw(`{"edu_type":"m.typing"}`)}
	for answer, want := range map[string]Results{
		`{"pdus":{"$a":{},"$b":{"error":"no"},"$c":{"error":5},"$d":null,"$e":"x"}}`: {Errors: map[string]string{"$b": "no"}},
		`{"pdus":{"$a":{"error":"` + strings.Repeat("x", 1000) + `"}}`:               {Errors: map[string]string{}, Malformed: errors.New("")},
		`{"pdus":{"$a":{"error":"` + strings.Repeat("x", 1000) + `"}}}`:              {Errors: map[string]string{"$a": strings.Repeat("x", maxMessage)}},
		`{}`: {Errors: map[string]string{}}, `{"pdus":null}`: {Errors: map[string]string{}},
		`[]`: {Errors: map[string]string{}, Malformed: errors.New("")}, `{"pdus":[]}`: {Errors: map[string]string{}, Malformed: errors.New("")},
		`{"pdus":"x"}`: {Errors: map[string]string{}, Malformed: errors.New("")}, ``: {Errors: map[string]string{}, Malformed: errors.New("")},
		strings.Repeat(" ", maxResults+1) + `{}`: {Errors: map[string]string{}, Malformed: errors.New("")},
	} {
		s.says(answer)
		got, err := w.client.SendTransaction(t.Context(), s.name, transaction)
		if err != nil {
			t.Errorf("%.60s: %v", answer, err)
			continue
		}
		if diff := cmp.Diff(want.Errors, got.Errors); diff != "" || (want.Malformed == nil) != (got.Malformed == nil) {
			t.Errorf("%.60s: %s, %v", answer, diff, got.Malformed)
		}
	}
	asked := `PUT /_matrix/federation/v1/send/7 {"edus":[{"edu_type":"m.typing"}],"origin":"us.test","origin_server_ts":5,"pdus":[]}`
	if s.asked[0] != asked {
		t.Errorf("asked %s", s.asked[0])
	}
	s.says(`500 {}`)
	if _, err := w.client.SendTransaction(t.Context(), s.name, transaction); !Unavailable(err) {
		t.Errorf("an inner fault: %v", err)
	}
	for _, large := range []*Transaction{{PDUs: make([]stdjson.RawMessage, 51)}, {EDUs: make([]stdjson.RawMessage, 101)}} {
		if _, err := w.client.SendTransaction(t.Context(), s.name, large); err == nil {
			t.Error("a transaction beyond the limits is sent")
		}
	}
}

func TestInvites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScripted(t, w)
	invite := func(version matrix.RoomVersion) (string, error) {
		event, err := w.client.SendInvite(t.Context(), s.name, &matrix.Event{RoomID: "!r", ID: "$e", Version: version, JSON: []byte(`{"a":1}`)}, raw(`{"s":1}`))
		return string(event), err
	}
	v2 := `PUT /_matrix/federation/v2/invite/%21r/$e {"event":{"a":1},"invite_room_state":[{"s":1}],"room_version":"VERSION"}`
	v1 := `PUT /_matrix/federation/v1/invite/%21r/$e {"a":1,"unsigned":{"invite_room_state":[{"s":1}]}}`
	for _, c := range []struct {
		version matrix.RoomVersion
		answers []string
		asked   []string
		want    string
		fails   bool
	}{
		{"12", []string{`{"event":{"b":2}}`}, []string{v2}, `{"b":2}`, false},
		{"2", []string{`404 {}`, `[200,{"event":{"b":2}}]`}, []string{v2, v1}, `{"b":2}`, false},
		{"1", []string{`400 {"errcode":"M_UNRECOGNIZED"}`, `[200,{"event":{"b":2}}]`}, []string{v2, v1}, `{"b":2}`, false},
		{"3", []string{`404 {}`}, []string{v2}, ``, true},
		{"1", []string{`403 {}`}, []string{v2}, ``, true},
		{"1", []string{`404 {}`, `403 {}`}, []string{v2, v1}, ``, true},
		{"1", []string{`404 {}`, `{"event":{}}`}, []string{v2, v1}, ``, true},
		{"1", []string{`404 {}`, `[200]`}, []string{v2, v1}, ``, true},
		{"1", []string{`404 {}`, `[200,{}]`}, []string{v2, v1}, ``, true},
		{"12", []string{`{}`}, []string{v2}, ``, true},
		{"12", []string{`{"event":[]}`}, []string{v2}, ``, true},
	} {
		s.says(c.answers...)
		got, err := invite(c.version)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%s %q: %s, %v", c.version, c.answers, got, err)
		}
		for i := range c.asked {
			c.asked[i] = strings.ReplaceAll(c.asked[i], "VERSION", string(c.version))
		}
		if diff := cmp.Diff(c.asked, s.asked); diff != "" {
			t.Errorf("%s %q: asked %s", c.version, c.answers, diff)
		}
	}
}
