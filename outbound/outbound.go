// Package outbound is how this server calls out: to other servers, push gateways,
// pages to preview, application services. Whoever names the address is a stranger, so
// every connection goes through a [Dialer], which refuses private networks by the
// address that is really dialled: whatever a name resolves to, now or the next time,
// and wherever a redirect points.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	// connectTimeout bounds the search for the name's addresses and the connection.
	connectTimeout = 10 * time.Second
	// handshakeTimeout bounds the TLS handshake and the talk with a proxy.
	handshakeTimeout = 10 * time.Second
	// silence is how long the other end may acknowledge nothing of what it was sent.
	silence = 20 * time.Second
)

// Options say where this server may call, and whom it trusts there. The zero value
// reaches the public internet and trusts whom the system trusts.
type Options struct {
	// Allow are networks that may be reached although they are private.
	Allow []netip.Prefix
	// NoDenyList lets everything be reached. For test beds only.
	NoDenyList bool
	// CAFiles are files of certificates, in PEM, whose owners may vouch for any
	// server, beside those whom the system trusts.
	CAFiles []string
	// Proxy is the HTTP proxy (http://host:port, perhaps with user:password) that all
	// connections go through; nil is none. What the environment says of proxies
	// does not count. The proxy resolves names, so it is the one that has to refuse
	// private networks; only addresses given as such are checked here.
	Proxy *url.URL
	// Resolver answers questions to the DNS; nil is the system's.
	Resolver *net.Resolver
	// Dial takes the place of TCP where the network is a simulated one; address is a
	// name or an IP address, with a port. Nothing is refused then.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dialer makes connections. It is safe for concurrent use.
type Dialer struct {
	allow      []netip.Prefix
	noDenyList bool
	proxy      *url.URL
	resolver   *net.Resolver
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	trust      trust
	tls        *tls.Config
}

// New makes a dialer. It fails when a file cannot be read or the proxy's address is of
// another kind than http.
func New(o Options) (*Dialer, error) {
	if o.Proxy != nil && (o.Proxy.Scheme != "http" || o.Proxy.Host == "") {
		return nil, errors.New("outbound: the address of a proxy has the form http://host:port")
	}
	d := &Dialer{allow: o.Allow, noDenyList: o.NoDenyList, proxy: o.Proxy, resolver: o.Resolver, dial: o.Dial}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	if d.dial == nil {
		d.dial = d.dialTCP
	}
	return d.WithTLS(TLSOptions{CAFiles: o.CAFiles})
}

// Resolver is where the dialer looks names up.
func (d *Dialer) Resolver() *net.Resolver { return d.resolver }

// DialContext makes a TCP connection to host:port. An address that may not be reached
// is a [*RefusedError].
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("outbound: network %q", network)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+handshakeTimeout)
	defer cancel()
	if d.proxy != nil {
		return d.dialProxy(ctx, address)
	}
	return d.dial(ctx, network, address)
}

// dialTCP resolves the name and checks each address just before it is dialled.
func (d *Dialer) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{
		Timeout:  connectTimeout,
		Resolver: d.resolver,
		ControlContext: func(_ context.Context, _, address string, conn syscall.RawConn) error {
			// An address that cannot be read is the zero value, which is refused.
			dialled, _ := netip.ParseAddrPort(address)
			if err := d.Check(dialled.Addr()); err != nil {
				return err
			}
			return giveUpSilent(conn)
		},
	}
	return dialer.DialContext(ctx, network, address)
}

// DialTLS makes a TLS connection to host:port and demands a certificate for serverName,
// which is a DNS name or an IP address. It speaks HTTP/1.1.
func (d *Dialer) DialTLS(ctx context.Context, address, serverName string) (*tls.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := d.tls.Clone()
	config.ServerName = serverName
	config.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}
