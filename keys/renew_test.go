package keys

import (
	"slices"
	"testing"
	"time"
)

// A server that did not give lists is asked again when it is heard of, though not at once.
func TestSilences(t *testing.T) {
	s := silences{servers: map[string]silence{}}
	start := time.Now()
	after := func(d time.Duration) time.Time { return start.Add(d) }
	if s.hear("a.test", start) || s.since("a.test", start) {
		t.Error("a server that was never silent is asked")
	}
	s.begin("a.test", start)
	s.begin("b.test", after(time.Second))
	if !s.since("a.test", start) || s.since("a.test", after(1)) {
		t.Error("it is not known since when the server is silent")
	}
	if back := s.end(after(time.Hour)); len(back) != 0 {
		t.Errorf("not heard of, but back are %v", back)
	}
	if s.hear("a.test", after(aliveGap-1)) || len(s.end(after(aliveGap-1))) != 0 {
		t.Error("a server is asked again at once")
	}
	if back := s.end(after(aliveGap)); !slices.Equal(back, []string{"a.test"}) {
		t.Errorf("back are %v", back)
	}
	if s.hear("a.test", after(time.Hour)) {
		t.Error("a server is asked twice")
	}
	if !s.hear("b.test", after(time.Hour)) || !slices.Equal(s.end(after(time.Hour)), []string{"b.test"}) {
		t.Error("a server that comes back late is not asked")
	}
}
