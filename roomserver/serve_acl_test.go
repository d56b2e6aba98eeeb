package roomserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"beep/matrix"
)

// TestServerACL: neither case, nor a port, nor a dot at the end, nor how an address is written
// gets a server past a list (F42).
func TestServerACL(t *testing.T) {
	for _, test := range []struct {
		name, content   string
		allowed, denied []string
	}{
		{"everybody but one", `{"allow":["*"],"deny":["evil.org"]}`,
			[]string{"good.org", "evil.org.uk", "sub.evil.org", "notevil.org", "10.0.0.1", "[::1]:8448"},
			[]string{"evil.org", "evil.org:8448", "EVIL.org", "Evil.Org:1", "evil.org.", "evil.org.:8448"}},
		{"capitals in the list", `{"allow":["*"],"deny":["Evil.ORG","*.EVIL.org"]}`,
			[]string{"good.org"}, []string{"evil.org", "a.evil.org", "A.b.Evil.org:80"}},
		{"dot at the end in the list", `{"allow":["*"],"deny":["evil.org."]}`, nil, []string{"evil.org", "evil.org."}},
		{"a dot at the end lets nobody in", `{"allow":["*."]}`, nil, []string{"evil.org", "evil.org."}},
		{"some", `{"allow":["*.gov.pk","moi.pk"]}`, []string{"a.gov.pk", "a.b.gov.pk:8448", "MOI.pk"}, []string{"gov.pk", "moi.pk.evil.org", "xgov.pk"}},
		{"no literals", `{"allow":["*"],"allow_ip_literals":false}`, []string{"a.org", "localhost", "4chan.org"},
			[]string{"10.0.0.1", "10.0.0.1:8448", "[::1]", "[fd00::1]:8448", "10.1", "2130706433", "0x7f.0x1", "10.0.0.1."}},
		{"literals unless forbidden", `{"allow":["*"],"allow_ip_literals":"false"}`, []string{"10.0.0.1"}, nil},
		{"an address is a name too", `{"allow":["10.0.0.*","[fd00::*]"],"deny":["10.0.0.7"]}`, []string{"10.0.0.1:8448", "[fd00::1]:8448"}, []string{"10.0.0.7:1", "10.0.1.1", "[fd01::1]"}},
		{"question marks", `{"allow":["m?.pk","*.?.org","a??*z"]}`, []string{"mo.pk", "x.y.org", "abcz", "abcdz"}, []string{"m.pk", "moi.pk", "x.yy.org", "abz"}},
		{"stars between", `{"allow":["a*b*c"]}`, []string{"abc", "axbxc", "abbcc"}, []string{"ab", "acb", "xabc", "abcx"}},
		{"overlap", `{"allow":["ab*ba"]}`, []string{"abba", "abxba"}, []string{"aba"}},
		{"stars alone", `{"allow":["**"]}`, []string{"a"}, nil},
		{"no list", `{"deny":["evil.org"]}`, nil, []string{"good.org", "evil.org"}},
		{"redacted", `{}`, nil, []string{"good.org"}},
		{"names in capitals", `{"Allow":["*"],"ALLOW":["*"]}`, nil, []string{"good.org"}},
		{"junk", `{"allow":["*",5,null,{}],"deny":"evil.org"}`, []string{"evil.org"}, nil},
		{"junk list", `{"allow":{"*":1}}`, nil, []string{"good.org"}},
		{"letters that fold to others", `{"allow":["*"],"deny":["` + "\u212A" + `ing.org"]}`, []string{"king.org"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			list := compileACL([]byte(test.content))
			for range 2 { // the second verdict is a remembered one
				for _, server := range test.allowed {
					if !list.allows(server) {
						t.Errorf("%s is denied", server)
					}
				}
				for _, server := range test.denied {
					if list.allows(server) {
						t.Errorf("%s is allowed", server)
					}
				}
			}
		})
	}
}

// FuzzGlob compares with the definition, character by character.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"*a*a*b", "aaaab"}, {"a?*?b", "acdb"}, {"", ""}, {"*", "x"}, {"ab*ba", "aba"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 30 {
			return
		}
		g := newGlob(pattern)
		if got, want := g.match(name), slowMatch(pattern, name); got != want {
			t.Errorf("%q matches %q: %v", pattern, name, got)
		}
	})
}

func slowMatch(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return slowMatch(pattern[1:], name) || name != "" && slowMatch(pattern, name[1:])
	case name == "":
		return false
	}
	return (pattern[0] == '?' || pattern[0] == name[0]) && slowMatch(pattern[1:], name[1:])
}

// evilACLs are as large as an event can be.
func evilACLs() map[string][]byte {
	make := func(pattern func(i int) string) []byte {
		var patterns []string
		for size, i := 0, 0; size < matrix.MaxEventSize; i++ {
			patterns = append(patterns, pattern(i))
			size += len(patterns[i]) + 3
		}
		list, _ := json.Marshal(patterns)
		return []byte(`{"allow":["*"],"deny":` + string(list) + `}`)
	}
	return map[string][]byte{
		"stars":          make(func(i int) string { return strings.Repeat("*a", 100) + fmt.Sprint(i) }),
		"short":          make(func(i int) string { return fmt.Sprintf("*%x*", i) }),
		"question marks": make(func(i int) string { return "*" + strings.Repeat("?", 100) + fmt.Sprint(i) + "?*" }),
		"names":          make(func(i int) string { return fmt.Sprint(i) }),
	}
}

// TestEvilServerACLs: lists that are as long as events can be, of patterns that take other
// programs for ever, are judged rightly, and each verdict is reached once (F41).
func TestEvilServerACLs(t *testing.T) {
	long := strings.Repeat("a", 200)
	for name, servers := range map[string][2]string{ // allowed and denied
		"stars": {long + ".org", long + "7"}, "short": {strings.Repeat("z", 200), "z1f.org"},
		"question marks": {strings.Repeat("a", 100) + "7", long + "7b"}, "names": {long, "17"},
	} {
		list := compileACL(evilACLs()[name])
		if n := len(list.deny.names) + len(list.deny.others); n < 100 {
			t.Fatalf("%s: %d patterns", name, n)
		}
		for range 2 {
			if !list.allows(servers[0]) || list.allows(servers[1]) {
				t.Errorf("%s: %v, %v", name, list.allows(servers[0]), list.allows(servers[1]))
			}
		}
		if n := list.verdicts.Len(); n != 2 {
			t.Errorf("%s: %d verdicts are kept", name, n)
		}
	}
}

func BenchmarkServerACL(b *testing.B) {
	for name, content := range evilACLs() {
		b.Run(name, func(b *testing.B) {
			list := compileACL(content)
			server := strings.Repeat("a", 220) + ".org"
			b.Run("new", func(b *testing.B) {
				for b.Loop() {
					list.verdicts.Purge()
					list.allows(server)
				}
			})
			b.Run("known", func(b *testing.B) {
				for b.Loop() {
					list.allows(server)
				}
			})
		})
	}
}
