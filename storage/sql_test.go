package storage

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSQLiteStatement(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`SELECT 1`, `SELECT 1`},
		{`UPDATE a SET v = $2 WHERE id = $1`, `UPDATE a SET v = ?2 WHERE id = ?1`},
		{`SELECT $1, $12, $1`, `SELECT ?1, ?12, ?1`},
		{`SELECT '$1', $1`, `SELECT '$1', ?1`},
		{`SELECT 'it''s $1' || $1`, `SELECT 'it''s $1' || ?1`},
		{`SELECT "$1" FROM "a""$2" WHERE b = $2`, `SELECT "$1" FROM "a""$2" WHERE b = ?2`},
		{"SELECT $1 -- not $2\n, $2", "SELECT ?1 -- not $2\n, ?2"},
		{`SELECT $1 /* not '$2 */, $2`, `SELECT ?1 /* not '$2 */, ?2`},
		{`SELECT $1 -- to the end $2`, `SELECT ?1 -- to the end $2`},
		{`SELECT 'unended $1`, `SELECT 'unended $1`},
		{`SELECT '$.a' ->> $1, $`, `SELECT '$.a' ->> ?1, $`},
		{`a = ANY($1) AND b = $2`, `a  IN (SELECT value FROM json_each(?1)) AND b = ?2`},
		{`a=any ($10)`, `a IN (SELECT value FROM json_each(?10))`},
		{"a <> ALL($3)", `a  NOT IN (SELECT value FROM json_each(?3))`},
		{"a =\n\tANY( $3 )", "a =\n\tANY( ?3 )"},
		{`a = $1 AND ANY = 2`, `a = ?1 AND ANY = 2`},
		{`'= ANY($1)' = $1`, `'= ANY($1)' = ?1`},
	} {
		if diff := cmp.Diff(test.want, sqliteStatement(test.text)); diff != "" {
			t.Errorf("%s:\n%s", test.text, diff)
		}
	}
}

func TestMultiRow(t *testing.T) {
	for _, test := range []struct {
		text        string
		width, rows int
		want        string
	}{
		{`INSERT INTO a (b, c) VALUES ($1, $2)`, 2, 1, `INSERT INTO a (b, c) VALUES ($1, $2)`},
		{`INSERT INTO a (b, c) VALUES ($2, $1)`, 2, 3, `INSERT INTO a (b, c) VALUES ($2, $1), ($4, $3), ($6, $5)`},
		{`INSERT INTO a VALUES ($1, 7, 'x$1', $1) ON CONFLICT (b) DO UPDATE SET c = excluded.c`, 1, 2,
			`INSERT INTO a VALUES ($1, 7, 'x$1', $1), ($2, 7, 'x$1', $2) ON CONFLICT (b) DO UPDATE SET c = excluded.c`},
	} {
		got, ok := multiRow(test.text, test.width, test.rows)
		if diff := cmp.Diff(test.want, got); !ok || diff != "" {
			t.Errorf("%s: %v\n%s", test.text, ok, diff)
		}
	}
	for _, text := range []string{
		`UPDATE a SET b = $1`,
		`INSERT INTO a VALUES ($1) ON CONFLICT (b) DO UPDATE SET c = $1`,
		`INSERT INTO a VALUES (lower($1))`,
	} {
		if got, ok := multiRow(text, 1, 2); ok {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestSchemaOfTheEngines(t *testing.T) {
	const text = `CREATE TABLE a (
    id BIGINT PRIMARY KEY,
    b BYTEA NOT NULL,
    c  TEXT NOT NULL DEFAULT '',
    d TEXT
);
CREATE TABLE b (
    e TEXT, f BIGINT, PRIMARY KEY (e, f)
) /* WITHOUT ROWID */;
INSERT INTO a VALUES (
    1, 'x', '', ''
);
`
	const sqlite = `CREATE TABLE a (
    id INTEGER PRIMARY KEY,
    b BLOB NOT NULL,
    c  TEXT NOT NULL DEFAULT '',
    d TEXT
) STRICT;
CREATE TABLE b (
    e TEXT, f INTEGER, PRIMARY KEY (e, f)
) STRICT, WITHOUT ROWID;
INSERT INTO a VALUES (
    1, 'x', '', ''
);
`
	const postgres = `CREATE TABLE a (
    id BIGINT PRIMARY KEY,
    b BYTEA NOT NULL,
    c  TEXT COLLATE "C" NOT NULL DEFAULT '',
    d TEXT COLLATE "C"
);
CREATE TABLE b (
    e TEXT COLLATE "C", f BIGINT, PRIMARY KEY (e, f)
) /* WITHOUT ROWID */;
INSERT INTO a VALUES (
    1, 'x', '', ''
);
`
	if diff := cmp.Diff(sqlite, sqliteSchema(text)); diff != "" {
		t.Errorf("SQLite: %s", diff)
	}
	if diff := cmp.Diff(postgres, postgresSchema(text)); diff != "" {
		t.Errorf("PostgreSQL: %s", diff)
	}
}

func BenchmarkSQLiteStatement(b *testing.B) {
	const text = `INSERT INTO events (pos, room, event_id, type, state_key, sender, json) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	for b.Loop() {
		sqliteStatement(text)
	}
}
