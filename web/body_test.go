package web

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzDepth compares the scan with the nesting that a parser sees: it refuses all that
// would be too deep for the parser, and of valid JSON nothing else.
func FuzzDepth(f *testing.F) {
	deep := strings.Repeat(`[{"a":`, maxDepth/2)
	for _, seed := range []string{
		`{}`, `{"a":"[[[\"[["}`, deep, deep + `1`, deep + `[]`, `]]]` + deep, `"` + deep, `{"\\":[` + deep, `"\u005c"` + deep,
		`{"x":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`,
		`{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		deepest := parsedDepth(text)
		if deepest > maxDepth && !tooDeep(text) {
			t.Errorf("%q is %d deep and was let through", text, deepest)
		}
		if jsontext.Value(text).IsValid() && tooDeep(text) != (deepest > maxDepth) {
			t.Errorf("%q is %d deep", text, deepest)
		}
	})
}

func parsedDepth(text []byte) (deepest int) {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.ReadToken(); err != nil {
			return deepest
		}
		deepest = max(deepest, d.StackDepth())
	}
}

func BenchmarkDepth(b *testing.B) {
	text := []byte(`{"body":"` + strings.Repeat("some words ", 5000) + `","list":[{"a":[1,2,3]}]}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if tooDeep(text) {
			b.Fatal("too deep")
		}
	}
}
