package storage

import "context"

// Setting is a single value that the server keeps. [ErrNotFound] when it was never set.
func (q *Reader) Setting(ctx context.Context, name string) (string, error) {
	return selectOne(ctx, q, `SELECT value FROM settings WHERE name = $1`, scanValue[string], name)
}

// SetSetting keeps a value, in place of an earlier one.
func (tx *Tx) SetSetting(ctx context.Context, name, value string) error {
	return tx.exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
}
