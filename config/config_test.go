package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// parse reads text as if it were the file homeserver.yaml of a new directory.
func parse(t *testing.T, text string) (*Config, string, error) {
	t.Helper()
	dir := t.TempDir()
	cfg, err := Parse(filepath.Join(dir, FileName), []byte(text), Overrides{})
	return cfg, dir, err
}

// faultsOf gives each fault as "line key: message".
func faultsOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	faults, ok := errors.AsType[*Faults](err)
	if !ok {
		t.Fatalf("%T is no *Faults: %v", err, err)
	}
	var lines []string
	for _, f := range faults.List {
		lines = append(lines, fmt.Sprintf("%d %s: %s", f.Line, f.Key, f.Message))
	}
	return lines
}

func TestDefaultIsValid(t *testing.T) {
	cfg, dir, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.Data, cfg.SigningKey.Path, cfg.Database.URL.Reveal(), cfg.BaseURL(), cfg.Listeners[0].Address}
	want := []string{
		filepath.Join(dir, "data"), filepath.Join(dir, "data", "signing.key"),
		"sqlite:" + filepath.Join(dir, "data", "homeserver.db"), "http://127.0.0.1:8008", "127.0.0.1:8008",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if on := cfg.Unsafe.On(); len(on) > 0 {
		t.Errorf("switched on by default: %v", on)
	}
}

// someKey is a public key.
const someKey = "jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k"

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // parts, each of one fault, in order
	}{
		{"not YAML", "a: [", []string{"this is not YAML"}},
		{"tab", "server_name: a\n\tdata: b\n", []string{"2 : this is not YAML"}},
		{"two documents", "data: a\n---\ndata: b\n", []string{"more than one document"}},
		{"a list as the file", "- a\n", []string{"1 : expected keys with values, not a list"}},
		{"unknown key", "server_nam: a\n", []string{`1 server_nam: there is no key "server_nam" here; is it server_name?`}},
		{"swapped letters", "limits:\n  rates:\n    lgoin: {burst: 1}\n", []string{"3 limits.rates.lgoin: there is no key \"lgoin\" here; is it login?"}},
		{"key of another section", "shared_secret: x\n", []string{"is it registration.shared_secret?"}},
		{"nearly a key of another section", "defualt_version: x\n", []string{"is it rooms.default_version?"}},
		{"nothing near", "frobnicate_everything: x\n", []string{`1 frobnicate_everything: there is no key "frobnicate_everything" here`}},
		{"unknown key in a list", "listeners:\n  - adress: 127.0.0.1:1\n", []string{
			"2 listeners[0].address: \"\" is not an address", "2 listeners[0].adress: there is no key \"adress\" here; is it address?",
		}},
		{"merge keys do not exist", "<<: {data: a}\n", []string{`there is no key "<<"`}},
		{"twice", "data: a\ndata: b\n", []string{"2 data: this key is given twice"}},
		{"text for a number", "database: {max_connections: many}\n", []string{`database.max_connections: expected a whole number, not "many"`}},
		{"fraction for a whole number", "database: {max_connections: 1.5}\n", []string{"expected a whole number"}},
		{"text for a switch", "registration: {open: perhaps}\n", []string{`expected true or false, not "perhaps"`}},
		{"list for a section", "registration: []\n", []string{"1 registration: expected keys with values, not a list"}},
		{"value for a list", "listeners: 127.0.0.1:1\n", []string{`1 listeners: expected a list, not "127.0.0.1:1"`}},
		{"section for a value", "server_name: {a: b}\n", []string{"expected one value, not keys with values"}},
		{"duration without a unit", "login:\n  access_token_lifetime: 30\n", []string{"2 login.access_token_lifetime: expected a duration with its unit"}},
		{"negative duration", "login:\n  access_token_lifetime: -1h\n", []string{"expected a duration"}},
		{"no duration", "login:\n  login_token_lifetime: 0s\n", []string{"must be more than 0s"}},
		{"size without a unit", "limits: {request_body: 5}\n", []string{"expected a size with its unit"}},
		{"size beyond numbers", "limits: {request_body: 9999999999 GiB}\n", []string{"expected a size"}},
		{"small bodies", "limits: {request_body: 1 KiB}\n", []string{"must be at least 128 KiB"}},
		{"media of no size", "media: {max_upload: 0 B, max_remote: 0 B, user_files: -1, pending_uploads: 0, pending_lifetime: 0s, max_pixels: 0}\n", []string{
			"media.max_pixels: expected 1 to", "media.max_remote: must be more", "media.max_upload: must be more",
			"media.pending_lifetime: must be more", "media.pending_uploads: must be at least", "media.user_files: cannot be less",
		}},
		{"remote media that do not fit", "media: {remote_cache: 1 MiB}\n", []string{"1 media.remote_cache: must be at least media.max_remote (100 MiB)"}},
		{"page about quotas", "media: {quota_info_url: here}\n", []string{"expected an address"}},
		{"thumbnails", "media:\n  thumbnails:\n    - {width: 0, height: 1, method: crop}\n    - {width: 9, height: 9, method: fill}\n    - {width: 9, height: 9, method: fill}\n", []string{
			"3 media.thumbnails[0]: width and height have 1 to 4096 pixels", "4 media.thumbnails[1].method: expected crop, scale",
			"5 media.thumbnails[2]: is in the list above", "5 media.thumbnails[2].method: expected crop, scale",
		}},
		{"server name", "server_name: not a name\n", []string{`1 server_name: "not a name" is not a server name`}},
		{"base URL", "public_base_url: example.org\n", []string{"expected an address as https://example.org"}},
		{"base URL with a query", "public_base_url: https://example.org/?a\n", []string{"expected an address"}},
		{"no listener", "listeners: []\n", []string{"needs at least one address"}},
		{"null listener", "listeners: [null]\n", []string{"is not an address"}},
		{"host name to listen at", "listeners: [{address: example.org:80}]\n", []string{"is not an address"}},
		{"port", "listeners: [{address: 127.0.0.1:70000}]\n", []string{"is not an address"}},
		{"same address", "listeners:\n  - address: 127.0.0.1:1\n  - address: 127.0.0.1:1\n", []string{"3 listeners[1].address: 127.0.0.1:1 is taken"}},
		{"metrics at a listener", "metrics: {listen: 127.0.0.1:8008}\n", []string{"metrics.listen: 127.0.0.1:8008 is taken"}},
		{"mode of no socket", "listeners: [{address: 127.0.0.1:1, mode: 0600}]\n", []string{"only a unix socket has a mode"}},
		{"mode", "listeners: [{address: 'unix:a', mode: rw}]\n", []string{"expected permissions in octal"}},
		{"TLS on a socket, half of it", "listeners: [{address: 'unix:a', tls: {key: /nonexistent/key}}]\n", []string{
			"a unix socket has no TLS", "tls.certificate: is missing", "tls.key: cannot be read",
		}},
		{"authorities for clients", "listeners: [{address: 'localhost:1', tls: {certificate: /dev/null, key: /dev/null, client_ca: /dev/null}}, " +
			"{address: 'localhost:2', tls: {certificate: /dev/null, key: /dev/null, client_ca: nowhere.pem}}]\n", []string{
			"1 listeners[0].tls.client_ca: /dev/null has no certificate in PEM", "1 listeners[1].tls.client_ca: cannot be read",
		}},
		{"proxy", "trusted_proxies: [example.org]\n", []string{"1 trusted_proxies[0]: expected an address or a network"}},
		{"database", "database: {url: 'mysql://a'}\n", []string{"expected sqlite:/path/to/file.db or postgres:"}},
		{"database's password", "database: {url: 'postgres://a:postgres@localhost/a'}\n", []string{"the password in it is no secret"}},
		{"token for nobody", "registration: {token_required: true}\n", []string{"has no effect while registration.open is false"}},
		{"password length", "registration: {password_min_length: 0}\n", []string{"expected 1 to 128 characters"}},
		{"terms", "registration:\n  terms:\n    - {name: a b, languages: {en: {url: x}}}\n", []string{
			"3 registration.terms[0].languages.en.name: is missing", "languages.en.url: expected an address",
			"terms[0].name: expected letters", "terms[0].version: is missing",
		}},
		{"room version", "rooms: {default_version: 13}\n", []string{`there is no room version "13"`}},
		{"rate", "limits: {rates: {login: {per_second: 0, burst: 0}}}\n", []string{"login.burst: must be at least 1", "login.per_second: must be more than 0"}},
		{"rate that is no number", "limits: {rates: {login: {per_second: .nan, burst: 1}}}\n", []string{"must be more than 0"}},
		{"well-known server", "well_known: {server: 'https://a'}\n", []string{"expected host and port"}},
		{"well-known homeserver", "well_known: {client: {m.homeserver: {}}}\n", []string{"is made from public_base_url"}},
		{"contact", "well_known: {support: {contacts: [{matrix_id: a}, {}]}}\n", []string{
			"contacts[0].matrix_id: expected a user ID", "contacts[0].role: is missing", "contacts[1]: needs matrix_id or", "contacts[1].role: is missing",
		}},
		{"level", "logging: {level: loud, format: xml}\n", []string{"expected text, json", "expected debug, info, warn, error"}},
		{"allowed servers", "federation:\n  closed: true\n  allow: ['*.gov.pk', 'moi.gov.pk:8448', '[fd00::1]:8448', '10.1.2.3', 'MoI.Gov.PK', 'localhost']\n", nil},
		{"no servers", "federation:\n  closed: true\n  allow:\n    - '*'\n    - a.*.pk\n    - a b\n    - '*.10.1.2.3'\n    - '*.[fd00::1]'\n    - '*..pk'\n" +
			"    - gov.pk.\n    - ''\n    - .gov.pk\n    - '*.gov.pk.:80'\n", []string{
			`4 federation.allow[0]: "*" is neither a server name`, `5 federation.allow[1]: "a.*.pk" is neither`, `6 federation.allow[2]: "a b" is neither`,
			`federation.allow[3]: "*.10.1.2.3": there are no names under an IP address`, `federation.allow[4]: "*.[fd00::1]": there are no names`,
			`federation.allow[5]: "*..pk" is neither`, `federation.allow[6]: "gov.pk." is neither`, `federation.allow[7]: "" is neither`,
			`federation.allow[8]: ".gov.pk" is neither`, `federation.allow[9]: "*.gov.pk.:80" is neither`,
		}},
		{"list of an open federation", "federation: {allow: [a.pk]}\n", []string{"1 federation.allow: has no effect while federation.closed is false"}},
		{"signed list of an open federation", "federation: {list: {path: a}}\n", []string{"federation.list.path: has no effect while"}},
		{"closed to all", "federation: {closed: true}\n", []string{"federation.closed: admits nobody"}},
		{"list without keys", "federation: {closed: true, list: {path: a}}\n", []string{"federation.list.keys: is missing"}},
		{"keys without a list", "federation: {closed: true, allow: [a.pk], list: {keys: {a: " + someKey + "}}}\n", []string{"federation.list.path: is missing"}},
		{"keys of the list", "federation: {closed: true, list: {path: a, keys: {a-b: " + someKey + ", c: c, d: AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}}}\n", []string{
			`keys.a-b: the id of a key has 1 to 64`, "keys.c: expected an ed25519 public key", "keys.d: expected an ed25519 public key",
		}},
		{"notary", "federation: {trusted_notaries: ['https://a']}\n", []string{`federation.trusted_notaries[0]: "https://a" is not a server name`}},
		{"network", "federation: {allowed_networks: [ministry]}\n", []string{"federation.allowed_networks[0]: expected an address or a network"}},
		{"files of TLS", "federation: {ca_file: nowhere.pem, client_key: nowhere.pem}\n", []string{
			"federation.ca_file: cannot be read", "federation.client_certificate: is missing", "federation.client_key: cannot be read",
		}},
		{"old keys", "federation:\n  old_verify_keys:\n    - {id: 'ed25519:a', key: " + someKey + ", expired: 2026-01-31T12:00:00Z}\n" +
			"    - {id: 'ed25519:a', key: " + someKey + "}\n    - {id: a, key: b, expired: 2026-01-31}\n", []string{
			"4 federation.old_verify_keys[1].expired: is missing", `4 federation.old_verify_keys[1].id: "ed25519:a" is the id of two keys`,
			"5 federation.old_verify_keys[2].expired: expected a date", "old_verify_keys[2].id: expected the id of a key", "old_verify_keys[2].key: expected an ed25519",
		}},
		{"identity servers", "identity_servers: {allow: [ok.example.org, 'https://id.example.org'], ca_file: nowhere.pem}\n", []string{
			`identity_servers.allow[1]: "https://id.example.org" is not the name of a server`, "identity_servers.ca_file: cannot be read",
		}},
		{"CA file", "unsafe: {extra_ca_file: nowhere.pem}\n", []string{"unsafe.extra_ca_file: cannot be read"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parse(t, test.text)
			got := faultsOf(t, err)
			if len(got) != len(test.want) {
				t.Fatalf("got %d faults, expected %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("got %q, expected %q", got[i], test.want[i])
				}
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	text := "server_nam: a\nlogin:\n  access_token_lifetime: soon\nregistration:\n  shared_secret: changeme\nrooms: {default_version: \"0\"}\n"
	_, dir, err := parse(t, text)
	file := filepath.Join(dir, FileName)
	want := strings.ReplaceAll(`FILE:1: server_nam: there is no key "server_nam" here; is it server_name?
FILE:3: login.access_token_lifetime: expected a duration with its unit, as 30s, 5m, 1h or 7d, not "soon"
FILE:5: registration.shared_secret: this is no secret: everybody knows it; remove the key and the server makes one
FILE:6: rooms.default_version: there is no room version "0"; take "1" to "12"`, "FILE", file)
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

func TestValues(t *testing.T) {
	cfg, dir, err := parse(t, `
login: {access_token_lifetime: 7d, login_token_lifetime: 90s}
limits:
  request_body: 50 MiB
  rates: {login: {per_second: 1.5, burst: 3}}
listeners:
  - {address: "unix:/run/hs.sock", mode: 0600}
trusted_proxies: [10.1.2.3/8, "fd00::1"]
rooms: {default_version: 10}
registration:
well_known: {client: {org.example.feature: {enabled: true}}}
federation:
  closed: true
  allow: ["*.gov.pk"]
  list: {path: l.jws, keys: {list_1: `+someKey+`}}
  allowed_networks: [10.20.0.0/16]
  old_verify_keys: [{id: "ed25519:a", key: `+someKey+`, expired: 2026-01-31T17:00:00+05:00}]
`)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		cfg.Login.AccessTokenLifetime, cfg.Login.LoginTokenLifetime, cfg.Limits.RequestBody, cfg.Limits.Rates.Login,
		cfg.Listeners[0].Mode, fmt.Sprint(cfg.Prefixes()), cfg.Rooms.DefaultVersion, cfg.Registration.PasswordMinLength,
		cfg.WellKnown.Client["org.example.feature"], cfg.Limits.Rates.Message.Burst,
		cfg.Federation.Enabled, cfg.Federation.List, cfg.Federation.AllowedNetworks[0].String(), cfg.Federation.OldVerifyKeys[0].Expired.UnixMilli(),
	}
	want := []any{
		7 * 24 * time.Hour, 90 * time.Second, Size(50 << 20), Rate{PerSecond: 1.5, Burst: 3},
		FileMode(0o600), "[10.0.0.0/8 fd00::1/128]", "10", 8,
		map[string]any{"enabled": true}, Default().Limits.Rates.Message.Burst,
		true, FederationList{Path: filepath.Join(dir, "l.jws"), Keys: map[string]string{"list_1": someKey}}, "10.20.0.0/16", int64(1769860800000),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSizeAndDurationText(t *testing.T) {
	for _, text := range []string{"1 B", "1023 B", "64 KiB", "3 MB", "2 GiB", "0 B"} {
		var size Size
		if err := size.UnmarshalText([]byte(text)); err != nil || size.String() != text {
			t.Errorf("%q became %q (%v)", text, size, err)
		}
	}
	for _, text := range []string{"0s", "30s", "5m", "36h", "7d", "1.5s"} {
		d, err := ParseDuration(text)
		if err != nil || formatDuration(d) != text {
			t.Errorf("%q became %q (%v)", text, formatDuration(d), err)
		}
	}
}

func TestSecretSources(t *testing.T) {
	dir := t.TempDir()
	const text = "Sain baina uu, minii nuuts" // long enough
	if err := os.WriteFile(filepath.Join(dir, "s.txt"), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONFIG_TEST_SECRET", text)
	for _, form := range []string{`"` + text + `"`, "{file: s.txt}", "{file: " + filepath.Join(dir, "s.txt") + "}", "{env: CONFIG_TEST_SECRET}"} {
		cfg, err := Parse(filepath.Join(dir, FileName), []byte("registration: {shared_secret: "+form+" }"), Overrides{})
		if err != nil {
			t.Errorf("%s: %v", form, err)
		} else if got := cfg.Registration.SharedSecret.Reveal(); got != text {
			t.Errorf("%s: got %q", form, got)
		}
	}
}

func TestSecretFaults(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, secretMaxBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONFIG_TEST_EMPTY", "")
	for form, want := range map[string]string{
		`""`:                        "it is empty",
		``:                          "it is empty",
		`{env: CONFIG_TEST_EMPTY}`:  "it is empty",
		`changeme`:                  "everybody knows it",
		`Change-Me!`:                "everybody knows it",
		`{file: /dev/null}`:         "it is empty",
		`tooshort4U`:                "has 10 characters; it needs at least 16",
		`{env: CONFIG_TEST_UNSET}`:  "the environment has no variable CONFIG_TEST_UNSET",
		`{file: /nonexistent/file}`: "cannot read the secret",
		`{file: ` + large + `}`:     "is larger than",
		`{path: /a}`:                "expected the text itself",
		`{file: a, env: b}`:         "expected the text itself",
		`{file: ""}`:                "expected the text itself",
		`[a]`:                       "expected the text itself",
	} {
		_, _, err := parse(t, "registration:\n  shared_secret: "+form+"\n")
		got := faultsOf(t, err)
		if len(got) != 1 || !strings.HasPrefix(got[0], "2 registration.shared_secret: ") || !strings.Contains(got[0], want) {
			t.Errorf("%s: got %q, expected %q", form, got, want)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const text = "the quick brown fox"
	secret := NewSecret(text)
	holder := struct{ hidden Registration }{Registration{SharedSecret: secret}}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "in", holder.hidden)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret, "in", holder)
	marshalled, err := yaml.Marshal(holder.hidden)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %v %+v", secret, secret, secret, secret, secret, holder, &holder) + log.String() + string(marshalled)
	if strings.Contains(all, text) || strings.Contains(all, "quick") {
		t.Errorf("the secret was printed: %s", all)
	}
	if !strings.Contains(all, hidden) {
		t.Errorf("nothing stands in its place: %s", all)
	}
}

func TestOverridesWin(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "elsewhere", "hs.yaml")
	text := "server_name: a.example\ndata: d\nlisteners: [{address: 127.0.0.1:1}]\ndatabase: {url: 'sqlite:x.db'}\n"
	cfg, err := Parse(file, []byte(text), Overrides{
		ServerName: "b.example", Data: "mine", Listen: []string{"127.0.0.1:2", "unix:s"}, Database: "sqlite:y.db",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.ServerName, cfg.Data, cfg.Listeners[0].Address, cfg.Listeners[1].Address, cfg.Database.URL.Reveal()}
	want := []string{"b.example", filepath.Join(dir, "mine"), "127.0.0.1:2", "unix:" + filepath.Join(dir, "s"), "sqlite:" + filepath.Join(dir, "y.db")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = Parse(file, []byte(text), Overrides{ServerName: "b c"})
	if got := faultsOf(t, err); len(got) != 1 || !strings.HasPrefix(got[0], "0 server_name: ") {
		t.Errorf("a fault of the command line was told as one of the file: %q", got)
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if cfg, err := Load("", Overrides{}); err != nil || cfg.File != "" {
		t.Fatalf("without a file: %v", err)
	}
	if _, err := Load("missing.yaml", Overrides{}); err == nil {
		t.Error("a file that was named and is not there was no fault")
	}
	if err := os.WriteFile(FileName, []byte("server_name: found.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load("", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ServerName != "found.example" || cfg.File != filepath.Join(dir, FileName) {
		t.Errorf("got %q of %q", cfg.ServerName, cfg.File)
	}
}

func TestShownDatabaseHidesPasswords(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter22@h/d", "postgres://h/d?user=u&password=hunter22", "postgres://u:hunter22@h:port/d"} {
		c := Config{Database: Database{URL: NewSecret(url)}}
		if shown := c.ShownDatabase(); strings.Contains(shown, "hunter22") {
			t.Errorf("%s is shown as %s", url, shown)
		}
	}
}
