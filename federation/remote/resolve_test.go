package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/outbound"
)

// TestServerDiscovery takes each way of "Resolving server names" to a real server, which tells
// the Host header and the name of the certificate that was asked for.
func TestServerDiscovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, `{"server":{"name":"%s %s"}}`, r.Host, r.TLS.ServerName)
	})
	// An address of this machine where the port 8448 is ours.
	fixed := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))
	names := []string{fixed, "port.test", "fed.test", "old.test", "both.test", "plain.test", "delegate.test", "delegate-fed.test", "delegate-old.test", "dead.test"}
	main := w.serve(t, "127.0.0.1:0", echo, append(names, "127.0.0.1")...)
	w.serve(t, fixed+":8448", echo, names...)
	port := portOf(main)
	var portNumber uint16
	fmt.Sscan(port, &portNumber)

	delegations := map[string]string{
		"wk-ip.test": fixed, "wk-ip-port.test": "127.0.0.1:" + port, "wk-port.test": "delegate.test:" + port,
		"wk-fed.test": "delegate-fed.test", "wk-old.test": "delegate-old.test", "wk-plain.test": "delegate.test",
	}
	wellKnownNames := []string{"plain.test"}
	for name := range delegations {
		wellKnownNames = append(wellKnownNames, name)
	}
	wellKnown := w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		to, ok := delegations[host]
		if !ok || r.URL.Path != "/.well-known/matrix/server" {
			http.NotFound(rw, r)
			return
		}
		fmt.Fprintf(rw, `{"m.server":%q}`, to)
	}), wellKnownNames...)
	w.client.resolver.wellKnownPort = portOf(wellKnown)
	for _, name := range wellKnownNames {
		w.dns.Address(name, "127.0.0.1")
	}
	for _, name := range []string{"target.test", "port.test"} {
		w.dns.Address(name, "127.0.0.1")
	}
	w.dns.Address("real.test", fixed)
	w.dns.Alias("plain.test", "real.test")
	w.dns.Alias("delegate.test", "real.test")
	w.dns.Service("_matrix-fed._tcp.fed.test", "target.test", portNumber, 10, 0)
	w.dns.Service("_matrix-fed._tcp.delegate-fed.test", "target.test", portNumber, 10, 0)
	w.dns.Service("_matrix._tcp.old.test", "target.test", portNumber, 10, 0)
	w.dns.Service("_matrix._tcp.delegate-old.test", "target.test", portNumber, 10, 0)
	w.dns.Service("_matrix-fed._tcp.both.test", "target.test", portNumber, 10, 0)
	w.dns.Service("_matrix._tcp.both.test", "nowhere.test", 1, 1, 0)
	// The first of the records leads nowhere.
	w.dns.Service("_matrix-fed._tcp.dead.test", "target.test", 1, 1, 0)
	w.dns.Service("_matrix-fed._tcp.dead.test", "target.test", portNumber, 2, 0)

	for _, c := range []struct{ step, server, want string }{
		{"1, with a port", "127.0.0.1:" + port, "127.0.0.1:" + port + " "},
		{"1, without a port", fixed, fixed + " "},
		{"2", "port.test:" + port, "port.test:" + port + " port.test"},
		{"3.1, without a port", "wk-ip.test", fixed + " "},
		{"3.1, with a port", "wk-ip-port.test", "127.0.0.1:" + port + " "},
		{"3.3", "wk-fed.test", "delegate-fed.test delegate-fed.test"},
		{"3.4", "wk-old.test", "delegate-old.test delegate-old.test"},
		{"3.5", "wk-plain.test", "delegate.test delegate.test"},
		{"4", "fed.test", "fed.test fed.test"},
		{"4 rather than 5", "both.test", "both.test both.test"},
		{"4, the second record", "dead.test", "dead.test dead.test"},
		{"5", "old.test", "old.test old.test"},
		{"6", "plain.test", "plain.test plain.test"},
	} {
		got, err := w.client.getVersion(t.Context(), c.server)
		if err != nil || got != c.want {
			t.Errorf("step %s: %q, want %q; %v", c.step, got, c.want, err)
		}
	}
	// Step 3.2 last, as it needs delegate.test at the other address.
	w.dns.Address("delegate.test", "127.0.0.1")
	got, err := w.client.getVersion(t.Context(), "wk-port.test")
	if want := "delegate.test:" + port + " delegate.test"; err != nil || got != want {
		t.Errorf("step 3.2: %q, want %q; %v", got, want, err)
	}
}

func TestSplitServerName(t *testing.T) {
	type parts struct {
		Host, Port string
		IsIP       bool
	}
	for name, want := range map[string]parts{
		"a.test": {"a.test", "", false}, "a.test:80": {"a.test", "80", false}, "1.2.3.4": {"1.2.3.4", "", true},
		"1.2.3.4:5": {"1.2.3.4", "5", true}, "[::1]": {"::1", "", true}, "[1::2]:99": {"1::2", "99", true},
		"1.2.3.4.5": {"1.2.3.4.5", "", false}, "256.1.1.1": {"256.1.1.1", "", false}, "127.1": {"127.1", "", false},
	} {
		host, port, isIP, err := splitServerName(name)
		if diff := cmp.Diff(want, parts{host, port, isIP}); diff != "" || err != nil {
			t.Errorf("%s: %s %v", name, diff, err)
		}
	}
	for _, name := range []string{"", ":80", "a.test:", "a.test:0", "a.test:65536", "a.test:99999", "[::1", "::1", "[1.2.3.4.5]", "[::g]",
		"a test", "a.test/x", "a@b", "[fe80::1%eth0]", "a.test:80:90", "ü.test", "[:::]", strings.Repeat("a", 231)} {
		if host, port, _, err := splitServerName(name); err == nil {
			t.Errorf("%q is taken as %q, %q", name, host, port)
		}
	}
}

// TestCertificateOfTheName: whoever stands behind an SRV record or a CNAME has to prove to be the server.
func TestCertificateOfTheName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.newPeer(t, "target.test")
	other.answer("/", http.StatusOK, `{}`)
	var port uint16
	fmt.Sscan(portOf(other.server), &port)
	w.dns.Service("_matrix-fed._tcp.victim.test", "target.test", port, 0, 0)
	w.dns.Alias("alias.test", "target.test")
	for _, server := range []string{"victim.test", fmt.Sprintf("alias.test:%d", port)} {
		_, err := w.client.getVersion(t.Context(), server)
		if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", server, err)
		}
	}
	if n := other.requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.Address("private.test", "10.0.0.1", "::1")
	w.dns.Service("_matrix-fed._tcp.service.test", "private.test", 443, 0, 0)
	wellKnown := w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"m.server":"192.168.1.1:22"}`)
	}), "delegating.test")
	w.client.resolver.wellKnownPort = portOf(wellKnown)
	w.dns.Address("delegating.test", "127.0.0.1")
	for _, server := range []string{"10.0.0.1", "10.0.0.1:443", "[::1]:8448", "private.test:8448", "private.test", "service.test", "delegating.test"} {
		_, err := w.client.getVersion(t.Context(), server)
		if _, ok := errors.AsType[*outbound.RefusedError](err); !ok {
			t.Errorf("%s: %v", server, err)
		}
	}
}

func TestServiceRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.client.resolver
	locate := func(name string) (string, error) {
		d, err := r.locate(t.Context(), name)
		if err != nil {
			return "", err
		}
		return strings.Join(d.addresses, " "), nil
	}
	w.dns.Service("_matrix-fed._tcp.many.test", "c.test", 3, 30, 0)
	w.dns.Service("_matrix-fed._tcp.many.test", "a.test", 1, 10, 0)
	w.dns.Service("_matrix-fed._tcp.many.test", "b.test", 2, 20, 0)
	w.dns.Service("_matrix-fed._tcp.many.test", "zero.test", 0, 1, 0)
	w.dns.Service("_matrix-fed._tcp.many.test", "d.test", 4, 40, 0)
	w.dns.Service("_matrix-fed._tcp.many.test", "e.test", 5, 50, 0)
	w.dns.Service("_matrix-fed._tcp.none.test", ".", 0, 0, 0)
	w.dns.Service("_matrix._tcp.none.test", "old.test", 1, 0, 0)
	w.dns.Break("_matrix-fed._tcp.broken.test")
	for name, want := range map[string]string{
		"many.test": "a.test.:1 b.test.:2 c.test.:3 d.test.:4", "Many.Test.": "a.test.:1 b.test.:2 c.test.:3 d.test.:4",
		"nothing.test": "nothing.test:8448", "broken.test": "broken.test:8448",
	} {
		if got, err := locate(name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := locate("none.test"); !errors.Is(err, errNoService) {
		t.Errorf("a server that says it is none: %q, %v", got, err)
	}

	if n := w.dns.Asked("_matrix-fed._tcp.many.test"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	before := w.dns.Asked("_matrix-fed._tcp.broken.test")
	w.wait(srvFaultLifetime)
	for _, name := range []string{"many.test", "broken.test"} {
		if _, err := locate(name); err != nil {
			t.Error(err)
		}
	}
	if n := w.dns.Asked("_matrix-fed._tcp.many.test"); n != 1 || w.dns.Asked("_matrix-fed._tcp.broken.test") == before {
		t.Errorf("after half a minute: asked %d times for the good, no more for the broken", n)
	}
	w.wait(srvLifetime)
	if _, err := locate("many.test"); err != nil || w.dns.Asked("_matrix-fed._tcp.many.test") != 2 {
		t.Errorf("after the lifetime: asked %d times, %v", w.dns.Asked("_matrix-fed._tcp.many.test"), err)
	}
}

// TestWeights: of two records of one priority, each comes first at times.
func TestWeights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.Service("_matrix-fed._tcp.spread.test", "a.test", 1, 10, 50)
	w.dns.Service("_matrix-fed._tcp.spread.test", "b.test", 1, 10, 50)
	first := map[string]int{}
	for range 60 {
		w.wait(srvLifetime)
		d, err := w.client.resolver.locate(t.Context(), "spread.test")
		if err != nil || len(d.addresses) != 2 {
			t.Fatal(d, err)
		}
		first[d.addresses[0]]++
	}
	if first["a.test.:1"] == 0 || first["b.test.:1"] == 0 {
		t.Errorf("%v", first)
	}
}

// TestMovedServer: when nobody answers where the DNS said, it is asked again.
func TestMovedServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := "moved.test"
	server := w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{}`)
	}), host)
	w.dns.Address("t.test", "127.0.0.1")
	w.dns.Service("_matrix-fed._tcp."+host, "t.test", 1, 0, 0)
	if _, err := w.client.getVersion(t.Context(), host); err == nil {
		t.Fatal("somebody listens on port 1")
	}
	w.dns.Forget("_matrix-fed._tcp." + host)
	var port uint16
	fmt.Sscan(portOf(server), &port)
	w.dns.Service("_matrix-fed._tcp."+host, "t.test", port, 0, 0)
	if _, err := w.client.getVersion(t.Context(), host); err != nil {
		t.Error(err)
	}
}

func TestResolvingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	cancel()
	if _, err := w.client.resolver.resolve(ctx, "slow.test"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, ok := w.client.resolver.srv.Get("slow.test"); ok {
		t.Error("what was not asked is remembered")
	}
}
