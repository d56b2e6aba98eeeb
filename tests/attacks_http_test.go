package tests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"beep/tests/contract"
	"beep/tests/harness"
)

// residentSet is the memory of the server's process in bytes.
func residentSet(t *testing.T, srv *harness.Server) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srv.PID()))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(text))
	if match == nil {
		t.Fatalf("no VmRSS in %s", text)
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// announce sends the head of a request, and so much of the body as the server takes. It
// gives the answer.
func announce(t *testing.T, srv *harness.Server, head string, body io.Reader) *http.Response {
	t.Helper()
	conn := srv.Dial(t)
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, body) // the server stops reading
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("%.60q: no answer: %v", head, err)
		return &http.Response{Header: http.Header{}}
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = conn.Close()
	<-sent
	return resp
}

// endless is a body of so many bytes, in chunks or not.
func endless(n int64, chunked bool) io.Reader {
	var all io.Reader = io.LimitReader(spaces{}, n)
	if !chunked {
		return all
	}
	r, w := io.Pipe()
	go func() {
		piece := strings.Repeat(" ", 1<<16)
		for sent := int64(0); sent < n; sent += 1 << 16 {
			if _, err := io.WriteString(w, "10000\r\n"+piece+"\r\n"); err != nil {
				return
			}
		}
		_ = w.Close()
	}()
	return r
}

type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

const gigabyte = 1 << 30

func TestAttackM15HugeBodies(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "huge")
		room := user.CreateRoom(nil)
		before := residentSet(t, srv)
		for _, route := range []string{
			"POST /_matrix/client/v3/login", "POST /_matrix/client/v3/register", "POST /_matrix/client/v3/createRoom",
			"PUT " + harness.Path("/_matrix/client/v3/rooms/%s/send/m.room.message/1", room),
			"PUT " + harness.Path("/_matrix/client/v3/profile/%s/displayname", user.UserID),
			"POST /_synapse/admin/v1/register",
		} {
			for _, kind := range []string{"application/json", "text/plain", "application/octet-stream", ""} {
				for _, chunked := range []bool{false, true} {
					head := route + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + user.AccessToken + "\r\n"
					if kind != "" {
						head += "Content-Type: " + kind + "\r\n"
					}
					if chunked {
						head += "Transfer-Encoding: chunked\r\n\r\n"
					} else {
						head += "Content-Length: " + strconv.Itoa(gigabyte) + "\r\n\r\n"
					}
					if got := announce(t, srv, head, endless(gigabyte, chunked)).StatusCode; got != http.StatusRequestEntityTooLarge {
						t.Errorf("%s %s, chunked %v: status %d", route, kind, chunked, got)
					}
				}
			}
		}
		if after := residentSet(t, srv); after > before+64<<20 {
			t.Errorf("the memory grew from %d to %d MiB", before>>20, after>>20)
		}
		user.Text(room, "still here")
	})
}

func TestAttackM24Multipart(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		before := residentSet(t, srv)
		for path, want := range map[string]int{
			"/_matrix/client/v3/login": 415, "/_matrix/client/v3/register": 415, "/_matrix/client/v3/createRoom": 415,
			"/_matrix/client/v3/refresh": 415, "/_synapse/admin/v1/register": 415,
			"/_matrix/client/v3/auth/m.login.terms/fallback/web": 415, "/_matrix/client/v3/unknown": 404,
		} {
			for _, kind := range []string{
				"Content-Type: multipart/form-data; boundary=x", "Content-Type: Multipart/Form-Data; boundary=x",
				"Content-Type: MULTIPART/FORM-DATA", "Content-Type:  multipart/form-data;boundary=x", "content-type: application/json\r\nContent-Type: multipart/form-data; boundary=x",
			} {
				for _, chunked := range []bool{false, true} {
					head := "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + kind + "\r\n"
					if chunked {
						head += "Transfer-Encoding: chunked\r\n\r\n"
					} else {
						head += "Content-Length: " + strconv.Itoa(gigabyte) + "\r\n\r\n"
					}
					if got := announce(t, srv, head, endless(gigabyte, chunked)).StatusCode; got != want {
						t.Errorf("%s %q, chunked %v: status %d, expected %d", path, kind, chunked, got, want)
					}
				}
			}
		}
		if after := residentSet(t, srv); after > before+32<<20 {
			t.Errorf("the memory grew from %d to %d MiB", before>>20, after>>20)
		}
	})
}

func TestAttackM16Compression(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "compressed")
		for _, encoding := range []string{"gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+"/_matrix/client/v3/createRoom", strings.NewReader("\x1f\x8b bomb"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Encoding", encoding)
			req.Header.Set("Authorization", "Bearer "+user.AccessToken)
			r, err := user.Send(req)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != http.StatusUnsupportedMediaType {
				t.Errorf("%s: status %d %s", encoding, r.Status, r.Body)
			}
		}
		// Answers hold secrets beside what others choose: none is compressed.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+"/_matrix/client/v3/account/whoami", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip, br, zstd")
		req.Header.Set("Authorization", "Bearer "+user.AccessToken)
		r, err := user.Send(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Content-Encoding"); got != "" {
			t.Errorf("Content-Encoding %q", got)
		}
	})
}

// Whatever two readers of the same bytes could see differently ends the connection, so
// that nothing behind it is taken for a request of its own.
func TestAttackM17Smuggling(t *testing.T) {
	const hidden = "GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\n\r\n"
	post := func(headers, body string) string {
		return "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body + hidden
	}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for name, text := range map[string]string{
			"length and chunks":           post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
			"chunks and length":           post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"),
			"two lengths":                 post("Content-Length: 0\r\nContent-Length: 5\r\n", ""),
			"list of lengths":             post("Content-Length: 0, 5\r\n", ""),
			"negative length":             post("Content-Length: -1\r\n", ""),
			"signed length":               post("Content-Length: +2\r\n", "{}"),
			"chunked twice":               post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
			"chunked and something":       post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
			"unknown encoding":            post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
			"space before colon":          post("Content-Length : 5\r\n", "hello"),
			"control character":           post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
			"bare LF in the chunk's size": post("Transfer-Encoding: chunked\r\n", "2\n{}\r\n0\r\n\r\n"),
			"chunk that lies":             post("Transfer-Encoding: chunked\r\n", "1\r\n{}\r\n0\r\n\r\n"),
			"chunk of bad size":           post("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
			"huge chunk":                  post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
			"two hosts":                   "GET /_matrix/client/versions HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + hidden,
			"no host":                     "GET /_matrix/client/versions HTTP/1.1\r\n\r\n" + hidden,
		} {
			t.Run(name, func(t *testing.T) {
				answers := srv.Raw(t, text)
				for _, r := range answers {
					if r.StatusCode == 200 {
						t.Errorf("the hidden request was answered: %d answers", len(answers))
					}
				}
				if len(answers) > 1 {
					t.Errorf("%d answers", len(answers))
				}
			})
		}
		if answers := srv.Raw(t, hidden+hidden); len(answers) != 2 {
			t.Errorf("two honest requests got %d answers", len(answers))
		}
	})
}

func TestAttackM18SlowConnections(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "limits: {connections_per_address: 300}"}, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "quick")
		var slow []net.Conn
		for i := range 250 {
			conn := srv.Dial(t)
			half := "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
			if i%2 == 0 {
				half += "\r\n{"
			}
			if _, err := io.WriteString(conn, half); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, conn)
		}
		for range 20 {
			user.Get("/v3/account/whoami").OK()
		}
		// Those that never end their headers are closed. Those that never end their body
		// may take a little longer.
		for i := 1; i < len(slow); i += 2 {
			if _, err := io.Copy(io.Discard, slow[i]); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("connection %d is still open after a minute", i)
			}
		}
		for i := 0; i < len(slow); i += 50 {
			if _, err := io.Copy(io.Discard, slow[i]); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("connection %d with half a body is still open after a minute", i)
			}
		}
	})
}

func TestAttackM18ConnectionsOfOneAddress(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "limits: {connections_per_address: 10}"}, func(t *testing.T, srv *harness.Server) {
		var held []net.Conn
		for range 10 {
			held = append(held, srv.Dial(t))
		}
		answers := func() bool {
			conn := srv.Dial(t)
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
				return false
			}
			_, err := http.ReadResponse(bufio.NewReader(conn), nil)
			return err == nil
		}
		// The server learns of a connection a moment after the client has it.
		for deadline := time.Now().Add(30 * time.Second); answers(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the eleventh connection is served")
			}
		}
		for _, conn := range held {
			_ = conn.Close()
		}
		for deadline := time.Now().Add(30 * time.Second); !answers(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the address is shut out for good")
			}
		}
	})
}

func TestAttackM25UnknownSegments(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "segments")
		for _, path := range []string{
			"/_matrix/x/client/v3/login", "/x/_matrix/client/v3/login", "/_matrix/client/v3/_matrix/client/v3/login",
			"/_matrix/client/client/v3/login", "/_matrix/client/v3/v3/login", "/_matrix/static/../client/v3/login",
			"/x/_synapse/admin/v1/register", "/_synapse/x/admin/v1/register", "/_synapse/admin/admin/v1/register",
			"/_synapse/_synapse/admin/v1/register", "/_matrix/_synapse/admin/v1/register", "/_matrix/client/v3/../../../_synapse/admin/v1/register",
			"/_matrix/client/./v3/login", "//_matrix/client/v3/login", "/_matrix//client/v3/login", "/_matrix/client/v3//login",
			"/%5fmatrix/client/v3/login", "/_matrix/client/v3/%6cogin", "/_MATRIX/client/v3/login", "/_matrix/client/V3/login", "/_matrix/client/v3/LOGIN",
			"/_matrix/client/v3\\login", "/_matrix/client%2fv3/login", "/_matrix/client/v3/login%00", "/_matrix/client/v3/login%20", "/_matrix/client/v3/login;a=b",
		} {
			answers := srv.Raw(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+user.AccessToken+"\r\nConnection: close\r\n\r\n")
			if len(answers) != 1 || answers[0].StatusCode != 404 && answers[0].StatusCode != 400 {
				t.Errorf("%s: %v", path, answers)
			}
		}
	})
}

// sampleValues fill the variables of the specification's paths.
var sampleValues = map[string]string{
	"roomId": "!a:b", "roomIdOrAlias": "!a:b", "roomAlias": "%23a:b", "userId": "@a:b", "eventId": "$a", "eventType": "m.room.message",
	"stateKey": "key", "txnId": "1", "type": "m.tag", "tag": "u.x", "filterId": "1", "deviceId": "A", "keyName": "displayname",
	"receiptType": "m.read", "authType": "m.login.dummy", "medium": "email",
}

var (
	variable       = regexp.MustCompile(`\{\w+\}`)
	quotedVariable = regexp.MustCompile(`\\\{\w+\\\}`)
)

// Each route, with anything behind it that makes it another path.
func TestAttackM26Suffixes(t *testing.T) {
	operations := clientOperations(t)
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t).Unchecked()
		served := 0
		for _, op := range operations {
			path := variable.ReplaceAllStringFunc(op.Path, func(v string) string {
				if value := sampleValues[strings.Trim(v, "{}")]; value != "" {
					return value
				}
				return "x"
			})
			if r := c.Do(op.Method, path, nil); r.At("errcode").Str() == "M_UNRECOGNIZED" {
				continue // it comes later
			}
			served++
			for _, suffix := range []string{"/", "/extra", "x", "/../x", "/..", "/.", "%2f..%2fx", "/%2e%2e/x", "%2e", ";a=b", "//", "%00", "%0a", "/%2e"} {
				if isPath(operations, path+suffix) {
					continue
				}
				if r := c.Do(op.Method, path+suffix, nil); r.Status != 404 {
					t.Errorf("%s %s: status %d %.100s", op.Method, path+suffix, r.Status, r.Body)
				}
			}
		}
		if served < 50 {
			t.Errorf("only %d routes were tried", served)
		}
	})
}

func clientOperations(t *testing.T) []*contract.Operation {
	t.Helper()
	dir, err := contract.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := contract.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []*contract.Operation
	for _, op := range spec.Operations() {
		if strings.HasPrefix(op.Path, "/_matrix/client/") {
			all = append(all, op)
		}
	}
	return all
}

// isPath tells whether some operation has this path: a suffix may lead to another one,
// or lengthen an id.
func isPath(operations []*contract.Operation, path string) bool {
	if strings.HasSuffix(path, "/..") || strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/%2e") {
		return false
	}
	for _, op := range operations {
		pattern := "^" + quotedVariable.ReplaceAllString(regexp.QuoteMeta(op.Path), `[^/]+`) + "$"
		if strings.HasSuffix(op.Path, "/{stateKey}") {
			pattern = strings.TrimSuffix(pattern, `/[^/]+$`) + `(/[^/]*)?$`
		}
		if regexp.MustCompile(pattern).MatchString(path) {
			return true
		}
	}
	return false
}

// Names that are decoded from a path are checked before anything is done with them.
func TestAttackM26IDsWithPaths(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for _, id := range []string{room + "/../" + room, "../" + room, room + "/state", room + "%2f", room + "\n", room + "?x", room + " ", strings.ToUpper(room), ""} {
			for _, path := range []string{"/v3/rooms/%s/state", "/v3/rooms/%s/members", "/v3/rooms/%s/messages?dir=b"} {
				if r := alice.Unchecked().Get(harness.Path(path, id)); r.Status != 400 && r.Status != 403 && r.Status != 404 {
					t.Errorf("%q: status %d %.200s", id, r.Status, r.Body)
				}
			}
		}
	})
}
