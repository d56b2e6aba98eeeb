package storage

import "context"

// What the tests in package storage_test need of the unexported.

// Exec runs a statement that returns no rows.
func (tx *Tx) Exec(ctx context.Context, text string, args ...any) error {
	return tx.exec(ctx, text, args...)
}

// ExecEach runs a statement once for each row of arguments.
func (tx *Tx) ExecEach(ctx context.Context, text string, rows [][]any) error {
	return tx.execEach(ctx, text, rows)
}

// Select gives the only column of the first row.
func Select[T any](ctx context.Context, q *Reader, text string, args ...any) (T, error) {
	return selectOne(ctx, q, text, scanValue[T], args...)
}

// SelectAll gives the only column of all rows.
func SelectAll[T any](ctx context.Context, q *Reader, text string, args ...any) ([]T, error) {
	return selectAll(ctx, q, text, scanValue[T], args...)
}

// Waiting is the number of closures that wait for SQLite's writer, or have waited
// for a connection to PostgreSQL.
func (db *DB) Waiting() int {
	switch e := db.engine.(type) {
	case *sqlite:
		return len(e.queue)
	case *postgres:
		return int(e.pool.Stats().WaitCount)
	}
	return 0
}

// MigrateFurther applies the embedded migrations and then these texts.
func (db *DB) MigrateFurther(ctx context.Context, texts ...string) error {
	all, err := embeddedMigrations()
	if err != nil {
		return err
	}
	for _, text := range texts {
		all = append(all, migration{all[len(all)-1].version + 1, "further", text})
	}
	return db.migrate(ctx, all)
}

// MigrationNames gives the names of the embedded migrations in their order.
func MigrationNames() ([]string, error) {
	all, err := embeddedMigrations()
	var names []string
	for _, m := range all {
		names = append(names, m.name)
	}
	return names, err
}
