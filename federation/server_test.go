package federation_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beep/account"
	"beep/federation"
	"beep/federation/allow"
	"beep/federation/remote"
	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/outbound"
	"beep/outbound/outboundtest"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/tests/contract"
	"beep/web"
)

const (
	us    = "hs.example"
	alice = "@alice:" + us
)

var spec = sync.OnceValues(func() (*contract.Spec, error) {
	dir, err := contract.DefaultDir()
	if err != nil {
		return nil, err
	}
	return contract.Load(dir)
})

// server is this server with its API for others, over HTTP.
type server struct {
	t        testing.TB
	db       *storage.DB
	signer   *matrix.Signer
	rooms    *roomserver.Rooms
	typing   *roomserver.Typing
	accounts *account.Accounts
	ca       *outboundtest.CA
	handler  http.Handler
	url      string
	heard    atomic.Int64 // requests of servers that have proven their names
}

// options are what differs between servers under test.
type options struct {
	edus  map[string]federation.EDUHandler
	rates map[string]web.Rate
	allow []string // a closed federation of these servers; nil for an open one
}

// eachServer runs a test with a server on each engine.
func eachServer(t *testing.T, o options, test func(s *server)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { test(newServer(t, db, o)) })
}

func newSigner(name string, seed byte) *matrix.Signer {
	long := make([]byte, ed25519.SeedSize)
	long[0] = seed
	return &matrix.Signer{ServerName: name, KeyID: "ed25519:k", Key: ed25519.NewKeyFromSeed(long)}
}

func keyOf(s *matrix.Signer) matrix.ServerKey {
	return matrix.ServerKey{Server: s.ServerName, ID: s.KeyID, Key: s.Key.Public().(ed25519.PublicKey)}
}

func newServer(t testing.TB, db *storage.DB, o options) *server {
	t.Helper()
	s := &server{t: t, db: db, signer: newSigner(us, 200), ca: outboundtest.NewCA(t)}
	dialer, err := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CAFiles: []string{s.ca.File}})
	s.check(err)
	client, err := remote.New(remote.Options{Signer: s.signer, Dialer: dialer, UserAgent: "beep/test"})
	s.check(err)
	t.Cleanup(client.Close)
	old := keyOf(newSigner(us, 199))
	old.ID, old.Expired = "ed25519:old", 1e12
	own := []matrix.ServerKey{keyOf(s.signer), old}
	keys, err := remote.NewKeyRing(remote.KeyRingOptions{Client: client, Store: db, Own: own})
	s.check(err)
	s.rooms = roomserver.New(roomserver.Options{DB: db, Signer: s.signer, DefaultVersion: "12", Logger: slog.New(slog.DiscardHandler),
		Remote: &remote.Rooms{Client: client, Keys: keys}})
	s.typing = roomserver.NewTyping(s.rooms)
	s.accounts = account.New(account.Options{DB: db, ServerName: us, Hashing: account.CheapHashing})
	s.check(db.Write(t.Context(), func(tx *storage.Tx) error {
		return tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: alice}})
	}))
	var list *allow.List
	if o.allow != nil {
		list, err = allow.New(t.Context(), allow.Options{ServerName: us, Servers: o.allow})
		s.check(err)
	}
	api := federation.NewAPI(federation.Parts{Version: "1.2.3", Signer: s.signer, OwnKeys: own, Keys: keys, Allow: list, Heard: func(string) { s.heard.Add(1) }, DB: db, Accounts: s.accounts,
		Rooms: s.rooms, Serving: roomserver.NewServing(s.rooms), Typing: s.typing, Presence: account.NewRemotePresence(db, us, true, nil), EDUs: o.edus})
	routing := web.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if o.rates != nil {
		routing.Limiter = web.NewLimiter(o.rates, nil)
	}
	router := web.NewRouter(routing)
	api.Routes(router)
	s.handler = router
	listener := httptest.NewServer(router)
	t.Cleanup(listener.Close)
	s.url = listener.URL
	return s
}

func (s *server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// create makes a room of alice.
func (s *server) create(d roomserver.RoomDraft) string {
	s.t.Helper()
	d.Creator = alice
	roomID, err := s.rooms.Create(s.t.Context(), d)
	s.check(err)
	return roomID
}

// newRoom is a room that everybody may join.
func newRoom(name, alias string) roomserver.RoomDraft {
	return roomserver.RoomDraft{Preset: "public_chat", Name: name, AliasName: alias}
}

// draftChild makes a room part of a space.
func draftChild(roomID string) roomserver.Draft {
	return roomserver.Draft{Type: "m.space.child", StateKey: &roomID, Sender: alice, Content: json.RawMessage(`{"via":["` + us + `"]}`)}
}

// publish puts a room into the directory.
func (s *server) publish(roomID string) {
	s.t.Helper()
	room, err := s.db.RoomByID(s.t.Context(), roomID)
	s.check(err)
	s.check(s.db.Write(s.t.Context(), func(tx *storage.Tx) error { return tx.PublishRoom(s.t.Context(), room.Number, true) }))
}

// say sends a message of alice; it gives the event's id.
func (s *server) say(roomID, text string) string {
	s.t.Helper()
	id, err := s.rooms.Send(s.t.Context(), roomID, roomserver.Draft{Type: "m.room.message", Sender: alice,
		Content: json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, text))})
	s.check(err)
	return id
}

func (s *server) setState(roomID, eventType, content string) {
	s.t.Helper()
	empty := ""
	_, err := s.rooms.SendState(s.t.Context(), roomID, roomserver.Draft{Type: eventType, StateKey: &empty, Sender: alice, Content: json.RawMessage(content)})
	s.check(err)
}

// has tells whether the server has an event in a timeline.
func (s *server) has(eventID string) bool {
	s.t.Helper()
	known, err := s.db.KnownEvents(s.t.Context(), []string{eventID})
	s.check(err)
	e, found := known[eventID]
	return found && e.Status == storage.Accepted
}

// peer is another server, which can sign anything.
type peer struct {
	s      *server
	t      testing.TB
	signer *matrix.Signer
	name   string
	client *http.Client
	lax    bool         // it sends junk on purpose
	asked  atomic.Int64 // for its keys
	failed atomic.Bool  // it answers nothing but questions for its keys
}

// newPeer makes a server that publishes its keys.
func (s *server) newPeer(seed byte) *peer {
	s.t.Helper()
	p := &peer{s: s, t: s.t}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(p.answer))
	listener.TLS = &tls.Config{Certificates: []tls.Certificate{s.ca.Certificate(s.t, "127.0.0.1")}}
	listener.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	listener.StartTLS()
	s.t.Cleanup(listener.Close)
	p.name = strings.TrimPrefix(listener.URL, "https://")
	p.signer = newSigner(p.name, seed)
	p.client = &http.Client{Transport: p}
	return p
}

// RoundTrip checks each exchange against the specification.
func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	rules, err := spec()
	if err != nil {
		return nil, err
	}
	return (&contract.Transport{Spec: rules, Report: p.t.Errorf, LaxRequests: p.lax, LaxEvents: p.lax}).RoundTrip(r)
}

// answer serves the peer's keys, and nothing else.
func (p *peer) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path != "/_matrix/key/v2/server" {
		status := http.StatusNotFound
		if p.failed.Load() {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		io.WriteString(w, `{"errcode":"M_UNRECOGNIZED","error":"no"}`)
		return
	}
	p.asked.Add(1)
	text, err := p.signer.SignJSON(fmt.Appendf(nil, `{"server_name":%q,"verify_keys":{%q:{"key":%q}},"old_verify_keys":{},"valid_until_ts":%d}`,
		p.name, p.signer.KeyID, base64.RawStdEncoding.EncodeToString(keyOf(p.signer).Key), time.Now().Add(time.Hour).UnixMilli()))
	if err != nil {
		p.t.Error(err)
	}
	w.Write(text)
}

func (p *peer) user(name string) string { return "@" + name + ":" + p.name }

// answer is what the server under test has said.
type answer struct {
	status int
	body   []byte
	header http.Header
}

func (a answer) String() string { return fmt.Sprintf("%d %.300s", a.status, a.body) }

// into decodes the answer.
func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
}

// errcode is that of a refusal.
func (a answer) errcode() string {
	var body struct {
		Code string `json:"errcode"`
	}
	if json.Unmarshal(a.body, &body) != nil {
		return ""
	}
	return body.Code
}

// target joins the segments of a path, escaped.
func target(path string, segments ...string) string {
	for _, segment := range segments {
		path += "/" + url.PathEscape(segment)
	}
	return path
}

const v1 = "/_matrix/federation/v1"

// ask sends a signed request. A nil body is none.
func (p *peer) ask(method, uri string, body any) answer {
	p.t.Helper()
	var content []byte
	if raw, ok := body.([]byte); ok {
		content = raw
	} else if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			p.t.Fatal(err)
		}
	}
	var canonical []byte
	if content != nil {
		var err error
		if canonical, err = matrix.CanonicalJSON(content, false); err != nil {
			canonical = content // which nobody can sign rightly
		}
	}
	return p.send(method, uri, content, xmatrix.Sign(p.signer, us, method, uri, canonical))
}

// send sends a request with this Authorization header, or without for "".
func (p *peer) send(method, uri string, content []byte, authorization ...string) answer {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.s.url+uri, bytes.NewReader(content))
	if err != nil {
		p.t.Fatal(err)
	}
	if content == nil {
		r.Body = nil
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, a := range authorization {
		if a != "" {
			r.Header.Add("Authorization", a)
		}
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer{resp.StatusCode, text, resp.Header}
}

func (p *peer) get(path string, query url.Values, segments ...string) answer {
	p.t.Helper()
	uri := target(v1+path, segments...)
	if query != nil {
		uri += "?" + query.Encode()
	}
	return p.ask(http.MethodGet, uri, nil)
}

// unchecked is the peer whose exchanges are not compared with the specification: where
// they are what a test needs and not what it is about.
func (p *peer) unchecked() *peer {
	return &peer{s: p.s, t: p.t, signer: p.signer, name: p.name, client: http.DefaultClient}
}

// join lets a user of the peer join a room; it gives the join.
func (p *peer) join(roomID, userID string) *matrix.Event {
	p.t.Helper()
	p = p.unchecked()
	query := url.Values{}
	for _, v := range matrix.RoomVersions() {
		query.Add("ver", string(v))
	}
	join := p.member(roomID, userID, "join", p.get("/make_join", query, roomID, userID))
	if a := p.ask(http.MethodPut, target("/_matrix/federation/v2/send_join", roomID, join.ID), join.JSON); a.status != 200 {
		p.t.Fatalf("send_join: %v", a)
	}
	return join
}

// leave lets a user of the peer leave.
func (p *peer) leave(roomID, userID string) {
	p.t.Helper()
	p = p.unchecked()
	leave := p.member(roomID, userID, "leave", p.get("/make_leave", nil, roomID, userID))
	if a := p.ask(http.MethodPut, target("/_matrix/federation/v2/send_leave", roomID, leave.ID), leave.JSON); a.status != 200 {
		p.t.Fatalf("send_leave: %v", a)
	}
}

// member makes a member event of the template that the server gave.
func (p *peer) member(roomID, userID, membership string, made answer) *matrix.Event {
	p.t.Helper()
	var template struct {
		Version matrix.RoomVersion `json:"room_version"`
		Event   json.RawMessage    `json:"event"`
	}
	made.into(p.t, &template)
	if made.status != 200 {
		p.t.Fatalf("template of %s: %v", membership, made)
	}
	place, err := matrix.ParseTemplate(template.Version, template.Event, roomID, userID, membership)
	if err != nil {
		p.t.Fatal(err)
	}
	e, err := p.signer.Build(&matrix.Proto{Version: template.Version, RoomID: roomID, Type: "m.room.member", StateKey: &userID, Sender: userID,
		Content: []byte(`{"membership":"` + membership + `"}`), OriginServerTS: time.Now().UnixMilli(), Depth: place.Depth,
		PrevEvents: place.PrevEvents, AuthEvents: place.AuthEvents})
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

// event makes an event of a user of the peer, which follows the given ones, or the room's
// latest if there are none.
func (p *peer) event(roomID, userID, eventType string, stateKey *string, content string, previous ...*matrix.Event) *matrix.Event {
	p.t.Helper()
	ctx := p.t.Context()
	room, err := p.s.db.RoomByID(ctx, roomID)
	p.s.check(err)
	proto := &matrix.Proto{Version: room.Version, RoomID: roomID, Type: eventType, StateKey: stateKey, Sender: userID, Content: []byte(content),
		OriginServerTS: time.Now().UnixMilli(), Depth: room.Depth + 1}
	for _, e := range previous {
		proto.PrevEvents = append(proto.PrevEvents, e.Reference())
		proto.Depth = e.Depth + 1
	}
	if previous == nil {
		latest, err := p.s.db.EventsByID(ctx, room.Extremities)
		p.s.check(err)
		for i := range latest {
			proto.PrevEvents = append(proto.PrevEvents, latest[i].Reference())
		}
	}
	state, err := p.s.db.CurrentState(ctx, room.Number)
	p.s.check(err)
	for i := range state {
		e := &state[i]
		authorises := e.IsState("m.room.power_levels", "") || e.IsState("m.room.member", userID) ||
			e.IsState("m.room.create", "") && !room.Version.CreateWithoutRoom()
		if authorises {
			proto.AuthEvents = append(proto.AuthEvents, e.Reference())
		}
	}
	slices.SortFunc(proto.AuthEvents, func(a, b matrix.Reference) int { return strings.Compare(a.ID, b.ID) })
	e, err := p.signer.Build(proto)
	p.s.check(err)
	return e
}

// message is an event with a text.
func (p *peer) message(roomID, userID, text string, previous ...*matrix.Event) *matrix.Event {
	p.t.Helper()
	return p.event(roomID, userID, "m.room.message", nil, fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, text), previous...)
}

// results is the answer to a transaction.
type results struct {
	PDUs map[string]struct {
		Error *string `json:"error"`
	} `json:"pdus"`
}

// refused are the ids of the PDUs with an error; the error must say something.
func (r results) refused(t testing.TB) []string {
	t.Helper()
	ids := []string{}
	for id, result := range r.PDUs {
		if result.Error == nil {
			continue
		}
		if *result.Error == "" {
			t.Errorf("%s is refused without a reason", id)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// transaction sends PDUs and EDUs, as JSON.
func (p *peer) transaction(txnID string, pdus, edus []string) answer {
	p.t.Helper()
	body := fmt.Sprintf(`{"origin":%q,"origin_server_ts":1,"pdus":[%s],"edus":[%s]}`, p.name, strings.Join(pdus, ","), strings.Join(edus, ","))
	return p.ask(http.MethodPut, target(v1+"/send", txnID), []byte(body))
}

// tell is transaction for one that the server has to take.
func (p *peer) tell(txnID string, pdus []string, edus ...string) results {
	p.t.Helper()
	var r results
	a := p.transaction(txnID, pdus, edus)
	if a.status != 200 {
		p.t.Fatalf("transaction %s: %v", txnID, a)
	}
	a.into(p.t, &r)
	return r
}

func jsonOf(events ...*matrix.Event) []string {
	var all []string
	for _, e := range events {
		all = append(all, string(e.JSON))
	}
	return all
}
