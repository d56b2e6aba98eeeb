package account

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"beep/matrix"
	"beep/storage"
)

// User is an account of this server.
type User = storage.User

// maxUserID is the size of a user id in bytes (appendices, "User Identifiers").
const maxUserID = 255

// CreateUser makes an account. The localpart may have capitals, which become small.
// M_USER_IN_USE, M_INVALID_USERNAME, M_EXCLUSIVE, M_WEAK_PASSWORD.
func (a *Accounts) CreateUser(ctx context.Context, localpart, password string, admin bool) (userID string, err error) {
	return a.createUser(ctx, localpart, password, User{Admin: admin}, "")
}

// createUser makes the account with the flags of like.
func (a *Accounts) createUser(ctx context.Context, localpart, password string, like User, displayName string) (string, error) {
	userID, err := a.NewUserID(localpart)
	if err != nil {
		return "", err
	}
	if err := a.available(ctx, userID); err != nil {
		return "", err
	}
	hash, err := a.newPassword(ctx, password)
	if err != nil {
		return "", err
	}
	like.ID, like.Created = userID, a.nowMS()
	user := storage.Credentials{User: like, Password: hash}
	err = a.db.Write(ctx, func(tx *storage.Tx) error { return insertUser(ctx, tx, &user, displayName) })
	return userID, inUse(err)
}

// insertUser makes the account. People without display name are shown by the user
// name that they chose, until they set another; guests have chosen none.
func insertUser(ctx context.Context, tx *storage.Tx, user *storage.Credentials, displayName string) error {
	if err := tx.InsertUser(ctx, user); err != nil || user.Guest {
		return err
	}
	localpart, _, _ := matrix.SplitID('@', user.ID)
	return tx.SetProfileField(ctx, user.ID, "displayname", matrix.AppendString(nil, or(displayName, localpart)))
}

// SetPassword gives an account a new password. With logoutDevices all its devices
// are logged out. M_NOT_FOUND, M_WEAK_PASSWORD.
func (a *Accounts) SetPassword(ctx context.Context, userID, password string, logoutDevices bool) error {
	return a.setPassword(ctx, userID, password, logoutDevices, "")
}

// ChangePassword is [Accounts.SetPassword] for a user's own wish: the device that
// asks stays logged in.
func (a *Accounts) ChangePassword(ctx context.Context, userID, deviceID, password string, logoutDevices bool) error {
	return a.setPassword(ctx, userID, password, logoutDevices, deviceID)
}

func (a *Accounts) setPassword(ctx context.Context, userID, password string, logoutDevices bool, keep string) error {
	hash, err := a.newPassword(ctx, password)
	if err != nil {
		return err
	}
	err = a.db.Write(ctx, func(tx *storage.Tx) error {
		if err := tx.SetPassword(ctx, userID, hash); err != nil || !logoutDevices {
			return err
		}
		if err := tx.DeletePurposeTokens(ctx, userID); err != nil {
			return err
		}
		return a.removeDevicesExcept(ctx, tx, userID, keep)
	})
	return unknownUser(err)
}

// newPassword checks a password that somebody wants, and gives its hash.
func (a *Accounts) newPassword(ctx context.Context, password string) (string, error) {
	if err := a.CheckNewPassword(password); err != nil {
		return "", err
	}
	return a.hasher.hash(ctx, password)
}

// CheckNewPassword refuses a password that nobody may have. M_WEAK_PASSWORD,
// M_INVALID_PARAM.
func (a *Accounts) CheckNewPassword(password string) error {
	least := max(a.options.MinPassword, 1)
	switch {
	case len(password) > maxPassword:
		return matrix.InvalidParam.Withf("A password may have at most %d bytes", maxPassword)
	case utf8.RuneCountInString(password) < least:
		return matrix.WeakPassword.Withf("A password must have at least %d characters", least)
	}
	return nil
}

// List gives at most limit accounts, by id, beginning after the given one.
func (a *Accounts) List(ctx context.Context, after string, limit int) ([]User, error) {
	return a.db.Users(ctx, after, limit)
}

// User finds an account. M_NOT_FOUND.
func (a *Accounts) User(ctx context.Context, userID string) (User, error) {
	user, err := a.db.User(ctx, userID)
	return user, unknownUser(err)
}

// SetAdmin makes a user an administrator of the server, or not. M_NOT_FOUND.
func (a *Accounts) SetAdmin(ctx context.Context, userID string, admin bool) error {
	return a.setFlag(ctx, userID, func(tx *storage.Tx) error { return tx.SetAdmin(ctx, userID, admin) })
}

// SetLocked locks an account or unlocks it ("Account locking"). M_NOT_FOUND.
func (a *Accounts) SetLocked(ctx context.Context, userID string, locked bool) error {
	return a.setFlag(ctx, userID, func(tx *storage.Tx) error { return tx.SetLocked(ctx, userID, locked) })
}

// SetSuspended suspends an account or ends that ("Account suspension"). M_NOT_FOUND.
func (a *Accounts) SetSuspended(ctx context.Context, userID string, suspended bool) error {
	return a.setFlag(ctx, userID, func(tx *storage.Tx) error { return tx.SetSuspended(ctx, userID, suspended) })
}

// setFlag changes what a token's holder may do: the tokens are looked up afresh.
func (a *Accounts) setFlag(ctx context.Context, userID string, set func(tx *storage.Tx) error) error {
	return unknownUser(a.db.Write(ctx, func(tx *storage.Tx) error {
		if err := set(tx); err != nil {
			return err
		}
		tokens, err := tx.AccessTokens(ctx, userID)
		tx.AfterCommit(func() { a.cache.drop(tokens) })
		return err
	}))
}

// NewUserID is the id of a user to be made. Capitals become small.
// M_INVALID_USERNAME (appendices, "User Identifiers").
func (a *Accounts) NewUserID(localpart string) (string, error) {
	localpart = lower(localpart)
	userID := a.userID(localpart)
	switch {
	case localpart == "":
		return "", matrix.InvalidUsername.With("A user name must not be empty")
	case len(userID) > maxUserID:
		return "", matrix.InvalidUsername.Withf("A user id may have at most %d bytes", maxUserID)
	case strings.IndexFunc(localpart, notInLocalpart) >= 0:
		return "", matrix.InvalidUsername.With("A user name may have only a-z, 0-9 and the characters . _ = - / +")
	}
	return userID, nil
}

func notInLocalpart(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._=-/+", r)
}

// lower makes ASCII capitals small, and nothing else: two names that differ in
// other ways stay two names.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func (a *Accounts) userID(localpart string) string {
	return "@" + localpart + ":" + a.options.ServerName
}

// LocalUserID is the id of the user of this server whom a person names by user id
// or by localpart, in capitals or small. ok is false, and userID "", for what
// cannot be one.
func (a *Accounts) LocalUserID(name string) (userID string, ok bool) {
	if rest, full := strings.CutPrefix(name, "@"); full {
		localpart, server, found := strings.Cut(rest, ":")
		if !found || lower(server) != lower(a.options.ServerName) {
			return "", false
		}
		name = localpart
	}
	userID = a.userID(lower(name))
	if name == "" || strings.Contains(name, ":") || !matrix.ValidUserID(userID) {
		return "", false
	}
	return userID, true
}

// Available tells by its error why somebody cannot register this name.
// M_USER_IN_USE, M_INVALID_USERNAME, M_EXCLUSIVE; M_FORBIDDEN where nobody can.
func (a *Accounts) Available(ctx context.Context, localpart string) error {
	if !a.options.Registration.Open {
		return errRegistrationClosed
	}
	userID, err := a.NewUserID(localpart)
	if err != nil {
		return err
	}
	return a.available(ctx, userID)
}

func (a *Accounts) available(ctx context.Context, userID string) error {
	if a.exclusive(userID, nil) {
		return matrix.Exclusive
	}
	_, err := a.db.User(ctx, userID)
	switch {
	case err == nil:
		return matrix.UserInUse
	case errors.Is(err, storage.ErrNotFound):
		return nil
	}
	return err
}

// inUse is what the loser of a race for a name hears.
func inUse(err error) error {
	if errors.Is(err, storage.ErrExists) {
		return matrix.UserInUse.Because(err)
	}
	return err
}

func unknownUser(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return matrix.NotFound.With("There is no such user").Because(err)
	}
	return err
}
