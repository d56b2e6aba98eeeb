package harness

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"beep/outbound/outboundtest"
)

// front stands before a server and passes on what other servers ask it, when it may.
type front struct {
	server *http.Server
	ended  chan error

	mu   sync.Mutex
	held map[string]chan struct{} // by the beginning of paths
}

// newFront stands at a port, before the server that listens at another one.
func newFront(ca *outboundtest.CA, from, to int, certificate, key string) (*front, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from))
	if err != nil {
		return nil, err
	}
	target := &url.URL{Scheme: "https", Host: fmt.Sprintf("localhost:%d", to)}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport:    &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f := &front{ended: make(chan error, 1), held: map[string]chan struct{}{}}
	handle := func(w http.ResponseWriter, r *http.Request) {
		if f.pass(r) {
			proxy.ServeHTTP(w, r)
		}
	}
	f.server = &http.Server{Handler: http.HandlerFunc(handle), ReadHeaderTimeout: time.Minute}
	go func() { f.ended <- f.server.ServeTLS(listener, certificate, key) }()
	return f, nil
}

// close ends the front, if there is one.
func (f *front) close() error {
	if f == nil {
		return nil
	}
	err := f.server.Close()
	if ended := <-f.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// pass waits until the request may go on; false: whoever has sent it has gone.
func (f *front) pass(r *http.Request) bool {
	f.mu.Lock()
	var released chan struct{}
	for path, until := range f.held {
		if strings.HasPrefix(r.URL.Path, path) {
			released = until
		}
	}
	f.mu.Unlock()
	if released == nil {
		return true
	}
	select {
	case <-released:
		return true
	case <-r.Context().Done():
		return false
	}
}

// Hold keeps what other servers ask of the server at paths that begin so, until it is
// released. The server was started with Options.Front.
func (s *Server) Hold(path string) (release func()) {
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	until := make(chan struct{})
	s.front.held[path] = until
	return sync.OnceFunc(func() {
		s.front.mu.Lock()
		defer s.front.mu.Unlock()
		delete(s.front.held, path)
		close(until)
	})
}
