package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beep/outbound/outboundtest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newDialer(t *testing.T, o Options) *Dialer {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func refused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

func TestCheck(t *testing.T) {
	d := newDialer(t, Options{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}})
	for _, addr := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "198.18.0.1", "198.19.255.255", "224.0.0.1",
		"239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.9",
		"::", "::1", "::2", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1",
		"2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:0:1:2::3", "2001:db8::1", "fc00::1", "fdff::1", "fe80::1", "fe80::1%eth0",
		"fec0::1", "ff02::1",
	} {
		if err := d.Check(netip.MustParseAddr(addr)); !refused(err) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := d.Check(netip.Addr{}); !refused(err) {
		t.Errorf("no address: %v", err)
	}
	for _, addr := range []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "192.169.0.1", "198.20.0.1",
		"223.255.255.255", "2606:4700::1111", "2a00::1", "10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "fd00:1::5%eth0"} {
		if err := d.Check(netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := newDialer(t, Options{NoDenyList: true}).Check(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
}

// listen counts the connections to an address of this machine.
func listen(t *testing.T, address string) (port string, count *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	count = new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			conn.Close()
		}
	}()
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, count
}

func TestPrivateAddressesAreNotDialled(t *testing.T) {
	dns := outboundtest.NewDNS(t)
	dns.Address("private.test", "127.0.0.1", "::1", "::ffff:127.0.0.1")
	dns.Alias("alias.test", "private.test")
	port, count := listen(t, "127.0.0.1:0")
	d := newDialer(t, Options{Resolver: dns.Resolver()})
	for _, host := range []string{"private.test", "alias.test", "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "localhost"} {
		_, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if !refused(err) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if count.Load() != 0 {
		t.Errorf("%d connections were made", count.Load())
	}
	if _, err := d.DialContext(t.Context(), "unix", "/tmp/x"); err == nil {
		t.Error("a unix socket was dialled")
	}
}

// TestRebinding: a name resolves to a good address and to a bad one, in turns. Whatever is looked
// up when, the bad one is never connected to.
func TestRebinding(t *testing.T) {
	dns := outboundtest.NewDNS(t)
	dns.Rebind("evil.test", "127.0.0.2", "127.0.0.1")
	port, badCount := listen(t, "127.0.0.1:0")
	_, goodCount := listen(t, "127.0.0.2:"+port)
	d := newDialer(t, Options{Resolver: dns.Resolver(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	reached, stopped := 0, 0
	for range 20 {
		conn, err := d.DialContext(t.Context(), "tcp", "evil.test:"+port)
		switch {
		case err == nil:
			reached++
			conn.Close()
		case refused(err):
			stopped++
		default:
			t.Fatal(err)
		}
	}
	if reached == 0 || stopped == 0 || badCount.Load() != 0 {
		t.Errorf("%d reached the good address (%d), %d stopped, %d reached the bad one", reached, goodCount.Load(), stopped, badCount.Load())
	}
}

func TestRedirects(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(server.URL+"/end", http.StatusFound))
	defer secure.Close()
	mux.HandleFunc("/end", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "end") })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.Handle("/private", http.RedirectHandler("http://10.0.0.1/", http.StatusFound))
	mux.Handle("/name", http.RedirectHandler("http://private.test/", http.StatusFound))
	mux.Handle("/other", http.RedirectHandler("file:///etc/passwd", http.StatusFound))
	for i := range 9 {
		mux.Handle(fmt.Sprintf("/hop%d", i+1), http.RedirectHandler(fmt.Sprintf("/hop%d", i), http.StatusFound))
	}
	mux.Handle("/hop0", http.RedirectHandler("/end", http.StatusFound))
	dns := outboundtest.NewDNS(t)
	dns.Address("private.test", "192.168.0.1")
	d := newDialer(t, Options{Resolver: dns.Resolver(), Allow: loopback})
	d.tls.InsecureSkipVerify = true // whom to trust is another test's matter
	client := d.Client(5*time.Second, 5)
	for path, want := range map[string]bool{"/end": true, "/hop4": true, "/hop5": false, "/loop": false, "/private": false, "/name": false, "/other": false} {
		resp, err := client.Get(server.URL + path)
		if (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		if (path == "/private" || path == "/name") && !refused(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := client.Get(secure.URL); err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("from https to http: %v", err)
	}
	resp, err := d.Client(5*time.Second, 0).Get(server.URL + "/private")
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("a client that follows none: %v", err)
	}
	resp.Body.Close()
}

func TestTimeout(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-done:
				return
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
				w.Write([]byte("x"))
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer server.Close()
	defer close(done)
	resp, err := newDialer(t, Options{Allow: loopback}).Client(200*time.Millisecond, 0).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an endless body: %v", err)
	}
}

func TestLimit(t *testing.T) {
	for n, want := range map[int64]error{10: nil, 11: nil, 9: ErrTooLarge, 0: ErrTooLarge} {
		text, err := io.ReadAll(Limit(strings.NewReader("0123456789"), n))
		if !errors.Is(err, want) || err == nil && string(text) != "0123456789" {
			t.Errorf("limit %d: %q, %v", n, text, err)
		}
		if int64(len(text)) > n {
			t.Errorf("limit %d: %d bytes", n, len(text))
		}
	}
}

// tlsServer answers with the name of the client's certificate.
func tlsServer(t *testing.T, ca *outboundtest.CA, names ...string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, names...)}, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestTrust(t *testing.T) {
	ours, theirs := outboundtest.NewCA(t), outboundtest.NewCA(t)
	base := newDialer(t, Options{Allow: loopback, CAFiles: []string{ours.File}})
	both, err := base.WithTLS(TLSOptions{CAFiles: []string{theirs.File}})
	if err != nil {
		t.Fatal(err)
	}
	only, err := base.WithTLS(TLSOptions{CAFiles: []string{theirs.File}, OnlyCAFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	ourServer, theirServer := tlsServer(t, ours, "ours.test", "127.0.0.1"), tlsServer(t, theirs, "theirs.test")
	for _, c := range []struct {
		name    string
		dialer  *Dialer
		address string
		server  string
		want    bool
	}{
		{"its own authority", base, ourServer, "ours.test", true},
		{"an IP address", base, ourServer, "127.0.0.1", true},
		{"another name", base, ourServer, "other.test", false},
		{"another authority", base, theirServer, "theirs.test", false},
		{"both, the first", both, ourServer, "ours.test", true},
		{"both, the second", both, theirServer, "theirs.test", true},
		{"only the second, the first", only, ourServer, "ours.test", false},
		{"only the second, the second", only, theirServer, "theirs.test", true},
	} {
		conn, err := c.dialer.DialTLS(t.Context(), c.address, c.server)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	if !refused(only.Check(netip.MustParseAddr("10.0.0.1"))) {
		t.Error("the derived dialer goes to private networks")
	}
}

func TestClientCertificate(t *testing.T) {
	ca := outboundtest.NewCA(t)
	address := tlsServer(t, ca, "127.0.0.1")
	certFile, keyFile := ca.Files(t, "ministry.test")
	d := newDialer(t, Options{Allow: loopback, CAFiles: []string{ca.File}})
	mutual, err := d.WithTLS(TLSOptions{CertificateFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	shown := func(d *Dialer) string {
		resp, err := d.Client(5*time.Second, 0).Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		name, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(name)
	}
	if name := shown(d); name != "" {
		t.Errorf("the first dialer shows %q", name)
	}
	if name := shown(mutual); name != "ministry.test" {
		t.Errorf("it shows %q", name)
	}
	renewedCert, renewedKey := ca.Files(t, "renewed.test")
	for from, to := range map[string]string{renewedCert: certFile, renewedKey: keyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if name := shown(mutual); name != "renewed.test" {
		t.Errorf("after the renewal it shows %q", name)
	}
}

func TestFaultyFiles(t *testing.T) {
	ca := outboundtest.NewCA(t)
	empty := t.TempDir() + "/empty"
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, files := range [][]string{{empty}, {ca.File, empty}, {empty + ".missing"}} {
		if _, err := New(Options{CAFiles: files}); err == nil {
			t.Errorf("%q is taken", files)
		}
	}
	if _, err := newDialer(t, Options{}).WithTLS(TLSOptions{CertificateFile: ca.File, KeyFile: empty}); err == nil {
		t.Error("a certificate without a key is taken")
	}
	for _, proxy := range []string{"socks5://127.0.0.1:1", "http:", "https://x"} {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Proxy: u}); err == nil {
			t.Errorf("the proxy %s is taken", proxy)
		}
	}
}

// proxy is an HTTP proxy that leads every name to one address.
func proxy(t *testing.T, leadTo string, password string) (*url.URL, *atomic.Int64) {
	t.Helper()
	count := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != password {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		to, err := net.Dial("tcp", leadTo)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			io.Copy(to, from)
			to.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(from, to)
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, count
}

func TestProxy(t *testing.T) {
	ca := outboundtest.NewCA(t)
	address := tlsServer(t, ca, "far.test")
	through, count := proxy(t, address, "Basic dXNlcjpwYXNz")
	through.User = url.UserPassword("user", "pass")
	d := newDialer(t, Options{Proxy: through, CAFiles: []string{ca.File}})
	resp, err := d.Client(5*time.Second, 0).Get("https://far.test")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	conn, err := d.DialTLS(t.Context(), "far.test:443", "far.test")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if count.Load() != 2 {
		t.Errorf("%d requests to the proxy", count.Load())
	}
	if _, err := d.DialContext(t.Context(), "tcp", "169.254.169.254:80"); !refused(err) || count.Load() != 2 {
		t.Errorf("a private address: %v", err)
	}
	through.User = url.UserPassword("user", "wrong")
	if _, err := newDialer(t, Options{Proxy: through}).DialContext(t.Context(), "tcp", "far.test:443"); err == nil || !strings.Contains(err.Error(), "407") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestProxyThatSaysNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	d := newDialer(t, Options{Proxy: &url.URL{Scheme: "http", Host: listener.Addr().String()}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.DialContext(ctx, "tcp", "far.test:443"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestEnvironmentHasNoSay(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	client := newDialer(t, Options{Allow: loopback}).Client(5*time.Second, 0)
	if transport := client.Transport.(*http.Transport); transport.Proxy != nil {
		t.Error("the transport has a proxy")
	}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestSimulatedNetwork(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	var asked string
	d := newDialer(t, Options{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		asked = address
		return ours, nil
	}})
	conn, err := d.DialContext(t.Context(), "tcp", "somewhere.test:8448")
	if err != nil || asked != "somewhere.test:8448" {
		t.Fatalf("%q, %v", asked, err)
	}
	conn.Close()
}
