package account

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/matrix"
	"beep/storage"
)

// token makes a registration token.
func (w *world) token(uses int64) string {
	w.t.Helper()
	t, err := w.NewRegistrationToken(w.t.Context(), storage.RegistrationToken{UsesAllowed: &uses}, 16)
	w.must(err)
	return t.Token
}

var dummy = &AuthData{Type: StageDummy}

func TestRegister(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := t.Context()
		s, err := w.Register(ctx, NewAccount{Username: "Alice", Password: password, Device: DeviceRequest{DeviceID: "D", DisplayName: "phone"}}, dummy)
		w.must(err)
		if s.UserID != "@alice:example.org" || s.DeviceID != "D" {
			t.Errorf("registered as %+v", s)
		}
		w.use(s.AccessToken, "")
		_, err = w.CheckPassword(ctx, nil, "alice", password)
		w.must(err)

		for what, test := range map[string]struct {
			n    NewAccount
			code string
		}{
			"a name that is taken": {NewAccount{Username: "ALICE", Password: password}, "M_USER_IN_USE"},
			"a bad name":           {NewAccount{Username: "a b", Password: password}, "M_INVALID_USERNAME"},
			"a long password":      {NewAccount{Username: "bob", Password: strings.Repeat("x", 513)}, "M_INVALID_PARAM"},
			"a bad device":         {NewAccount{Username: "bob", Password: password, Device: DeviceRequest{DeviceID: " "}}, "M_INVALID_PARAM"},
		} {
			for _, auth := range []*AuthData{nil, dummy} { // also before the person has done anything
				_, err := w.Register(ctx, test.n, auth)
				w.wants(what, err, test.code)
			}
		}
		_, err = w.Register(ctx, NewAccount{Username: "bob"}, dummy)
		w.wants("no password", err, "M_MISSING_PARAM")

		s, err = w.Register(ctx, NewAccount{Password: password, InhibitLogin: true}, dummy)
		w.must(err)
		if _, err := w.User(ctx, s.UserID); err != nil || s.AccessToken != "" || s.DeviceID != "" {
			t.Errorf("registered without login: %+v, %v", s, err)
		}
	})
}

func TestRegistrationIsClosed(t *testing.T) {
	each(t, func(o *Options) { o.Registration = Registration{} }, func(w *world) {
		ctx := t.Context()
		_, err := w.Register(ctx, NewAccount{Username: "alice", Password: password}, dummy)
		w.wants("register", err, "M_FORBIDDEN")
		_, err = w.RegisterGuest(ctx, "")
		w.wants("register a guest", err, "M_FORBIDDEN")
		w.wants("ask for a name", w.Available(ctx, "alice"), "M_FORBIDDEN")
		_, err = w.RegistrationTokenValid(ctx, "x")
		w.wants("ask for a token", err, "M_FORBIDDEN")
		_, err = w.NewNonce()
		w.wants("a nonce", err, "M_FORBIDDEN")
		_, err = w.RegisterBySecret(ctx, SecretRegistration{})
		w.wants("the empty secret", err, "M_FORBIDDEN")
	})
}

// TestRegistrationRemembers checks that later requests of a session need not repeat
// what the first one said, and that the last can be repeated.
func TestRegistrationRemembers(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := t.Context()
		first := NewAccount{Username: "alice", Password: password, Device: DeviceRequest{DeviceID: "D", DisplayName: "phone"}}
		_, err := w.Register(ctx, first, nil)
		session := w.challenged("no auth", err, "")
		auth := &AuthData{Type: StageDummy, Session: session}
		_, err = w.Register(ctx, NewAccount{Username: "bob"}, auth)
		w.wants("another name", err, "M_FORBIDDEN")

		var tokens []string
		for range 2 {
			s, err := w.Register(ctx, NewAccount{}, auth)
			w.must(err)
			if s.UserID != "@alice:example.org" || s.DeviceID != "D" {
				t.Errorf("registered as %+v", s)
			}
			tokens = append(tokens, s.AccessToken)
		}
		w.use(tokens[0], "M_UNKNOWN_TOKEN")
		w.use(tokens[1], "")
		d, err := w.Device(ctx, "@alice:example.org", "D")
		if err != nil || d.DisplayName != "phone" {
			t.Errorf("the device is %+v, %v", d, err)
		}
		_, err = w.CheckPassword(ctx, nil, "alice", password)
		w.must(err)
		s, err := w.Register(ctx, first, auth) // with all that was said at first
		w.must(err)
		w.use(s.AccessToken, "")

		w.now = w.now.Add(repeatLifetime)
		_, err = w.Register(ctx, NewAccount{}, auth)
		w.challenged("a repetition much later", err, "M_FORBIDDEN")

		// A client may ask for the flows before it asks the person anything.
		_, err = w.Register(ctx, NewAccount{}, nil)
		auth.Session = w.challenged("nothing at all", err, "")
		_, err = w.Register(ctx, NewAccount{Username: "bob", Password: password}, auth)
		w.must(err)
	})
}

func TestParallelRegistration(t *testing.T) {
	each(t, nil, func(w *world) {
		const n = 50
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, errs[i] = w.Register(t.Context(), NewAccount{Username: "alice", Password: fmt.Sprint("password ", i)}, dummy)
			})
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("%d and %d have the name", won, i)
			case err == nil:
				won = i
			case !errors.Is(err, matrix.UserInUse):
				t.Errorf("%d: %v", i, err)
			}
		}
		if _, err := w.CheckPassword(t.Context(), nil, "alice", fmt.Sprint("password ", won)); err != nil {
			t.Errorf("the winner %d: %v", won, err)
		}
	})
}

func TestRegistrationWithToken(t *testing.T) {
	each(t, func(o *Options) { o.Registration.TokenRequired = true }, func(w *world) {
		ctx := t.Context()
		token := w.token(2)
		register := func(name, session, token string) error {
			_, err := w.Register(ctx, NewAccount{Username: name, Password: password}, &AuthData{Type: StageRegistrationToken, Session: session, Token: token})
			return err
		}
		pending := func(want int64) {
			t.Helper()
			got, err := w.RegistrationToken(ctx, token)
			if err != nil || got.Pending != want {
				t.Errorf("the token is %+v, %v; want %d pending", got, err, want)
			}
		}
		_, err := w.Register(ctx, NewAccount{Username: "alice", Password: password}, dummy)
		w.challenged("the dummy", err, "M_FORBIDDEN")
		w.challenged("an unknown token", register("alice", "", "unknown"), "M_FORBIDDEN")
		w.challenged("what is no token", register("alice", "", "\x00"), "M_FORBIDDEN")
		w.wants("no token", register("alice", "", ""), "M_MISSING_PARAM")
		w.must(register("alice", "", token))
		pending(0)

		// Who has passed the stage and not finished keeps the last use from others …
		_, err = w.Register(ctx, NewAccount{Username: "bob"}, &AuthData{Type: StageRegistrationToken, Token: token})
		w.wants("no password", err, "M_MISSING_PARAM")
		pending(1)
		w.challenged("no use left", register("carol", "", token), "M_FORBIDDEN")
		if valid, err := w.RegistrationTokenValid(ctx, token); valid || err != nil {
			t.Errorf("it is valid: %v, %v", valid, err)
		}
		// … for a while.
		w.now = w.now.Add(interactionLifetime)
		w.interactions.sweep()
		pending(0)
		if valid, err := w.RegistrationTokenValid(ctx, token); !valid || err != nil {
			t.Errorf("it is not valid: %v, %v", valid, err)
		}

		var wg sync.WaitGroup
		errs := make([]error, 10)
		for i := range errs {
			wg.Go(func() { errs[i] = register(fmt.Sprint("user", i), "", token) })
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			}
		}
		if made != 1 {
			t.Errorf("the last use of the token made %d accounts", made)
		}
		pending(0)
	})
}

func TestRegistrationTokenAdministration(t *testing.T) {
	each(t, nil, func(w *world) {
		ctx := t.Context()
		n := func(n int64) *int64 { return &n }
		past, future := n(w.now.UnixMilli()-1), n(w.now.UnixMilli()+1000)
		for what, test := range map[string]struct {
			t      storage.RegistrationToken
			length int
		}{
			"a length of 0":    {storage.RegistrationToken{}, 0},
			"a length of 65":   {storage.RegistrationToken{}, 65},
			"a slash":          {storage.RegistrationToken{Token: "a/b"}, 16},
			"65 characters":    {storage.RegistrationToken{Token: strings.Repeat("a", 65)}, 16},
			"less than 0 uses": {storage.RegistrationToken{UsesAllowed: n(-1)}, 16},
			"the past":         {storage.RegistrationToken{Expires: past}, 16},
		} {
			_, err := w.NewRegistrationToken(ctx, test.t, test.length)
			w.wants(what, err, "M_INVALID_PARAM")
		}
		made, err := w.NewRegistrationToken(ctx, storage.RegistrationToken{Token: "mine", UsesAllowed: n(0), Expires: future}, 16)
		w.must(err)
		_, err = w.NewRegistrationToken(ctx, made.RegistrationToken, 16)
		w.wants("the name again", err, "M_INVALID_PARAM")
		random := w.token(1)
		if len(random) != 16 {
			t.Errorf("the random token is %q", random)
		}
		list := func(valid *bool, want ...string) {
			t.Helper()
			tokens, err := w.RegistrationTokens(ctx, valid)
			w.must(err)
			names := []string{}
			for _, t := range tokens {
				names = append(names, t.Token)
			}
			if len(names) != len(want) || strings.Join(names, " ") != strings.Join(want, " ") && len(want) < 2 {
				t.Errorf("the tokens are %v, want %v", names, want)
			}
		}
		yes, no := true, false
		list(&yes, random)
		list(&no, "mine")
		list(nil, "mine", random)

		w.now = w.now.Add(time.Hour)
		update := func(change func(t *storage.RegistrationToken)) error {
			_, err := w.UpdateRegistrationToken(ctx, "mine", change)
			return err
		}
		w.must(update(func(t *storage.RegistrationToken) { t.UsesAllowed = n(5) }))
		list(&no, "mine")
		w.wants("the past", update(func(t *storage.RegistrationToken) { t.Expires = past }), "M_INVALID_PARAM")
		w.wants("less than 0 uses", update(func(t *storage.RegistrationToken) { t.UsesAllowed = n(-1) }), "M_INVALID_PARAM")
		w.must(update(func(t *storage.RegistrationToken) { t.Expires = nil }))
		list(&yes, "mine", random)
		w.must(w.DeleteRegistrationToken(ctx, "mine"))
		w.wants("delete it again", w.DeleteRegistrationToken(ctx, "mine"), "M_NOT_FOUND")
		w.wants("update it", update(func(*storage.RegistrationToken) {}), "M_NOT_FOUND")
		w.wants("delete what is no token", w.DeleteRegistrationToken(ctx, "\x00"), "M_NOT_FOUND")
	})
}

func TestGuestBecomesAUser(t *testing.T) {
	each(t, func(o *Options) { o.Registration.Guests = true }, func(w *world) {
		ctx := t.Context()
		guest, err := w.RegisterGuest(ctx, "browser")
		w.must(err)
		localpart, _, _ := matrix.SplitID('@', guest.UserID)
		alice := w.open(w.create("alice"), DeviceRequest{})
		upgrade := func(name, token string) (*Session, error) {
			return w.Register(ctx, NewAccount{Username: name, Password: password, GuestToken: token}, dummy)
		}
		for what, test := range map[string]struct{ name, token, code string }{
			"another name":   {"bob", guest.AccessToken, "M_INVALID_USERNAME"},
			"no name":        {"", guest.AccessToken, "M_INVALID_USERNAME"},
			"no guest":       {"alice", alice.AccessToken, "M_FORBIDDEN"},
			"no token":       {localpart, "", "M_USER_IN_USE"},
			"unknown tokens": {localpart, "x", "M_UNKNOWN_TOKEN"},
		} {
			_, err := upgrade(test.name, test.token)
			w.wants(what, err, test.code)
		}
		s, err := upgrade(localpart, guest.AccessToken)
		w.must(err)
		if s.UserID != guest.UserID {
			t.Errorf("the user is %q", s.UserID)
		}
		for _, token := range []string{s.AccessToken, guest.AccessToken} {
			if who, err := w.AuthenticateUser(request(token)); err != nil || who.Guest {
				t.Errorf("it is %+v, %v", who, err)
			}
		}
		_, err = w.CheckPassword(ctx, nil, localpart, password)
		w.must(err)
		_, err = upgrade(localpart, guest.AccessToken)
		w.wants("once more", err, "M_FORBIDDEN")
	})
}

func TestRegisterBySecret(t *testing.T) {
	each(t, func(o *Options) { o.Registration = Registration{SharedSecret: "a secret"} }, func(w *world) {
		ctx := t.Context()
		wish := func(name, password string) SecretRegistration {
			nonce, err := w.NewNonce()
			w.must(err)
			r := SecretRegistration{Nonce: nonce, Username: name, Password: password}
			r.MAC = hex.EncodeToString(r.mac("a secret"))
			return r
		}
		try := func(what string, r SecretRegistration, code string) *Session {
			t.Helper()
			s, err := w.RegisterBySecret(ctx, r)
			w.wants(what, err, code)
			return s
		}
		r := wish("Alice", password)
		s := try("alice", r, "")
		w.use(s.AccessToken, "")
		try("the nonce again", r, "M_INVALID_PARAM")

		r = wish("bob", password)
		r.Admin = true
		try("rights that were not signed for", r, "M_FORBIDDEN")
		r.Admin = false
		try("after that", r, "M_INVALID_PARAM")

		r = wish("bob", password)
		r.Admin, r.UserType, r.InhibitLogin, r.DisplayName = true, "bot", true, "Bob"
		r.MAC = hex.EncodeToString(r.mac("a secret"))
		s = try("an administrator", r, "")
		if u, err := w.User(ctx, s.UserID); err != nil || !u.Admin || u.Type != "bot" || s.AccessToken != "" {
			t.Errorf("it is %+v, %v, with %+v", u, err, s)
		}
		if name, err := w.ProfileField(ctx, s.UserID, "displayname"); err != nil || string(name) != `"Bob"` {
			t.Errorf("it is shown as %s, %v", name, err)
		}
		r = wish("erin", password)
		r.DisplayName = "\x00"
		try("a bad display name", r, "M_INVALID_PARAM")
		r = wish("carol", password)
		r.MAC = "zz"
		try("what is no MAC", r, "M_FORBIDDEN")
		r = wish("carol", password)
		w.now = w.now.Add(nonceLifetime)
		try("an old nonce", r, "M_INVALID_PARAM")
		try("a taken name", wish("alice", password), "M_USER_IN_USE")
		try("a bad name", wish("us,er", password), "M_INVALID_USERNAME")
		try("no password", wish("dave", ""), "M_WEAK_PASSWORD")
	})
}

// The expected values are those of another implementation of HMAC-SHA1.
func TestSecretMAC(t *testing.T) {
	r := SecretRegistration{Nonce: "thisisanonce", Username: "pepper_roni", Password: "pizza", Admin: true}
	if got := hex.EncodeToString(r.mac("shared_secret")); got != "48715842ad67d5dc9a9ee938a3bda4fcfae8d7c7" {
		t.Errorf("the MAC is %s", got)
	}
	r.Admin, r.UserType = false, "bot"
	if got := hex.EncodeToString(r.mac("shared_secret")); got != "b269635cb53e1adc15073ae7ffbd000b836b3105" {
		t.Errorf("the MAC with a user type is %s", got)
	}
}

func TestAppservice(t *testing.T) {
	irc := Appservice{ID: "irc", Token: "as_token", Sender: "@irc:example.org",
		Users: []Namespace{{Exclusive: true, Pattern: regexp.MustCompile(`^@_irc_.*:example\.org$`)}}}
	other := Appservice{ID: "other", Token: "other_token", Sender: "@other:example.org",
		Users: []Namespace{{Pattern: regexp.MustCompile(`^@.*$`)}}}
	each(t, func(o *Options) { o.Appservices = []Appservice{irc, other} }, func(w *world) {
		ctx := t.Context()
		as, err := w.AppserviceOf(request("as_token"))
		w.must(err)
		alice := w.open(w.create("alice"), DeviceRequest{})
		_, err = w.AppserviceOf(request(""))
		w.wants("no token", err, "M_MISSING_TOKEN")
		_, err = w.AppserviceOf(request(alice.AccessToken))
		w.wants("a user's token", err, "M_UNKNOWN_TOKEN")

		for _, name := range []string{"_irc_bob", "irc"} {
			w.wants(name+" for people", w.Available(ctx, name), "M_EXCLUSIVE")
			_, err = w.Register(ctx, NewAccount{Username: name, Password: password}, dummy)
			w.wants(name+" for people", err, "M_EXCLUSIVE")
		}
		_, err = w.RegisterByAppservice(ctx, as, NewAccount{Username: "carol"})
		w.wants("a user of nobody", err, "M_EXCLUSIVE")
		_, err = w.RegisterByAppservice(ctx, as, NewAccount{})
		w.wants("no name", err, "M_MISSING_PARAM")
		otherAS, err := w.AppserviceOf(request("other_token"))
		w.must(err)
		_, err = w.RegisterByAppservice(ctx, otherAS, NewAccount{Username: "_irc_bob"})
		w.wants("a user of another application service", err, "M_EXCLUSIVE")

		bob, err := w.RegisterByAppservice(ctx, as, NewAccount{Username: "_irc_bob", Device: DeviceRequest{DeviceID: "D"}})
		w.must(err)
		w.use(bob.AccessToken, "")
		_, err = w.RegisterByAppservice(ctx, as, NewAccount{Username: "_irc_bob"})
		w.wants("once more", err, "M_USER_IN_USE")
		_, err = w.CheckPassword(ctx, nil, "_irc_bob", password)
		w.wants("a password", err, "M_FORBIDDEN")

		_, err = w.LoginByAppservice(ctx, as, nil, "_irc_bob", DeviceRequest{})
		w.must(err)
		_, err = w.LoginByAppservice(ctx, as, nil, "alice", DeviceRequest{})
		w.wants("login of a stranger", err, "M_EXCLUSIVE")
		_, err = w.LoginByAppservice(ctx, as, nil, "_irc_carol", DeviceRequest{})
		w.wants("login of nobody", err, "M_FORBIDDEN")

		assert := func(what, query, code string, want Caller) {
			t.Helper()
			r := request("as_token")
			r.URL.RawQuery = query
			who, err := w.Authenticate(r)
			w.wants(what, err, code)
			if err == nil && *who != want {
				t.Errorf("%s: it is %+v, want %+v", what, *who, want)
			}
		}
		assert("itself", "", "", Caller{UserID: irc.Sender, Appservice: as})
		assert("its user", "user_id=@_irc_bob:example.org", "", Caller{UserID: bob.UserID, Appservice: as})
		assert("its user's device", "user_id=@_irc_bob:example.org&device_id=D", "", Caller{UserID: bob.UserID, DeviceID: "D", Appservice: as})
		assert("no device", "user_id=@_irc_bob:example.org&device_id=E", "M_UNKNOWN_DEVICE", Caller{})
		assert("a stranger", "user_id=@alice:example.org", "M_FORBIDDEN", Caller{})
		assert("nobody", "user_id=@_irc_carol:example.org", "M_FORBIDDEN", Caller{})
		assert("what is no user id", "user_id=@_irc_%00:example.org", "M_FORBIDDEN", Caller{})
		r := request("as_token")
		_, err = w.AuthenticateAdmin(r)
		w.wants("an administrator", err, "M_FORBIDDEN")
		if who, err := w.Authenticate(r); err != nil || !who.Unlimited() {
			t.Errorf("rate limits hold for it: %v", err)
		}
		if made, err := w.PutDevice(ctx, bob.UserID, "NEW", nil); !made || err != nil {
			t.Errorf("a new device: %v, %v", made, err)
		}
		name := "x"
		if made, err := w.PutDevice(ctx, bob.UserID, "NEW", &name); made || err != nil {
			t.Errorf("the device again: %v, %v", made, err)
		}
		if d, err := w.Device(ctx, bob.UserID, "NEW"); err != nil || d.DisplayName != "x" {
			t.Errorf("the device is %+v, %v", d, err)
		}
		w.wants("logout without device", w.Logout(ctx, &Caller{UserID: bob.UserID, Appservice: as}), "M_FORBIDDEN")
	})
}
