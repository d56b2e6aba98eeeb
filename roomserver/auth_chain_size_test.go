package roomserver_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage/storagetest"
)

// databaseSize is the size of a database in bytes.
func databaseSize(t *testing.T, url string) (size int64) {
	t.Helper()
	driver, name, query := "postgres", url, `SELECT pg_database_size(current_database())`
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, name, query = "sqlite3", path, `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`
	}
	db := must[*sql.DB](t)(sql.Open(driver, name))
	defer db.Close()
	if err := db.QueryRow(query).Scan(&size); err != nil {
		t.Fatal(err)
	}
	return size
}

// What is stored grows with the events of an auth chain and not with the paths through it,
// be it long or wide (F11).
func TestAuthChainsTakeNoMoreSpaceThanTheirEvents(t *testing.T) {
	for engine, open := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		t.Run(engine, func(t *testing.T) {
			var urls []string
			net := newNetwork(t, 2, func(t testing.TB) string {
				urls = append(urls, open(t))
				return urls[len(urls)-1]
			})
			a, b := net.at("a"), net.at("b")
			alice, bob := userOf("a", "alice"), userOf("b", "bob")
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
			b.join(roomID, bob, "a")
			net.deliver()
			before, bytes := databaseSize(t, urls[0]), int64(0)
			take := func(e *matrix.Event) *matrix.Event {
				if err := a.get("b.test", roomID, e)[0]; err != nil {
					t.Fatal(err)
				}
				bytes += int64(len(e.JSON))
				return e
			}
			// Each profile cites the one before it; then others join, and the room gets more ends.
			profile := func(n int, last ...string) *matrix.Event {
				return b.forge(roomID, bob, "m.room.member", &bob, fmt.Sprintf(`{"membership":"join","displayname":"%d"}`, n), last...)
			}
			last := take(profile(0))
			for n := range 300 {
				last = take(b.cite(profile(n, last.ID), bob, last.ID))
			}
			var cited []matrix.Reference
			for _, eventType := range []string{"m.room.power_levels", "m.room.join_rules"} {
				cited = append(cited, matrix.Reference{ID: b.stateEvent(roomID, eventType, "")})
			}
			start := last
			for n := range 300 {
				user := userOf("b", fmt.Sprint("user", n))
				last = take(must[*matrix.Event](t)(b.signer.Build(&matrix.Proto{Version: last.Version, RoomID: roomID, Type: "m.room.member", StateKey: &user, Sender: user,
					Content: []byte(`{"membership":"join"}`), OriginServerTS: 1e12, Depth: last.Depth + 1, PrevEvents: []matrix.Reference{last.Reference()}, AuthEvents: cited})))
				if n%30 == 0 { // an end of the room beside the others
					take(b.cite(profile(n, start.ID), bob, start.ID))
				}
			}
			if grown := databaseSize(t, urls[0]) - before; grown > 20*bytes {
				t.Errorf("%d bytes of events have grown to %d", bytes, grown)
			}
		})
	}
}
