package clients

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"

	"beep/tests/contract"
	"beep/tests/harness"
)

// spec is the specification that the exchanges are held against.
var spec = sync.OnceValues(func() (*contract.Spec, error) {
	dir, err := contract.DefaultDir()
	if err != nil {
		return nil, err
	}
	return contract.Load(dir)
})

// asInstalled makes servers with the rate limits and the password hashing of every server.
var asInstalled = harness.Options{Config: "unsafe: {no_rate_limits: false, cheap_password_hashing: false}"}

// wire is the transport of real clients. It finds the server again when that was restarted
// at another address, and holds the server's answers against the specification.
type wire struct {
	server  *harness.Server
	checked *contract.Transport

	mu      sync.Mutex
	unknown map[string]bool
}

// newWire is a wire to a server. Nothing may go through it after the test, which fails if the
// clients asked for what the server does not know, but for the requests (method and path)
// that they can do without.
func newWire(t *testing.T, server *harness.Server, without ...string) *wire {
	t.Helper()
	specification, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{MaxIdleConnsPerHost: 20}
	t.Cleanup(base.CloseIdleConnections)
	checked := &contract.Transport{Spec: specification, Base: base, Report: t.Errorf, LaxRequests: true}
	w := &wire{server: server, checked: checked, unknown: map[string]bool{}}
	t.Cleanup(func() {
		for _, request := range slices.Sorted(maps.Keys(w.unknown)) {
			if !slices.Contains(without, request) {
				t.Errorf("the server does not know %s", request)
			}
		}
	})
	return w
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	home, err := url.Parse(w.server.URL())
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host, out.Host = home.Scheme, home.Host, ""
	resp, err := w.checked.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	return resp, w.note(req, resp)
}

// note keeps what the server did not know.
func (w *wire) note(req *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if bytes.Contains(body, []byte(`"M_UNRECOGNIZED"`)) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unknown[req.Method+" "+req.URL.Path] = true
	}
	return nil
}
