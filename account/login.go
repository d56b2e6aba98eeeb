package account

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// Identifier says which user a client means ("Identifier types").
type Identifier struct {
	Type string `json:"type"`
	// User is for m.id.user: a user id or a localpart.
	User string `json:"user"`
}

// userNamed is the name that a client gave in either of two places: as an
// identifier, or as the deprecated user. This server knows nobody by mail or
// telephone. M_FORBIDDEN, M_MISSING_PARAM, M_INVALID_PARAM.
func userNamed(id *Identifier, user string) (string, error) {
	switch {
	case id == nil && user == "":
		return "", matrix.MissingParam.With("The identifier is missing")
	case id == nil:
		return user, nil
	case id.Type == "m.id.user" && id.User == "":
		return "", matrix.MissingParam.With("The identifier names no user")
	case id.Type == "m.id.user":
		return id.User, nil
	case id.Type == "m.id.thirdparty" || id.Type == "m.id.phone":
		return "", errWrongPassword
	}
	return "", matrix.InvalidParam.With("This type of identifier is not known")
}

// errWrongPassword does not tell whether there is such a user.
var errWrongPassword = matrix.Forbidden.With("The user name or the password is wrong")

// CheckPassword gives the id of the user who is named and has this password.
// M_FORBIDDEN, M_MISSING_PARAM, M_USER_DEACTIVATED (only with the right password),
// M_USER_LOCKED (likewise), M_LIMIT_EXCEEDED.
func (a *Accounts) CheckPassword(ctx context.Context, id *Identifier, user, password string) (userID string, err error) {
	name, err := userNamed(id, user)
	if err != nil {
		return "", err
	}
	if password == "" {
		return "", errWrongPassword
	}
	userID, ok := a.LocalUserID(name)
	forgive, err := a.guesses.try(ctx, userID)
	if err != nil {
		return "", err
	}
	c, right, err := a.compare(ctx, userID, ok, password)
	if err != nil {
		forgive()
		return "", err
	}
	if !right {
		return "", errWrongPassword
	}
	forgive()
	if err := mayLogIn(&c.User); err != nil {
		return "", err
	}
	a.renewHash(ctx, &c, password)
	return userID, nil
}

// compare tells whether the user has the password. It takes as long for a user
// that does not exist.
func (a *Accounts) compare(ctx context.Context, userID string, valid bool, password string) (c storage.Credentials, right bool, err error) {
	if valid {
		c, err = a.db.Credentials(ctx, userID)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return c, false, err
	}
	right, err = a.hasher.matches(ctx, c.Password, password)
	return c, right, err
}

// renewHash replaces a hash of an older kind. That is no reason to refuse a login,
// so a failure is only logged; the next login tries again.
func (a *Accounts) renewHash(ctx context.Context, c *storage.Credentials, password string) {
	if !a.hasher.outdated(c.Password) {
		return
	}
	hash, err := a.hasher.hash(ctx, password)
	if err == nil {
		err = a.db.Write(ctx, func(tx *storage.Tx) error { return tx.ReplacePassword(ctx, c.ID, c.Password, hash) })
	}
	if err != nil {
		web.Logger(ctx).Warn("could not renew a password hash", slog.Any("error", err))
	}
}

// NewLoginToken makes a token with which another client of the user can log in
// once, and tells how long it works.
func (a *Accounts) NewLoginToken(ctx context.Context, userID string) (token string, lifetime time.Duration, err error) {
	token, lifetime = newSecret("bpl_"), a.options.LoginTokenLifetime
	expires := a.nowMS() + lifetime.Milliseconds()
	err = a.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.InsertPurposeToken(ctx, storage.HashToken(token), storage.PurposeLogin, userID, expires)
	})
	return token, lifetime, err
}

// LoginByToken logs in with an m.login.token, which is of no use afterwards.
// M_FORBIDDEN; see [Accounts.OpenSession] as well.
func (a *Accounts) LoginByToken(ctx context.Context, token string, d DeviceRequest) (*Session, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	var s *Session
	err := a.db.Write(ctx, func(tx *storage.Tx) error {
		userID, err := tx.TakePurposeToken(ctx, storage.HashToken(token), storage.PurposeLogin, a.nowMS())
		if errors.Is(err, storage.ErrNotFound) {
			return matrix.Forbidden.With("The login token is not valid, or no longer").Because(err)
		}
		if err != nil {
			return err
		}
		s, err = a.openSession(ctx, tx, userID, d)
		return err
	})
	return s, err
}

// LoginByAppservice logs in a user of an application service. M_FORBIDDEN,
// M_EXCLUSIVE; see [Accounts.OpenSession] as well.
func (a *Accounts) LoginByAppservice(ctx context.Context, as *Appservice, id *Identifier, user string, d DeviceRequest) (*Session, error) {
	name, err := userNamed(id, user)
	if err != nil {
		return nil, err
	}
	userID, ok := a.LocalUserID(name)
	if !ok || !as.Covers(userID) {
		return nil, matrix.Exclusive.With("The application service cannot act as this user")
	}
	s, err := a.OpenSession(ctx, userID, d)
	if errors.Is(err, matrix.NotFound) {
		return nil, matrix.Forbidden.With("There is no such user").Because(err)
	}
	return s, err
}
