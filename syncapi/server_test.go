package syncapi_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/syncapi"
	"beep/tests/contract"
	"beep/web"
)

const (
	alice = "@alice:hs.example"
	bob   = "@bob:hs.example"
	carol = "@carol:hs.example"
	dave  = "@dave:hs.example"
)

var specification = sync.OnceValues(func() (*contract.Spec, error) {
	dir, err := contract.DefaultDir()
	if err != nil {
		return nil, err
	}
	return contract.Load(dir)
})

// server is the parts that sync stands on, and clients whose every answer is
// checked against the specification.
type server struct {
	testing.TB
	db       *storage.DB
	rooms    *roomserver.Rooms
	accounts *account.Accounts
	filters  *account.Filters
	typing   *roomserver.Typing
	presence *account.Presence
	router   *web.Router
	client   *http.Client
	api      *syncapi.API
	first    string // an event, for those who mark it

	connections int // of sliding sync, that tests have begun

	mu     sync.Mutex
	tokens map[string]string // access tokens by user and device
}

// modes are the ways in which an answer comes about: from the window of the log, or
// from the database, as the window keeps nothing.
var modes = map[string]int{"window": 0, "database": 1}

// each runs a test on both engines in both modes.
func each(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	for mode, budget := range modes {
		t.Run(mode, func(t *testing.T) {
			storagetest.Each(t, func(t *testing.T, db *storage.DB) { test(t, newServer(t, db, budget)) })
		})
	}
}

// newServer makes a server. Budget is that of the log's window, 0 for the usual one.
func newServer(t testing.TB, db *storage.DB, budget int) *server {
	t.Helper()
	db.Log = stream.NewLog(db.Clock.Current(), 0, budget)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		TB: t, db: db, tokens: map[string]string{},
		accounts: account.New(account.Options{DB: db, ServerName: "hs.example", Hashing: account.CheapHashing}),
		filters:  account.NewFilters(db),
		presence: account.NewPresence(db, "hs.example", true, nil),
		rooms: roomserver.New(roomserver.Options{DB: db, DefaultVersion: "12", Logger: slog.New(slog.DiscardHandler),
			Signer: &matrix.Signer{ServerName: "hs.example", KeyID: "ed25519:k", Key: key}}),
		router: web.NewRouter(web.Options{}),
	}
	s.typing = roomserver.NewTyping(s.rooms)
	s.api = syncapi.New(syncapi.Options{DB: db, Rooms: s.rooms, Accounts: s.accounts, Filters: s.filters, Presence: s.presence, Typing: s.typing})
	s.api.Routes(s.router)
	s.run(s.api.Run)
	if _, err := db.User(t.Context(), alice); err != nil {
		s.register(alice, bob, carol, dave)
	}
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s.client = &http.Client{Transport: &contract.Transport{Spec: spec, Base: s, Report: t.Errorf, LaxRequests: true, LaxEvents: true}}
	return s
}

// run runs a part until the end of the test.
func (s *server) run(part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.Errorf("Run: %v", err)
		}
	})
}

func (s *server) register(userIDs ...string) {
	s.Helper()
	s.write(func(tx *storage.Tx) error {
		for _, id := range userIDs {
			if err := tx.InsertUser(s.Context(), &storage.Credentials{User: storage.User{ID: id}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *server) write(fn func(tx *storage.Tx) error) {
	s.Helper()
	if err := s.db.Write(s.Context(), fn); err != nil {
		s.Fatal(err)
	}
}

// RoundTrip serves a request in this process.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.router.ServeHTTP(w, r)
	return w.Result(), nil
}

// token is an access token of a user at a device.
func (s *server) token(userID, device string) string {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := userID + " " + device
	if s.tokens[key] == "" {
		session, err := s.accounts.OpenSession(s.Context(), userID, account.DeviceRequest{DeviceID: device})
		if err != nil {
			s.Fatal(err)
		}
		s.tokens[key] = session.AccessToken
	}
	return s.tokens[key]
}

// must fails the test at an error.
func must[T any](v T, err error) func(s *server) T {
	return func(s *server) T {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return v
	}
}

func (s *server) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *server) create(d roomserver.RoomDraft) string {
	s.Helper()
	if d.Creator == "" {
		d.Creator = alice
	}
	if d.Preset == "" {
		d.Preset = "public_chat"
	}
	return must(s.rooms.Create(s.Context(), d))(s)
}

func (s *server) join(room string, userIDs ...string) {
	s.Helper()
	for _, id := range userIDs {
		s.check(s.rooms.Join(s.Context(), room, roomserver.MemberChange{Sender: id}))
	}
}

func (s *server) leave(room, userID string) {
	s.Helper()
	s.check(s.rooms.Leave(s.Context(), room, roomserver.MemberChange{Sender: userID}))
}

func (s *server) invite(room, sender, target string) {
	s.Helper()
	s.check(s.rooms.Invite(s.Context(), room, roomserver.MemberChange{Sender: sender, Target: target}))
}

func (s *server) ban(room, sender, target string) {
	s.Helper()
	s.check(s.rooms.Ban(s.Context(), room, roomserver.MemberChange{Sender: sender, Target: target}))
}

func (s *server) kick(room, sender, target string) {
	s.Helper()
	s.check(s.rooms.Kick(s.Context(), room, roomserver.MemberChange{Sender: sender, Target: target}))
}

// say sends a message and gives its id.
func (s *server) say(room, sender, body string) string {
	s.Helper()
	return s.send(room, roomserver.Draft{Type: "m.room.message", Sender: sender,
		Content: json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body))})
}

func (s *server) send(room string, d roomserver.Draft) string {
	s.Helper()
	return must(s.rooms.Send(s.Context(), room, d))(s)
}

func (s *server) setState(room, sender, eventType, stateKey, content string) string {
	s.Helper()
	return must(s.rooms.SendState(s.Context(), room, roomserver.Draft{Type: eventType, StateKey: &stateKey, Sender: sender,
		Content: json.RawMessage(content)}))(s)
}

func (s *server) ignore(userID string, ignored ...string) {
	s.Helper()
	users := map[string]struct{}{}
	for _, id := range ignored {
		users[id] = struct{}{}
	}
	s.setAccountData(userID, "", "m.ignored_user_list", map[string]any{"ignored_users": users})
}

func (s *server) setAccountData(userID, room, dataType string, content any) {
	s.Helper()
	raw := must(json.Marshal(content))(s)
	s.check(s.accounts.SetAccountData(s.Context(), userID, room, dataType, raw))
}

// event is an event in an answer.
type event struct {
	ID       string          `json:"event_id"`
	Type     string          `json:"type"`
	Sender   string          `json:"sender"`
	StateKey *string         `json:"state_key"`
	Content  json.RawMessage `json:"content"`
	RoomID   string          `json:"room_id"`
	Unsigned struct {
		Age           *int64          `json:"age"`
		Membership    string          `json:"membership"`
		TransactionID string          `json:"transaction_id"`
		PrevContent   json.RawMessage `json:"prev_content"`
		ReplacesState string          `json:"replaces_state"`
		Because       *event          `json:"redacted_because"`
	} `json:"unsigned"`
}

// text is a string member of the event's content.
func (e event) text(key string) string {
	var content map[string]any
	if json.Unmarshal(e.Content, &content) != nil {
		return ""
	}
	text, _ := content[key].(string)
	return text
}

// brief is the event in a few words: a message is its text, other events are their
// type with the state key and, of members, the membership.
func (e event) brief() string {
	switch {
	case e.Type == "m.room.message":
		return e.text("body")
	case e.Type == "m.room.member" && e.StateKey != nil:
		return localpart(*e.StateKey) + ":" + e.text("membership")
	case e.StateKey != nil && *e.StateKey != "":
		return e.Type + "/" + *e.StateKey
	}
	return strings.TrimPrefix(e.Type, "m.room.")
}

func localpart(userID string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(userID, "@"), ":")
	return name
}

type batch struct {
	Events    []event `json:"events"`
	Limited   bool    `json:"limited"`
	PrevBatch string  `json:"prev_batch"`
}

// briefs are the events in a few words.
func (b batch) briefs() []string {
	list := []string{}
	for _, e := range b.Events {
		list = append(list, e.brief())
	}
	return list
}

// sorted is briefs in alphabetical order, for what has no order.
func (b batch) sorted() []string {
	list := b.briefs()
	slices.Sort(list)
	return list
}

type syncedRoom struct {
	Timeline    batch  `json:"timeline"`
	State       *batch `json:"state"`
	StateAfter  *batch `json:"state_after"`
	Unstable    *batch `json:"org.matrix.msc4222.state_after"`
	Ephemeral   batch  `json:"ephemeral"`
	AccountData batch  `json:"account_data"`
	Summary     *struct {
		Heroes  *[]string `json:"m.heroes"`
		Joined  *int      `json:"m.joined_member_count"`
		Invited *int      `json:"m.invited_member_count"`
	} `json:"summary"`
	InviteState batch `json:"invite_state"`
	KnockState  batch `json:"knock_state"`
}

// stateEvents are those of the section with the state.
func (r syncedRoom) stateEvents() batch {
	for _, section := range []*batch{r.State, r.StateAfter, r.Unstable} {
		if section != nil {
			return *section
		}
	}
	return batch{}
}

// synced is an answer to /sync.
type synced struct {
	NextBatch   string `json:"next_batch"`
	AccountData batch  `json:"account_data"`
	Presence    batch  `json:"presence"`
	Rooms       struct {
		Join   map[string]syncedRoom `json:"join"`
		Invite map[string]syncedRoom `json:"invite"`
		Knock  map[string]syncedRoom `json:"knock"`
		Leave  map[string]syncedRoom `json:"leave"`
	} `json:"rooms"`
}

// sections tells in which sections the room is.
func (a *synced) sections(room string) (names []string) {
	for name, section := range map[string]map[string]syncedRoom{
		"join": a.Rooms.Join, "invite": a.Rooms.Invite, "knock": a.Rooms.Knock, "leave": a.Rooms.Leave,
	} {
		if _, ok := section[room]; ok {
			names = append(names, name)
		}
	}
	return names
}

// get makes a request to /sync. Params are pairs of a name and a value.
func (s *server) get(userID string, params ...string) (*http.Response, []byte) {
	s.Helper()
	return s.getAs(s.Context(), s.token(userID, "PHONE"), params...)
}

func (s *server) getAs(ctx context.Context, token string, params ...string) (*http.Response, []byte) {
	s.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	if q.Get("set_presence") == "" {
		q.Set("set_presence", "offline")
	}
	r := must(http.NewRequestWithContext(ctx, "GET", "http://hs.example/_matrix/client/v3/sync?"+q.Encode(), nil))(s)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	return resp, must(io.ReadAll(resp.Body))(s)
}

// sync is a request that has to succeed.
func (s *server) sync(userID string, params ...string) *synced {
	s.Helper()
	return s.parse(s.get(userID, params...))
}

func (s *server) parse(resp *http.Response, body []byte) *synced {
	s.Helper()
	if resp.StatusCode != http.StatusOK {
		s.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	answer := &synced{}
	if err := json.Unmarshal(body, answer); err != nil {
		s.Fatalf("%v: %s", err, body)
	}
	return answer
}
