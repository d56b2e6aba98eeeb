package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the peers that may speak for others.
type proxies struct {
	prefixes []netip.Prefix
	unix     bool
}

// client is the peer's own address, or, if the peer is a trusted proxy, the last one
// in X-Forwarded-For that is not itself a trusted proxy. What stands to the left of it
// was written by that client and proves nothing.
func (p proxies) client(r *http.Request) netip.Addr {
	addr, ok := peer(r.RemoteAddr)
	if ok && !p.trusts(addr) || !ok && !p.unix {
		return addr
	}
	headers := r.Header["X-Forwarded-For"]
	for i := len(headers) - 1; i >= 0; i-- {
		rest := headers[i]
		for more := true; more; {
			var entry string
			rest, entry, more = cutLast(rest)
			next, ok := forwardedAddr(entry)
			if !ok {
				return addr
			}
			addr = next
			if !p.trusts(addr) {
				return addr
			}
		}
	}
	return addr
}

func (p proxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p.prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// peer parses the address of a TCP peer; a unix socket's is not one.
func peer(remote string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(remote)
	return ap.Addr().Unmap().WithZone(""), err == nil
}

// cutLast splits at the last comma; more tells that there was one.
func cutLast(list string) (before, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", list, false
	}
	return list[:i], list[i+1:], true
}

// forwardedAddr parses one entry of X-Forwarded-For: an address, bare or in brackets,
// with or without a port.
func forwardedAddr(entry string) (netip.Addr, bool) {
	entry = strings.TrimSpace(entry)
	addr, err := netip.ParseAddr(entry)
	if err != nil {
		if ap, portErr := netip.ParseAddrPort(entry); portErr == nil {
			addr, err = ap.Addr(), nil
		} else if inner, ok := strings.CutPrefix(entry, "["); ok {
			inner, ok = strings.CutSuffix(inner, "]")
			if ok {
				addr, err = netip.ParseAddr(inner)
			}
		}
	}
	return addr.Unmap().WithZone(""), err == nil
}

// AddrKey is the name under which [Limiter] counts a client's address. Whoever has an
// IPv6 address usually has its whole /64.
func AddrKey(addr netip.Addr) string { return network(addr).Addr().String() }

// network is what counts as one client: an IPv4 address, or an IPv6 /64.
func network(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
