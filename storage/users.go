package storage

import (
	"context"
	"database/sql"
)

// User is an account of this server.
type User struct {
	ID          string // the full user id
	Created     int64  // ms
	Guest       bool
	Admin       bool
	Deactivated bool
	Erased      bool // deactivated, with the wish that what it wrote is forgotten
	Leaving     bool // deactivated, and still to be taken out of its rooms
	Locked      bool
	Suspended   bool
	Appservice  string // id of the application service that made it; "" for none
	Type        string // as the admin API names it; "" for people
}

// Credentials are a user with what proves a password.
type Credentials struct {
	User
	Password string // PHC string; "" when there is no password
}

const userColumns = `user_id, created_ts, guest, admin, deactivated, erased, leaving, locked, suspended, appservice, user_type`

func (u *User) fields(appservice, userType *sql.NullString) []any {
	return []any{&u.ID, &u.Created, &u.Guest, &u.Admin, &u.Deactivated, &u.Erased, &u.Leaving, &u.Locked, &u.Suspended,
		appservice, userType}
}

func scanUser(row scanner, u *User) error {
	var appservice, userType sql.NullString
	err := row.Scan(u.fields(&appservice, &userType)...)
	u.Appservice, u.Type = appservice.String, userType.String
	return err
}

func scanCredentials(row scanner, c *Credentials) error {
	var appservice, userType, password sql.NullString
	err := row.Scan(append(c.fields(&appservice, &userType), &password)...)
	c.Appservice, c.Type, c.Password = appservice.String, userType.String, password.String
	return err
}

// User finds an account.
func (q *Reader) User(ctx context.Context, userID string) (User, error) {
	return selectOne(ctx, q, `SELECT `+userColumns+` FROM users WHERE user_id = $1`, scanUser, userID)
}

// Credentials finds an account with the hash of its password.
func (q *Reader) Credentials(ctx context.Context, userID string) (Credentials, error) {
	return selectOne(ctx, q, `SELECT `+userColumns+`, password FROM users WHERE user_id = $1`, scanCredentials, userID)
}

// Users are at most limit accounts whose id comes after the given one, in order.
func (q *Reader) Users(ctx context.Context, after string, limit int) ([]User, error) {
	return selectAll(ctx, q, `SELECT `+userColumns+` FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2`,
		scanUser, after, limit)
}

// LeavingUsers are at most limit accounts that are still to be taken out of their rooms.
func (q *Reader) LeavingUsers(ctx context.Context, limit int) ([]User, error) {
	return selectAll(ctx, q, `SELECT `+userColumns+` FROM users WHERE leaving ORDER BY user_id LIMIT $1`, scanUser, limit)
}

// LockUser finds an account and keeps other transactions that lock it waiting
// until the end of this one: what is decided by its flags holds until then.
func (tx *Tx) LockUser(ctx context.Context, userID string) (User, error) {
	return selectOne(ctx, &tx.Reader, `UPDATE users SET user_id = user_id WHERE user_id = $1 RETURNING `+userColumns,
		scanUser, userID)
}

// InsertUser makes an account. [ErrExists]: the id is taken.
func (tx *Tx) InsertUser(ctx context.Context, c *Credentials) error {
	return tx.exec(ctx, `INSERT INTO users (user_id, password, created_ts, guest, admin, appservice, user_type)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		c.ID, orNull(c.Password), c.Created, c.Guest, c.Admin, orNull(c.Appservice), orNull(c.Type))
}

// SetPassword replaces the hash of an account's password. [ErrNotFound]: no such account.
func (tx *Tx) SetPassword(ctx context.Context, userID, password string) error {
	return tx.execOne(ctx, `UPDATE users SET password = $1 WHERE user_id = $2`, orNull(password), userID)
}

// ReplacePassword is [Tx.SetPassword] as long as the hash is still the old one;
// otherwise it changes nothing.
func (tx *Tx) ReplacePassword(ctx context.Context, userID, old, password string) error {
	return tx.exec(ctx, `UPDATE users SET password = $1 WHERE user_id = $2 AND password = $3`, password, userID, old)
}

// UpgradeGuest makes a guest a user with a password. [ErrNotFound]: no such guest.
func (tx *Tx) UpgradeGuest(ctx context.Context, userID, password string) error {
	return tx.execOne(ctx, `UPDATE users SET password = $1, guest = FALSE WHERE user_id = $2 AND guest AND NOT deactivated`,
		orNull(password), userID)
}

// SetAdmin makes the user an administrator of the server, or not. [ErrNotFound]: no such account.
func (tx *Tx) SetAdmin(ctx context.Context, userID string, admin bool) error {
	return tx.execOne(ctx, `UPDATE users SET admin = $1 WHERE user_id = $2`, admin, userID)
}

// SetLocked locks or unlocks an account. [ErrNotFound]: no such account.
func (tx *Tx) SetLocked(ctx context.Context, userID string, locked bool) error {
	return tx.execOne(ctx, `UPDATE users SET locked = $1 WHERE user_id = $2`, locked, userID)
}

// SetSuspended suspends an account or ends that. [ErrNotFound]: no such account.
func (tx *Tx) SetSuspended(ctx context.Context, userID string, suspended bool) error {
	return tx.execOne(ctx, `UPDATE users SET suspended = $1 WHERE user_id = $2`, suspended, userID)
}

// DeactivateUser ends an account for good and notes that it has to leave its
// rooms. With erase its password is forgotten as well. [ErrNotFound]: no such account.
func (tx *Tx) DeactivateUser(ctx context.Context, userID string, erase bool) error {
	return tx.execOne(ctx, `UPDATE users SET deactivated = TRUE, admin = FALSE,
		leaving = leaving OR NOT deactivated OR ($1 AND NOT erased),
		erased = erased OR $1, password = CASE WHEN $1 THEN NULL ELSE password END
		WHERE user_id = $2`, erase, userID)
}

// EndLeaving notes that a deactivated account is out of its rooms.
func (tx *Tx) EndLeaving(ctx context.Context, userID string) error {
	return tx.exec(ctx, `UPDATE users SET leaving = FALSE WHERE user_id = $1`, userID)
}

// AcceptTerms notes that a user has accepted a version of a document.
func (tx *Tx) AcceptTerms(ctx context.Context, userID, name, version string, at int64) error {
	return tx.exec(ctx, `INSERT INTO accepted_terms (user_id, name, version, accepted_ts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, name, version) DO NOTHING`, userID, name, version, at)
}

// orNull stores "" as null.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// execOne is exec for a row that has to be there.
func (tx *Tx) execOne(ctx context.Context, text string, args ...any) error {
	n, err := tx.execCount(ctx, text, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
