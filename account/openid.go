package account

import (
	"context"
	"errors"
	"time"

	"beep/matrix"
	"beep/storage"
)

// openIDLifetime is how long an OpenID token proves who the user is.
const openIDLifetime = time.Hour

// NewOpenIDToken makes a token with which others can ask this server who the user
// is, and tells how long it works ("OpenID").
func (a *Accounts) NewOpenIDToken(ctx context.Context, userID string) (token string, lifetime time.Duration, err error) {
	token = newSecret("bpo_")
	expires := a.nowMS() + openIDLifetime.Milliseconds()
	err = a.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.InsertPurposeToken(ctx, storage.HashToken(token), storage.PurposeOpenID, userID, expires)
	})
	return token, openIDLifetime, err
}

// OpenIDUser tells whose OpenID token this is. M_UNKNOWN_TOKEN.
func (a *Accounts) OpenIDUser(ctx context.Context, token string) (userID string, err error) {
	userID, err = a.db.PurposeToken(ctx, storage.HashToken(token), storage.PurposeOpenID, a.nowMS())
	if errors.Is(err, storage.ErrNotFound) {
		return "", matrix.UnknownToken.Because(err)
	}
	return userID, err
}
