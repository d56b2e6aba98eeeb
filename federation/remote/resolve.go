package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/matrix"
	"beep/outbound"
)

const (
	// defaultPort is where servers listen that say nothing else.
	defaultPort = "8448"
	// maxCached bounds what is remembered of servers' names, in servers.
	maxCached = 10_000

	// maxTargets bounds the SRV records of one name that are tried.
	maxTargets = 4
	// srvTimeout bounds one look-up of SRV records.
	srvTimeout = 5 * time.Second
	// srvLifetime is how long an answer of the DNS is kept: what the DNS says of that
	// does not get here.
	srvLifetime = 5 * time.Minute
	// srvFaultLifetime is the same for the lack of an answer.
	srvFaultLifetime = 30 * time.Second
)

// destination is where the requests to a server go.
type destination struct {
	host        string   // for the Host header
	certificate string   // whom the certificate has to name: a DNS name or an IP address
	addresses   []string // host:port, in the order in which they are tried
}

// key is the name of a pool of connections: servers share one only if all is the same.
func (d *destination) key() string {
	sum := sha256.Sum256([]byte(d.host + "\n" + d.certificate + "\n" + strings.Join(d.addresses, "\n")))
	return hex.EncodeToString(sum[:16])
}

// resolver finds servers by their names.
type resolver struct {
	dns           *net.Resolver
	wellKnown     *wellKnownCache
	wellKnownPort string // of the well-known files: 443
	srv           *lru.Cache[string, srvRecords]
	now           func() time.Time
}

type srvRecords struct {
	targets []string // host:port
	until   time.Time
}

func newResolver(dialer *outbound.Dialer, now func() time.Time) (*resolver, error) {
	srv, err := lru.New[string, srvRecords](maxCached)
	if err != nil {
		return nil, err
	}
	wellKnown, err := newWellKnownCache(dialer, now)
	return &resolver{dns: dialer.Resolver(), wellKnown: wellKnown, wellKnownPort: "443", srv: srv, now: now}, err
}

// resolve finds a server (server-server API, "Resolving server names", steps 1 to 6).
func (r *resolver) resolve(ctx context.Context, serverName string) (*destination, error) {
	host, port, isIP, err := splitServerName(serverName)
	if err != nil {
		return nil, err
	}
	if isIP || port != "" {
		return r.locate(ctx, serverName)
	}
	delegated, err := r.wellKnown.delegate(ctx, net.JoinHostPort(host, r.wellKnownPort))
	if err != nil {
		return nil, err
	}
	if delegated != "" {
		return r.locate(ctx, delegated)
	}
	return r.locate(ctx, serverName)
}

// locate takes all steps but the well-known file: they are the same for a server's own
// name and for the one that it delegates to.
func (r *resolver) locate(ctx context.Context, name string) (*destination, error) {
	host, port, isIP, err := splitServerName(name)
	if err != nil {
		return nil, err
	}
	d := &destination{host: name, certificate: strings.TrimSuffix(host, ".")}
	if !isIP && port == "" {
		if d.addresses, err = r.targets(ctx, host); err != nil {
			return nil, err
		}
	}
	if port == "" {
		port = defaultPort
	}
	if len(d.addresses) == 0 {
		d.addresses = []string{net.JoinHostPort(host, port)}
	}
	return d, nil
}

// splitServerName takes a server name apart; the host is without brackets, the port may
// be missing.
func splitServerName(name string) (host, port string, isIP bool, err error) {
	if !matrix.ValidServerName(name) {
		return "", "", false, fmt.Errorf("%q is not a server name", name)
	}
	if name[0] == '[' {
		end := strings.IndexByte(name, ']')
		host, port = name[1:end], strings.TrimPrefix(name[end+1:], ":")
		if _, err := netip.ParseAddr(host); err != nil {
			return "", "", false, fmt.Errorf("%q is not an IPv6 address", host)
		}
		isIP = true
	} else {
		host, port, _ = strings.Cut(name, ":")
		_, err := netip.ParseAddr(host)
		isIP = err == nil
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", false, fmt.Errorf("%q is not a port", port)
		}
	}
	return host, port, isIP, nil
}

// services are the names of the service in SRV records, the second one deprecated.
var services = [...]string{"matrix-fed", "matrix"}

// targets looks for SRV records of a host, the first of the two services that has any;
// there may be none.
func (r *resolver) targets(ctx context.Context, host string) ([]string, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if known, ok := r.srv.Get(host); ok && r.now().Before(known.until) {
		return known.targets, nil
	}
	found, lifetime := srvRecords{}, srvLifetime
	for _, service := range services {
		targets, err := r.lookUp(ctx, service, host)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, errNoService) {
			return nil, err
		}
		if err != nil {
			lifetime = srvFaultLifetime
		}
		if found.targets = targets; len(targets) > 0 {
			break
		}
	}
	found.until = r.now().Add(lifetime)
	r.srv.Add(host, found)
	return found.targets, nil
}

// errNoService is what a target of "." says (RFC 2782).
var errNoService = errors.New("the domain says that it has no Matrix server")

// lookUp asks for the records of one service. The targets come in the order of their
// priority, within one in random order by weight. That there are none is no error.
func (r *resolver) lookUp(ctx context.Context, service, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, srvTimeout)
	defer cancel()
	// With its last dot the name is whole: no search domain is put behind it.
	_, records, err := r.dns.LookupSRV(ctx, service, "tcp", host+".")
	if dnsError, ok := errors.AsType[*net.DNSError](err); ok && dnsError.IsNotFound {
		err = nil
	}
	if len(records) == 1 && records[0].Target == "." {
		return nil, errNoService
	}
	var targets []string
	for _, record := range records {
		if record.Target != "." && record.Port != 0 && len(targets) < maxTargets {
			targets = append(targets, net.JoinHostPort(record.Target, strconv.Itoa(int(record.Port))))
		}
	}
	return targets, err
}

// forget makes the next request ask the DNS again, as nobody answered where it says.
func (r *resolver) forget(d *destination) { r.srv.Remove(strings.ToLower(d.certificate)) }
