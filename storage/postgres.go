package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
)

// postgresDefaults are set on every connection, unless the URL sets them: what a
// session may hold up others for. A session that the server ends rolls back. No query
// here runs for so long that it is worth compiling, whatever the planner expects. All have
// an index to go by; a plan that was made while a table was nearly empty, and goes through
// all of it, is kept for a minute in which thousands of rows come.
var postgresDefaults = [...]struct{ name, value string }{
	{"statement_timeout", "60s"},
	{"lock_timeout", "20s"},
	{"idle_in_transaction_session_timeout", "60s"},
	{"jit", "off"},
	{"enable_seqscan", "off"},
	{"application_name", "homeserver"},
}

// postgres is a pool of connections. Every closure has its own transaction; the
// server lets them commit together.
type postgres struct {
	pool    *sql.DB
	closed  chan struct{}
	size    int
	claimed *sql.Conn // holds the claim's lock, besides the pool's size; nil without a claim
}

func openPostgres(ctx context.Context, options Options) (engine, error) {
	config, err := postgresConfig(options.URL)
	if err != nil {
		return nil, err
	}
	server, err := pq.NewConnectorConfig(config)
	if err != nil {
		return nil, err
	}
	size := options.MaxConnections
	if size <= 0 {
		size = DefaultConnections
	}
	p := &postgres{closed: make(chan struct{}), size: size, pool: sql.OpenDB(&connector{open: server.Connect, dialect: &postgresDialect})}
	p.pool.SetMaxOpenConns(size)
	p.pool.SetMaxIdleConns(size)
	p.pool.SetConnMaxIdleTime(10 * time.Minute)
	if err := p.check(ctx, options.AllowUnsafeDurability); err != nil {
		return nil, errors.Join(err, p.pool.Close())
	}
	return p, nil
}

func postgresConfig(url string) (pq.Config, error) {
	config, err := pq.NewConfig(url)
	if err != nil {
		return config, errors.New("the database URL is not one that PostgreSQL understands")
	}
	if config.Runtime == nil {
		config.Runtime = map[string]string{}
	}
	for _, d := range postgresDefaults {
		if _, set := config.Runtime[d.name]; !set {
			config.Runtime[d.name] = d.value
		}
	}
	config.Runtime["default_transaction_isolation"] = "read committed"
	return config, nil
}

// check refuses a server that loses what it has acknowledged, or text, or that
// lets a session hold locks for ever.
func (p *postgres) check(ctx context.Context, allowUnsafe bool) error {
	q := &Reader{on: p.pool}
	settings, err := selectAll(ctx, q, `
		SELECT name, setting FROM pg_settings WHERE name = ANY($1)`,
		func(row scanner, v *[2]string) error { return row.Scan(&v[0], &v[1]) },
		List{"fsync", "synchronous_commit", "server_encoding",
			"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"})
	if err != nil {
		return err
	}
	var faults []string
	for _, s := range settings {
		if fault := settingFault(s[0], s[1], allowUnsafe); fault != "" {
			faults = append(faults, fault)
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

func settingFault(name, value string, allowUnsafe bool) string {
	switch {
	case name == "server_encoding" && value != "UTF8":
		return fmt.Sprintf("the PostgreSQL database has the encoding %s; create it with ENCODING 'UTF8' TEMPLATE template0", value)
	case strings.HasSuffix(name, "_timeout") && value == "0":
		return fmt.Sprintf("the database URL sets %s to 0; a limit is needed", name)
	case value == "off" && !allowUnsafe:
		return fmt.Sprintf("the PostgreSQL server has %s = off and may lose what it has acknowledged in a crash; turn it on", name)
	}
	return ""
}

var postgresDialect = dialect{
	statement: func(text string) string { return text },
	schema:    postgresSchema,
	list:      pqList,
	multiRow:  multiRow,
	hasTable:  `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1`,
	// The number stands for this program's schema.
	lockSchema: `SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(4224790117)`,
}

func (p *postgres) dialect() *dialect { return &postgresDialect }

func (p *postgres) reader() querier { return p.pool }

func (p *postgres) close() error {
	close(p.closed)
	// Nothing is lost with a connection that cannot say good-bye to its server.
	if p.claimed != nil {
		// The server drops the lock with the connection, a little later.
		var unlocked bool
		_ = p.claimed.QueryRowContext(context.Background(), `SELECT pg_advisory_unlock($1)`, claimKey).Scan(&unlocked)
		_ = p.claimed.Close()
	}
	_ = p.pool.Close()
	return nil
}

func (p *postgres) write(ctx context.Context, tx *Tx, fn func(*Tx) error) error {
	// The transaction's context ends with the caller's until fn starts, and not
	// from then on.
	whole, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	t, err := p.pool.BeginTx(whole, nil)
	if err != nil {
		stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("storage: begin: %w", err)
	}
	defer t.Rollback() // does nothing after the commit
	if !stop() {
		return ctx.Err()
	}
	if err := tx.call(t, fn); err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	return nil
}

const (
	// settleTime is how long an uncertain commit holds up the readers at most, and
	// settleStep how often it is looked after.
	settleTime = 2 * time.Minute
	settleStep = 50 * time.Millisecond
)

// settle waits until the server has an answer again and every transaction that had
// begun before has ended. A server that was told to stop may still be committing
// what its client has had no answer for.
func (p *postgres) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	q := &Reader{on: p.pool}
	begun := int64(0)
	for ctx.Err() == nil {
		running, err := selectOne(ctx, q, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
				pg_snapshot_xmax(pg_current_snapshot())::text::bigint`,
			func(row scanner, v *[2]int64) error { return row.Scan(&v[0], &v[1]) })
		switch {
		case err != nil:
		case begun == 0:
			begun = running[1]
			continue
		case running[0] >= begun:
			return
		}
		select {
		case <-time.After(settleStep):
		case <-p.closed:
			return
		case <-ctx.Done():
		}
	}
}
