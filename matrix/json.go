package matrix

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxSafeInteger is the largest integer of canonical JSON; the smallest is its
// negative (appendices, section "Canonical JSON").
const MaxSafeInteger = 1<<53 - 1

// maxJSONDepth bounds the nesting of arrays and objects, so that hostile input
// cannot grow the stack.
const maxJSONDepth = 1000

// CanonicalJSON is src in the canonical form of the appendices, section
// "Canonical JSON": keys sorted by code point, no space, shortest escapes.
// It refuses what has two readings: keys given twice, invalid UTF-8, unpaired
// surrogates. With strictNumbers it also refuses fractions, exponents and
// integers beyond ±(2^53-1), as room versions from 6 on demand; without,
// numbers stay as they are written.
func CanonicalJSON(src []byte, strictNumbers bool) ([]byte, error) {
	return canonical(src, strictNumbers, maxJSONDepth)
}

// canonical is CanonicalJSON with a depth of one's own.
func canonical(src []byte, strictNumbers bool, deepest int) ([]byte, error) {
	c := canonicaliser{src: src, strict: strictNumbers, deepest: deepest}
	out, err := c.value(make([]byte, 0, len(src)), 0)
	if err != nil {
		return nil, err
	}
	c.space()
	if c.pos != len(c.src) {
		return nil, c.fault("text after the end of the value")
	}
	return out, nil
}

type canonicaliser struct {
	src     []byte
	pos     int
	strict  bool
	deepest int
}

func (c *canonicaliser) fault(text string) error {
	return fmt.Errorf("JSON: %s at byte %d", text, c.pos)
}

func (c *canonicaliser) space() {
	for c.pos < len(c.src) {
		switch c.src[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return
		}
	}
}

// next skips space and gives the next byte without taking it; 0 at the end.
func (c *canonicaliser) next() byte {
	c.space()
	if c.pos == len(c.src) {
		return 0
	}
	return c.src[c.pos]
}

func (c *canonicaliser) value(dst []byte, depth int) ([]byte, error) {
	if depth > c.deepest {
		return nil, c.fault("nested too deeply")
	}
	switch b := c.next(); {
	case b == '{':
		return c.object(dst, depth)
	case b == '[':
		return c.array(dst, depth)
	case b == '"':
		return c.text(dst)
	case b == '-' || b >= '0' && b <= '9':
		return c.number(dst)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(c.src[c.pos:], []byte(word)) {
			c.pos += len(word)
			return append(dst, word...), nil
		}
	}
	return nil, c.fault("no value")
}

// member is where one member of an object stands in the output, key first.
type member struct{ start, keyEnd, end int }

func (c *canonicaliser) object(dst []byte, depth int) ([]byte, error) {
	c.pos++
	dst = append(dst, '{')
	if c.next() == '}' {
		c.pos++
		return append(dst, '}'), nil
	}
	var few [16]member
	members, sorted := few[:0], true
	first := len(dst)
	for {
		m := member{start: len(dst)}
		if c.next() != '"' {
			return nil, c.fault("no key")
		}
		var err error
		if dst, err = c.text(dst); err != nil {
			return nil, err
		}
		m.keyEnd = len(dst)
		if c.next() != ':' {
			return nil, c.fault("no colon after a key")
		}
		c.pos++
		if dst, err = c.value(append(dst, ':'), depth+1); err != nil {
			return nil, err
		}
		m.end = len(dst)
		if n := len(members); n > 0 && compareKeys(dst, members[n-1], m) >= 0 {
			sorted = false
		}
		members = append(members, m)
		switch c.next() {
		case ',':
			c.pos++
			dst = append(dst, ',')
			continue
		case '}':
			c.pos++
			if !sorted {
				if dst, err = c.sort(dst, first, members); err != nil {
					return nil, err
				}
			}
			return append(dst, '}'), nil
		}
		return nil, c.fault("an object without end")
	}
}

// compareKeys compares two written keys by code point. Escapes stand for
// characters below the space, '"' and '\', so written keys are compared unescaped
// only where an escape occurs.
func compareKeys(dst []byte, a, b member) int {
	x, y := dst[a.start+1:a.keyEnd-1], dst[b.start+1:b.keyEnd-1]
	if bytes.IndexByte(x, '\\') < 0 && bytes.IndexByte(y, '\\') < 0 {
		return bytes.Compare(x, y)
	}
	return bytes.Compare(unescape(x), unescape(y))
}

func (c *canonicaliser) sort(dst []byte, first int, members []member) ([]byte, error) {
	slices.SortFunc(members, func(a, b member) int { return compareKeys(dst, a, b) })
	for i := 1; i < len(members); i++ {
		if compareKeys(dst, members[i-1], members[i]) == 0 {
			return nil, c.fault("a key given twice")
		}
	}
	ordered := make([]byte, 0, len(dst)-first)
	for i, m := range members {
		if i > 0 {
			ordered = append(ordered, ',')
		}
		ordered = append(ordered, dst[m.start:m.end]...)
	}
	return append(dst[:first], ordered...), nil
}

func (c *canonicaliser) array(dst []byte, depth int) ([]byte, error) {
	c.pos++
	dst = append(dst, '[')
	if c.next() == ']' {
		c.pos++
		return append(dst, ']'), nil
	}
	for {
		var err error
		if dst, err = c.value(dst, depth+1); err != nil {
			return nil, err
		}
		switch c.next() {
		case ',':
			c.pos++
			dst = append(dst, ',')
		case ']':
			c.pos++
			return append(dst, ']'), nil
		default:
			return nil, c.fault("an array without end")
		}
	}
}

func (c *canonicaliser) number(dst []byte) ([]byte, error) {
	start := c.pos
	for c.pos < len(c.src) && isNumberByte(c.src[c.pos]) {
		c.pos++
	}
	text := c.src[start:c.pos]
	if !validNumber(text) {
		return nil, c.fault("a malformed number")
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err == nil && n <= MaxSafeInteger && n >= -MaxSafeInteger {
		return strconv.AppendInt(dst, n, 10), nil // "-0" becomes "0"
	}
	if c.strict {
		return nil, c.fault("a number that is no integer within ±(2^53-1)")
	}
	return append(dst, text...), nil
}

func isNumberByte(b byte) bool {
	return b >= '0' && b <= '9' || b == '-' || b == '+' || b == '.' || b == 'e' || b == 'E'
}

// validNumber checks the grammar of RFC 8259, section 6.
func validNumber(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	whole := digits(b)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return false
	}
	b = b[whole:]
	if len(b) > 0 && b[0] == '.' {
		n := digits(b[1:])
		if n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		n := digits(b)
		if n == 0 {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

var errSurrogate = errors.New("an unpaired surrogate")

func (c *canonicaliser) text(dst []byte) ([]byte, error) {
	c.pos++
	dst = append(dst, '"')
	for {
		start := c.pos
		for c.pos < len(c.src) && plain[c.src[c.pos]] {
			c.pos++
		}
		dst = append(dst, c.src[start:c.pos]...)
		if c.pos == len(c.src) {
			return nil, c.fault("a string without end")
		}
		switch b := c.src[c.pos]; {
		case b == '"':
			c.pos++
			return append(dst, '"'), nil
		case b == '\\':
			r, n, err := escape(c.src[c.pos:])
			if err != nil {
				return nil, c.fault(err.Error())
			}
			c.pos += n
			dst = appendRune(dst, r)
		case b < 0x20:
			return nil, c.fault("a control character in a string")
		default:
			r, n := utf8.DecodeRune(c.src[c.pos:])
			if r == utf8.RuneError && n == 1 {
				return nil, c.fault("invalid UTF-8")
			}
			dst = append(dst, c.src[c.pos:c.pos+n]...)
			c.pos += n
		}
	}
}

// plain holds the bytes of a string that are copied as they are, one by one.
var plain = func() (table [256]bool) {
	for b := 0x20; b < 0x80; b++ {
		table[b] = b != '"' && b != '\\'
	}
	return table
}()

// escape reads the escape that b starts with: its character and its length.
func escape(b []byte) (r rune, n int, err error) {
	if len(b) < 2 {
		return 0, 0, errors.New("an escape without end")
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	case 'u':
	default:
		return 0, 0, errors.New("an unknown escape")
	}
	first, ok := hex4(b[2:])
	if !ok {
		return 0, 0, errors.New("a malformed \\u escape")
	}
	if !utf16.IsSurrogate(first) {
		return first, 6, nil
	}
	if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
		return 0, 0, errSurrogate
	}
	second, ok := hex4(b[8:])
	r = utf16.DecodeRune(first, second)
	if !ok || r == utf8.RuneError {
		return 0, 0, errSurrogate
	}
	return r, 12, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 32)
	return rune(n), err == nil
}

// appendRune writes one character the canonical way.
func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < 0x20 {
		return fmt.Appendf(dst, "\\u%04x", r)
	}
	return utf8.AppendRune(dst, r)
}

// AppendString appends s as a canonical JSON string. Invalid UTF-8 becomes
// U+FFFD, as a string that reaches this was checked where it came in.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := 0
		for n < len(s) && plain[s[n]] {
			n++
		}
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		dst = appendRune(dst, r)
		s = s[size:]
	}
	return append(dst, '"')
}

// unescape is the text of a written string without its quotes.
func unescape(written []byte) []byte {
	if bytes.IndexByte(written, '\\') < 0 {
		return written
	}
	out := make([]byte, 0, len(written))
	for len(written) > 0 {
		if written[0] != '\\' {
			out = append(out, written[0])
			written = written[1:]
			continue
		}
		r, n, err := escape(written)
		if err != nil {
			return append(out, written...)
		}
		out = utf8.AppendRune(out, r)
		written = written[n:]
	}
	return out
}

// eachMember calls fn with every member of a canonical JSON object, in order:
// the key unescaped, the value as written. It does nothing for other values, and
// stops early, without a word, at a fault: it is for text that was checked before.
func eachMember(object []byte, fn func(key, value []byte)) {
	if len(object) < 2 || object[0] != '{' {
		return
	}
	i := 1
	for i < len(object) && object[i] == '"' {
		keyEnd := skipString(object, i)
		end := skipValue(object, keyEnd+1)
		if keyEnd < i+2 || end <= keyEnd+1 {
			return // cut short: no canonical JSON
		}
		fn(unescape(object[i+1:keyEnd-1]), object[keyEnd+1:end])
		i = end + 1
	}
}

// skipString gives the index after the string that starts at i.
func skipString(b []byte, i int) int {
	i++
	for i < len(b) {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			break
		}
		escape := bytes.IndexByte(b[i:i+quote], '\\')
		if escape < 0 {
			return i + quote + 1
		}
		i += escape + 2
	}
	return len(b)
}

// skipValue gives the index after the canonical value that starts at i.
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			if depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}
