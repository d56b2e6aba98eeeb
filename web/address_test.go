package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		remote    string
		forwarded []string
		unix      bool
		want      string
	}{
		{"192.0.2.1:5", nil, false, "192.0.2.1"},
		// Nobody but a trusted peer speaks for others.
		{"192.0.2.1:5", []string{"203.0.113.9"}, true, "192.0.2.1"},
		{"11.0.0.1:5", []string{"203.0.113.9"}, false, "11.0.0.1"},
		{"@", []string{"203.0.113.9"}, false, ""},
		{"", []string{"203.0.113.9"}, false, ""},
		{"@", []string{"203.0.113.9"}, true, "203.0.113.9"},
		{"@", nil, true, ""},
		{"10.0.0.1:5", nil, false, "10.0.0.1"},
		{"10.0.0.1:5", []string{"203.0.113.9"}, false, "203.0.113.9"},
		// What the client itself wrote stands further to the left.
		{"10.0.0.1:5", []string{"1.1.1.1, 203.0.113.9"}, false, "203.0.113.9"},
		{"10.0.0.1:5", []string{"1.1.1.1", "203.0.113.9"}, false, "203.0.113.9"},
		{"10.0.0.1:5", []string{"1.1.1.1,203.0.113.9 , 10.2.3.4"}, false, "203.0.113.9"},
		{"10.0.0.1:5", []string{"203.0.113.9", "10.2.3.4, 10.2.3.5"}, false, "203.0.113.9"},
		{"10.0.0.1:5", []string{"10.2.3.4"}, false, "10.2.3.4"},
		{"10.0.0.1:5", []string{"203.0.113.9:4711"}, false, "203.0.113.9"},
		{"[fd00::1]:5", []string{"2001:db8::1"}, false, "2001:db8::1"},
		{"[fd00::1]:5", []string{"[2001:db8::1]"}, false, "2001:db8::1"},
		{"[fd00::1]:5", []string{"[2001:db8::1]:80"}, false, "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", []string{"::ffff:203.0.113.9"}, false, "203.0.113.9"},
		// Beyond what cannot be read nothing is believed.
		{"10.0.0.1:5", []string{"203.0.113.9, unknown"}, false, "10.0.0.1"},
		{"10.0.0.1:5", []string{"203.0.113.9, junk, 10.2.3.4"}, false, "10.2.3.4"},
		{"10.0.0.1:5", []string{"203.0.113.9,"}, false, "10.0.0.1"},
		{"10.0.0.1:5", []string{""}, false, "10.0.0.1"},
	} {
		p := proxies{prefixes: trusted, unix: tc.unix}
		got := p.client(&http.Request{RemoteAddr: tc.remote, Header: http.Header{"X-Forwarded-For": tc.forwarded}})
		if tc.want == "" && got.IsValid() || tc.want != "" && got.String() != tc.want {
			t.Errorf("%s, %q: %s, want %s", tc.remote, tc.forwarded, got, tc.want)
		}
	}
}

func TestAddrKey(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8::1:2:3:4": "2001:db8::", "2001:db8:0:1::": "2001:db8:0:1::",
	} {
		if got := AddrKey(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if AddrKey(netip.Addr{}) != AddrKey(netip.Addr{}) {
		t.Error("unknown addresses differ")
	}
}

// FuzzForwardedFor: the answer is the peer, or an address that stands in the header,
// and an untrusted peer is never anyone but itself.
func FuzzForwardedFor(f *testing.F) {
	f.Add("1.1.1.1, 203.0.113.9", "10.2.3.4")
	f.Add("[2001:db8::1]:80", ",,")
	f.Add("fe80::1%eth0", "::ffff:1.2.3.4")
	p := proxies{prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, first, second string) {
		header := http.Header{"X-Forwarded-For": {first, second}}
		if got := p.client(&http.Request{RemoteAddr: "192.0.2.1:5", Header: header}); got.String() != "192.0.2.1" {
			t.Errorf("an untrusted peer became %s", got)
		}
		got := p.client(&http.Request{RemoteAddr: "10.0.0.1:5", Header: header})
		if got == netip.MustParseAddr("10.0.0.1") {
			return
		}
		for entry := range strings.SplitSeq(first+","+second, ",") {
			if addr, ok := forwardedAddr(entry); ok && addr == got {
				return
			}
		}
		t.Errorf("%q, %q: %s stands nowhere", first, second, got)
	})
}
