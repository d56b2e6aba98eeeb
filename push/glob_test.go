package push

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		all, words    bool
	}{
		{"lunc?*", "Lunch plans", true, true},
		{"lunc?*", "LUNCH", true, true},
		{"lunc?*", " lunch", false, true},
		{"lunc?*", "lunc", false, false},
		{"ex*ple", "An example event.", false, true},
		{"ex*ple", "exple", true, true},
		{"ex*ple", "An exciting triple-whammy", false, true},
		{"ex*ple", "An examples event", false, false},
		{"cake", "pancake", false, false},
		{"cake", "pancake cake", false, true},
		{"cake", "cake_", false, false},
		{"cake", "CAKE!", false, true},
		{"", "", true, true},
		{"", "a", false, false},
		{"*", "", true, true},
		{"*", "anything", true, true},
		{"?", "ß", true, true},
		{"?", "ab", false, false},
		{"a?c", "äbc abc", false, true},
		{"?b*d?", "abcde", true, true},
		{"?b*d?", "abcd", false, false},
		{"a*a", "a", false, false},
		{"a*b*c", "a1b2b3c", true, true},
		{"*a?", "xaaz", true, true},
		{"a??", "xa12 a12", false, true},
		{"a??", "a123", false, false},
		{"тест", "это ТЕСТ да", false, true},
		{"@room", "to @room now", false, true},
		{"\xff", "\xff", true, true},
	} {
		g, text := newGlob(c.pattern), strings.ToLower(c.text)
		if all, words := g.matchAll(text), g.matchWords(text); all != c.all || words != c.words {
			t.Errorf("%q on %q: all %v, words %v", c.pattern, c.text, all, words)
		}
	}
}

// naive matches as the specification says it, without regard to time.
func naive(pattern, text []rune) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	if pattern[0] == '*' {
		return naive(pattern[1:], text) || len(text) > 0 && naive(pattern, text[1:])
	}
	return len(text) > 0 && (pattern[0] == '?' || pattern[0] == text[0]) && naive(pattern[1:], text[1:])
}

func naiveWords(pattern []rune, text string) bool {
	for i := 0; i <= len(text); i++ {
		for j := i; j <= len(text); j++ {
			whole := utf8.ValidString(text[i:j])
			if whole && begins(text, i) && ends(text, j) && naive(pattern, []rune(text[i:j])) {
				return true
			}
		}
	}
	return false
}

// FuzzGlob holds the patterns to a matcher that is plainly right.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aab_bc d")
	f.Add("*??*a", "ä b a")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 8 || len(text) > 12 || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return
		}
		text = strings.ToLower(text)
		g, want := newGlob(pattern), []rune(strings.ToLower(pattern))
		if got := g.matchAll(text); got != naive(want, []rune(text)) {
			t.Errorf("all: %q on %q: %v", pattern, text, got)
		}
		if got := g.matchWords(text); got != naiveWords(want, text) {
			t.Errorf("words: %q on %q: %v", pattern, text, got)
		}
	})
}
