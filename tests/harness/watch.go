package harness

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"

	"beep/outbound/outboundtest"
	"beep/tests/contract"
)

// watch stands between the port of a server that others know and the one that it listens at,
// and holds what they ask and what it answers against the specification. It ends with the
// test, after the server.
func watch(t testing.TB, ca *outboundtest.CA, from, to int) error {
	specification, err := spec()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from))
	if err != nil {
		return err
	}
	onward := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, DisableCompression: true, MaxIdleConnsPerHost: 16}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: &contract.Transport{Spec: specification, Base: onward, Report: t.Errorf},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", fmt.Sprintf("127.0.0.1:%d", to)
			r.Out.Host = r.In.Host
		},
		// Whoever asks is to see what it would see without the watch: a connection that ends.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, "localhost")}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		onward.CloseIdleConnections()
	})
	return nil
}
