package tests

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq"           // for dump
	_ "github.com/mattn/go-sqlite3" // for dump

	"beep/tests/harness"
)

// dump is the whole content of a server's database as text, with its binary columns in
// hexadecimal and as they are.
func dump(t *testing.T, srv *harness.Server) string {
	t.Helper()
	driver, url, tables := "postgres", srv.Database, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`
	if srv.Engine == harness.SQLite {
		driver, url, tables = "sqlite3", "file:"+strings.TrimPrefix(srv.Database, "sqlite:")+"?mode=ro", `SELECT name FROM sqlite_master WHERE type = 'table'`
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all strings.Builder
	for _, table := range texts(t, db, tables) {
		dumpTable(t, db, table, &all)
	}
	return all.String()
}

func texts(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func dumpTable(t *testing.T, db *sql.DB, table string, all *strings.Builder) {
	t.Helper()
	rows, err := db.Query(`SELECT * FROM "` + table + `"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			if raw, ok := value.([]byte); ok {
				fmt.Fprintf(all, "%s %s\n", raw, hex.EncodeToString(raw))
				continue
			}
			fmt.Fprintln(all, value)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAttackA01Tokens(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "token")
		seen := map[string]bool{}
		characters := map[rune]int{}
		total := 0
		for range 40 {
			c := user.Login(object{"refresh_token": true})
			for _, token := range []string{c.AccessToken, c.RefreshToken} {
				secret := token[strings.LastIndexByte(token, '_')+1:]
				if i := strings.IndexByte(token, '_'); i >= 0 {
					secret = token[i+1:]
				}
				if seen[token] || len(secret) < 43 { // 256 bits in base64
					t.Fatalf("token %q", token)
				}
				seen[token] = true
				for _, r := range secret[:43] {
					characters[r]++
					total++
				}
			}
		}
		// 3440 characters of an alphabet of 64: each about 54 times. None is near twice that
		// but for a generator that is not one.
		for r, n := range characters {
			if n > total/32 {
				t.Errorf("%q occurs %d times in %d characters", r, n, total)
			}
		}
		if len(characters) < 48 {
			t.Errorf("only %d different characters occur", len(characters))
		}
	})
}

// Nothing that lets somebody in can be read from the database or the log, nor what people
// wrote or who they are from the figures.
func TestAttackA04A19SecretsAreKept(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "logging: {level: debug}\nmetrics: {listen: 'unix:metrics.sock'}"}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		secrets := map[string]string{"password": "canary-password-1", "new password": "canary-password-2", "wrong password": "canary-password-3",
			"password of a registration that was not finished": "canary-password-4"}
		c.Post("/v3/register", object{"username": "pending", "password": secrets["password of a registration that was not finished"]})
		c.Password = secrets["password"]
		registered := c.Post("/v3/register", object{"username": "canary", "password": c.Password, "auth": dummy}).OK()
		c.UserID, c.AccessToken = registered.At("user_id").Str(), registered.At("access_token").Str()
		other := c.Login(object{"refresh_token": true})
		secrets["access token"], secrets["second access token"], secrets["refresh token"] = c.AccessToken, other.AccessToken, other.RefreshToken
		secrets["login token"] = c.Prove("POST", "/v1/login/get_token", object{}).OK().At("login_token").Str()
		c.Prove("POST", "/v3/account/password", object{"new_password": secrets["new password"], "logout_devices": false}).OK()
		c.Post("/v3/login", harness.PasswordLogin("canary", secrets["wrong password"], nil)).Fails(403, "M_FORBIDDEN")
		secrets["token in the query"] = "canary-in-the-query"
		c.Unchecked().Get("/v3/account/whoami", "access_token", secrets["token in the query"])
		secrets["openid token"] = c.Post(harness.Path("/v3/user/%s/openid/request_token", c.UserID), nil).OK().At("access_token").Str()
		secrets["shared secret"] = sharedSecret(t, srv)
		c.CreateRoom(object{"name": "canary-room-name"})
		c.Post("/v3/createRoom", `{"name": "canary-in-broken-json"`)

		figures := metrics(t, srv)
		log, content := srv.Log(), dump(t, srv)
		for name, secret := range secrets {
			for place, text := range map[string]string{"database": content, "log": log, "metrics": figures} {
				if secret == "" || strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString([]byte(secret))) {
					t.Errorf("the %s is in the %s", name, place)
				}
			}
		}
		for place, text := range map[string]string{"log": log, "metrics": figures} {
			for _, private := range []string{"canary-room-name", "canary-in-broken-json"} {
				if strings.Contains(text, private) {
					t.Errorf("%s is in the %s", private, place)
				}
			}
		}
		if !strings.Contains(content, "canary-room-name") || !strings.Contains(figures, "go_goroutines") {
			t.Error("this test does not look where the data are")
		}
	})
}

// metrics are the figures that the server publishes at its metrics address.
func metrics(t *testing.T, srv *harness.Server) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(srv.Dir, "metrics.sock"))
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://metrics/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAttackA02WellKnownSecrets(t *testing.T) {
	t.Parallel()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{`""`, "changeme", "secret", "password", "short"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "homeserver.yaml")
		if err := os.WriteFile(file, []byte("registration: {shared_secret: "+secret+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), binary, "serve", "--config", file, "--listen", "127.0.0.1:0")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "registration.shared_secret") {
			t.Errorf("%s: the server started, or does not say why not: %v %s", secret, err, out)
		}
	}
}

func TestAttackA03Deactivated(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "gone")
		refreshing := user.Login(object{"refresh_token": true})
		loginToken := user.Prove("POST", "/v1/login/get_token", object{}).OK().At("login_token").Str()
		user.Prove("POST", "/v3/account/deactivate", object{}).OK()
		c := srv.Client(t)
		for _, name := range []string{localpart(user), user.UserID} {
			c.Post("/v3/login", harness.PasswordLogin(name, user.Password, nil)).Fails(403, "M_USER_DEACTIVATED")
		}
		if r := c.Post("/v3/login", object{"type": "m.login.token", "token": loginToken}); r.Status != 403 {
			t.Errorf("login token: status %d %s", r.Status, r.Body)
		}
		if r := c.Post("/v3/refresh", object{"refresh_token": refreshing.RefreshToken}); r.Status != 401 && r.Status != 403 {
			t.Errorf("refresh token: status %d %s", r.Status, r.Body)
		}
		for _, session := range []*harness.Client{user, refreshing} {
			session.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
			session.Get("/v3/sync").Fails(401, "M_UNKNOWN_TOKEN")
		}
	})
}

func TestAttackA05OneNameOneAccount(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, stages := range []bool{false, true} {
			name := srv.UniqueName("contested")
			c := srv.Client(t)
			var mu sync.Mutex
			won, lost := 0, 0
			var all sync.WaitGroup
			for i := range 50 {
				body := object{"username": name, "password": fmt.Sprintf("password of %d", i)}
				auth := object{"type": "m.login.dummy"}
				if stages {
					auth["session"] = c.Post("/v3/register", body).At("session").Str()
				}
				body["auth"] = auth
				all.Go(func() {
					r, err := c.Try(t.Context(), "POST", "/v3/register", body)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case r.Status == 200:
						won++
					case r.Status == 400 && r.At("errcode").Str() == "M_USER_IN_USE":
						lost++
					default:
						t.Errorf("status %d %s", r.Status, r.Body)
					}
				})
			}
			all.Wait()
			if won != 1 || lost != 49 {
				t.Errorf("%d got the name, %d were told that it is taken", won, lost)
			}
		}
	})
}

// limited is a server whose rate limits are on.
func limited(config string) harness.Options {
	return harness.Options{Config: "unsafe: {no_rate_limits: false}\n" + config}
}

// loginFrom tries a password as a client behind a proxy.
func loginFrom(t *testing.T, srv *harness.Server, address, user, password string) *harness.Response {
	t.Helper()
	body := fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q}`, user, password)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+"/_matrix/client/v3/login", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", address)
	r, err := srv.Client(t).Send(req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAttackA14ForgedAddress(t *testing.T) {
	harness.EachOwn(t, limited("limits: {rates: {login: {per_second: 0.001, burst: 3}}}"), func(t *testing.T, srv *harness.Server) {
		for i := range 3 {
			loginFrom(t, srv, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("nobody%d", i), "x").Fails(403, "M_FORBIDDEN")
		}
		loginFrom(t, srv, "10.9.9.9", "nobody9", "x").Fails(429, "M_LIMIT_EXCEEDED")
	})
}

func TestAttackA14TrustedProxy(t *testing.T) {
	harness.EachOwn(t, limited("trusted_proxies: [127.0.0.0/8]\nlimits: {rates: {login: {per_second: 0.001, burst: 3}}}"), func(t *testing.T, srv *harness.Server) {
		for i := range 6 {
			loginFrom(t, srv, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("nobody%d", i), "x").Fails(403, "M_FORBIDDEN")
		}
		for range 2 {
			loginFrom(t, srv, "10.0.1.1", "nobody", "x").Fails(403, "M_FORBIDDEN")
		}
		loginFrom(t, srv, "10.0.1.1", "nobody", "x").Fails(403, "M_FORBIDDEN")
		// The last address is the one that the proxy saw; what stands before it, anybody can write.
		loginFrom(t, srv, "10.77.7.7, 10.0.1.1", "nobody", "x").Fails(429, "M_LIMIT_EXCEEDED")
	})
}

func TestAttackA15Guessing(t *testing.T) {
	harness.EachOwn(t, limited("trusted_proxies: [127.0.0.0/8]"), func(t *testing.T, srv *harness.Server) {
		srv.Command(t, "user", "create", "victim", "--password", harness.DefaultPassword)
		limitedAfter := 0
		for i := range 20 {
			r := loginFrom(t, srv, "10.0.0.1", "victim", fmt.Sprint("guess ", i))
			if r.Status == 429 {
				if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || seconds < 1 {
					t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
				}
				limitedAfter = i
				break
			}
			r.Fails(403, "M_FORBIDDEN")
		}
		if limitedAfter == 0 || limitedAfter > 10 {
			t.Errorf("limited after %d guesses", limitedAfter)
		}
		// Even the right password tells nothing now, and the owner is not locked out.
		loginFrom(t, srv, "10.0.0.1", "victim", harness.DefaultPassword).Fails(429, "M_LIMIT_EXCEEDED")
		loginFrom(t, srv, "10.0.0.2", "victim", harness.DefaultPassword).OK()
	})
}

func TestAttackA16Passwords(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "unsafe: {cheap_password_hashing: false}"}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		long := strings.Repeat("p", 80)
		register := func(name, password string) *harness.Response {
			return c.Post("/v3/register", object{"username": name, "password": password, "auth": dummy})
		}
		register("long", long+"a").OK()
		c.Post("/v3/login", harness.PasswordLogin("long", long+"b", nil)).Fails(403, "M_FORBIDDEN")
		c.Post("/v3/login", harness.PasswordLogin("long", long[:72], nil)).Fails(403, "M_FORBIDDEN")
		c.Post("/v3/login", harness.PasswordLogin("long", long+"a", nil)).OK()
		register("longest", strings.Repeat("q", 512)).OK()
		if r := register("toolong", strings.Repeat("q", 513)); r.Status != 400 {
			t.Errorf("513 bytes: status %d %s", r.Status, r.Body)
		}
		c.Post("/v3/login", harness.PasswordLogin("long", strings.Repeat("x", 100_000), nil)).Fails(403, "M_FORBIDDEN")
		hashes := regexp.MustCompile(`\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$`).FindAllStringSubmatch(dump(t, srv), -1)
		if len(hashes) < 2 {
			t.Fatalf("%d hashes in the database", len(hashes))
		}
		for _, h := range hashes {
			memory, _ := strconv.Atoi(h[1])
			passes, _ := strconv.Atoi(h[2])
			if memory < 19456 || passes < 2 {
				t.Errorf("hash %s", h[0])
			}
		}
	})
}

// Many logins at once wait or are told to wait; nobody gets an error of the server.
func TestAttackA16ManyLogins(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "unsafe: {cheap_password_hashing: false}"}, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "popular")
		c := srv.Client(t)
		var all sync.WaitGroup
		for range 150 {
			all.Go(func() {
				r, err := c.Try(t.Context(), "POST", "/v3/login", harness.PasswordLogin(user.UserID, "wrong", nil))
				if err != nil || r.Status != 403 && r.Status != 429 {
					t.Errorf("%v %+v", err, r)
				}
			})
		}
		user.Get("/v3/account/whoami").OK()
		all.Wait()
		user.Login(nil)
	})
}

// A wrong password and a name that nobody has are answered alike.
func TestAttackC23WhoHasAnAccount(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, c := srv.Register(t, "known"), srv.Client(t)
		known := c.Post("/v3/login", harness.PasswordLogin(user.UserID, "wrong password", nil)).Fails(403, "M_FORBIDDEN")
		unknown := c.Post("/v3/login", harness.PasswordLogin("@unknown-user:"+srv.Name, "wrong password", nil)).Fails(403, "M_FORBIDDEN")
		if string(known.Body) != string(unknown.Body) {
			t.Errorf("known: %s\nunknown: %s", known.Body, unknown.Body)
		}
	})
}

func TestAttackC23NamesAreLimited(t *testing.T) {
	harness.EachOwn(t, limited("limits: {rates: {registration: {per_second: 0.001, burst: 3}}}"), func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		for i := range 3 {
			c.Get("/v3/register/available", "username", fmt.Sprint("name", i)).OK()
		}
		r := c.Get("/v3/register/available", "username", "another").Fails(429, "M_LIMIT_EXCEEDED")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
}

func TestAttackC32ProfileScraping(t *testing.T) {
	harness.EachOwn(t, limited("limits: {rates: {other: {per_second: 0.01, burst: 20}}}"), func(t *testing.T, srv *harness.Server) {
		srv.Command(t, "user", "create", "someone", "--password", harness.DefaultPassword)
		c := srv.Client(t)
		refused := false
		for range 40 {
			r := c.Get(harness.Path("/v3/profile/%s", "@someone:"+srv.Name))
			refused = refused || r.Status == 429 && r.Header.Get("Retry-After") != ""
		}
		if !refused {
			t.Error("40 look-ups were answered")
		}
	})
}

func TestRateLimits(t *testing.T) {
	harness.EachOwn(t, limited("limits: {rates: {message: {per_second: 0.01, burst: 5}, join: {per_second: 0.01, burst: 2}, invite: {per_second: 0.01, burst: 2}}}"), func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.CreateRoom(nil)
		text := func(c *harness.Client, room, txn string) *harness.Response {
			return c.SendEvent(room, "m.room.message", txn, object{"msgtype": "m.text", "body": "x"})
		}
		for i := range 5 {
			text(alice, room, fmt.Sprint(i)).OK()
		}
		r := text(alice, room, "5").Fails(429, "M_LIMIT_EXCEEDED")
		if r.Header.Get("Retry-After") == "" || r.At("retry_after_ms").Int() <= 0 {
			t.Errorf("Retry-After %q, %s", r.Header.Get("Retry-After"), r.Body)
		}
		alice.SetState(room, "m.room.topic", "", object{"topic": "x"}).Fails(429, "M_LIMIT_EXCEEDED")
		text(bob, bob.CreateRoom(nil), "0").OK() // the limit is of each user
		alice.CreateRoom(nil)
		alice.Post("/v3/createRoom", object{}).Fails(429, "M_LIMIT_EXCEEDED")
		alice.Get("/v3/joined_rooms").OK()
	})
}

var sessionPage = regexp.MustCompile(`(?i)<script|onerror=`)

func TestAttackC16C18Pages(t *testing.T) {
	config := `registration: {terms: [{name: privacy_policy, version: "1.0", languages: {en: {name: "<b>Privacy</b>", url: "https://example.org/privacy?a=1&b=2"}}}]}`
	harness.EachOwn(t, harness.Options{Config: config}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t).Unchecked()
		session := c.Post("/v3/register", object{"username": "x", "password": "long enough"}).At("session").Str()
		stages := []string{"m.login.terms", "m.login.dummy", "m.login.password", "m.login.registration_token", "m.login.unknown"}
		sessions := map[string]bool{session: true, `"><script>alert(1)</script>`: false, "": false, "unknown": false, "\x00": false, strings.Repeat("x", 10_000): false}
		for _, stage := range stages {
			for id, known := range sessions {
				r := c.Get(harness.Path("/v3/auth/%s/fallback/web", stage), "session", id)
				if !known && r.Status < 400 {
					t.Errorf("%s with session %.20q: status %d", stage, id, r.Status)
				}
				if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
					continue
				}
				policy := r.Header.Get("Content-Security-Policy")
				if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") || r.Header.Get("X-Frame-Options") != "DENY" {
					t.Errorf("%s: headers %v", stage, r.Header)
				}
				if strings.Contains(string(r.Body), "alert(1)") && sessionPage.Match(r.Body) || strings.Contains(string(r.Body), "<b>Privacy</b>") {
					t.Errorf("%s: the page takes text for HTML: %s", stage, r.Body)
				}
			}
		}
		if r := c.Get("/v3/auth/m.login.terms/fallback/web", "session", session).OK(); !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			t.Errorf("no page: %v", r.Header)
		}
	})
}
