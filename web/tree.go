package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxValues is how many wildcards one pattern may have.
const maxValues = 8

// node is the place of one path segment. Patterns have the form of
// net/http.ServeMux: literal segments, {name} for one whole segment that is not
// empty, and a final {$} for a trailing slash. ServeMux itself redirects unclean
// paths and missing slashes, which an API with ids in its paths must not do.
type node struct {
	literal map[string]*node
	wild    *node
	leaves  map[string]*leaf // by method
}

// leaf is where a pattern ends.
type leaf struct {
	route *route
	names []string // of the wildcards, in order
	alias bool     // gives way to a pattern that was registered for this very path
}

// match is what the search for a path found.
type match struct {
	values [maxValues]string // decoded
	n      int
	known  []*node // the path exists here, the method does not
}

// add enters pattern; it reports whether the place was free.
func (n *node) add(method, pattern string, l *leaf) bool {
	for segment := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		n = n.child(segment)
	}
	if n.leaves == nil {
		n.leaves = make(map[string]*leaf)
	}
	switch old := n.leaves[method]; {
	case old == nil || (old.alias && !l.alias):
		n.leaves[method] = l
		return true
	default:
		return l.alias
	}
}

func (n *node) child(segment string) *node {
	if strings.HasPrefix(segment, "{") && segment != "{$}" {
		if n.wild == nil {
			n.wild = &node{}
		}
		return n.wild
	}
	if segment == "{$}" {
		segment = ""
	}
	if n.literal == nil {
		n.literal = make(map[string]*node)
	}
	c := n.literal[segment]
	if c == nil {
		c = &node{}
		n.literal[segment] = c
	}
	return c
}

// find walks path, which has lost its leading slash. A literal segment goes before
// a wildcard, and is compared as it was sent: an encoded letter in the fixed part
// of a path would only serve to pass by the rules of a proxy.
func (n *node) find(method, path string, encoded bool, m *match) *leaf {
	segment, rest, more := strings.Cut(path, "/")
	if c := n.literal[segment]; c != nil {
		if l := c.step(method, rest, more, encoded, m); l != nil {
			return l
		}
	}
	if n.wild == nil || segment == "" {
		return nil
	}
	value, ok := decodeSegment(segment, encoded)
	if !ok {
		return nil
	}
	m.values[m.n] = value
	m.n++
	l := n.wild.step(method, rest, more, encoded, m)
	if l == nil {
		m.n--
	}
	return l
}

func (n *node) step(method, rest string, more, encoded bool, m *match) *leaf {
	if more {
		return n.find(method, rest, encoded, m)
	}
	l := n.leaves[method]
	if l == nil && method == http.MethodHead {
		l = n.leaves[http.MethodGet]
	}
	if l == nil && len(n.leaves) > 0 {
		m.known = append(m.known, n)
	}
	return l
}

// allowed is the Allow header of a 405.
func (m *match) allowed() string {
	methods := []string{http.MethodOptions}
	for _, n := range m.known {
		for method := range n.leaves {
			methods = append(methods, method)
			if method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

// requestPath is the path to route by, and whether its segments are still
// percent-encoded. net/http keeps RawPath only if it differs from the usual
// encoding of Path, so without it Path can be cut at its slashes.
func requestPath(u *url.URL) (path string, encoded bool) {
	if u.RawPath != "" {
		return u.RawPath, true
	}
	return u.Path, false
}

// cleanPath tells whether path is absolute and does not climb: no part between slashes
// is "." or "..", plain or encoded. An empty part needs no care, as no pattern has one.
func cleanPath(path string, encoded bool) bool {
	rest, more := strings.CutPrefix(path, "/")
	if !more {
		return false
	}
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		decoded, ok := decodeSegment(segment, encoded)
		if !ok || climbs(decoded) {
			return false
		}
	}
	return true
}

func decodeSegment(segment string, encoded bool) (string, bool) {
	if !encoded || !strings.Contains(segment, "%") {
		return segment, true
	}
	decoded, err := url.PathUnescape(segment)
	return decoded, err == nil
}

func climbs(segment string) bool {
	for part := range strings.SplitSeq(segment, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// wildcards lists the names in pattern. A malformed pattern is a mistake of the
// program and stops it at its start.
func wildcards(pattern string) []string {
	if !strings.HasPrefix(pattern, "/") || strings.Contains(pattern, "//") || strings.HasSuffix(pattern, "/") {
		panic(fmt.Sprintf("web: malformed pattern %q", pattern))
	}
	var names []string
	segments := strings.Split(pattern[1:], "/")
	for i, segment := range segments {
		if segment == "{$}" && i == len(segments)-1 {
			break
		}
		if !strings.ContainsAny(segment, "{}") {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(segment, "{"), "}")
		if len(name) != len(segment)-2 || name == "" || strings.ContainsAny(name, "{}$.") {
			panic(fmt.Sprintf("web: malformed wildcard %q in pattern %q", segment, pattern))
		}
		names = append(names, name)
	}
	if len(names) > maxValues {
		panic(fmt.Sprintf("web: more than %d wildcards in pattern %q", maxValues, pattern))
	}
	return names
}

// aliases are the older names under which a path is served as well: before v3 the
// client-server API was called r0, and before that api/v1.
func aliases(pattern string) []string {
	if rest, ok := strings.CutPrefix(pattern, "/_matrix/client/v3/"); ok {
		return []string{"/_matrix/client/r0/" + rest, "/_matrix/client/api/v1/" + rest}
	}
	if rest, ok := strings.CutPrefix(pattern, "/_matrix/media/v3/"); ok {
		return []string{"/_matrix/media/r0/" + rest, "/_matrix/media/v1/" + rest}
	}
	return nil
}
