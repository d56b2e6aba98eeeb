package storage

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"
)

// Hash is the SHA-256 under which a token is stored.
type Hash [sha256.Size]byte

// HashToken is the hash of a token.
func HashToken(token string) Hash { return sha256.Sum256([]byte(token)) }

// Value is what database/sql stores.
func (h Hash) Value() (driver.Value, error) { return h[:], nil }

// Scan is what database/sql reads.
func (h *Hash) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(h) {
		return fmt.Errorf("storage: a hash of %d bytes was expected", len(h))
	}
	copy(h[:], b)
	return nil
}

// AccessToken is what is stored of an access token.
type AccessToken struct {
	Hash       Hash
	UserID     string
	DeviceID   string
	Family     []byte // nil: of a client that cannot refresh
	Generation int64
	Used       bool
	Created    int64 // ms
	Expires    int64 // ms; 0: never
}

// Session is an access token with the account that it stands for.
type Session struct {
	AccessToken
	User User
}

// RefreshToken is what is stored of a refresh token.
type RefreshToken struct {
	Hash       Hash
	UserID     string
	DeviceID   string
	Family     []byte
	Generation int64
	Created    int64 // ms
}

// SessionByToken finds an access token, expired or not.
func (q *Reader) SessionByToken(ctx context.Context, hash Hash) (Session, error) {
	return selectOne(ctx, q, `SELECT t.hash, t.user_id, t.device_id, t.family, t.generation, t.used, t.created_ts, t.expires_ts,
			u.guest, u.admin, u.deactivated, u.locked, u.suspended
		FROM access_tokens t JOIN users u ON u.user_id = t.user_id WHERE t.hash = $1`,
		func(row scanner, s *Session) error {
			err := row.Scan(&s.Hash, &s.UserID, &s.DeviceID, &s.Family, &s.Generation, &s.Used, &s.Created, &s.Expires,
				&s.User.Guest, &s.User.Admin, &s.User.Deactivated, &s.User.Locked, &s.User.Suspended)
			s.User.ID = s.UserID
			return err
		}, hash)
}

// AccessTokens are the hashes of all access tokens of a user.
func (q *Reader) AccessTokens(ctx context.Context, userID string) ([]Hash, error) {
	return selectAll(ctx, q, `SELECT hash FROM access_tokens WHERE user_id = $1`, scanHash, userID)
}

// RefreshToken finds a refresh token.
func (q *Reader) RefreshToken(ctx context.Context, hash Hash) (RefreshToken, error) {
	return selectOne(ctx, q, refreshSelect+`WHERE hash = $1`, scanRefreshToken, hash)
}

// NewestOfFamily finds the refresh token that was given out last in a family.
func (q *Reader) NewestOfFamily(ctx context.Context, family []byte) (RefreshToken, error) {
	return selectOne(ctx, q, refreshSelect+`WHERE family = $1 ORDER BY created_ts DESC LIMIT 1`, scanRefreshToken, family)
}

const refreshSelect = `SELECT hash, user_id, device_id, family, generation, created_ts FROM refresh_tokens `

func scanRefreshToken(row scanner, t *RefreshToken) error {
	return row.Scan(&t.Hash, &t.UserID, &t.DeviceID, &t.Family, &t.Generation, &t.Created)
}

func scanHash(row scanner, h *Hash) error { return row.Scan(h) }

// InsertAccessToken stores an access token.
func (tx *Tx) InsertAccessToken(ctx context.Context, t *AccessToken) error {
	return tx.exec(ctx, `INSERT INTO access_tokens (hash, user_id, device_id, family, generation, used, created_ts, expires_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.Hash, t.UserID, t.DeviceID, orNullBytes(t.Family), t.Generation, t.Used, t.Created, t.Expires)
}

// InsertRefreshToken stores a refresh token.
func (tx *Tx) InsertRefreshToken(ctx context.Context, t *RefreshToken) error {
	return tx.exec(ctx, `INSERT INTO refresh_tokens (hash, user_id, device_id, family, generation, created_ts)
		VALUES ($1, $2, $3, $4, $5, $6)`, t.Hash, t.UserID, t.DeviceID, t.Family, t.Generation, t.Created)
}

// DeleteTokens removes all tokens of a device, which stays. It gives the hashes
// of the access tokens.
func (tx *Tx) DeleteTokens(ctx context.Context, userID, deviceID string) ([]Hash, error) {
	err := tx.exec(ctx, `DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2`, userID, deviceID)
	if err != nil {
		return nil, err
	}
	return selectAll(ctx, &tx.Reader, `DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 RETURNING hash`,
		scanHash, userID, deviceID)
}

// UseGeneration notes that a generation of a family is in use, and removes the
// tokens of those before it. It gives the hashes of the access tokens that are gone.
func (tx *Tx) UseGeneration(ctx context.Context, userID, deviceID string, family []byte, generation int64) ([]Hash, error) {
	err := tx.exec(ctx, `UPDATE access_tokens SET used = TRUE
		WHERE user_id = $1 AND device_id = $2 AND family = $3 AND generation = $4`, userID, deviceID, family, generation)
	if err != nil {
		return nil, err
	}
	err = tx.exec(ctx, `DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2 AND family = $3 AND generation < $4`,
		userID, deviceID, family, generation)
	if err != nil {
		return nil, err
	}
	return selectAll(ctx, &tx.Reader, `DELETE FROM access_tokens
		WHERE user_id = $1 AND device_id = $2 AND family = $3 AND generation < $4 RETURNING hash`,
		scanHash, userID, deviceID, family, generation)
}

// DeleteGeneration removes those tokens of a generation that were given out
// before the time. It gives the hashes of the access tokens that are gone.
func (tx *Tx) DeleteGeneration(ctx context.Context, t *RefreshToken, generation, before int64) ([]Hash, error) {
	err := tx.exec(ctx, `DELETE FROM refresh_tokens
		WHERE user_id = $1 AND device_id = $2 AND family = $3 AND generation = $4 AND created_ts < $5`,
		t.UserID, t.DeviceID, t.Family, generation, before)
	if err != nil {
		return nil, err
	}
	return selectAll(ctx, &tx.Reader, `DELETE FROM access_tokens
		WHERE user_id = $1 AND device_id = $2 AND family = $3 AND generation = $4 AND created_ts < $5 RETURNING hash`,
		scanHash, t.UserID, t.DeviceID, t.Family, generation, before)
}

// The purposes of tokens that are good for one thing.
const (
	PurposeLogin  = "login"  // m.login.token: logs in once
	PurposeOpenID = "openid" // proves to others who the user is
)

// InsertPurposeToken stores a token for one purpose.
func (tx *Tx) InsertPurposeToken(ctx context.Context, hash Hash, purpose, userID string, expires int64) error {
	return tx.exec(ctx, `INSERT INTO purpose_tokens (hash, purpose, user_id, expires_ts) VALUES ($1, $2, $3, $4)`,
		hash, purpose, userID, expires)
}

// TakePurposeToken removes a token and tells whose it was. [ErrNotFound]: there is
// none that has not expired by now.
func (tx *Tx) TakePurposeToken(ctx context.Context, hash Hash, purpose string, now int64) (userID string, err error) {
	return selectOne(ctx, &tx.Reader, `DELETE FROM purpose_tokens WHERE hash = $1 AND purpose = $2 AND expires_ts > $3
		RETURNING user_id`, scanValue[string], hash, purpose, now)
}

// PurposeToken tells whose a token is. [ErrNotFound]: there is none that has not
// expired by now.
func (q *Reader) PurposeToken(ctx context.Context, hash Hash, purpose string, now int64) (userID string, err error) {
	return selectOne(ctx, q, `SELECT user_id FROM purpose_tokens WHERE hash = $1 AND purpose = $2 AND expires_ts > $3`,
		scanValue[string], hash, purpose, now)
}

// DeletePurposeTokens removes a user's tokens for all purposes.
func (tx *Tx) DeletePurposeTokens(ctx context.Context, userID string) error {
	return tx.exec(ctx, `DELETE FROM purpose_tokens WHERE user_id = $1`, userID)
}

// DeleteExpiredTokens removes the tokens for one purpose that have expired by now.
func (tx *Tx) DeleteExpiredTokens(ctx context.Context, now int64) error {
	return tx.exec(ctx, `DELETE FROM purpose_tokens WHERE expires_ts <= $1`, now)
}

// orNullBytes stores nil as null.
func orNullBytes(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
