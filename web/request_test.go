package web

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// upper is a type that reads itself from text.
type upper string

func (u *upper) UnmarshalText(text []byte) error {
	switch string(text) {
	case "told":
		return matrix.Forbidden
	case "bad":
		return errors.New("a private cause")
	}
	*u = upper(strings.ToUpper(string(text)))
	return nil
}

// Paging is embedded, as query parameters that many endpoints share are.
type Paging struct {
	Limit *int   `query:"limit"`
	From  string `query:"from"`
}

type everything struct {
	RoomID string `path:"roomID"`
	Key    string `path:"key"`
	Paging
	Full   bool     `query:"full_state"`
	Since  int64    `query:"since"`
	Maybe  *bool    `query:"maybe"`
	Via    []string `query:"via"`
	Upper  upper    `query:"upper"`
	Uppers []upper  `query:"uppers"`
	Origin string   `header:"x-origin"`
	Body   struct {
		Name  string             `json:"name"`
		Count int                `json:"count"`
		List  []string           `json:"list"`
		Map   map[string]bool    `json:"map"`
		Raw   stdjson.RawMessage `json:"raw"`
		Deep  struct {
			Flag bool `json:"flag"`
		} `json:"deep"`
	}
}

// echo answers with the request as it was decoded.
type echo struct {
	Got any `json:"got"`
}

func echoing[Req any](_ context.Context, _ Nobody, req *Req) (*echo, error) {
	return &echo{Got: req}, nil
}

func send(t *testing.T, s *httptest.Server, method, path, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDecode(t *testing.T) {
	rt := NewRouter(Options{})
	var got everything
	PUT(rt, "/rooms/{roomID}/{key}", Anyone, func(_ context.Context, _ Nobody, req *everything) (*Empty, error) {
		got = *req
		return &Empty{}, nil
	})
	s := serveTest(t, rt)
	resp := send(t, s, "PUT", "/rooms/%21a%2Fb/k%23?limit=-5&limit=7&from=a%2Bb+c;d&full_state=true&since=9007199254740993&maybe=false&via=x&via=y&upper=shout&uppers=a&uppers=b&unknown=%zz&%zz=1",
		` {"name":"<&>\u2028","Name":"other","count":3,"list":["a"],"map":{"x":true},"raw":{"a": 1},"RoomID":"!evil","roomID":"!evil","unknown":[{}],"deep":{"flag":true}} `,
		"X-Origin", "there")
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, text(t, resp))
	}
	limit, maybe := -5, false
	want := everything{
		RoomID: "!a/b", Key: "k#", Paging: Paging{Limit: &limit, From: "a+b c;d"}, Full: true, Since: 9007199254740993,
		Maybe: &maybe, Via: []string{"x", "y"}, Upper: "SHOUT", Uppers: []upper{"A", "B"}, Origin: "there",
	}
	want.Body.Name, want.Body.Count, want.Body.List = "<&>\u2028", 3, []string{"a"}
	want.Body.Map, want.Body.Raw, want.Body.Deep.Flag = map[string]bool{"x": true}, stdjson.RawMessage(`{"a": 1}`), true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedParameters(t *testing.T) {
	rt := NewRouter(Options{})
	PUT(rt, "/rooms/{roomID}/{key}", Anyone, echoing[everything])
	s := serveTest(t, rt)
	for _, tc := range []struct{ path, code, names string }{
		{"/rooms/a/b?limit=", "M_INVALID_PARAM", "limit"},
		{"/rooms/a/b?limit=5x", "M_INVALID_PARAM", "limit"},
		{"/rooms/a/b?limit=99999999999999999999", "M_INVALID_PARAM", "limit"},
		{"/rooms/a/b?since=1e3", "M_INVALID_PARAM", "since"},
		{"/rooms/a/b?full_state=yes", "M_INVALID_PARAM", "full_state"},
		{"/rooms/a/b?from=%zz", "M_INVALID_PARAM", "from"},
		{"/rooms/a/b?from=%ff", "M_INVALID_PARAM", "from"},
		{"/rooms/a/b?from=%00", "M_INVALID_PARAM", "from"},
		{"/rooms/a/b?via=ok&via=%00", "M_INVALID_PARAM", "via"},
		{"/rooms/a%ff/b", "M_INVALID_PARAM", "roomID"},
		{"/rooms/a/b%00", "M_INVALID_PARAM", "key"},
		{"/rooms/a/b?upper=bad", "M_INVALID_PARAM", "upper"},
		{"/rooms/a/b?upper=told", "M_FORBIDDEN", ""},
	} {
		resp := send(t, s, "PUT", tc.path, "{}")
		body := text(t, resp)
		if !strings.Contains(body, tc.code) || !strings.Contains(body, tc.names) || strings.Contains(body, "private") {
			t.Errorf("%s: %d %s", tc.path, resp.StatusCode, body)
		}
	}
}

func TestBodies(t *testing.T) {
	type typed struct {
		Body struct {
			A    string `json:"a"`
			N    int    `json:"n"`
			Deep struct {
				B bool `json:"b"`
			} `json:"deep"`
		}
	}
	type object struct{ Body stdjson.RawMessage }
	type table struct{ Body map[string]any }
	type list struct{ Body []string }
	rt := NewRouter(Options{})
	POST(rt, "/typed", Anyone, echoing[typed])
	POST(rt, "/optional", Anyone, echoing[typed], OptionalBody())
	POST(rt, "/object", Anyone, echoing[object])
	POST(rt, "/optional/object", Anyone, echoing[object], OptionalBody())
	POST(rt, "/map", Anyone, echoing[table])
	POST(rt, "/list", Anyone, echoing[list])
	s := serveTest(t, rt)

	all := []string{"/typed", "/object", "/map"}
	for _, tc := range []struct {
		body   string
		paths  []string
		status int
		says   string
	}{
		{`{}`, all, 200, ""},
		{` {"a":"x"} `, all, 200, `"x"`},
		{``, all, 400, "M_NOT_JSON"},
		{` `, all, 400, "M_NOT_JSON"},
		{``, []string{"/optional", "/optional/object"}, 200, ""},
		{`{`, append(all, "/optional"), 400, "M_NOT_JSON"},
		{`{"a":"x"`, all, 400, "M_NOT_JSON"},
		{`{} {}`, all, 400, "M_NOT_JSON"},
		{`{}x`, all, 400, "M_NOT_JSON"},
		{`a=b`, all, 400, "M_NOT_JSON"},
		{`null`, append(all, "/list"), 400, "M_BAD_JSON"},
		{`null`, []string{"/optional", "/optional/object"}, 200, ""},
		{`"x"`, append(all, "/list"), 400, "M_BAD_JSON"},
		{`5`, all, 400, "M_BAD_JSON"},
		{`[]`, all, 400, "M_BAD_JSON"},
		{`["x"]`, []string{"/list"}, 200, `"x"`},
		{`{}`, []string{"/list"}, 400, "M_BAD_JSON"},
		// Not a number is not JSON.
		{`{"x":NaN}`, all, 400, "M_NOT_JSON"},
		{`{"x":Infinity}`, all, 400, "M_NOT_JSON"},
		{`{"x":-Infinity}`, all, 400, "M_NOT_JSON"},
		{`{"x":01}`, all, 400, "M_NOT_JSON"},
		{`{'x':1}`, all, 400, "M_NOT_JSON"},
		{`{"x":1,}`, all, 400, "M_NOT_JSON"},
		// One reading for all: no name twice, on any level, escaped or not.
		{`{"a":"1","a":"2"}`, all, 400, "M_BAD_JSON"},
		{`{"a":"1","\u0061":"2"}`, all, 400, "M_BAD_JSON"},
		{`{"unknown":{"b":[{"c":1,"c":2}]}}`, all, 400, "/unknown/b/0/c"},
		{`{"A":"other case"}`, []string{"/typed"}, 200, `"a":""`},
		// UTF-8 as it must be, never replaced.
		{"{\"a\":\"\xff\"}", all, 400, "M_NOT_JSON"},
		{"{\"unknown\":\"\xed\xa0\x80\"}", all, 400, "M_NOT_JSON"},
		{`{"a":"\ud800"}`, all, 400, "M_NOT_JSON"},
		{`{"unknown":"\udc00\ud800"}`, all, 400, "M_NOT_JSON"},
		{`{"a":"\ud83d\ude00"}`, all, 200, ""},
		{"\xef\xbb\xbf{}", all, 400, "M_NOT_JSON"},
		// Wrong types, with the place.
		{`{"a":5}`, []string{"/typed"}, 400, "/a must be a string"},
		{`{"n":"5"}`, []string{"/typed"}, 400, "/n must be an integer"},
		{`{"n":1.5}`, []string{"/typed"}, 400, "/n must be an integer"},
		{`{"n":1e400}`, []string{"/typed"}, 400, "/n must be an integer"},
		{`{"n":9223372036854775808}`, []string{"/typed"}, 400, "/n must be an integer"},
		{`{"deep":[]}`, []string{"/typed"}, 400, "/deep must be an object"},
		{`{"deep":{"b":0}}`, []string{"/typed"}, 400, "/deep/b must be a boolean"},
		// Depth.
		{`{"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, all, 200, ""},
		{`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, all, 400, "M_BAD_JSON"},
		{strings.Repeat("[", 100_000), all, 400, "M_BAD_JSON"},
		{`{"x":` + strings.Repeat(`{"a":`, 100_000), all, 400, "M_BAD_JSON"},
		{`{"x":"` + strings.Repeat(`[\"`, 1000) + `"}`, all, 200, ""},
	} {
		for _, path := range tc.paths {
			resp := send(t, s, "POST", path, tc.body)
			body := text(t, resp)
			if resp.StatusCode != tc.status || !strings.Contains(body, tc.says) {
				t.Errorf("%s %.60q: %d %.200s; want %d %s", path, tc.body, resp.StatusCode, body, tc.status, tc.says)
			}
		}
	}
}

// TestObjectBody: the handler has the object's own bytes.
func TestObjectBody(t *testing.T) {
	type object struct{ Body stdjson.RawMessage }
	rt := NewRouter(Options{})
	var got string
	POST(rt, "/{$}", Anyone, func(_ context.Context, _ Nobody, req *object) (*Empty, error) {
		got = string(req.Body)
		return nil, nil
	}, OptionalBody())
	s := serveTest(t, rt)
	for body, want := range map[string]string{
		"":                                     "{}",
		"\n{ \"b\":1.0, \"a\":\"\\u00e9\" }\n": "{ \"b\":1.0, \"a\":\"\\u00e9\" }",
	} {
		if resp := send(t, s, "POST", "/", body); resp.StatusCode != 200 || got != want {
			t.Errorf("%q: %d, %q", body, resp.StatusCode, got)
		}
	}
}

func TestContentHeaders(t *testing.T) {
	type form struct{ Body url.Values }
	type object struct{ Body stdjson.RawMessage }
	type stream struct{ Body io.Reader }
	ran := 0
	count := func() (*Empty, error) { ran++; return &Empty{}, nil }
	rt := NewRouter(Options{})
	POST(rt, "/object", Anyone, func(context.Context, Nobody, *object) (*Empty, error) { return count() })
	POST(rt, "/none", Anyone, func(context.Context, Nobody, *Empty) (*Empty, error) { return count() })
	POST(rt, "/form", Anyone, func(_ context.Context, _ Nobody, req *form) (*Empty, error) {
		if req.Body.Get("a") != "b c" {
			return nil, matrix.InvalidParam
		}
		return count()
	})
	POST(rt, "/stream", Anyone, func(_ context.Context, _ Nobody, req *stream) (*Empty, error) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, fmt.Errorf("copying: %w", err)
		}
		return count()
	}, MaxBody(100))
	s := serveTest(t, rt)
	json, urlencoded := "application/json", "application/x-www-form-urlencoded"
	for _, tc := range []struct {
		path, body string
		headers    []string
		status     int
	}{
		{"/object", "{}", nil, 200},
		{"/object", "{}", []string{"Content-Type", json}, 200},
		{"/object", "{}", []string{"Content-Type", "text/plain"}, 200},
		{"/object", "{}", []string{"Content-Type", "!!"}, 200},
		{"/object", "{}", []string{"Content-Type", "multipart/form-data"}, 415},
		{"/object", "{}", []string{"Content-Type", "MULTIPART/FORM-DATA"}, 415},
		{"/object", "{}", []string{"Content-Type", "  Multipart/Form-Data; boundary=x"}, 415},
		{"/object", "{}", []string{"Content-Type", json, "Content-Type", "multipart/form-data"}, 415},
		{"/object", "{}", []string{"Content-Type", json + ", multipart/form-data"}, 415},
		{"/none", "{}", []string{"Content-Type", "Multipart/form-data"}, 415},
		{"/form", "a=b+c", []string{"Content-Type", "multipart/Form-data"}, 415},
		{"/unknown", "{}", []string{"Content-Type", "multipart/form-data"}, 404},
		{"/form", "a=b+c", []string{"Content-Type", urlencoded + "; charset=utf-8"}, 200},
		{"/form", "a=b+c", nil, 415},
		{"/form", "a=%zz", []string{"Content-Type", urlencoded}, 400},
		{"/object", "{}", []string{"Content-Encoding", "identity"}, 200},
		{"/object", "{}", []string{"Content-Encoding", "gzip"}, 415},
		{"/object", "{}", []string{"Content-Encoding", "", "Content-Encoding", "br"}, 415},
		{"/stream", "{}", []string{"Content-Encoding", "deflate"}, 415},
		{"/stream", strings.Repeat("x", 100), []string{"Content-Type", "multipart/form-data"}, 200},
		{"/stream", strings.Repeat("x", 101), nil, 413},
	} {
		ran = 0
		resp := send(t, s, "POST", tc.path, tc.body, tc.headers...)
		if resp.StatusCode != tc.status || (ran == 1) != (tc.status == 200) {
			t.Errorf("%s %q %v: %d, ran %d times; want %d", tc.path, tc.body, tc.headers, resp.StatusCode, ran, tc.status)
		}
	}
}

// TestEarlyRefusal sends headers and no byte of the body they announce: the answer
// comes, so nothing was waited for.
func TestEarlyRefusal(t *testing.T) {
	type object struct{ Body stdjson.RawMessage }
	rt := NewRouter(Options{})
	POST(rt, "/object", Anyone, echoing[object])
	POST(rt, "/none", Anyone, echoing[Empty])
	s := serveTest(t, rt)
	const multipart = "Content-Type: Multipart/Form-Data; boundary=x\r\n"
	for _, tc := range []struct {
		path, headers string
		status        int
	}{
		{"/object", "Content-Length: 1000000000\r\n", 413},
		{"/none", "Content-Length: 1000000000\r\n", 413},
		{"/object", "Content-Length: 1048577\r\n", 413},
		{"/object", multipart + "Content-Length: 1000000000\r\n", 415},
		{"/object", multipart + "Transfer-Encoding: chunked\r\n", 415},
		{"/object", multipart + "Content-Length: 100\r\n", 415},
		{"/object", "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 415},
		{"/unknown", multipart + "Transfer-Encoding: chunked\r\n", 404},
	} {
		resp := raw(t, s, "POST "+tc.path+" HTTP/1.1\r\nHost: x\r\n"+tc.headers+"\r\n")
		if resp.StatusCode != tc.status {
			t.Errorf("%s %q: %d, want %d", tc.path, tc.headers, resp.StatusCode, tc.status)
		}
	}
}

// TestBodyLimit: chunks do not pass by the limit, and it costs no more memory than it
// allows, whatever a client announces.
func TestBodyLimit(t *testing.T) {
	type object struct{ Body stdjson.RawMessage }
	rt := NewRouter(Options{})
	POST(rt, "/default", Anyone, echoing[object])
	POST(rt, "/small", Anyone, echoing[object], MaxBody(10))
	POST(rt, "/stream", Anyone, func(_ context.Context, _ Nobody, req *struct{ Body io.Reader }) (*Empty, error) {
		_, err := io.Copy(io.Discard, req.Body)
		return nil, err
	}, MaxBody(10))
	s := serveTest(t, rt)
	pad := func(n int) string { return `{"x":"` + strings.Repeat("x", n-8) + `"}` }
	for _, tc := range []struct {
		path   string
		size   int
		status int
	}{
		{"/default", 1 << 20, 200}, {"/default", 1<<20 + 1, 413}, {"/default", 3 << 20, 413},
		{"/small", 10, 200}, {"/small", 11, 413}, {"/stream", 10, 200}, {"/stream", 11, 413},
	} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(pad(tc.size))
			if chunked {
				body = io.MultiReader(body)
			}
			resp, err := s.Client().Post(s.URL+tc.path, "application/json", body)
			if err != nil {
				t.Logf("%s %d: the connection was closed while sending: %v", tc.path, tc.size, err)
				continue
			}
			if resp.StatusCode != tc.status {
				t.Errorf("%s %d chunked=%v: %d, want %d", tc.path, tc.size, chunked, resp.StatusCode, tc.status)
			}
			resp.Body.Close()
		}
	}
}

// TestAnnouncedBody: what a client only announces sets no memory aside.
func TestAnnouncedBody(t *testing.T) {
	type object struct{ Body stdjson.RawMessage }
	rt := NewRouter(Options{MaxBody: 1 << 30})
	POST(rt, "/object", Anyone, echoing[object])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		req := httptest.NewRequest("POST", "/object", strings.NewReader("{"))
		req.ContentLength = 1 << 30
		rec := httptest.NewRecorder()
		rt.ServeHTTP(rec, req)
		if rec.Code != 400 {
			t.Fatalf("%d", rec.Code)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("20 announced gigabytes took %d bytes", grown)
	}
}

func TestBearerToken(t *testing.T) {
	for _, tc := range []struct {
		header, query, token string
		ok                   bool
	}{
		{"Bearer abc", "", "abc", true},
		{"bearer abc", "", "abc", true},
		{"Bearer  abc ", "", "abc", true},
		{"Bearer", "", "", false},
		{"Bearer ", "", "", false},
		{"Basic abc", "", "", false},
		{"", "", "", false},
		{"", "access_token=a%2Bb", "a+b", true},
		{"", "x=1&access_token=abc&access_token=def", "abc", true},
		{"", "access_token=", "", false},
		{"", "access_token=%zz", "", false},
		{"", "xaccess_token=abc", "", false},
		{"Bearer abc", "access_token=def", "abc", true},
	} {
		r := httptest.NewRequest("GET", "/?"+tc.query, nil)
		if tc.header != "" {
			r.Header.Set("Authorization", tc.header)
		}
		token, ok := BearerToken(r)
		if ok != tc.ok || ok && token != tc.token {
			t.Errorf("%+v: %q, %v", tc, token, ok)
		}
	}
}

// TestNoFormParsing: net/http's own form parsing writes uploads to temporary files,
// whoever sends them.
func TestNoFormParsing(t *testing.T) {
	forbidden := regexp.MustCompile(`\.(FormValue|PostFormValue|FormFile|ParseMultipartForm|ParseForm|MultipartReader)\(`)
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err == nil && forbidden.Match(source) {
			t.Errorf("%s parses a form with net/http: use a Body of url.Values", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
