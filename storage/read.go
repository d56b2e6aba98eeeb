package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Reader has the read methods of all subjects. [DB] is one that reads what is
// committed, and [Tx] is one that sees its own transaction's changes as well.
type Reader struct {
	on querier
	// failed is where a transaction remembers its first error; nil elsewhere.
	failed *error
}

// querier is a pool, a connection, or a transaction of database/sql.
type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}

// scanner is the current row, or a part of it.
type scanner interface{ Scan(dest ...any) error }

// scanValue scans a row of one column.
func scanValue[T any](row scanner, v *T) error { return row.Scan(v) }

// selectAll gives all rows, or an empty non-nil slice. Scan reads one row into a
// zero value; it must not use the database.
func selectAll[T any](ctx context.Context, q *Reader, text string, scan func(row scanner, v *T) error, args ...any) ([]T, error) {
	all := []T{}
	err := q.each(ctx, text, func(row scanner) error {
		var v T
		if err := scan(row, &v); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	}, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// selectOne gives the first row, or ErrNotFound.
func selectOne[T any](ctx context.Context, q *Reader, text string, scan func(row scanner, v *T) error, args ...any) (T, error) {
	var v, none T
	if err := q.usable(); err != nil {
		return none, err
	}
	rows, err := q.on.QueryContext(ctx, text, args...)
	if err != nil {
		return none, q.failure(ctx, text, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return none, q.failure(ctx, text, err)
		}
		return none, ErrNotFound
	}
	if err := scan(rows, &v); err != nil {
		return none, q.failure(ctx, text, err)
	}
	if err := rows.Close(); err != nil {
		return none, q.failure(ctx, text, err)
	}
	return v, nil
}

// each calls fn with every row. Fn must not use the database.
func (q *Reader) each(ctx context.Context, text string, fn func(row scanner) error, args ...any) error {
	if err := q.usable(); err != nil {
		return err
	}
	rows, err := q.on.QueryContext(ctx, text, args...)
	if err != nil {
		return q.failure(ctx, text, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return q.failure(ctx, text, err)
		}
	}
	if err := rows.Err(); err != nil {
		return q.failure(ctx, text, err)
	}
	return nil
}

// change runs a statement that returns no rows. Only Tx leads to it.
func (q *Reader) change(ctx context.Context, text string, args []any) (int64, error) {
	if err := q.usable(); err != nil {
		return 0, err
	}
	result, err := q.on.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, q.failure(ctx, text, err)
	}
	return result.RowsAffected()
}

// usable tells the error that ended the transaction. PostgreSQL does the same;
// on SQLite the transaction would go on, and the two would differ.
func (q *Reader) usable() error {
	if q.failed != nil && *q.failed != nil {
		return fmt.Errorf("storage: the transaction has failed already: %w", *q.failed)
	}
	return nil
}

// failure makes the package's error of a driver's error, and ends the
// transaction.
func (q *Reader) failure(ctx context.Context, text string, err error) error {
	switch {
	case q.failed == nil && ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case isUnique(err):
		err = fmt.Errorf("%w: %w", ErrExists, err)
	default:
		err = fmt.Errorf("storage: %s: %w", summary(text), err)
	}
	if q.failed != nil && *q.failed == nil {
		*q.failed = err
	}
	return err
}

// summary is the beginning of a statement on one line, for an error's text.
func summary(text string) string {
	const most = 80
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
