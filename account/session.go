package account

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"beep/matrix"
	"beep/storage"
)

// maxName is the size of a device's id or display name in bytes.
const maxName = 255

// DeviceRequest is what a client asks for when it logs in.
type DeviceRequest struct {
	// DeviceID is the device to log in on; "" lets the server make one.
	DeviceID string
	// DisplayName is for a device that is made.
	DisplayName string
	// Refresh tells that the client can refresh its access token.
	Refresh bool
}

// Session is a device's access to an account, with its tokens.
type Session struct {
	UserID       string
	DeviceID     string
	AccessToken  string
	RefreshToken string        // "" for a client that cannot refresh
	ExpiresIn    time.Duration // of the access token; 0: never
}

// check refuses ids and names that are too long or not plain text. M_INVALID_PARAM.
func (d *DeviceRequest) check() error {
	if d.DeviceID != "" && !validDeviceID(d.DeviceID) {
		return matrix.InvalidParam.Withf("A device id may have at most %d bytes, and no spaces or control characters", maxName)
	}
	return checkDisplayName(d.DisplayName)
}

func validDeviceID(id string) bool {
	return id != "" && len(id) <= maxName && utf8.ValidString(id) &&
		strings.IndexFunc(id, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) < 0
}

func checkDisplayName(name string) error {
	if len(name) > maxName || !utf8.ValidString(name) || strings.IndexFunc(name, unicode.IsControl) >= 0 {
		return matrix.InvalidParam.Withf("A display name may have at most %d bytes, and no control characters", maxName)
	}
	return nil
}

// printable is at most the first size bytes of a text, without what is not plain.
func printable(text string, size int) string {
	if len(text) > size {
		text = text[:size]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

// OpenSession logs a user in, whose identity has been proven. The tokens that the
// device had are gone. M_INVALID_PARAM, M_USER_DEACTIVATED, M_USER_LOCKED.
func (a *Accounts) OpenSession(ctx context.Context, userID string, d DeviceRequest) (*Session, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	var s *Session
	err := a.db.Write(ctx, func(tx *storage.Tx) (err error) {
		s, err = a.openSession(ctx, tx, userID, d)
		return err
	})
	return s, err
}

// openSession is the part of [Accounts.OpenSession] inside of a transaction.
func (a *Accounts) openSession(ctx context.Context, tx *storage.Tx, userID string, d DeviceRequest) (*Session, error) {
	user, err := tx.LockUser(ctx, userID)
	if err != nil {
		return nil, unknownUser(err)
	}
	if err := mayLogIn(&user); err != nil {
		return nil, err
	}
	if d.DeviceID == "" {
		d.DeviceID = newDeviceID()
	}
	gone, err := tx.DeleteTokens(ctx, userID, d.DeviceID)
	if err != nil {
		return nil, err
	}
	tx.AfterCommit(func() { a.cache.drop(gone) })
	now := a.nowMS()
	device := storage.Device{UserID: userID, ID: d.DeviceID, DisplayName: d.DisplayName, Created: now, Seen: storage.Seen{At: now}}
	if _, err := a.insertDevice(ctx, tx, &device); err != nil {
		return nil, err
	}
	grant := storage.RefreshToken{UserID: userID, DeviceID: d.DeviceID, Generation: 1, Created: now}
	if d.Refresh && a.options.AccessTokenLifetime > 0 {
		grant.Family = randomBytes(familySize)
	}
	return a.grant(ctx, tx, grant)
}

func mayLogIn(user *User) error {
	switch {
	case user.Deactivated:
		return matrix.UserDeactivated
	case user.Locked:
		return errLocked
	}
	return nil
}

// grant gives out the tokens of a generation: both when it belongs to a family,
// and otherwise an access token that never expires.
func (a *Accounts) grant(ctx context.Context, tx *storage.Tx, t storage.RefreshToken) (*Session, error) {
	s := &Session{UserID: t.UserID, DeviceID: t.DeviceID, AccessToken: newSecret(accessPrefix)}
	access := storage.AccessToken{
		Hash:       storage.HashToken(s.AccessToken),
		UserID:     t.UserID,
		DeviceID:   t.DeviceID,
		Family:     t.Family,
		Generation: t.Generation,
		Used:       t.Generation == 1, // its first use ends nothing
		Created:    t.Created,
	}
	if t.Family != nil {
		s.ExpiresIn = a.options.AccessTokenLifetime
		access.Expires = t.Created + s.ExpiresIn.Milliseconds()
		s.RefreshToken = newRefreshToken(t.Family)
		t.Hash = storage.HashToken(s.RefreshToken)
		if err := tx.InsertRefreshToken(ctx, &t); err != nil {
			return nil, err
		}
	}
	return s, tx.InsertAccessToken(ctx, &access)
}

// refreshGrace is how many ms a client has that refreshes twice at once, or is
// late with an old token: what it does then is not held for a theft.
const refreshGrace = 60_000

// Refresh exchanges a refresh token for new tokens. The old ones work until one
// of the new ones is used. A refresh token that is used again after that was
// stolen by somebody, so all tokens of its family end then ("Refreshing access
// tokens"). M_UNKNOWN_TOKEN, M_USER_DEACTIVATED, M_USER_LOCKED.
func (a *Accounts) Refresh(ctx context.Context, token string) (*Session, error) {
	family, ok := familyOf(token)
	if !ok {
		return nil, matrix.UnknownToken
	}
	var s *Session
	var refused error
	err := a.db.Write(ctx, func(tx *storage.Tx) error {
		s, refused = nil, nil
		newest, err := tx.NewestOfFamily(ctx, family)
		if err != nil {
			return err
		}
		user, err := tx.LockUser(ctx, newest.UserID)
		if err != nil {
			return err
		}
		if refused = mayLogIn(&user); refused != nil {
			return nil
		}
		old, err := tx.RefreshToken(ctx, storage.HashToken(token))
		if errors.Is(err, storage.ErrNotFound) {
			refused = softLogout
			return a.suspectTheft(ctx, tx, family)
		}
		if err != nil {
			return err
		}
		s, err = a.nextGeneration(ctx, tx, old)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.UnknownToken.Because(err)
	}
	if err != nil {
		return nil, err
	}
	return s, refused
}

// nextGeneration gives out the tokens that follow a refresh token.
func (a *Accounts) nextGeneration(ctx context.Context, tx *storage.Tx, old storage.RefreshToken) (*Session, error) {
	ended, err := tx.UseGeneration(ctx, old.UserID, old.DeviceID, old.Family, old.Generation)
	if err != nil {
		return nil, err
	}
	// Tokens that were given for this one before, and never used, did not arrive.
	lost, err := tx.DeleteGeneration(ctx, &old, old.Generation+1, a.nowMS()-refreshGrace)
	if err != nil {
		return nil, err
	}
	tx.AfterCommit(func() { a.cache.drop(append(ended, lost...)) })
	old.Generation++
	old.Created = a.nowMS()
	return a.grant(ctx, tx, old)
}

// suspectTheft ends a family one of whose former refresh tokens was used.
func (a *Accounts) suspectTheft(ctx context.Context, tx *storage.Tx, family []byte) error {
	newest, err := tx.NewestOfFamily(ctx, family)
	if err != nil {
		return err
	}
	if newest.Created > a.nowMS()-refreshGrace {
		return nil
	}
	gone, err := tx.DeleteTokens(ctx, newest.UserID, newest.DeviceID)
	tx.AfterCommit(func() { a.cache.drop(gone) })
	return err
}

// Logout removes the caller's device with its tokens.
func (a *Accounts) Logout(ctx context.Context, who *Caller) error {
	if who.DeviceID == "" {
		return errNoDevice
	}
	return a.DeleteDevices(ctx, who.UserID, []string{who.DeviceID})
}

// LogoutAll removes all devices of the caller with their tokens.
func (a *Accounts) LogoutAll(ctx context.Context, who *Caller) error {
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		return a.removeDevicesExcept(ctx, tx, who.UserID, "")
	})
}

var errNoDevice = matrix.Forbidden.With("The application service named no device")
