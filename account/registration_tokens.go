package account

import (
	"context"
	"errors"
	"strings"

	"beep/matrix"
	"beep/storage"
)

// RegistrationToken is a token with which people may register.
type RegistrationToken struct {
	storage.RegistrationToken
	// Pending is how many people are registering with it now.
	Pending int64
}

// maxRegistrationToken is the size of a registration token ("Token-authenticated
// registration").
const maxRegistrationToken = 64

// valid tells whether somebody may register with the token at the time.
func (t *RegistrationToken) valid(now int64) bool {
	return (t.Expires == nil || *t.Expires > now) && (t.UsesAllowed == nil || t.Completed+t.Pending < *t.UsesAllowed)
}

// RegistrationTokenValid tells whether somebody may register with the token.
// M_FORBIDDEN where nobody can register.
func (a *Accounts) RegistrationTokenValid(ctx context.Context, token string) (bool, error) {
	if !a.options.Registration.Open {
		return false, errRegistrationClosed
	}
	t, err := a.RegistrationToken(ctx, token)
	if errors.Is(err, matrix.NotFound) {
		return false, nil
	}
	return err == nil && t.valid(a.nowMS()), err
}

func (a *Accounts) tryRegistrationToken(ctx context.Context, i *Interaction, token string) (failure *matrix.Error, err error) {
	if token == "" {
		return nil, matrix.MissingParam.With("The registration token is missing")
	}
	refused := matrix.Forbidden.With("The registration token is not valid")
	t, err := a.RegistrationToken(ctx, token)
	if errors.Is(err, matrix.NotFound) || err == nil && !t.valid(a.nowMS()) {
		return refused, nil
	}
	if err != nil {
		return nil, err
	}
	var free *int64
	if t.UsesAllowed != nil {
		left := *t.UsesAllowed - t.Completed
		free = &left
	}
	if !a.interactions.reserve(i, token, free) {
		return refused, nil
	}
	i.token = token
	return nil, nil
}

// useRegistrationToken counts the registration, unless it needed no token.
func (a *Accounts) useRegistrationToken(ctx context.Context, tx *storage.Tx, token string) error {
	if token == "" {
		return nil
	}
	err := tx.UseRegistrationToken(ctx, token, a.nowMS())
	if errors.Is(err, storage.ErrNotFound) {
		return matrix.Forbidden.With("The registration token is no longer valid").Because(err)
	}
	return err
}

// RegistrationTokens are all tokens, by name: those that are valid or those that
// are not, if valid says which.
func (a *Accounts) RegistrationTokens(ctx context.Context, valid *bool) ([]RegistrationToken, error) {
	stored, err := a.db.RegistrationTokens(ctx)
	if err != nil {
		return nil, err
	}
	pending, now := a.interactions.pending(), a.nowMS()
	tokens := make([]RegistrationToken, 0, len(stored))
	for _, t := range stored {
		token := RegistrationToken{t, pending[t.Token]}
		if valid == nil || token.valid(now) == *valid {
			tokens = append(tokens, token)
		}
	}
	return tokens, nil
}

// RegistrationToken finds a token. M_NOT_FOUND.
func (a *Accounts) RegistrationToken(ctx context.Context, token string) (RegistrationToken, error) {
	if !validRegistrationToken(token) {
		return RegistrationToken{}, errUnknownRegistrationToken
	}
	t, err := a.db.RegistrationToken(ctx, token)
	if errors.Is(err, storage.ErrNotFound) {
		return RegistrationToken{}, errUnknownRegistrationToken.Because(err)
	}
	return RegistrationToken{t, a.interactions.pending()[token]}, err
}

var errUnknownRegistrationToken = matrix.NotFound.With("There is no such registration token")

func validRegistrationToken(token string) bool {
	return token != "" && len(token) <= maxRegistrationToken &&
		!strings.ContainsFunc(token, func(r rune) bool { return !strings.ContainsRune(tokenChars, r) })
}

// NewRegistrationToken makes a token; one without a name gets a random one of the
// given length. M_INVALID_PARAM.
func (a *Accounts) NewRegistrationToken(ctx context.Context, t storage.RegistrationToken, length int) (RegistrationToken, error) {
	if t.Token == "" {
		if length < 1 || length > maxRegistrationToken {
			return RegistrationToken{}, matrix.InvalidParam.Withf("The length must be from 1 to %d", maxRegistrationToken)
		}
		t.Token = randomText(length, tokenChars)
	}
	if !validRegistrationToken(t.Token) {
		return RegistrationToken{}, matrix.InvalidParam.Withf("A token may have at most %d characters, of A-Z a-z 0-9 . _ ~ -", maxRegistrationToken)
	}
	if err := a.checkLimits(&t); err != nil {
		return RegistrationToken{}, err
	}
	err := a.db.Write(ctx, func(tx *storage.Tx) error { return tx.InsertRegistrationToken(ctx, &t) })
	if errors.Is(err, storage.ErrExists) {
		return RegistrationToken{}, matrix.InvalidParam.With("There is such a token already").Because(err)
	}
	return RegistrationToken{RegistrationToken: t}, err
}

func (a *Accounts) checkLimits(t *storage.RegistrationToken) error {
	switch {
	case t.UsesAllowed != nil && *t.UsesAllowed < 0:
		return matrix.InvalidParam.With("uses_allowed must not be negative")
	case t.Expires != nil && *t.Expires < a.nowMS():
		return matrix.InvalidParam.With("expiry_time must not be in the past")
	}
	return nil
}

// UpdateRegistrationToken changes the limits of a token. M_NOT_FOUND, M_INVALID_PARAM.
func (a *Accounts) UpdateRegistrationToken(ctx context.Context, token string, change func(t *storage.RegistrationToken)) (RegistrationToken, error) {
	t, err := a.RegistrationToken(ctx, token)
	if err != nil {
		return t, err
	}
	before := t.RegistrationToken
	change(&t.RegistrationToken)
	if before.Expires == t.Expires { // it may have passed, and stays
		before.UsesAllowed, before.Expires = t.UsesAllowed, nil
		err = a.checkLimits(&before)
	} else {
		err = a.checkLimits(&t.RegistrationToken)
	}
	if err != nil {
		return t, err
	}
	err = a.db.Write(ctx, func(tx *storage.Tx) error { return tx.UpdateRegistrationToken(ctx, &t.RegistrationToken) })
	if errors.Is(err, storage.ErrNotFound) {
		return t, errUnknownRegistrationToken.Because(err)
	}
	return t, err
}

// DeleteRegistrationToken removes a token. M_NOT_FOUND.
func (a *Accounts) DeleteRegistrationToken(ctx context.Context, token string) error {
	if !validRegistrationToken(token) {
		return errUnknownRegistrationToken
	}
	err := a.db.Write(ctx, func(tx *storage.Tx) error { return tx.DeleteRegistrationToken(ctx, token) })
	if errors.Is(err, storage.ErrNotFound) {
		return errUnknownRegistrationToken.Because(err)
	}
	return err
}
