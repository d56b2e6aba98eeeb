package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/web"
)

const password = "correct horse"

// world is a server's accounts with a clock that tests set.
type world struct {
	*Accounts
	t   *testing.T
	now time.Time
}

// each runs a test with open registration on both engines.
func each(t *testing.T, change func(o *Options), test func(w *world)) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := &world{t: t, now: time.UnixMilli(1_700_000_000_000)}
		o := Options{
			DB:                  db,
			ServerName:          "example.org",
			Hashing:             CheapHashing,
			Registration:        Registration{Open: true},
			AccessTokenLifetime: 5 * time.Minute,
			Now:                 func() time.Time { return w.now },
		}
		if change != nil {
			change(&o)
		}
		w.Accounts = New(o)
		test(w)
	})
}

func (w *world) create(localpart string) (userID string) {
	w.t.Helper()
	userID, err := w.CreateUser(w.t.Context(), localpart, password, false)
	w.must(err)
	return userID
}

func (w *world) open(userID string, d DeviceRequest) *Session {
	w.t.Helper()
	s, err := w.OpenSession(w.t.Context(), userID, d)
	w.must(err)
	return s
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// wants checks an error's code; "" wants none.
func (w *world) wants(what string, err error, code string) *matrix.Error {
	w.t.Helper()
	var told *matrix.Error
	switch {
	case err == nil && code == "":
		return nil
	case !errors.As(err, &told) || told.Code != code:
		w.t.Errorf("%s: got %v, want %q", what, err, code)
		return &matrix.Error{}
	}
	return told
}

func request(token string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("User-Agent", "test\x00/1")
	return r
}

// use authenticates with a token.
func (w *world) use(token, code string) *matrix.Error {
	w.t.Helper()
	_, err := w.Authenticate(request(token))
	return w.wants("use of the token", err, code)
}

func TestLocalparts(t *testing.T) {
	a := New(Options{ServerName: "example.org"})
	for localpart, want := range map[string]string{
		"alice": "@alice:example.org", "Alice": "@alice:example.org", "a.b_c=d-e/f+1": "@a.b_c=d-e/f+1:example.org",
		strings.Repeat("a", 242): "@" + strings.Repeat("a", 242) + ":example.org",
		strings.Repeat("a", 243): "", "": "", "é": "", "a b": "", "a:b": "", "@a": "", "a\n": "", "a\x00": "", "İ": "", "\u212a": "",
	} {
		got, err := a.NewUserID(localpart)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, matrix.InvalidUsername) {
			t.Errorf("NewUserID(%q) is %q, %v; want %q", localpart, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"alice": "@alice:example.org", "ALICE": "@alice:example.org", "@Alice:Example.org": "@alice:example.org",
		"@alice:example.com": "", "alice:example.org": "", "@alice": "", "": "", "@:example.org": "", "a\x00": "", "a\xff": "",
		strings.Repeat("a", 300): "",
	} {
		if got, ok := a.LocalUserID(name); got != want || ok != (want != "") {
			t.Errorf("LocalUserID(%q) is %q, %v; want %q", name, got, ok, want)
		}
	}
}

// TestTokensEnd checks that a token that has been used, and so is cached, is of no
// use as soon as what ends it has returned.
func TestTokensEnd(t *testing.T) {
	for _, test := range []struct {
		name       string
		end        func(ctx context.Context, w *world, who *Caller) error
		own, other string // what the tokens of the device and of another one are answered
	}{
		{"logout", func(ctx context.Context, w *world, who *Caller) error { return w.Logout(ctx, who) }, "M_UNKNOWN_TOKEN", ""},
		{"logout of all", func(ctx context.Context, w *world, who *Caller) error { return w.LogoutAll(ctx, who) },
			"M_UNKNOWN_TOKEN", "M_UNKNOWN_TOKEN"},
		{"deletion", func(ctx context.Context, w *world, who *Caller) error {
			return w.DeleteDevices(ctx, who.UserID, []string{"other", "\x00"})
		}, "", "M_UNKNOWN_TOKEN"},
		{"new password", func(ctx context.Context, w *world, who *Caller) error {
			return w.ChangePassword(ctx, who.UserID, who.DeviceID, "another one", true)
		}, "", "M_UNKNOWN_TOKEN"},
		{"new password that logs nobody out", func(ctx context.Context, w *world, who *Caller) error {
			return w.ChangePassword(ctx, who.UserID, who.DeviceID, "another one", false)
		}, "", ""},
		{"password reset", func(ctx context.Context, w *world, who *Caller) error {
			return w.SetPassword(ctx, who.UserID, "another one", true)
		}, "M_UNKNOWN_TOKEN", "M_UNKNOWN_TOKEN"},
		{"deactivation", func(ctx context.Context, w *world, who *Caller) error { return w.Deactivate(ctx, who.UserID, false) },
			"M_UNKNOWN_TOKEN", "M_UNKNOWN_TOKEN"},
		{"lock", func(ctx context.Context, w *world, who *Caller) error { return w.SetLocked(ctx, who.UserID, true) },
			"M_USER_LOCKED", "M_USER_LOCKED"},
		{"login on the same device", func(ctx context.Context, w *world, who *Caller) error {
			_, err := w.OpenSession(ctx, who.UserID, DeviceRequest{DeviceID: "other"})
			return err
		}, "", "M_UNKNOWN_TOKEN"},
		{"nothing", func(context.Context, *world, *Caller) error { return nil }, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			each(t, nil, func(w *world) {
				alice, bob := w.create("alice"), w.create("bob")
				own, other := w.open(alice, DeviceRequest{}), w.open(alice, DeviceRequest{DeviceID: "other", Refresh: true})
				bobs := w.open(bob, DeviceRequest{DeviceID: "other"})
				for _, s := range []*Session{own, other, bobs} {
					w.use(s.AccessToken, "")
				}
				who, err := w.Authenticate(request(own.AccessToken))
				w.must(err)
				w.must(test.end(w.t.Context(), w, who))
				w.use(own.AccessToken, test.own)
				w.use(other.AccessToken, test.other)
				w.use(bobs.AccessToken, "")
				if test.other == "M_UNKNOWN_TOKEN" {
					_, err := w.Refresh(w.t.Context(), other.RefreshToken)
					if told := w.wants("refresh", err, "M_UNKNOWN_TOKEN"); told != nil && told.Fields["soft_logout"] != nil {
						t.Error("the client is told to keep a device that is gone")
					}
				}
			})
		})
	}
}

func TestCacheRefusesWhatWasReadBeforeADrop(t *testing.T) {
	c := newTokenCache()
	hash := storage.HashToken("token")
	_, epoch := c.get(hash)
	c.drop([]storage.Hash{hash}) // while the database is read
	c.put(hash, &cachedSession{}, epoch)
	if s, _ := c.get(hash); s != nil {
		t.Fatal("a token that was dropped is in the cache")
	}
	_, epoch = c.get(hash)
	c.put(hash, &cachedSession{}, epoch)
	if s, _ := c.get(hash); s == nil {
		t.Fatal("the cache keeps nothing")
	}
}

func TestAuthenticate(t *testing.T) {
	each(t, func(o *Options) { o.Registration.Guests = true }, func(w *world) {
		ctx := w.t.Context()
		alice := w.create("alice")
		s := w.open(alice, DeviceRequest{})
		guest, err := w.RegisterGuest(ctx, "")
		w.must(err)
		w.use("", "M_MISSING_TOKEN")
		w.use("bp_unknown", "M_UNKNOWN_TOKEN")

		for _, test := range []struct {
			name  string
			auth  func(r *http.Request) (*Caller, error)
			token string
			code  string
		}{
			{"a user", w.AuthenticateUser, s.AccessToken, ""},
			{"a guest where none may be", w.AuthenticateUser, guest.AccessToken, "M_GUEST_ACCESS_FORBIDDEN"},
			{"a guest", w.Authenticate, guest.AccessToken, ""},
			{"no administrator", w.AuthenticateAdmin, s.AccessToken, "M_FORBIDDEN"},
			{"an unknown token where none is needed", w.AuthenticateOptional, "unknown", "M_UNKNOWN_TOKEN"},
		} {
			_, err := test.auth(request(test.token))
			w.wants(test.name, err, test.code)
		}
		if who, err := w.AuthenticateOptional(request("")); err != nil || who.UserID != "" {
			t.Errorf("nobody is %+v, %v", who, err)
		}
		w.must(w.SetAdmin(ctx, alice, true))
		w.must(w.SetSuspended(ctx, alice, true))
		who, err := w.AuthenticateAdmin(request(s.AccessToken))
		w.must(err)
		if want := (Caller{UserID: alice, DeviceID: s.DeviceID, Admin: true, Suspended: true}); *who != want {
			t.Errorf("the caller is %+v, want %+v", *who, want)
		}
		w.must(w.SetLocked(ctx, alice, true))
		if told := w.use(s.AccessToken, "M_USER_LOCKED"); told.Status != 401 || told.Fields["soft_logout"] != true {
			t.Errorf("a locked user is told %+v", told)
		}
		if who, err = w.AuthenticateLocked(request(s.AccessToken)); err != nil || who.UserID != alice {
			t.Errorf("a locked user who logs out is %+v, %v", who, err)
		}
		w.must(w.SetLocked(ctx, alice, false))
		w.use(s.AccessToken, "")
	})
}

func TestSeen(t *testing.T) {
	each(t, nil, func(w *world) {
		alice := w.create("alice")
		s := w.open(alice, DeviceRequest{DeviceID: "D"})
		w.now = w.now.Add(time.Hour)
		w.use(s.AccessToken, "")
		w.must(w.flushSeen(w.t.Context()))
		d, err := w.Device(w.t.Context(), alice, "D")
		w.must(err)
		if want := (storage.Seen{At: w.now.UnixMilli(), Agent: "test/1"}); d.Seen != want {
			t.Errorf("the device was seen %+v, want %+v", d.Seen, want)
		}
		w.now = w.now.Add(time.Second)
		w.use(s.AccessToken, "")
		if len(w.seen.take()) != 0 {
			t.Error("each request is noted")
		}

		// The end of Run writes the rest.
		w.now = w.now.Add(time.Hour)
		w.use(s.AccessToken, "")
		ctx, cancel := context.WithCancel(w.t.Context())
		cancel()
		w.must(w.Run(ctx))
		if d, err = w.Device(w.t.Context(), alice, "D"); err != nil || d.Seen.At != w.now.UnixMilli() {
			t.Errorf("after the end the device was seen %+v, %v", d.Seen, err)
		}
	})
}

func TestCheckPassword(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := w.t.Context()
		alice := w.create("alice")
		byUser := &Identifier{Type: "m.id.user", User: "alice"}
		for _, test := range []struct {
			name     string
			id       *Identifier
			user     string
			password string
			code     string
		}{
			{"by localpart", byUser, "", password, ""},
			{"by user id in capitals", &Identifier{Type: "m.id.user", User: "@ALICE:example.org"}, "", password, ""},
			{"by the deprecated user", nil, "alice", password, ""},
			{"wrong password", byUser, "", password + "x", "M_FORBIDDEN"},
			{"empty password", byUser, "", "", "M_FORBIDDEN"},
			{"long password", byUser, "", strings.Repeat("x", 10_000), "M_FORBIDDEN"},
			{"unknown user", &Identifier{Type: "m.id.user", User: "zoe"}, "", password, "M_FORBIDDEN"},
			{"user of another server", &Identifier{Type: "m.id.user", User: "@alice:example.com"}, "", password, "M_FORBIDDEN"},
			{"what is no name", &Identifier{Type: "m.id.user", User: "a\x00\xff"}, "", password, "M_FORBIDDEN"},
			{"unknown mail address", &Identifier{Type: "m.id.thirdparty"}, "", password, "M_FORBIDDEN"},
			{"nobody", nil, "", password, "M_MISSING_PARAM"},
			{"identifier of nobody", &Identifier{Type: "m.id.user"}, "alice", password, "M_MISSING_PARAM"},
			{"unknown identifier", &Identifier{Type: "m.id.dna"}, "", password, "M_INVALID_PARAM"},
		} {
			userID, err := w.CheckPassword(ctx, test.id, test.user, test.password)
			w.wants(test.name, err, test.code)
			if err == nil && userID != alice {
				t.Errorf("%s: the user is %q", test.name, userID)
			}
		}
		_, wrong := w.CheckPassword(ctx, byUser, "", "wrong")
		_, unknown := w.CheckPassword(ctx, &Identifier{Type: "m.id.user", User: "zoe"}, "", "wrong")
		if wrong.Error() != unknown.Error() {
			t.Errorf("an unknown user is told %q, a wrong password %q", unknown, wrong)
		}

		w.must(w.SetLocked(ctx, alice, true))
		_, err := w.CheckPassword(ctx, byUser, "", password)
		w.wants("a locked account", err, "M_USER_LOCKED")
		w.must(w.SetLocked(ctx, alice, false))
		w.must(w.Deactivate(ctx, alice, false))
		_, err = w.CheckPassword(ctx, byUser, "", password)
		w.wants("a deactivated account", err, "M_USER_DEACTIVATED")
		_, err = w.CheckPassword(ctx, byUser, "", "wrong")
		w.wants("a deactivated account with a wrong password", err, "M_FORBIDDEN")
		w.must(w.SetPassword(ctx, alice, "a new one", true))
		_, err = w.CheckPassword(ctx, byUser, "", "a new one")
		w.wants("a deactivated account with a new password", err, "M_USER_DEACTIVATED")
		_, err = w.OpenSession(ctx, alice, DeviceRequest{})
		w.wants("a session of a deactivated account", err, "M_USER_DEACTIVATED")
		w.must(w.Deactivate(ctx, alice, true))
		_, err = w.CheckPassword(ctx, byUser, "", "a new one")
		w.wants("an erased account", err, "M_FORBIDDEN")
	})
}

func TestBcryptIsReplacedAtLogin(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := w.t.Context()
		alice := w.create("alice")
		old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		w.must(err)
		w.must(w.db.Write(ctx, func(tx *storage.Tx) error { return tx.SetPassword(ctx, alice, string(old)) }))
		for range 2 {
			_, err = w.CheckPassword(ctx, nil, "alice", password)
			w.must(err)
			c, err := w.db.Credentials(ctx, alice)
			w.must(err)
			if !strings.HasPrefix(c.Password, "$argon2id$") {
				t.Errorf("the hash is %q", c.Password)
			}
		}
	})
}

func TestGuessesAreLimited(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		limiter := web.NewLimiter(map[string]web.Rate{LimitLogin: {PerSecond: 1e-6, Burst: 15}}, nil)
		w := &world{Accounts: New(Options{DB: db, ServerName: "example.org", Hashing: CheapHashing, Limiter: limiter}), t: t}
		ctx := t.Context()
		w.create("alice")
		w.create("bob")
		for range 30 { // right ones are not counted
			_, err := w.CheckPassword(ctx, nil, "alice", password)
			w.must(err)
		}
		for range 10 {
			_, err := w.CheckPassword(ctx, nil, "Alice", "wrong")
			w.wants("a guess", err, "M_FORBIDDEN")
		}
		_, err := w.CheckPassword(ctx, nil, "@alice:example.org", password)
		if told := w.wants("the eleventh", err, "M_LIMIT_EXCEEDED"); told.RetryAfter <= 0 {
			t.Error("it is not told how long to wait")
		}
		_, err = w.CheckPassword(ctx, nil, "bob", password)
		w.must(err)
		for i := range 5 {
			_, err = w.CheckPassword(ctx, nil, fmt.Sprint("user", i), "wrong")
			w.wants("a guess elsewhere", err, "M_FORBIDDEN")
		}
		_, err = w.CheckPassword(ctx, nil, "bob", password)
		w.wants("the address has guessed too much", err, "M_LIMIT_EXCEEDED")
	})
}

func TestLoginToken(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := w.t.Context()
		alice := w.create("alice")
		token, lifetime, err := w.NewLoginToken(ctx, alice)
		w.must(err)
		if lifetime != 2*time.Minute {
			t.Errorf("it works for %v", lifetime)
		}
		_, err = w.LoginByToken(ctx, token, DeviceRequest{DeviceID: "bad id"})
		w.wants("a bad device", err, "M_INVALID_PARAM")

		var wg sync.WaitGroup
		sessions := make([]*Session, 10)
		for i := range sessions {
			wg.Go(func() { sessions[i], _ = w.LoginByToken(ctx, token, DeviceRequest{}) })
		}
		wg.Wait()
		n := 0
		for _, s := range sessions {
			if s != nil {
				n++
				w.use(s.AccessToken, "")
			}
		}
		if n != 1 {
			t.Errorf("one token logs in %d times", n)
		}

		token, _, err = w.NewLoginToken(ctx, alice)
		w.must(err)
		w.use(token, "M_UNKNOWN_TOKEN")
		w.now = w.now.Add(lifetime)
		_, err = w.LoginByToken(ctx, token, DeviceRequest{})
		w.wants("a token that has expired", err, "M_FORBIDDEN")
		w.must(w.removeExpired(ctx))

		token, _, err = w.NewLoginToken(ctx, alice)
		w.must(err)
		w.must(w.Deactivate(ctx, alice, false))
		_, err = w.LoginByToken(ctx, token, DeviceRequest{})
		w.wants("a deactivated user's token", err, "M_FORBIDDEN")
	})
}

func TestOpenID(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := w.t.Context()
		alice := w.create("alice")
		token, lifetime, err := w.NewOpenIDToken(ctx, alice)
		w.must(err)
		for range 2 {
			userID, err := w.OpenIDUser(ctx, token)
			w.must(err)
			if userID != alice {
				t.Errorf("the token is of %q", userID)
			}
		}
		w.use(token, "M_UNKNOWN_TOKEN")
		_, err = w.LoginByToken(ctx, token, DeviceRequest{})
		w.wants("login with it", err, "M_FORBIDDEN")
		w.now = w.now.Add(lifetime)
		_, err = w.OpenIDUser(ctx, token)
		w.wants("after its time", err, "M_UNKNOWN_TOKEN")
	})
}

func TestDeactivate(t *testing.T) {
	var w *world
	var left []string
	var broken error
	leave := func(_ context.Context, user User) error {
		left = append(left, fmt.Sprint(user.ID, user.Erased))
		return broken
	}
	each(t, func(o *Options) { o.OnDeactivate = append(o.OnDeactivate, leave) }, func(world *world) {
		w, left = world, nil
		ctx := w.t.Context()
		alice := w.create("alice")
		w.wants("an unknown user", w.Deactivate(ctx, "@zoe:example.org", false), "M_NOT_FOUND")

		broken = errors.New("the room is busy")
		w.must(w.Deactivate(ctx, alice, true))
		broken = nil
		w.must(w.finishDeactivations(ctx))
		w.must(w.finishDeactivations(ctx))
		if want := "[@alice:example.orgtrue @alice:example.orgtrue]"; fmt.Sprint(left) != want {
			w.t.Errorf("it was done for %v, want %v", left, want)
		}
		_, err := w.CreateUser(ctx, "alice", password, false)
		w.wants("the name again", err, "M_USER_IN_USE")
	})
}

func TestDevicesOfAUser(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := w.t.Context()
		alice, bob := w.create("alice"), w.create("bob")
		w.open(alice, DeviceRequest{DeviceID: "D", DisplayName: "phone"})
		w.open(alice, DeviceRequest{DeviceID: "D", DisplayName: "another name"})
		made := w.open(alice, DeviceRequest{})
		if len(made.DeviceID) != 10 || strings.Trim(made.DeviceID, capitals) != "" {
			t.Errorf("the server made the device id %q", made.DeviceID)
		}
		name := "tablet"
		w.must(w.RenameDevice(ctx, alice, "D", nil))
		if d, err := w.Device(ctx, alice, "D"); err != nil || d.DisplayName != "phone" {
			t.Errorf("the device is %+v, %v", d, err)
		}
		w.must(w.RenameDevice(ctx, alice, "D", &name))
		w.wants("another user's device", w.RenameDevice(ctx, bob, "D", &name), "M_NOT_FOUND")
		w.wants("no device", w.RenameDevice(ctx, bob, "D", nil), "M_NOT_FOUND")
		w.wants("no id", w.RenameDevice(ctx, alice, "\x00", &name), "M_NOT_FOUND")
		long := strings.Repeat("x", 256)
		w.wants("a long name", w.RenameDevice(ctx, alice, "D", &long), "M_INVALID_PARAM")
		for _, d := range []DeviceRequest{{DeviceID: long}, {DeviceID: "a b"}, {DeviceID: "a\x00"}, {DisplayName: long}, {DisplayName: "\x00"}} {
			_, err := w.OpenSession(ctx, alice, d)
			w.wants(fmt.Sprintf("%+v", d), err, "M_INVALID_PARAM")
		}
		devices, err := w.Devices(ctx, alice)
		w.must(err)
		if len(devices) != 2 {
			t.Errorf("the devices are %+v", devices)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	db := storagetest.Open(b, storagetest.SQLiteURL(b))
	a := New(Options{DB: db, ServerName: "example.org", Hashing: CheapHashing})
	userID, err := a.CreateUser(b.Context(), "alice", password, false)
	if err != nil {
		b.Fatal(err)
	}
	s, err := a.OpenSession(b.Context(), userID, DeviceRequest{})
	if err != nil {
		b.Fatal(err)
	}
	r := request(s.AccessToken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
