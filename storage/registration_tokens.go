package storage

import (
	"context"
	"database/sql"
)

// RegistrationToken is a token with which people may register.
type RegistrationToken struct {
	Token       string
	UsesAllowed *int64 // nil: any number
	Completed   int64
	Expires     *int64 // ms; nil: never
}

const registrationTokenSelect = `SELECT token, uses_allowed, completed, expires_ts FROM registration_tokens `

func scanRegistrationToken(row scanner, t *RegistrationToken) error {
	var uses, expires sql.NullInt64
	err := row.Scan(&t.Token, &uses, &t.Completed, &expires)
	if uses.Valid {
		t.UsesAllowed = &uses.Int64
	}
	if expires.Valid {
		t.Expires = &expires.Int64
	}
	return err
}

// RegistrationToken finds a token, valid or not.
func (q *Reader) RegistrationToken(ctx context.Context, token string) (RegistrationToken, error) {
	return selectOne(ctx, q, registrationTokenSelect+`WHERE token = $1`, scanRegistrationToken, token)
}

// RegistrationTokens are all tokens, by name.
func (q *Reader) RegistrationTokens(ctx context.Context) ([]RegistrationToken, error) {
	return selectAll(ctx, q, registrationTokenSelect+`ORDER BY token`, scanRegistrationToken)
}

// InsertRegistrationToken stores a token. [ErrExists]: there is one of this name.
func (tx *Tx) InsertRegistrationToken(ctx context.Context, t *RegistrationToken) error {
	return tx.exec(ctx, `INSERT INTO registration_tokens (token, uses_allowed, completed, expires_ts) VALUES ($1, $2, 0, $3)`,
		t.Token, t.UsesAllowed, t.Expires)
}

// UpdateRegistrationToken sets the limits of a token. [ErrNotFound]: there is none.
func (tx *Tx) UpdateRegistrationToken(ctx context.Context, t *RegistrationToken) error {
	return tx.execOne(ctx, `UPDATE registration_tokens SET uses_allowed = $1, expires_ts = $2 WHERE token = $3`,
		t.UsesAllowed, t.Expires, t.Token)
}

// DeleteRegistrationToken removes a token. [ErrNotFound]: there is none.
func (tx *Tx) DeleteRegistrationToken(ctx context.Context, token string) error {
	return tx.execOne(ctx, `DELETE FROM registration_tokens WHERE token = $1`, token)
}

// UseRegistrationToken counts a registration. [ErrNotFound]: the token does not
// exist, or may not be used (any more).
func (tx *Tx) UseRegistrationToken(ctx context.Context, token string, now int64) error {
	return tx.execOne(ctx, `UPDATE registration_tokens SET completed = completed + 1 WHERE token = $1
		AND (uses_allowed IS NULL OR completed < uses_allowed) AND (expires_ts IS NULL OR expires_ts > $2)`, token, now)
}
