package contract

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Transport is an http.RoundTripper that checks every exchange that goes through it and reports the faults. What is
// sent and received stays as it is, but bodies are read whole before they are passed on.
type Transport struct {
	Spec   *Spec
	Base   http.RoundTripper                // nil means http.DefaultTransport
	Report func(format string, args ...any) // t.Errorf; must be set; called at most once for each exchange

	LaxEvents   bool     // do not check the contents of events, EDUs and PDUs: for tests that send junk on purpose
	LaxRequests bool     // do not check requests: for real clients, which are not ours to mend
	Allow       []string // beginnings of further paths that the specification does not list and that may be served
}

// shown is how many faults of one exchange are reported in full.
const shown = 25

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent, out, err := readRequest(req)
	if err != nil {
		return nil, err
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(out)
	if err != nil {
		return resp, err
	}
	resp.Request = req
	if t.streams(req, resp) {
		return resp, nil
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = replay(got, err)
	if err == nil { // else the connection broke, and what there is of the body says nothing
		t.check(req, sent, resp, got)
	}
	return resp, nil
}

// readRequest returns the body of a request and a request with the same body for the transport below.
func readRequest(req *http.Request) ([]byte, *http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, req, nil
	}
	sent, err := io.ReadAll(req.Body)
	if err := errors.Join(err, req.Body.Close()); err != nil {
		return nil, nil, fmt.Errorf("request body: %w", err)
	}
	out := req.Clone(req.Context())
	out.Body = io.NopCloser(bytes.NewReader(sent))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil }
	return sent, out, nil
}

// streams reports whether an answer may never end: a switched protocol, or something that is not JSON on a path that
// the specification does not list. There is nothing in it to check.
func (t *Transport) streams(req *http.Request, resp *http.Response) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return true
	}
	ops, _ := t.Spec.match(req.Method, req.URL.EscapedPath())
	x := Exchange{Allow: t.Allow}
	return len(ops) == 0 && x.allows(req.URL.EscapedPath()) &&
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
}

// replay is a body that gives what was read, and then the error that ended the reading.
func replay(got []byte, err error) io.ReadCloser {
	var body io.Reader = bytes.NewReader(got)
	if err != nil {
		body = io.MultiReader(body, failing{err})
	}
	return io.NopCloser(body)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (t *Transport) check(req *http.Request, sent []byte, resp *http.Response, got []byte) {
	got, err := decoded(resp.Header.Get("Content-Encoding"), got)
	if err != nil {
		t.Report("%s %s → %d: %v", req.Method, req.URL, resp.StatusCode, err)
		return
	}
	faults := t.Spec.Check(&Exchange{
		Method: req.Method, URL: req.URL, RequestHeader: req.Header, RequestBody: sent,
		Status: resp.StatusCode, ResponseHeader: resp.Header, ResponseBody: got,
		LaxEvents: t.LaxEvents, LaxRequests: t.LaxRequests, Allow: t.Allow,
	})
	if len(faults) == 0 {
		return
	}
	lines := make([]string, 0, shown+1)
	for i, f := range faults {
		if i == shown {
			lines = append(lines, fmt.Sprintf("and %d more", len(faults)-shown))
			break
		}
		lines = append(lines, f.String())
	}
	t.Report("%s %s → %d is not what the specification says:\n\t%s",
		req.Method, req.URL.RequestURI(), resp.StatusCode, strings.Join(lines, "\n\t"))
}

func decoded(encoding string, body []byte) ([]byte, error) {
	switch encoding {
	case "", "identity":
		return body, nil
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("content encoding %q cannot be checked", encoding)
}
