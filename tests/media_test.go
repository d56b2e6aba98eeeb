package tests

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/tests/harness"
)

// send sends a body of any type, with further headers as pairs.
func send(t *testing.T, c *harness.Client, method, path, contentType string, body io.Reader, headers ...string) *harness.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.Server.URL()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.AccessToken)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := c.Send(req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// uploadMedia uploads a file; it gives the path of its URI, as server/id.
func uploadMedia(t *testing.T, c *harness.Client, contentType, name string, content []byte) string {
	t.Helper()
	var query []string
	if name != "" {
		query = []string{"filename", name}
	}
	r := send(t, c, "POST", "/_matrix/media/v3/upload"+harness.Query(query...), contentType, bytes.NewReader(content))
	if r.Status != http.StatusOK {
		t.Fatalf("upload: %d %s", r.Status, r.Body)
	}
	return strings.TrimPrefix(r.At("content_uri").Str(), "mxc://")
}

const (
	downloads   = "/_matrix/client/v1/media/download/"
	openly      = "/_matrix/media/v3/download/"
	pendingPath = "/_matrix/media/v3/upload/"
)

// create makes a URI without content.
func createURI(t *testing.T, c *harness.Client) string {
	t.Helper()
	return strings.TrimPrefix(c.Post("/_matrix/media/v1/create", nil).OK().At("content_uri").Str(), "mxc://")
}

func TestUploadAndDownload(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, guest := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.RegisterGuest(t)
		content := []byte("content " + rand.Text())
		for _, test := range []struct{ contentType, name, wantType, wantDisposition string }{
			{"image/png", "a b.png", "image/png", `inline; filename="a b.png"`},
			{"", "", "application/octet-stream", "attachment"},
			{"application/pdf", "Übersicht \"1\".pdf", "application/pdf", `attachment; filename*=utf-8''%C3%9Cbersicht%20%221%22.pdf`},
			{"text/plain; charset=utf-8", "a\r\nSet-Cookie: b", "text/plain; charset=utf-8", `inline; filename*=utf-8''a%0D%0ASet-Cookie%3A%20b`},
			{"no type at all", "x", "application/octet-stream", `attachment; filename=x`},
		} {
			uri := uploadMedia(t, alice, test.contentType, test.name, content)
			for _, reader := range []*harness.Client{alice, bob, guest} {
				r := reader.Get(downloads + uri).OK()
				if !bytes.Equal(r.Body, content) || r.Header.Get("Content-Type") != test.wantType || r.Header.Get("Content-Disposition") != test.wantDisposition {
					t.Errorf("%q %q: got %q %q, %.100q", test.contentType, test.name, r.Header.Get("Content-Type"), r.Header.Get("Content-Disposition"), r.Body)
				}
				if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "sandbox;") || r.Header.Get("X-Content-Type-Options") != "nosniff" ||
					r.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
					t.Errorf("headers %v", r.Header)
				}
			}
			r := bob.Get(downloads + uri + "/other.txt").OK()
			if !strings.HasSuffix(r.Header.Get("Content-Disposition"), "; filename=other.txt") {
				t.Errorf("with a name: %q", r.Header.Get("Content-Disposition"))
			}
		}
		if got := alice.Get("/v1/media/config").OK().At("m.upload.size").Int(); got != 50<<20 {
			t.Errorf("the limit is %d", got)
		}
		alice.Get("/_matrix/media/v3/config").OK()
	})
}

// Of what was not uploaded nothing is given, and to nobody who has no account here.
func TestDownloadRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, nobody := srv.Register(t, "alice"), srv.Client(t)
		uri := uploadMedia(t, alice, "text/plain", "", []byte("x"))
		nobody.Get(downloads+uri).Fails(401, "M_MISSING_TOKEN")
		alice.Get(downloads+srv.Name+"/unknown").Fails(404, "M_NOT_FOUND")
		alice.Get(downloads+"elsewhere.test/"+strings.TrimPrefix(uri, srv.Name+"/")+"?allow_remote=false").Fails(404, "M_NOT_FOUND")
		for _, path := range []string{"/_matrix/media/v3/upload", "/_matrix/media/v1/create"} {
			nobody.Post(path, "x").Fails(401, "M_MISSING_TOKEN")
			srv.RegisterGuest(t).Post(path, "x").Fails(403, "M_GUEST_ACCESS_FORBIDDEN")
		}
		send(t, alice, "POST", "/_matrix/media/v3/upload?filename="+strings.Repeat("x", 1025), "", strings.NewReader("x")).Fails(400, "M_INVALID_PARAM")
	})
}

func TestDownloadRanges(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice").Unchecked() // the specification does not speak of parts
		path := downloads + uploadMedia(t, alice, "text/plain", "", []byte("0123456789"))
		tag := alice.Get(path).OK().Header.Get("ETag")
		if len(tag) < 10 {
			t.Fatalf("the tag is %q", tag)
		}
		for _, test := range []struct {
			status  int
			headers []string
			body    string
			part    string // Content-Range
		}{
			{206, []string{"Range", "bytes=0-3"}, "0123", "bytes 0-3/10"},
			{206, []string{"Range", "bytes=4-"}, "456789", "bytes 4-9/10"},
			{206, []string{"Range", "bytes=-3"}, "789", "bytes 7-9/10"},
			{206, []string{"Range", "bytes=-30"}, "0123456789", "bytes 0-9/10"},
			{206, []string{"Range", "bytes=9-99999999999999"}, "9", "bytes 9-9/10"},
			{206, []string{"Range", "bytes=2-2", "If-Range", tag}, "2", "bytes 2-2/10"},
			{200, []string{"Range", "bytes=2-2", "If-Range", `"other"`}, "0123456789", ""},
			{200, []string{"Range", "bytes=5-4"}, "0123456789", ""},
			{200, []string{"Range", "bytes=0-1,3-4"}, "0123456789", ""},
			{200, []string{"Range", "lines=0-1"}, "0123456789", ""},
			{200, []string{"Range", "bytes=-99999999999999999999"}, "0123456789", ""},
			{416, []string{"Range", "bytes=10-"}, "", "bytes */10"},
			{416, []string{"Range", "bytes=-0"}, "", "bytes */10"},
			{304, []string{"If-None-Match", tag}, "", ""},
			{304, []string{"If-None-Match", `"x", W/` + tag}, "", ""},
			{200, []string{"If-None-Match", `"x"`}, "0123456789", ""},
		} {
			r := send(t, alice, "GET", path, "", nil, test.headers...)
			if r.Status != test.status || string(r.Body) != test.body || r.Header.Get("Content-Range") != test.part {
				t.Errorf("%q: status %d, %q, %q", test.headers, r.Status, r.Body, r.Header.Get("Content-Range"))
			}
		}
		head := alice.Do("HEAD", path, nil)
		if head.Status != 200 || head.Header.Get("Content-Length") != "10" || len(head.Body) != 0 {
			t.Errorf("HEAD: %d %v", head.Status, head.Header)
		}
	})
}

func TestPendingUploads(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "media: {pending_uploads: 3}"}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		uri := createURI(t, alice)
		alice.Get(downloads+uri, "timeout_ms", "0").Fails(504, "M_NOT_YET_UPLOADED")
		bob.Put(pendingPath+uri, "x").Fails(403, "M_FORBIDDEN")
		alice.Put(pendingPath+srv.Name+"/unknown", "x").Fails(404, "M_NOT_FOUND")
		alice.Put(pendingPath+"elsewhere.test/"+strings.TrimPrefix(uri, srv.Name+"/"), "x").Fails(404, "M_NOT_FOUND")

		waiting := make(chan *harness.Response, 1)
		go func() {
			r, err := bob.Try(t.Context(), "GET", "/_matrix/client/v1/media/download/"+uri+"?timeout_ms=60000", nil)
			if err != nil {
				t.Error(err)
			}
			waiting <- r
		}()
		send(t, alice, "PUT", pendingPath+uri+"?filename=n", "text/csv", strings.NewReader("first")).OK()
		if r := <-waiting; r == nil || r.Status != 200 || string(r.Body) != "first" {
			t.Errorf("who waited got %+v", r)
		}
		alice.Put(pendingPath+uri, "second").Fails(409, "M_CANNOT_OVERWRITE_MEDIA")
		direct := uploadMedia(t, alice, "", "", []byte("x"))
		alice.Put(pendingPath+direct, "second").Fails(409, "M_CANNOT_OVERWRITE_MEDIA")
		r := bob.Get(downloads + uri).OK()
		if string(r.Body) != "first" || r.Header.Get("Content-Type") != "text/csv" || r.Header.Get("Content-Disposition") != "inline; filename=n" {
			t.Errorf("%q %v", r.Body, r.Header)
		}
		for range 3 {
			createURI(t, alice)
		}
		if r := alice.Post("/_matrix/media/v1/create", nil); r.Status != 429 || r.At("errcode").Str() != "M_LIMIT_EXCEEDED" {
			t.Errorf("a fourth one: %d %s", r.Status, r.Body)
		}
		createURI(t, bob)
	})
}

func TestExpiredUploads(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "media: {pending_uploads: 1, pending_lifetime: 1ms}"}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		uri := createURI(t, alice)
		createURI(t, alice) // the first is pending no more
		alice.Put(pendingPath+uri, "x").Fails(404, "M_NOT_FOUND")
		alice.Get(downloads+uri).Fails(404, "M_NOT_FOUND")
	})
}

func TestUploadLimits(t *testing.T) {
	config := "media: {max_upload: 1000 B, user_quota: 2500 B, user_files: 4%s}"
	for name, test := range map[string]struct{ option, code string }{
		"without a page": {"", "M_FORBIDDEN"}, "with a page": {", quota_info_url: 'https://example.org/quota'", "M_USER_LIMIT_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachOwn(t, harness.Options{Config: fmt.Sprintf(config, test.option)}, func(t *testing.T, srv *harness.Server) {
				alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
				try := func(c *harness.Client, size int, chunked bool) *harness.Response {
					var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("x"), size))
					if chunked {
						body = io.MultiReader(body)
					}
					return send(t, c, "POST", "/_matrix/media/v3/upload", "text/plain", body)
				}
				try(alice, 1001, false).Fails(413, "M_TOO_LARGE")
				try(alice, 1001, true).Fails(413, "M_TOO_LARGE")
				try(alice, 1000, true).OK()
				try(alice, 1000, false).OK()
				refused := try(alice, 501, false).Fails(403, test.code)
				if uri := refused.At("info_uri").Str(); test.option != "" && uri != "https://example.org/quota" {
					t.Errorf("told %s", refused.Body)
				}
				pending := createURI(t, alice)
				alice.Put(pendingPath+pending, strings.Repeat("x", 501)).Fails(403, test.code)
				alice.Put(pendingPath+pending, strings.Repeat("x", 500)).OK()
				try(alice, 1, false).Fails(403, test.code)
				for range 4 {
					try(bob, 1, false).OK()
				}
				try(bob, 1, false).Fails(403, test.code)
			})
		})
	}
}

// mediaFiles are the names of the files that a server keeps.
func mediaFiles(t *testing.T, srv *harness.Server) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(srv.Data(), "media", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Equal files are kept once, a refused one not at all, and what a crash has left goes.
func TestMediaFiles(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "media: {user_quota: 100 B}"}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		content := bytes.Repeat([]byte("x"), 60)
		first, second := uploadMedia(t, alice, "text/plain", "a", content), uploadMedia(t, bob, "text/csv", "b", content)
		if first == second {
			t.Error("two uploads have one URI")
		}
		if files := mediaFiles(t, srv); len(files) != 1 {
			t.Errorf("the files %q", files)
		}
		send(t, alice, "POST", "/_matrix/media/v3/upload", "", strings.NewReader(strings.Repeat("y", 60))).Fails(403, "M_FORBIDDEN")
		send(t, alice, "POST", "/_matrix/media/v3/upload", "", bytes.NewReader(content)).Fails(403, "M_FORBIDDEN")
		files := mediaFiles(t, srv)
		if len(files) != 1 {
			t.Errorf("the files after refused uploads %q", files)
		}
		if err := srv.Kill(); err != nil {
			t.Fatal(err)
		}
		stray := filepath.Join(srv.Data(), "media", "ab", strings.Repeat("ab", 32))
		half := filepath.Join(srv.Data(), "media", "incoming", "half")
		for _, path := range []string{stray, half} {
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stray files are gone", func() bool { return len(mediaFiles(t, srv)) == 1 })
		if r := alice.Get(downloads + second).OK(); !bytes.Equal(r.Body, content) {
			t.Errorf("%q", r.Body)
		}
	})
}

// eventually waits for a condition, for as long as a test may last at most.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to be that %s", what)
		}
	}
}

// Nobody has more fetched from other servers than their share (M09).
func TestAttackM09RemoteMediaRate(t *testing.T) {
	const config = "unsafe: {no_rate_limits: false}\nlimits: {rates: {remote_media: {per_second: 0.001, burst: 2}}}"
	harness.EachOwn(t, harness.Options{Config: config}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		for _, c := range []*harness.Client{alice, bob} {
			for i := range 2 {
				c.Get(fmt.Sprintf("%s127.0.0.1:1/m%d", downloads, i)).Fails(502, "M_UNKNOWN")
			}
			c.Get(downloads+"127.0.0.1:1/m3").Fails(429, "M_LIMIT_EXCEEDED")
			c.Get(downloads+srv.Name+"/m3").Fails(404, "M_NOT_FOUND")
		}
	})
}

// An upload that is too large is refused before it is there, whatever it says that it is (M15).
func TestAttackM15HugeUploads(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "huge")
		pending := createURI(t, user)
		before := residentSet(t, srv)
		for _, route := range []string{"POST /_matrix/media/v3/upload", "PUT " + pendingPath + pending} {
			for _, kind := range []string{"image/png", "multipart/form-data; boundary=x", "application/json"} {
				for _, chunked := range []bool{false, true} {
					head := route + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + user.AccessToken + "\r\nContent-Type: " + kind + "\r\n"
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
		if after := residentSet(t, srv); after > before+32<<20 {
			t.Errorf("the memory grew from %d to %d MiB", before>>20, after>>20)
		}
		if left, err := os.ReadDir(filepath.Join(srv.Data(), "media", "incoming")); err != nil || len(left) > 0 {
			t.Errorf("left on the disk: %v, %v", left, err)
		}
	})
}

// What could run in a browser is never shown in it, however its type is written (M13).
func TestAttackM13ActiveContent(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		for _, kind := range []string{
			"text/html", "Text/HTML; x", "TEXT/HTML;charset=utf-8", "image/svg+xml", "Image/SVG+XML", "application/xml", "text/xml", "application/xhtml+xml",
			"application/javascript", "text/plain, text/html", "image/png\ttext/html", "application/pdf", "multipart/related; boundary=x",
		} {
			r := alice.Get(downloads + uploadMedia(t, alice, kind, "a", []byte("<script>"))).OK()
			if !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") || r.Header.Get("X-Content-Type-Options") != "nosniff" ||
				!strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "sandbox;") {
				t.Errorf("%q: %v", kind, r.Header)
			}
		}
		for _, kind := range []string{"IMAGE/PNG", "text/plain;charset=utf-8"} {
			if r := alice.Get(downloads + uploadMedia(t, alice, kind, "a", []byte("x"))).OK(); !strings.HasPrefix(r.Header.Get("Content-Disposition"), "inline") {
				t.Errorf("%q: %v", kind, r.Header)
			}
		}
	})
}

// What was acknowledged is there after a kill, whole, and nothing half is.
func TestUploadsSurviveKills(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice").Unchecked()
		var mu sync.Mutex
		stored := map[string]string{}
		for range 3 {
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for {
						content := strconv.Quote(strings.Repeat(rand.Text(), 4000)) // JSON, as the client says
						r, err := alice.Try(context.Background(), "POST", "/_matrix/media/v3/upload", content)
						if err != nil || r.Status != http.StatusOK {
							return // it was killed
						}
						mu.Lock()
						stored[strings.TrimPrefix(r.At("content_uri").Str(), "mxc://")] = content
						mu.Unlock()
					}
				})
			}
			mu.Lock()
			before := len(stored)
			mu.Unlock()
			eventually(t, "some files are stored", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(stored) >= before+8
			})
			if err := srv.Kill(); err != nil {
				t.Fatal(err)
			}
			group.Wait()
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for uri, content := range stored {
			if r := alice.Get(downloads + uri).OK(); string(r.Body) != content {
				t.Errorf("%s has %d bytes, not %d", uri, len(r.Body), len(content))
			}
		}
		for _, path := range mediaFiles(t, srv) {
			content, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) { // the sweep is at work
				t.Fatal(err)
			}
			if sum := sha256.Sum256(content); err == nil && hex.EncodeToString(sum[:]) != filepath.Base(path) {
				t.Errorf("%s is not whole", path)
			}
		}
	})
}
