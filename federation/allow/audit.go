package allow

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// auditWindow is the time in which one server has one line in the log for each point.
	auditWindow = 10 * time.Minute
	// auditServers bounds the servers that have a line for one point in that time: an
	// origin can call itself by as many names as it likes.
	auditServers = 500
	// maxLogged bounds an id in the log, in bytes.
	maxLogged = 255
)

// The lines of the log about refusals.
const (
	refusedLine  = "closed federation: refused a server that is not in the list"
	againLine    = "closed federation: refused it again"
	uncountLine  = "closed federation: refused more servers than the log has lines for"
	metricHelp   = "Servers refused because they are not in the list, by point."
	refusedTotal = "federation_refusals_total"
)

// audit writes refusals to the log, and counts those that it does not write.
type audit struct {
	logger  *slog.Logger
	counter *prometheus.CounterVec

	mu     sync.Mutex
	again  map[refusal]int64 // since the line that was written
	first  map[Point]int     // the lines that were written
	untold map[Point]int64   // the refusals of servers without a line
}

type refusal struct {
	point  Point
	server string
}

func newAudit(logger *slog.Logger, registry *prometheus.Registry) *audit {
	a := &audit{logger: logger, counter: prometheus.NewCounterVec(prometheus.CounterOpts{Name: refusedTotal, Help: metricHelp}, []string{"point"})}
	for _, point := range []Point{Origin, Destination, Sender, Invite, Media, WellKnown} {
		a.counter.WithLabelValues(string(point))
	}
	registry.MustRegister(a.counter)
	a.clear()
	return a
}

func (a *audit) clear() {
	a.again, a.first, a.untold = map[refusal]int64{}, map[Point]int{}, map[Point]int64{}
}

// refused notes a refusal.
func (a *audit) refused(ctx context.Context, point Point, server string, about About) {
	a.counter.WithLabelValues(string(point)).Inc()
	if !a.isFirst(refusal{point, clip(server, maxName)}) {
		return
	}
	line := []slog.Attr{slog.String("point", string(point)), slog.String("server", clip(server, maxName))}
	for _, known := range []struct{ name, id string }{{"room", about.Room}, {"event", about.Event}, {"user", about.User}} {
		if known.id != "" {
			line = append(line, slog.String(known.name, clip(known.id, maxLogged)))
		}
	}
	a.logger.LogAttrs(ctx, slog.LevelWarn, refusedLine, line...)
}

// isFirst tells whether the refusal gets a line of its own; otherwise it is counted.
func (a *audit) isFirst(r refusal) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, told := a.again[r]; told {
		a.again[r]++
		return false
	}
	if a.first[r.point] == auditServers {
		a.untold[r.point]++
		return false
	}
	a.first[r.point]++
	// The name may be part of a large text, which nobody else keeps.
	a.again[refusal{r.point, strings.Clone(r.server)}] = 0
	return true
}

// flush writes what was only counted, and begins anew.
func (a *audit) flush(ctx context.Context) {
	a.mu.Lock()
	again, untold := a.again, a.untold
	a.clear()
	a.mu.Unlock()
	for _, r := range slices.SortedFunc(maps.Keys(again), func(a, b refusal) int {
		return cmp.Or(cmp.Compare(a.point, b.point), cmp.Compare(a.server, b.server))
	}) {
		if again[r] > 0 {
			a.logger.WarnContext(ctx, againLine, "point", r.point, "server", r.server, "times", again[r])
		}
	}
	for _, point := range slices.Sorted(maps.Keys(untold)) {
		a.logger.WarnContext(ctx, uncountLine, "point", point, "times", untold[point])
	}
}

// clip is the beginning of a text.
func clip(text string, size int) string { return text[:min(len(text), size)] }
