package roomserver

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/storage"
	"beep/stream"
)

// verdictsCached bounds the servers whose verdict an access control list remembers.
const verdictsCached = 128

// aclKey names a room's m.room.server_acl as it stands: redaction empties it.
type aclKey struct{ event, redaction stream.Pos }

// acl is an access control list, ready to judge servers (client-server API,
// "m.room.server_acl").
type acl struct {
	ipLiterals  bool
	allow, deny globs
	verdicts    *lru.Cache[string, bool]
}

// aclsOf are the lists of the rooms, nil for a room without.
func (s *Serving) aclsOf(ctx context.Context, rooms []storage.ServedRoom) ([]*acl, error) {
	lists := make([]*acl, len(rooms))
	absent := map[int64][]int{}
	var positions []int64
	for i := range rooms {
		key := aclKey{rooms[i].ACL, rooms[i].ACLRedactedBy}
		if key.event == 0 {
			continue
		}
		if list, ok := s.acls.Get(key); ok {
			lists[i] = list
			continue
		}
		absent[int64(key.event)] = append(absent[int64(key.event)], i)
		positions = append(positions, int64(key.event))
	}
	events, err := s.rooms.db.EventsByPos(ctx, positions)
	if err != nil {
		return nil, err
	}
	for i := range events {
		list := compileACL(events[i].Content)
		s.acls.Add(aclKey{events[i].Pos, events[i].RedactedBy}, list)
		for _, room := range absent[int64(events[i].Pos)] {
			lists[room] = list
		}
	}
	return lists, nil
}

// compileACL reads the content of m.room.server_acl. What has not the form that it has
// to have counts as left out. The size of events bounds the list.
func compileACL(content []byte) *acl {
	// A map, as the names of members have to be exact.
	var members map[string]json.RawMessage
	if json.Unmarshal(content, &members) != nil {
		members = nil
	}
	a := &acl{ipLiterals: string(members["allow_ip_literals"]) != "false"}
	// A dot at the end is taken off what is denied too, but never off what is allowed:
	// that would let in more than the pattern says.
	a.allow, a.deny = compileGlobs(members["allow"], ""), compileGlobs(members["deny"], ".")
	// The constructor fails only for a size that is not positive.
	a.verdicts, _ = lru.New[string, bool](verdictsCached)
	return a
}

// allows tells whether a server may take part in the room.
func (a *acl) allows(server string) bool {
	if verdict, ok := a.verdicts.Get(server); ok {
		return verdict
	}
	host := aclHost(server)
	verdict := (a.ipLiterals || !isIPLiteral(host)) && !a.deny.match(host) && a.allow.match(host)
	a.verdicts.Add(server, verdict)
	return verdict
}

// aclHost is what lists are about of a server's name: not the port, nor the case, nor a
// dot at the end, which changes nothing about where the name leads.
func aclHost(server string) string {
	host := server
	if i := strings.LastIndexByte(server, ':'); i >= 0 && strings.IndexByte(server[i:], ']') < 0 {
		host = server[:i]
	}
	return strings.TrimRight(lowerASCII(host), ".")
}

// isIPLiteral tells whether a host is an address rather than a name. No top-level domain
// is a number, but programs take many such texts for an address.
func isIPLiteral(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || strings.HasPrefix(host, "[") {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x")
}

// lowerASCII leaves other letters alone: some of them have an ASCII letter as their
// small one, and server names have none of them.
func lowerASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// globs are glob patterns (appendices, "Glob-style matching") of which one has to match.
// A list of any length is judged in time that grows with the patterns alone that are
// neither a plain name nor a name after one "*".
type globs struct {
	names    map[string]struct{}
	suffixes map[string]struct{} // of patterns "*suffix"
	others   []glob
}

func compileGlobs(list json.RawMessage, ending string) globs {
	g := globs{names: map[string]struct{}{}, suffixes: map[string]struct{}{}}
	var patterns []json.RawMessage
	if json.Unmarshal(list, &patterns) != nil {
		return g
	}
	seen := make(map[string]struct{}, len(patterns))
	for _, raw := range patterns {
		var pattern string
		if raw[0] != '"' || json.Unmarshal(raw, &pattern) != nil {
			continue
		}
		pattern = strings.TrimRight(lowerASCII(pattern), ending)
		if _, twice := seen[pattern]; !twice {
			seen[pattern] = struct{}{}
			g.add(pattern)
		}
	}
	return g
}

func (g *globs) add(pattern string) {
	wild := strings.IndexAny(pattern, "*?")
	switch {
	case wild < 0:
		g.names[pattern] = struct{}{}
	case wild == 0 && pattern[0] == '*' && !strings.ContainsAny(pattern[1:], "*?"):
		g.suffixes[pattern[1:]] = struct{}{}
	default:
		g.others = append(g.others, newGlob(pattern))
	}
}

func (g *globs) match(name string) bool {
	if _, ok := g.names[name]; ok {
		return true
	}
	for i := range len(name) + 1 {
		if _, ok := g.suffixes[name[i:]]; ok {
			return true
		}
	}
	for i := range g.others {
		if g.others[i].match(name) {
			return true
		}
	}
	return false
}

// glob is a pattern, cut at its stars. The first piece has to begin the name, the last
// one to end it, and the others to stand between, in order.
type glob struct {
	pieces []string
	length int // of all pieces: a shorter name cannot match
}

func newGlob(pattern string) glob {
	pieces := strings.Split(pattern, "*")
	g := glob{}
	for i, piece := range pieces {
		if piece != "" || i == 0 || i == len(pieces)-1 {
			g.pieces = append(g.pieces, piece)
			g.length += len(piece)
		}
	}
	return g
}

// match never goes back: a piece is best found where it comes first.
func (g *glob) match(name string) bool {
	if len(name) < g.length {
		return false
	}
	first, last := g.pieces[0], g.pieces[len(g.pieces)-1]
	if len(g.pieces) == 1 {
		return len(name) == len(first) && pieceAt(name, first)
	}
	if !pieceAt(name, first) || !pieceAt(name[len(name)-len(last):], last) {
		return false
	}
	rest := name[len(first) : len(name)-len(last)]
	for _, piece := range g.pieces[1 : len(g.pieces)-1] {
		at := findPiece(rest, piece)
		if at < 0 {
			return false
		}
		rest = rest[at+len(piece):]
	}
	return true
}

// pieceAt tells whether text begins with the piece, whose "?" is any character.
func pieceAt(text, piece string) bool {
	for i := range len(piece) {
		if piece[i] != '?' && piece[i] != text[i] {
			return false
		}
	}
	return true
}

func findPiece(text, piece string) int {
	if strings.IndexByte(piece, '?') < 0 {
		return strings.Index(text, piece)
	}
	for i := 0; i+len(piece) <= len(text); i++ {
		if pieceAt(text[i:], piece) {
			return i
		}
	}
	return -1
}
