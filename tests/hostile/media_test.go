package hostile

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"beep/tests/harness"
)

const (
	mediaDownload = "GET " + V1 + "/media/download/{id}"
	downloads     = "/_matrix/client/v1/media/download/"
)

// parts is an answer with media: the boundary "x" is in the header.
func parts(texts ...string) string {
	return "--x\r\n" + strings.Join(texts, "\r\n--x\r\n") + "\r\n--x--\r\n"
}

const jsonPart = "Content-Type: application/json\r\n\r\n{}"

// answerMedia lets the server answer all who ask for media.
func (s *Server) answerMedia(contentType, body string) {
	s.Handle(mediaDownload, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body) // who asks may have had enough
	})
}

const multipartX = "multipart/mixed; boundary=x"

// Of another server's answer only a whole file is given to clients, in the form that files of
// this server have (M13, M20).
func TestMediaAnswers(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		s := New(t, victim)
		alice := victim.Register(t, "alice")
		many := strings.Repeat("\r\n--x\r\nContent-Type: text/plain\r\n\r\nx", 100_000)
		for i, test := range []struct {
			name, contentType, body string
			status                  int
			content, header         string
		}{
			{"a file", multipartX, parts(jsonPart, "Content-Type: text/plain\r\nContent-Disposition: inline; filename=a\r\n\r\nhello"), 200, "hello", "inline; filename=a"},
			{"active content", multipartX, parts(jsonPart, "Content-Type: Text/HTML; x\r\nContent-Disposition: inline\r\n\r\n<script>"), 200, "<script>", "attachment"},
			{"no headers", multipartX, parts(jsonPart, "\r\nhello"), 200, "hello", "attachment"},
			{"a name that breaks headers", multipartX, parts(jsonPart, "Content-Type: image/png\r\nContent-Disposition: inline; filename*=utf-8''a%0d%0ab%00\r\n\r\nx"), 200, "x", "inline"},
			{"many parts", multipartX, "--x\r\n" + jsonPart + many + "\r\n--x--\r\n", 200, "x", "inline"},
			{"a file with a type of two lines", multipartX, parts(jsonPart, "Content-Type: image/png\r\n x: y\r\n\r\nx"), 200, "x", "attachment"},
			{"no parts", "text/plain", "hello", 502, "", ""},
			{"another boundary", "multipart/mixed; boundary=y", parts(jsonPart, "\r\nhello"), 502, "", ""},
			{"no boundary", "multipart/mixed", parts(jsonPart, "\r\nhello"), 502, "", ""},
			{"a form", "multipart/form-data; boundary=x", parts(jsonPart, "\r\nhello"), 502, "", ""},
			{"one part", multipartX, parts(jsonPart), 502, "", ""},
			{"no JSON", multipartX, parts("Content-Type: text/plain\r\n\r\nhello", "\r\nhello"), 502, "", ""},
			{"half a file", multipartX, "--x\r\n" + jsonPart + "\r\n--x\r\n\r\nhello", 502, "", ""},
			{"much before the file", multipartX, parts("Content-Type: application/json\r\n\r\n"+strings.Repeat(" ", 1<<20), "\r\nhello"), 502, "", ""},
			{"much before everything", multipartX, strings.Repeat("preamble\r\n", 1<<17) + parts(jsonPart, "\r\nhello"), 502, "", ""},
			{"long headers", multipartX, parts(jsonPart, "X-Y: "+strings.Repeat("y", 1<<20)+"\r\n\r\nhello"), 502, "", ""},
			{"an empty answer", multipartX, "", 502, "", ""},
		} {
			s.answerMedia(test.contentType, test.body)
			r := alice.Get(fmt.Sprintf("%s%s/m%d", downloads, s.Name, i))
			if r.Status != test.status {
				t.Errorf("%s: status %d %.200s", test.name, r.Status, r.Body)
				continue
			}
			if r.Status != 200 {
				continue
			}
			if string(r.Body) != test.content || r.Header.Get("Content-Disposition") != test.header || !strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "sandbox;") {
				t.Errorf("%s: %q %q", test.name, r.Body, r.Header.Get("Content-Disposition"))
			}
		}
	})
}

// What a server says that media lies elsewhere leads to no private network, and to no other
// protocol (M02, M20).
func TestAttackM02MediaRedirects(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s, place := New(t, victim), New(t, victim)
	alice := victim.Register(t, "alice")
	place.Handle("GET /file", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the place is told who asks")
		}
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Disposition", "inline; filename=there")
		_, _ = io.WriteString(w, "it is here")
	})
	for path, to := range map[string]string{"/private": "https://10.0.0.1/file", "/plain": "http://" + place.Name + "/file", "/loop": "/loop", "/once": "/file"} {
		place.Handle("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
	}
	for i, test := range []struct {
		location string
		status   int
	}{
		{"https://" + place.Name + "/file", 200}, {"https://" + place.Name + "/once", 200},
		{"https://" + place.Name + "/private", 502}, {"https://" + place.Name + "/plain", 502}, {"https://" + place.Name + "/loop", 502},
		{"https://" + place.Name + "/missing", 502}, {"http://" + place.Name + "/file", 502}, {"https://10.0.0.1/file", 502},
		{"https://169.254.169.254/latest", 502}, {"https://[::ffff:10.0.0.1]/", 502}, {"file:///etc/passwd", 502}, {"//" + place.Name + "/file", 502},
		{"/file", 502}, {"https://user:password@" + place.Name + "/file", 502}, {"https://", 502}, {"\x7f", 502},
	} {
		s.answerMedia(multipartX, parts(jsonPart, "Location: "+test.location+"\r\n\r\n"))
		r := alice.Get(fmt.Sprintf("%s%s/r%d", downloads, s.Name, i))
		if r.Status != test.status || r.Status == 200 && (string(r.Body) != "it is here" || r.Header.Get("Content-Disposition") != "inline; filename=there") {
			t.Errorf("%q: status %d %.200s", test.location, r.Status, r.Body)
		}
	}
}

// A server that does not know the endpoint is asked as in former times, and may not ask others
// in turn; other refusals are told to the client in codes of this server.
func TestMediaRefusals(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	s.Answer(mediaDownload, 404, harness.Object{"errcode": "M_UNRECOGNIZED", "error": "no"})
	s.Handle("GET /_matrix/media/v3/download/{server}/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "missing" {
			s.refuse(w, 404, "M_NOT_FOUND")
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "old")
	})
	if r := alice.Get(downloads + s.Name + "/old").OK(); string(r.Body) != "old" {
		t.Errorf("%q", r.Body)
	}
	asked := s.AwaitAsked("GET /_matrix/media/v3/download/" + s.Name + "/old?")
	if !strings.Contains(asked.URI, "allow_remote=false") {
		t.Errorf("asked %s", asked.URI)
	}
	alice.Get(downloads+s.Name+"/missing").Fails(404, "M_NOT_FOUND")
	for i, test := range []struct {
		status int
		code   string
		told   int
		as     string
	}{
		{404, "M_NOT_FOUND", 404, "M_NOT_FOUND"}, {504, "M_NOT_YET_UPLOADED", 504, "M_NOT_YET_UPLOADED"}, {502, "M_TOO_LARGE", 502, "M_TOO_LARGE"},
		{403, "M_FORBIDDEN", 403, "M_FORBIDDEN"}, {401, "M_UNKNOWN_TOKEN", 502, "M_UNKNOWN"}, {429, "M_LIMIT_EXCEEDED", 502, "M_UNKNOWN"}, {500, "x", 502, "M_UNKNOWN"},
	} {
		s.Answer(mediaDownload, test.status, harness.Object{"errcode": test.code, "error": "no"})
		alice.Get(fmt.Sprintf("%s%s/e%d", downloads, s.Name, i)).Fails(test.told, test.as)
	}
}

// What many want at the same time is fetched once; afterwards it is here (M09).
func TestMediaIsFetchedOnce(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		s := New(t, victim)
		alice := victim.Register(t, "alice")
		release := make(chan struct{})
		s.Handle(mediaDownload, func(w http.ResponseWriter, r *http.Request) {
			<-release
			w.Header().Set("Content-Type", multipartX)
			_, _ = io.WriteString(w, parts(jsonPart, "Content-Type: text/plain\r\n\r\nhello"))
		})
		victim.Client(t).Get("/_matrix/media/v3/download/"+s.Name+"/once").Fails(404, "M_NOT_FOUND")
		if asked := s.Asked("/media/download/"); len(asked) > 0 {
			t.Errorf("asked for who has no account: %v", asked)
		}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				r, err := alice.Try(t.Context(), "GET", downloads+s.Name+"/once", nil)
				if err != nil || r.Status != 200 || string(r.Body) != "hello" {
					t.Errorf("%v %+v", err, r)
				}
			})
		}
		s.AwaitAsked("/media/download/once")
		close(release)
		group.Wait()
		alice.Get(downloads + s.Name + "/once").OK()
		if asked := s.Asked("/media/download/"); len(asked) != 1 {
			t.Errorf("asked %d times", len(asked))
		}
		victim.Client(t).Get("/_matrix/media/v3/download/"+s.Name+"/once").Fails(404, "M_NOT_FOUND")
	})
}

// Ids of media are no paths, on no server (M08).
func TestAttackM08MediaPaths(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice").Unchecked()
	for _, uri := range []string{
		s.Name + "/..%2f..%2fsecret", s.Name + "/%2e%2e", s.Name + "/a%2fb", s.Name + "/a%00", s.Name + "/a.png", s.Name + "/%c3%a9", s.Name + "/" + strings.Repeat("a", 256),
		"..%2f" + s.Name + "/a", "%2e%2e/a", "a%20b/a", victim.Name + "/..%2fsigning.key", victim.Name + "/" + strings.Repeat("ab", 32), "127.0.0.1%2f..%2f/a", "%00/a",
	} {
		for _, prefix := range []string{downloads, "/_matrix/media/v3/download/"} {
			if r := alice.Get(prefix + uri); r.Status != 404 && r.Status != 400 {
				t.Errorf("%s%s: status %d %.200s", prefix, uri, r.Status, r.Body)
			}
		}
	}
	if asked := s.Asked("/media/"); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// Servers get files and thumbnails of this server in two parts, and nothing of other servers;
// who does not prove to be a server gets nothing.
func TestMediaForServers(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		s := New(t, victim)
		alice := victim.Register(t, "alice")
		var picture bytes.Buffer
		if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 200, 100))); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", victim.URL()+"/_matrix/media/v3/upload?filename=a", &picture)
		if err != nil {
			t.Fatal(err)
		}
		want := picture.String()
		req.Header.Set("Authorization", "Bearer "+alice.AccessToken)
		req.Header.Set("Content-Type", "image/png")
		uploaded, err := alice.Send(req)
		if err != nil {
			t.Fatal(err)
		}
		id := strings.TrimPrefix(uploaded.OK().At("content_uri").Str(), "mxc://"+victim.Name+"/")
		const sizes = "?width=96&height=96&method=crop"

		part, content := secondPart(t, s.Get(V1+"/media/download/"+id).OK())
		if content != want || part.Get("Content-Type") != "image/png" || part.Get("Content-Disposition") != "inline; filename=a" {
			t.Errorf("%v %.20q", part, content)
		}
		part, content = secondPart(t, s.Get(V1+"/media/thumbnail/"+id+sizes).OK())
		if config, kind, err := image.DecodeConfig(strings.NewReader(content)); err != nil || kind != "png" || config.Width != 96 || part.Get("Content-Type") != "image/png" {
			t.Errorf("%v %s %+v %v", part, kind, config, err)
		}
		later := strings.TrimPrefix(alice.Post("/_matrix/media/v1/create", nil).OK().At("content_uri").Str(), "mxc://"+victim.Name+"/")
		for _, kind := range []string{"download", "thumbnail"} {
			s.Request("GET", V1+"/media/"+kind+"/"+id+sizes, nil).Refused("without a signature", 401)
			s.Get(V1+"/media/"+kind+"/unknown"+sizes).Refused("an unknown id", 404)
			s.Get(V1+"/media/"+kind+"/"+later+sizes+"&timeout_ms=0").Refused("nothing yet", 504)
		}
		s.Get(V1+"/media/thumbnail/"+id).Refused("no size", 400)
	})
}

// secondPart reads an answer that has the two parts which it has to have.
func secondPart(t *testing.T, a *Answer) (textproto.MIMEHeader, string) {
	t.Helper()
	kind, parameters, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" {
		t.Fatalf("%s: %v", kind, err)
	}
	reader := multipart.NewReader(bytes.NewReader(a.Body), parameters["boundary"])
	var all []string
	var last textproto.MIMEHeader
	for {
		part, err := reader.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 && part.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the first part is %v", part.Header)
		}
		all, last = append(all, string(content)), part.Header
	}
	if len(all) != 2 || all[0] != "{}" {
		t.Fatalf("the parts %.100q", all)
	}
	return last, all[1]
}
