package push

import (
	"strings"
	"unicode/utf8"
)

// glob is a pattern (appendices, "Glob-style matching") that is compared without regard to
// case. However it is written, to try it takes time in proportion to the text, times the
// part between two of its `*` in words of 64 characters if that has a `?`.
type glob struct {
	parts []part // what stands between the `*`: one part at least
	cost  int    // of each byte of the text
}

// part is a piece of a pattern without `*`.
type part struct {
	literal string // when it has no `?`
	runes   []rune // when it has; -1 stands for any character
	masks   map[rune][]uint64
	others  []uint64 // the mask of characters that the part has not
}

func newGlob(pattern string) *glob {
	g := &glob{cost: 1}
	for text := range strings.SplitSeq(strings.ToLower(pattern), "*") {
		p := newPart(text)
		g.parts = append(g.parts, p)
		g.cost += 16 * len(p.others)
	}
	return g
}

func newPart(text string) part {
	if !strings.Contains(text, "?") {
		return part{literal: text}
	}
	p := part{masks: map[rune][]uint64{}}
	for _, r := range text {
		if r == '?' {
			r = -1
		}
		p.runes = append(p.runes, r)
	}
	words := (len(p.runes) + 63) / 64
	p.others = make([]uint64, words)
	for i, r := range p.runes {
		if r < 0 {
			p.others[i/64] |= 1 << (i % 64)
		}
	}
	for i, r := range p.runes {
		if r < 0 {
			continue
		}
		if p.masks[r] == nil {
			p.masks[r] = append([]uint64(nil), p.others...)
		}
		p.masks[r][i/64] |= 1 << (i % 64)
	}
	return p
}

// matchAll tells whether the pattern matches a text, in lower case, as a whole.
func (g *glob) matchAll(text string) bool {
	first, last := &g.parts[0], &g.parts[len(g.parts)-1]
	n, ok := first.prefix(text)
	if len(g.parts) == 1 {
		return ok && n == len(text)
	}
	if !ok {
		return false
	}
	end, ok := last.suffix(text[n:])
	if !ok {
		return false
	}
	text = text[n : n+end]
	at := 0
	for i := range g.parts[1 : len(g.parts)-1] {
		// Each part is best taken where it first ends: nothing has to be tried again.
		if at, ok = g.parts[1+i].find(text, at, false, false); !ok {
			return false
		}
	}
	return true
}

// matchWords tells whether the pattern matches a part of a text, in lower case, that begins
// and ends at the boundary of a word.
func (g *glob) matchWords(text string) bool {
	at, ok := 0, true
	for i := range g.parts {
		first, last := i == 0, i == len(g.parts)-1
		if at, ok = g.parts[i].find(text, at, first, last); !ok {
			return false
		}
	}
	return true
}

// begins tells whether what stands before a place is no part of a word.
func begins(text string, at int) bool { return at == 0 || !wordByte(text[at-1]) }

// ends tells whether what stands at a place is no part of a word.
func ends(text string, at int) bool { return at == len(text) || !wordByte(text[at]) }

func wordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b >= 'A' && b <= 'Z'
}

// prefix is how many bytes of a text the part takes at its beginning.
func (p *part) prefix(text string) (n int, ok bool) {
	if p.runes == nil {
		return len(p.literal), strings.HasPrefix(text, p.literal)
	}
	for _, want := range p.runes {
		r, size := utf8.DecodeRuneInString(text[n:])
		if size == 0 || want >= 0 && r != want {
			return 0, false
		}
		n += size
	}
	return n, true
}

// suffix is where in a text the part begins that stands at its end.
func (p *part) suffix(text string) (at int, ok bool) {
	if p.runes == nil {
		return len(text) - len(p.literal), strings.HasSuffix(text, p.literal)
	}
	at = len(text)
	for i := len(p.runes) - 1; i >= 0; i-- {
		r, size := utf8.DecodeLastRuneInString(text[:at])
		if size == 0 || p.runes[i] >= 0 && r != p.runes[i] {
			return 0, false
		}
		at -= size
	}
	return at, true
}

// find is where the part first ends that begins at a place or later, perhaps at the
// beginning of a word or the end of one.
func (p *part) find(text string, from int, first, last bool) (end int, ok bool) {
	if p.runes != nil {
		return p.findAny(text, from, first, last)
	}
	switch {
	case p.literal == "" && first && !last:
		return from, true // a `*` comes first: from the beginning of the text
	case p.literal == "" && last && !first:
		return len(text), true
	}
	for from <= len(text) {
		i := strings.Index(text[from:], p.literal)
		if i < 0 {
			return 0, false
		}
		at := from + i
		end = at + len(p.literal)
		if (!first || begins(text, at)) && (!last || ends(text, end)) {
			return end, true
		}
		from = at + 1
	}
	return 0, false
}

// findAny is find for a part with `?`. Bit i of state says that the part's first i+1
// characters end here.
func (p *part) findAny(text string, from int, first, last bool) (end int, ok bool) {
	state := make([]uint64, len(p.others))
	final := len(p.runes) - 1
	for at := from; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		mask := p.masks[r]
		if mask == nil {
			mask = p.others
		}
		var carry uint64
		if !first || begins(text, at) {
			carry = 1
		}
		for w := range state {
			next := state[w] >> 63
			state[w] = (state[w]<<1 | carry) & mask[w]
			carry = next
		}
		at += size
		if state[final/64]&(1<<(final%64)) != 0 && (!last || ends(text, at)) {
			return at, true
		}
	}
	return 0, false
}
