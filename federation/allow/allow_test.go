package allow

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
)

// world is what a list lives in: its file, its database, its log.
type world struct {
	t        testing.TB
	path     string
	db       *storage.DB
	registry *prometheus.Registry
	keys     map[string]ed25519.PublicKey
	servers  []string
	log      logged
}

func newWorld(t testing.TB, db *storage.DB) *world {
	return &world{t: t, path: filepath.Join(t.TempDir(), "list.jws"), db: db, keys: authority()}
}

// start makes the list as a start of the server does.
func (w *world) start() *List {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	l, err := New(w.t.Context(), Options{
		ServerName: "own.gov.pk", Servers: w.servers, Path: w.path, Keys: w.keys, DB: w.db,
		Logger: slog.New(slog.NewJSONHandler(&w.log, nil)), Registry: w.registry,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// place puts the text in the place of the file, as a careful program does.
func (w *world) place(text []byte) {
	w.t.Helper()
	next := w.path + ".new"
	if err := errors.Join(os.WriteFile(next, text, 0o600), os.Rename(next, w.path)); err != nil {
		w.t.Fatal(err)
	}
}

// publish signs a list of these servers for thirty days and puts it in place.
func (w *world) publish(serial int64, servers ...string) {
	w.t.Helper()
	w.place(sign(w.t, listOf(serial, 30*24*time.Hour, servers...)))
}

// listOf is a list of these servers, made now.
func listOf(serial int64, life time.Duration, servers ...string) *Document {
	now := time.Now()
	d := &Document{Version: 1, Serial: serial, Issued: now.UnixMilli(), Expires: now.Add(life).UnixMilli(), Servers: []Server{}, KeyID: "list_1"}
	for _, name := range servers {
		d.Servers = append(d.Servers, Server{Name: name})
	}
	return d
}

// figure is the value of a metric; of those with points, of that point.
func (w *world) figure(name, point string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (point == "" || m.GetLabel()[0].GetValue() == point) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	w.t.Fatalf("there is no metric %s of %q", name, point)
	return 0
}

// logged is a log that can be read line by line.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// lines takes what was logged so far, without the times.
func (l *logged) lines(t testing.TB) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(l.text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "time")
		all = append(all, fields)
	}
	l.text.Reset()
	return all
}

// said tells whether a line since the last call begins so; it gives it.
func (l *logged) said(t testing.TB, message string) map[string]any {
	t.Helper()
	lines := l.lines(t)
	i := slices.IndexFunc(lines, func(line map[string]any) bool { return strings.HasPrefix(line["msg"].(string), message) })
	if i < 0 {
		t.Errorf("the log has no %q: %v", message, lines)
		return nil
	}
	return lines[i]
}

func (l *logged) silent(t testing.TB) {
	t.Helper()
	if lines := l.lines(t); len(lines) > 0 {
		t.Errorf("the log has %v", lines)
	}
}

// admitted are those of the servers that may take part.
func admitted(l *List, servers ...string) string {
	return strings.Join(slices.DeleteFunc(servers, func(s string) bool { return l.Check(s) != nil }), " ")
}

func TestNames(t *testing.T) {
	l, err := New(t.Context(), Options{ServerName: "own.gov.pk", Servers: []string{
		"moi.gov.pk", "Finance.GOV.pk", "mof.example:8448", "10.1.2.3", "[FD00::1]:8448", "*.mil.pk", "*.Port.pk:8448",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]bool{
		"own.gov.pk": true, "OWN.gov.pk": false,
		"moi.gov.pk": true, "MOI.Gov.PK": true, "finance.gov.pk": true,
		"moi.gov.pk:8448": false, "moi.gov.pk:": false, "moi.gov.pk.": false, "x.moi.gov.pk": false, "gov.pk": false, "moi.gov.pk\x00": false,
		"mof.example:8448": true, "mof.example": false, "mof.example:8449": false, "mof.example:08448": false,
		"10.1.2.3": true, "10.1.2.3:80": false, "[fd00::1]:8448": true, "[fd00::1]": false,
		"a.mil.pk": true, "A.B.MIL.PK": true, "mil.pk": false, ".mil.pk": false, "a..mil.pk": false, "..mil.pk": false,
		"xmil.pk": false, "a.mil.pk.": false, "a.mil.pk:8448": false, "a.mil.pk.evil.example": false,
		"evil.example/.mil.pk": false, "evil.example#a.mil.pk": false, "@a:evil.example\n.mil.pk": false, "*.mil.pk": false,
		"a.port.pk:8448": true, "a.port.pk": false, "a.port.pk:84480": false,
		"": false, ".": false, "*": false, "mоi.gov.pk": false, // the o is Cyrillic
		strings.Repeat("a", 223) + ".mil.pk": true, strings.Repeat("a", 224) + ".mil.pk": false, strings.Repeat("a", 1<<20) + ".mil.pk": false,
		strings.Repeat(".", 230): false,
	} {
		if err := l.Check(server); (err == nil) != want {
			t.Errorf("%.300q: got %v", server, err)
		}
	}
}

func TestRefusalIsClear(t *testing.T) {
	l, err := New(t.Context(), Options{ServerName: "own.gov.pk"})
	if err != nil {
		t.Fatal(err)
	}
	refusal, ok := errors.AsType[*matrix.Error](l.Check("evil.example"))
	if !ok || refusal.Status != http.StatusForbidden || refusal.Code != "M_FORBIDDEN" ||
		refusal.Message != "This server federates only with the servers of its list" {
		t.Errorf("got %+v", refusal)
	}
	if _, err := New(t.Context(), Options{}); err == nil {
		t.Error("a list was made for a server without a name: it would admit such servers")
	}
}

func TestOpenFederation(t *testing.T) {
	var open *List
	errs := errors.Join(open.Check("any.example"), open.Admit(t.Context(), Origin, "any.example", About{}), open.Reload(t.Context()), open.Run(t.Context()))
	if keys := open.PinnedKeys("any.example"); errs != nil || keys != nil {
		t.Errorf("got %v and the keys %v", errs, keys)
	}
}

func TestPinnedKeys(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		d := listOf(1, time.Hour, "moi.gov.pk", "mof.gov.pk")
		d.Servers[0].Keys = map[string]string{"ed25519:a_1": encoded(testKey("moi 1")), "ed25519:a_2": encoded(testKey("moi 2"))}
		w.place(sign(t, d))
		l := w.start()
		want := map[string]ed25519.PublicKey{"ed25519:a_1": public(testKey("moi 1")), "ed25519:a_2": public(testKey("moi 2"))}
		for _, name := range []string{"moi.gov.pk", "MOI.gov.pk"} {
			if diff := cmp.Diff(want, l.PinnedKeys(name)); diff != "" {
				t.Error(name, diff)
			}
		}
		for _, name := range []string{"mof.gov.pk", "evil.example", "", strings.Repeat("a", 1000)} {
			if keys := l.PinnedKeys(name); keys != nil {
				t.Errorf("%q has the keys %v", name, keys)
			}
		}
	})
}

// TestRefusalsInTheLog: each is counted, one of each server and point is written, and the
// others as numbers, so that nobody can fill the log.
func TestRefusalsInTheLog(t *testing.T) {
	w := newWorld(t, nil)
	w.path = ""
	l := w.start()
	ctx := t.Context()
	refuse := func(point Point, server string, about About) {
		if err := l.Admit(ctx, point, server, about); err != Refused {
			t.Errorf("%s %.50s: got %v", point, server, err)
		}
	}
	for range 1000 {
		refuse(Sender, "evil.example", About{Room: "!r:moi.gov.pk", Event: "$e", User: "@a:evil.example"})
	}
	refuse(Invite, "evil.example", About{User: "@a:evil.example\n" + strings.Repeat("x", 1<<20)})
	if err := l.Admit(ctx, Origin, "own.gov.pk", About{}); err != nil {
		t.Error(err)
	}
	line := func(message string, fields ...any) map[string]any {
		m := map[string]any{"level": "WARN", "msg": message}
		for i := 0; i < len(fields); i += 2 {
			m[fields[i].(string)] = fields[i+1]
		}
		return m
	}
	want := []map[string]any{
		line(refusedLine, "point", "sender", "server", "evil.example", "room", "!r:moi.gov.pk", "event", "$e", "user", "@a:evil.example"),
		line(refusedLine, "point", "invite", "server", "evil.example", "user", "@a:evil.example\n"+strings.Repeat("x", 239)),
	}
	if diff := cmp.Diff(want, w.log.lines(t)); diff != "" {
		t.Error(diff)
	}
	l.audit.flush(ctx)
	want = []map[string]any{line(againLine, "point", "sender", "server", "evil.example", "times", 999.0)}
	if diff := cmp.Diff(want, w.log.lines(t)); diff != "" {
		t.Error(diff)
	}
	l.audit.flush(ctx)
	w.log.silent(t)
	for i := range 3000 {
		refuse(Origin, fmt.Sprintf("%d.evil.example", i%1000), About{})
	}
	refuse(Media, "evil.example", About{})
	lines := w.log.lines(t)
	if len(lines) != auditServers+1 || lines[auditServers]["point"] != "media" {
		t.Errorf("%d lines for a flood of names", len(lines))
	}
	l.audit.flush(ctx)
	lines = w.log.lines(t)
	var times float64
	for _, l := range lines {
		times += l["times"].(float64)
	}
	if last := lines[len(lines)-1]; last["msg"] != uncountLine || last["point"] != "origin" || times != 3000-auditServers {
		t.Errorf("%v; %v refusals were not told of", last, times)
	}
	for point, want := range map[string]float64{"origin": 3000, "sender": 1000, "invite": 1, "media": 1, "destination": 0, "well_known": 0} {
		if got := w.figure(refusedTotal, point); got != want {
			t.Errorf("%s: counted %v, expected %v", point, got, want)
		}
	}
}

func newBench(b *testing.B) *List {
	w := newWorld(b, storagetest.Open(b, storagetest.SQLiteURL(b)))
	servers := make([]string, 600)
	for i := range servers {
		servers[i] = "department" + strings.Repeat("x", i%10) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + ".gov.pk"
	}
	w.publish(1, servers...)
	w.servers = []string{"*.mil.pk", "a.example"}
	return w.start()
}

// BenchmarkCheck is what every event costs in a closed federation.
func BenchmarkCheck(b *testing.B) {
	l := newBench(b)
	for name, server := range map[string]string{
		"own": "own.gov.pk", "listed": "departmenta.gov.pk", "pattern": "a.b.c.Mil.pk", "refused": "evil.example",
		"long": strings.Repeat("a.", 112) + "evil.a",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Check(server)
			}
		})
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
	w.publish(1, "moi.gov.pk")
	w.servers = []string{"*.mil.pk"}
	l := w.start()
	ctx := context.Background()
	for _, server := range []string{"own.gov.pk", "MOI.gov.pk", "a.b.mil.pk", "evil.example"} {
		if n := testing.AllocsPerRun(100, func() { l.Check(server); l.PinnedKeys(server) }); n != 0 {
			t.Errorf("%s: %v allocations", server, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { l.Admit(ctx, Sender, "moi.gov.pk", About{Room: "!r"}) }); n != 0 {
		t.Errorf("Admit: %v allocations", n)
	}
}
