package allow

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

// testKey is a key pair that is always the same.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func encoded(key ed25519.PrivateKey) string {
	return base64.RawStdEncoding.EncodeToString(public(key))
}

// authority are the keys that sign lists in tests.
func authority() map[string]ed25519.PublicKey {
	return map[string]ed25519.PublicKey{"list_1": public(testKey("list_1")), "list_2": public(testKey("list_2"))}
}

func example() *Document {
	return &Document{
		Version: 1, Serial: 7, Issued: 1_700_000_000_000, Expires: 1_800_000_000_000, KeyID: "list_1",
		Servers: []Server{
			{Name: "moi.gov.pk", Comment: "Ministry <of> Interior", Keys: map[string]string{
				"ed25519:a_1": encoded(testKey("moi 1")), "ed25519:a_2": encoded(testKey("moi 2")),
			}},
			{Name: "mof.gov.pk:8448"},
		},
	}
}

func sign(t testing.TB, d *Document) []byte {
	t.Helper()
	text, err := d.Sign(testKey(d.KeyID))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jws signs any header and payload.
func jws(header, payload string, key ed25519.PrivateKey) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

const goodHeader = `{"alg":"EdDSA","kid":"list_1","typ":"federation-list+jws"}`

func TestSignedIsRead(t *testing.T) {
	text := sign(t, example())
	got, err := Read(text, authority())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), got); diff != "" {
		t.Error(diff)
	}
	if again := sign(t, got); !bytes.Equal(again, text) {
		t.Error("the same document was signed in two ways")
	}
	newer := jws(strings.Replace(goodHeader, "EdDSA", "Ed25519", 1), payloadOf(t, example()), testKey("list_1"))
	if _, err := Read([]byte("\n "+newer+" \r\n"), authority()); err != nil {
		t.Errorf("with the newer name of the algorithm: %v", err)
	}
	empty := example()
	empty.Servers = []Server{}
	if d, err := Read(sign(t, empty), authority()); err != nil || len(d.Servers) != 0 {
		t.Errorf("a list of nobody: %v", err)
	}
}

func payloadOf(t testing.TB, d *Document) string {
	t.Helper()
	text, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryByteIsSigned changes each character of a list to another of base64.
func TestEveryByteIsSigned(t *testing.T) {
	text := bytes.TrimSpace(sign(t, example()))
	for i, was := range text {
		for _, other := range []byte("AQgw-.") {
			if other == was {
				continue
			}
			text[i] = other
			if _, err := Read(text, authority()); err == nil {
				t.Errorf("character %d may be %q in place of %q", i, other, was)
			}
		}
		text[i] = was
	}
	if _, err := Read(text, authority()); err != nil {
		t.Fatal(err)
	}
}

// TestEveryFieldIsSigned puts another payload before the signature of the example.
func TestEveryFieldIsSigned(t *testing.T) {
	parts := strings.Split(strings.TrimSpace(string(sign(t, example()))), ".")
	for name, change := range map[string]func(*Document){
		"serial":     func(d *Document) { d.Serial++ },
		"issued":     func(d *Document) { d.Issued++ },
		"expires":    func(d *Document) { d.Expires++ },
		"a server":   func(d *Document) { d.Servers = append(d.Servers, Server{Name: "evil.example"}) },
		"its end":    func(d *Document) { d.Servers = d.Servers[:1] },
		"a name":     func(d *Document) { d.Servers[0].Name = "evil.example" },
		"a key":      func(d *Document) { d.Servers[0].Keys["ed25519:a_1"] = encoded(testKey("evil")) },
		"a key's id": func(d *Document) { d.Servers[0].Keys["ed25519:a_3"] = d.Servers[0].Keys["ed25519:a_1"] },
		"the keys":   func(d *Document) { d.Servers[0].Keys = nil },
		"a comment":  func(d *Document) { d.Servers[0].Comment = "" },
		"nothing":    func(*Document) {},
	} {
		d := example()
		change(d)
		forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(payloadOf(t, d))) + "." + parts[2]
		if _, err := Read([]byte(forged), authority()); (err == nil) != (name == "nothing") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAlgorithmConfusion has what JWS libraries have fallen for.
func TestAlgorithmConfusion(t *testing.T) {
	payload := payloadOf(t, example())
	key, evil := testKey("list_1"), testKey("evil")
	good := jws(goodHeader, payload, key)
	parts := strings.Split(good, ".")
	unsigned := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "."
	}
	mac := func(header string, secret []byte) string {
		signed := strings.TrimSuffix(unsigned(header), ".")
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	with := func(member string) string { return strings.Replace(goodHeader, "{", "{"+member+",", 1) }
	alg := func(name string) string { return strings.Replace(goodHeader, "EdDSA", name, 1) }
	jwk := fmt.Sprintf(`"jwk":{"kty":"OKP","crv":"Ed25519","x":%q}`, base64.RawURLEncoding.EncodeToString(public(evil)))
	for name, test := range map[string]struct{ text, want string }{
		"good":                        {good, ""},
		"none":                        {unsigned(alg("none")), `the algorithm "none"`},
		"NONE":                        {unsigned(alg("NONE")), `the algorithm "NONE"`},
		"no algorithm":                {unsigned(alg("")), `the algorithm ""`},
		"none, signed":                {jws(alg("none"), payload, key), `the algorithm "none"`},
		"no signature":                {unsigned(goodHeader), "not rightly signed"},
		"HS256 with the public key":   {mac(alg("HS256"), public(key)), `the algorithm "HS256"`},
		"HS256 with its base64":       {mac(alg("HS256"), []byte(encoded(key))), `the algorithm "HS256"`},
		"a MAC called EdDSA":          {mac(goodHeader, public(key)), "not rightly signed"},
		"RS256":                       {jws(alg("RS256"), payload, key), `the algorithm "RS256"`},
		"ES256":                       {jws(alg("ES256"), payload, key), `the algorithm "ES256"`},
		"Ed448":                       {jws(alg("Ed448"), payload, key), `the algorithm "Ed448"`},
		"another case":                {jws(alg("eddsa"), payload, key), `the algorithm "eddsa"`},
		"two algorithms":              {jws(with(`"alg":"none"`), payload, key), "duplicate"},
		"alg in another case":         {jws(with(`"ALG":"none"`), payload, key), "unknown object member"},
		"a stranger's key":            {jws(goodHeader, payload, evil), "not rightly signed"},
		"the other key's id":          {jws(strings.Replace(goodHeader, "list_1", "list_2", 1), payload, key), "not rightly signed with the key list_2"},
		"unknown key":                 {jws(strings.Replace(goodHeader, "list_1", "list_3", 1), payload, key), `"list_3" of the list is not`},
		"a path as the key's id":      {jws(strings.Replace(goodHeader, "list_1", "../../../dev/null", 1), payload, key), "is not one of the authority's"},
		"SQL as the key's id":         {jws(strings.Replace(goodHeader, "list_1", "x' UNION SELECT 'key", 1), payload, key), "is not one of the authority's"},
		"no key's id":                 {jws(`{"alg":"EdDSA","typ":"federation-list+jws"}`, payload, key), `the key ""`},
		"key in the header":           {jws(with(jwk), payload, evil), "unknown object member"},
		"key's address in the header": {jws(with(`"jku":"https://evil.example/keys"`), payload, evil), "unknown object member"},
		"certificate in the header":   {jws(with(`"x5c":["MIIB"]`), payload, evil), "unknown object member"},
		"crit":                        {jws(with(`"crit":["exp"],"exp":1`), payload, key), "unknown object member"},
		"empty crit":                  {jws(with(`"crit":[]`), payload, key), "unknown object member"},
		"unencoded payload":           {jws(with(`"b64":false,"crit":["b64"]`), payload, key), "unknown object member"},
		"compressed":                  {jws(with(`"zip":"DEF"`), payload, key), "unknown object member"},
		"another type":                {jws(strings.Replace(goodHeader, "federation-list+jws", "JWT", 1), payload, key), `of the type "JWT"`},
		"no type":                     {jws(`{"alg":"EdDSA","kid":"list_1"}`, payload, key), `of the type ""`},
		"header that is no object":    {jws(`"EdDSA"`, payload, key), "the header of the list"},
		"header of 10 MB":             {strings.Repeat("A", 10<<20) + "." + parts[1] + "." + parts[2], "more than 8388608 bytes"},
		"header of 1 MB":              {strings.Repeat("A", 1<<20) + "." + parts[1] + "." + parts[2], "the header of the list has more than 512"},
		"JSON serialisation":          {fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]), "expected header.payload.signature"},
		"detached payload":            {parts[0] + ".." + parts[2], "not rightly signed"},
		"four parts":                  {good + "." + parts[2], "expected header.payload.signature"},
		"two parts":                   {parts[0] + "." + parts[1], "expected header.payload.signature"},
		"line break":                  {parts[0] + ".\n" + parts[1] + "." + parts[2], "expected header.payload.signature"},
		"padding":                     {good + "==", "not rightly signed"},
		"half a signature":            {good[:len(good)-43], "not rightly signed"},
		"spare bits of the signature": {good[:len(good)-1] + string(good[len(good)-1]+1), "not rightly signed"},
		"nothing":                     {"", "expected header.payload.signature"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, test.text, test.want) })
	}
}

func expect(t *testing.T, text, want string) {
	t.Helper()
	_, err := Read([]byte(text), authority())
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, expected %q", err, want)
	}
}

// TestPayload signs what no authority should: it is refused all the same.
func TestPayload(t *testing.T) {
	const a = `{"version":1,"serial":7,"issued":1,"expires":2,"servers":[{"name":"a.pk"}]}`
	key := encoded(testKey("a"))
	server := func(text string) string { return strings.Replace(a, `{"name":"a.pk"}`, text, 1) }
	for _, test := range []struct{ name, payload, want string }{
		{"least", a, ""},
		{"pinned", server(`{"name":"a.pk","keys":{"ed25519:1":"` + key + `"}}`), ""},
		{"not JSON", a[1:], "cannot be read"},
		{"two values", a + a, "cannot be read"},
		{"an array", "[" + a + "]", "cannot be read"},
		{"null", "null", "version 0"},
		{"invalid UTF-8", server("{\"name\":\"a.pk\",\"comment\":\"\xff\"}"), "cannot be read"},
		{"unknown member", strings.Replace(a, "{", `{"admit_all":true,`, 1), "unknown object member"},
		{"twice", strings.Replace(a, "{", `{"serial":9,`, 1), "duplicate"},
		{"case", strings.Replace(a, "serial", "Serial", 1), "unknown object member"},
		{"version", strings.Replace(a, `"version":1`, `"version":2`, 1), "version 2 is not known here"},
		{"no version", strings.Replace(a, `"version":1,`, ``, 1), "version 0"},
		{"serial 0", strings.Replace(a, `"serial":7`, `"serial":0`, 1), "0 is not a serial"},
		{"serial of text", strings.Replace(a, `"serial":7`, `"serial":"7"`, 1), "cannot be read"},
		{"serial with a fraction", strings.Replace(a, `"serial":7`, `"serial":7.5`, 1), "cannot be read"},
		{"serial beyond what all can read", strings.Replace(a, `"serial":7`, `"serial":9007199254740992`, 1), "is not a serial"},
		{"expires before", strings.Replace(a, `"expires":2`, `"expires":1`, 1), "one after the other"},
		{"never expires", strings.Replace(a, `,"expires":2`, ``, 1), "one after the other"},
		{"no time", strings.Replace(a, `"issued":1`, `"issued":0`, 1), "one after the other"},
		{"end of time", strings.Replace(a, `"expires":2`, `"expires":9223372036854775807`, 1), "one after the other"},
		{"no servers", strings.Replace(a, `,"servers":[{"name":"a.pk"}]`, ``, 1), "servers is missing"},
		{"servers null", strings.Replace(a, `[{"name":"a.pk"}]`, `null`, 1), "servers is missing"},
		{"nameless", server(`{}`), `"" is not a server name`},
		{"null for a server", server(`null`), `"" is not a server name`},
		{"pattern", server(`{"name":"*.gov.pk"}`), "is not a server name"},
		{"path", server(`{"name":"a.pk/b"}`), "is not a server name"},
		{"there twice", server(`{"name":"a.pk"},{"name":"A.pk"}`), "servers[1]: A.pk is there twice"},
		{"misspelt keys", server(`{"name":"a.pk","key":{}}`), "unknown object member"},
		{"no keys among the keys", server(`{"name":"a.pk","keys":{}}`), "0 keys"},
		{"key's id", server(`{"name":"a.pk","keys":{"rsa:1":"` + key + `"}}`), `"rsa:1" is not the id`},
		{"policy key's id is long", server(`{"name":"a.pk","keys":{"ed25519:` + strings.Repeat("a", 200) + `":"` + key + `"}}`), "is not the id"},
		{"short key", server(`{"name":"a.pk","keys":{"ed25519:1":"AAAA"}}`), "an ed25519 key of 3 bytes"},
		{"key that anybody signs for", server(`{"name":"a.pk","keys":{"ed25519:1":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}`), "anybody could sign"},
		{"long comment", server(`{"name":"a.pk","comment":"` + strings.Repeat("x", 1001) + `"}`), "the comment has more than"},
		{"comment for the terminal", server(`{"name":"a.pk","comment":"\u001b]0;x\u0007"}`), "control characters"},
		{"many servers", server(many(20_001)), "more than 20000 servers"},
		{"nesting", server(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, jws(goodHeader, test.payload, testKey("list_1")), test.want) })
	}
}

func many(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`{"name":"s%d.pk"}`, i)
	}
	return strings.Join(names, ",")
}

func TestWrongIsNotSigned(t *testing.T) {
	d := example()
	d.Servers[1].Name = "*.gov.pk"
	if text, err := d.Sign(testKey("list_1")); err == nil {
		t.Errorf("signed: %s", text)
	}
	d = example()
	comment := strings.Repeat("x", maxComment)
	for i := range maxServers {
		d.Servers = append(d.Servers[:i], Server{Name: fmt.Sprintf("s%d.pk", i), Comment: comment})
	}
	if _, err := d.Sign(testKey("list_1")); err == nil {
		t.Error("a list was signed that is too large to be read")
	}
}

// FuzzRead gives the parser texts as they are, and as payloads that the authority signed.
func FuzzRead(f *testing.F) {
	f.Add(sign(f, example()))
	f.Add([]byte(payloadOf(f, example())))
	f.Add([]byte(jws(goodHeader, "null", testKey("list_1"))))
	f.Add([]byte(`{"version":1,"serial":7,"issued":1,"expires":2,"servers":[{"name":"[::1]:8448","keys":{"ed25519:1":"x"}}]}`))
	keys := map[string]ed25519.PublicKey{"list_1": public(testKey("list_1"))}
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzOne(t, text, keys)
		fuzzOne(t, []byte(jws(goodHeader, string(text), testKey("list_1"))), keys)
	})
}

// fuzzOne checks that what is read can be signed, and is then read as the same.
func fuzzOne(t *testing.T, text []byte, keys map[string]ed25519.PublicKey) {
	d, err := Read(text, keys)
	if err != nil {
		return
	}
	servers, err := d.index()
	if err != nil || len(servers) != len(d.Servers) {
		t.Fatalf("%d servers became %d: %v", len(d.Servers), len(servers), err)
	}
	signed, err := d.Sign(testKey("list_1"))
	if err != nil {
		t.Fatalf("what was read cannot be signed: %v", err)
	}
	again, err := Read(signed, keys)
	if diff := cmp.Diff(d, again); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
}
