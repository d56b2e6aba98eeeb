package allow

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"beep/matrix"
	"beep/storage"
)

// Point is where servers are checked.
type Point string

// The points at which a closed federation has to be closed.
const (
	// Origin is the server that a request says it comes from. It is to be checked before
	// the request's signature: for that its keys may have to be fetched, and nothing is
	// ever sent to a server outside.
	Origin Point = "origin"
	// Destination is a server that a request is about to be sent to, whatever for: also
	// for its keys, and as a notary.
	Destination Point = "destination"
	// Sender is the server of an event's sender, for every event that another server hands
	// over: in a transaction, as a room's state, as history.
	Sender Point = "sender"
	// Invite is the server of a user who invites or is invited.
	Invite Point = "invite"
	// Media is the server named by an mxc:// URI.
	Media Point = "media"
	// WellKnown is a server whose place is looked for, in its well-known file and in the
	// DNS. The host that the file names is asked for nothing but its own certificate: it
	// is the place of a listed server, not a server beside it, it gets what is meant for
	// that server, and can sign only with that server's keys. So it need not be in the
	// list, and is contacted for listed servers alone.
	WellKnown Point = "well_known"
)

// Refused is what [List.Check] gives for a server outside of the federation: 403
// M_FORBIDDEN.
var Refused = matrix.Forbidden.With("This server federates only with the servers of its list")

// pollInterval is how often the list's file is looked at.
const pollInterval = 5 * time.Second

// Options are what a [List] needs.
type Options struct {
	// ServerName is this server's own name, which is always admitted.
	ServerName string
	// Servers are names, as example.org or example.org:8448, and patterns, as
	// *.example.org, in any case.
	Servers []string
	// Path is the signed list's file; empty for none.
	Path string
	// Keys are the authority's, by id. One of them must have signed the list.
	Keys map[string]ed25519.PublicKey
	// DB keeps the newest list that was accepted. It is of use only with Path.
	DB *storage.DB
	// Logger takes the refusals and what becomes of the list; nil discards it.
	Logger *slog.Logger
	// Registry takes the metrics; it may be nil.
	Registry *prometheus.Registry
}

// List is the servers of a closed federation. It is safe for concurrent use. A nil List is
// that of an open federation: it admits every server and pins no keys.
type List struct {
	own       string
	names     map[string]struct{} // in lower case
	domains   map[string]struct{} // of patterns, in lower case, with the leading dot
	published *published          // nil without a signed list
	audit     *audit
}

// New reads the signed list, if there is one. A file that cannot be used is no error: it
// is logged, and the list that was accepted last, before a restart too, is in force.
func New(ctx context.Context, o Options) (*List, error) {
	if !matrix.ValidServerName(o.ServerName) {
		return nil, fmt.Errorf("a closed federation: %q is not this server's name", o.ServerName)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	l := &List{own: o.ServerName, names: map[string]struct{}{}, domains: map[string]struct{}{}, audit: newAudit(o.Logger, o.Registry)}
	for _, server := range o.Servers {
		if domain, found := strings.CutPrefix(server, "*"); found {
			l.domains[strings.ToLower(domain)] = struct{}{}
		} else {
			l.names[strings.ToLower(server)] = struct{}{}
		}
	}
	if o.Path == "" {
		return l, nil
	}
	var err error
	l.published, err = newPublished(ctx, &o)
	return l, err
}

// Run follows the list's file and writes what the log is owed, until ctx ends.
func (l *List) Run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	flushed := time.Now()
	for {
		select {
		case <-ctx.Done():
			l.audit.flush(ctx)
			return nil
		case now := <-ticker.C:
			if l.published != nil {
				l.published.follow(ctx, now)
			}
			if now.Sub(flushed) >= auditWindow {
				l.audit.flush(ctx)
				flushed = now
			}
		}
	}
}

// Reload reads the list's file now. If it fails, what was in force stays in force.
func (l *List) Reload(ctx context.Context) error {
	if l == nil || l.published == nil {
		return nil
	}
	return l.published.reload(ctx)
}

// Check gives [Refused] for a server that does not take part.
func (l *List) Check(server string) error {
	if l == nil || server == l.own || l.admits(server) {
		return nil
	}
	return Refused
}

// maxName is the length of the longest server name.
const maxName = 230

func (l *List) admits(server string) bool {
	if len(server) > maxName {
		return false
	}
	var space [maxName]byte
	name := fold(space[:0], server)
	if _, ok := l.names[string(name)]; ok {
		return true
	}
	if l.published != nil && l.published.admits(name) {
		return true
	}
	// What is no name at all may end like one of the domain's.
	return len(l.domains) > 0 && l.underDomain(name) && matrix.ValidServerName(server)
}

// underDomain tells whether a pattern matches: there is at least one label before it, and
// none that is empty.
func (l *List) underDomain(name []byte) bool {
	for dot := 0; ; dot++ {
		next := bytes.IndexByte(name[dot:], '.')
		if next <= 0 {
			return false
		}
		dot += next
		if _, ok := l.domains[string(name[dot:])]; ok {
			return true
		}
	}
}

// fold appends s in lower case, as far as server names have case.
func fold(dst []byte, s string) []byte {
	for i := range len(s) {
		b := s[i]
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// About is what a refusal was about, as far as it is known.
type About struct {
	Room, Event, User string // ids
}

// Admit is [List.Check] at one of the points. Refusals are counted and logged: the first of
// a server at a point with all that is known, those that follow as a number. What the name
// of an origin is worth is not known then: nobody has proven it.
func (l *List) Admit(ctx context.Context, point Point, server string, about About) error {
	err := l.Check(server)
	if err != nil {
		l.audit.refused(ctx, point, server, about)
	}
	return err
}

// PinnedKeys are the only keys, by id as ed25519:a_1, that count for the server; nil if it
// may have any. They hold for as long as no other list takes the place of this one, also
// after it has expired. The map is not to be changed.
func (l *List) PinnedKeys(server string) map[string]ed25519.PublicKey {
	if l == nil || l.published == nil || len(server) > maxName {
		return nil
	}
	var space [maxName]byte
	return l.published.pinned(fold(space[:0], server))
}
