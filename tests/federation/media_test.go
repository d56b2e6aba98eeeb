package federation

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"beep/tests/harness"
)

const downloads = "/_matrix/client/v1/media/download/"

// share uploads a file; it gives the path of its URI, as server/id.
func share(t *testing.T, c *harness.Client, content string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.Server.URL()+"/_matrix/media/v3/upload?filename=a%20b", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.AccessToken)
	req.Header.Set("Content-Type", "text/csv")
	r, err := c.Send(req)
	if err != nil || r.Status != 200 {
		t.Fatalf("%v %+v", err, r)
	}
	return strings.TrimPrefix(r.At("content_uri").Str(), "mxc://")
}

// kept is how many files a server has.
func kept(t *testing.T, srv *harness.Server) int {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(srv.Data(), "media", "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Files of another server come through one's own, also those that are uploaded while they are
// awaited, and stay when the other one is gone.
func TestMediaOfAnotherServer(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{Wired: true}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		uri := share(t, alice, "x,y")
		check := func() {
			t.Helper()
			r := bob.Get(downloads + uri).OK()
			if string(r.Body) != "x,y" || r.Header.Get("Content-Type") != "text/csv" || r.Header.Get("Content-Disposition") != `inline; filename="a b"` {
				t.Errorf("%q %v", r.Body, r.Header)
			}
		}
		bob.Get(downloads+uri+"?allow_remote=false").Fails(404, "M_NOT_FOUND")
		check()
		bob.Get(downloads+servers[0].Name+"/unknown").Fails(404, "M_NOT_FOUND")

		later := strings.TrimPrefix(alice.Post("/_matrix/media/v1/create", nil).OK().At("content_uri").Str(), "mxc://")
		bob.Get(downloads+later+"?timeout_ms=0").Fails(504, "M_NOT_YET_UPLOADED")
		waiting := make(chan *harness.Response, 1)
		go func() {
			r, err := bob.Try(t.Context(), "GET", downloads+later, nil)
			if err != nil {
				t.Error(err)
			}
			waiting <- r
		}()
		alice.Put("/_matrix/media/v3/upload/"+later, `"late"`).OK()
		if r := <-waiting; r == nil || r.Status != 200 || string(r.Body) != `"late"` {
			t.Errorf("who waited got %+v", r)
		}
		servers[0].Cut()
		servers[1].Restart(t)
		check()
		bob.Get(downloads+servers[0].Name+"/other").Fails(502, "M_UNKNOWN")
	})
}

// What is kept of other servers stays within its bound: what nobody has wanted for long makes
// room, and is fetched again (M09).
func TestRemoteMediaHasABound(t *testing.T) {
	const config = "media: {max_remote: 1000 B, remote_cache: 3000 B}"
	harness.EachFederation(t, 2, harness.Options{Config: config}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		var uris, contents []string
		for i := range 8 {
			content := strings.Repeat(fmt.Sprint(i), 900)
			contents = append(contents, content)
			uris = append(uris, share(t, alice, content))
		}
		own := share(t, bob, strings.Repeat("own", 1000))
		for round := range 2 {
			for i, uri := range uris {
				if r := bob.Get(downloads + uri).OK(); string(r.Body) != contents[i] {
					t.Errorf("round %d: file %d is %.20q", round, i, r.Body)
				}
				if n := kept(t, servers[1]); n > 4 {
					t.Errorf("%d files are kept", n)
				}
			}
			servers[1].Restart(t)
		}
		large := share(t, alice, strings.Repeat("x", 1001))
		bob.Get(downloads+large).Fails(502, "M_TOO_LARGE")
		if r := bob.Get(downloads + own).OK(); !bytes.Equal(r.Body, bytes.Repeat([]byte("own"), 1000)) {
			t.Errorf("the own file is %.20q", r.Body)
		}
	})
}

// Thumbnails of another server's images are made here.
func TestThumbnailsOfAnotherServer(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		var picture bytes.Buffer
		if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 200, 100))); err != nil {
			t.Fatal(err)
		}
		uri, text := share(t, alice, picture.String()), share(t, alice, "text")
		get := func(uri string) *harness.Response {
			return bob.Get("/_matrix/client/v1/media/thumbnail/"+uri, "width", "96", "height", "96", "method", "crop")
		}
		for range 2 {
			config, kind, err := image.DecodeConfig(bytes.NewReader(get(uri).OK().Body))
			if err != nil || kind != "png" || config.Width != 96 || config.Height != 96 {
				t.Errorf("%s %+v, %v", kind, config, err)
			}
			get(text).Fails(400, "M_UNKNOWN")
		}
		if n := kept(t, servers[1]); n != 3 {
			t.Errorf("%d files are kept", n)
		}
	})
}

// A server that is not in the closed federation is not asked for media, and what was fetched
// from it in other times is not given.
func TestMediaInAClosedFederation(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		uri := share(t, alice, "x")
		bob.Get(downloads + uri).OK()
		servers[1].Configure(t, "federation: {closed: true, allow: [elsewhere.test]}")
		servers[1].Restart(t)
		bob.Get(downloads+uri).Fails(403, "M_FORBIDDEN")
		bob.Get(downloads+servers[0].Name+"/other").Fails(403, "M_FORBIDDEN")
		alice.Get(downloads+servers[1].Name+"/any").Fails(403, "M_FORBIDDEN")
	})
}

// While the freeze is lifted, whoever knows an address gets what comes to the server, also
// from others; it stays open afterwards, and what comes then is closed (M10).
func TestAttackM10FrozenMedia(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob, nobody := servers[0].Register(t, "alice"), servers[1].Register(t, "bob"), servers[1].Client(t)
		const openly = "/_matrix/media/v3/download/"
		early, remote := share(t, bob, "early"), share(t, alice, "remote")
		nobody.Get(openly+early).Fails(404, "M_NOT_FOUND")
		nobody.Get(openly+remote).Fails(404, "M_NOT_FOUND")

		servers[1].Configure(t, "media: {freeze: false}")
		servers[1].Restart(t)
		nobody.Get(openly+early).Fails(404, "M_NOT_FOUND")
		open := share(t, bob, "open")
		nobody.Get(openly + open).OK()
		nobody.Get(openly + remote).OK()

		servers[1].Configure(t, "media: {freeze: true}")
		servers[1].Restart(t)
		nobody.Get(openly + open).OK()
		nobody.Get(openly + remote).OK()
		nobody.Get(openly+share(t, bob, "late")).Fails(404, "M_NOT_FOUND")
		nobody.Get(openly+createURI(bob)+"?timeout_ms=0").Fails(404, "M_NOT_FOUND")
		bob.Get(downloads + early).OK()
	})
}

func createURI(c *harness.Client) string {
	return strings.TrimPrefix(c.Post("/_matrix/media/v1/create", nil).OK().At("content_uri").Str(), "mxc://")
}
