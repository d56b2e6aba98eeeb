package account

import (
	"context"
	"encoding/json"
	"unicode/utf8"

	"beep/matrix"
	"beep/storage"
)

const (
	maxProfile     = 64 << 10 // bytes; a profile is smaller
	maxProfileKey  = 255      // bytes
	maxDisplayName = 256      // characters
	maxAvatarURL   = 1000     // bytes
	maxTimeZone    = 255      // bytes
)

// Profile is the profile of a user of this server: its fields by name, each any
// JSON value. M_NOT_FOUND.
func (a *Accounts) Profile(ctx context.Context, userID string) (map[string]json.RawMessage, error) {
	if _, err := a.User(ctx, userID); err != nil {
		return nil, err
	}
	return a.db.Profile(ctx, userID)
}

// ProfileField is a field of a user's profile. M_NOT_FOUND without such a user or
// such a field.
func (a *Accounts) ProfileField(ctx context.Context, userID, field string) (json.RawMessage, error) {
	if err := checkProfileKey(field); err != nil {
		return nil, err
	}
	profile, err := a.Profile(ctx, userID)
	if err != nil {
		return nil, err
	}
	value, ok := profile[field]
	if !ok {
		return nil, matrix.NotFound.With("The profile has no such field")
	}
	return value, nil
}

// SetProfileField sets a field of a user's profile, and tells whether that changed
// anything. An empty displayname or avatar_url is none (client-server API,
// "Profiles"). M_INVALID_PARAM, M_KEY_TOO_LARGE, M_BAD_JSON, M_PROFILE_TOO_LARGE,
// M_NOT_FOUND.
func (a *Accounts) SetProfileField(ctx context.Context, userID, field string, value json.RawMessage) (changed bool, err error) {
	if err := checkProfileKey(field); err != nil {
		return false, err
	}
	canonical, err := matrix.CanonicalJSON(value, false)
	if err != nil {
		return false, matrix.BadJSON.Because(err)
	}
	empty, err := checkProfileValue(field, canonical)
	if err != nil {
		return false, err
	}
	if empty {
		return a.DeleteProfileField(ctx, userID, field)
	}
	err = a.changeProfile(ctx, userID, func(tx *storage.Tx, profile map[string]json.RawMessage) error {
		changed = string(profile[field]) != string(canonical)
		if !changed {
			return nil
		}
		profile[field] = canonical
		if profileSize(profile) >= maxProfile {
			return matrix.ProfileTooLarge
		}
		return tx.SetProfileField(ctx, userID, field, canonical)
	})
	return changed, err
}

// DeleteProfileField removes a field of a user's profile, and tells whether it was
// there. M_INVALID_PARAM, M_KEY_TOO_LARGE, M_NOT_FOUND.
func (a *Accounts) DeleteProfileField(ctx context.Context, userID, field string) (changed bool, err error) {
	if err := checkProfileKey(field); err != nil {
		return false, err
	}
	err = a.changeProfile(ctx, userID, func(tx *storage.Tx, profile map[string]json.RawMessage) error {
		if _, changed = profile[field]; !changed {
			return nil
		}
		return tx.DeleteProfileField(ctx, userID, field)
	})
	return changed, err
}

// changeProfile runs fn on the profile, one change of it at a time.
func (a *Accounts) changeProfile(ctx context.Context, userID string, fn func(tx *storage.Tx, profile map[string]json.RawMessage) error) error {
	return unknownUser(a.db.Write(ctx, func(tx *storage.Tx) error {
		if _, err := tx.LockUser(ctx, userID); err != nil {
			return err
		}
		profile, err := tx.Profile(ctx, userID)
		if err != nil {
			return err
		}
		return fn(tx, profile)
	}))
}

// checkProfileKey checks the name of a field (appendices, "Common Namespaced
// Identifier Grammar").
func checkProfileKey(key string) error {
	if len(key) > maxProfileKey {
		return matrix.KeyTooLarge
	}
	for i := range len(key) {
		b := key[i]
		letter := b >= 'a' && b <= 'z'
		other := b >= '0' && b <= '9' || b == '-' || b == '_' || b == '.'
		if !letter && (i == 0 || !other) {
			return errProfileKey
		}
	}
	if key == "" {
		return errProfileKey
	}
	return nil
}

var errProfileKey = matrix.InvalidParam.With("The name of a profile field has a-z, 0-9 and the characters - _ . and begins with a letter")

// checkProfileValue checks the fields whose type the specification gives. Empty
// tells that the field is to be removed.
func checkProfileValue(field string, value json.RawMessage) (empty bool, err error) {
	switch field {
	case "displayname", "avatar_url", "m.tz":
	default:
		return false, nil
	}
	var text string
	if value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return false, matrix.BadJSON.Withf("%s must be a string", field)
	}
	switch {
	case field == "displayname" && utf8.RuneCountInString(text) > maxDisplayName:
		return false, matrix.InvalidParam.Withf("A display name may have at most %d characters", maxDisplayName)
	case field == "avatar_url" && len(text) > maxAvatarURL:
		return false, matrix.InvalidParam.Withf("The address of an avatar may have at most %d bytes", maxAvatarURL)
	case field == "m.tz" && (text == "" || len(text) > maxTimeZone):
		return false, matrix.InvalidParam.With("m.tz must be the name of a time zone")
	}
	return text == "", nil
}

// profileSize is the size of the profile as canonical JSON, in bytes.
func profileSize(profile map[string]json.RawMessage) int {
	size := 1 // a comma or brace before each member, and the last brace
	for key, value := range profile {
		size += len(`,"":`) + len(key) + len(value)
	}
	return size
}

// RemoveUserData forgets what a deactivated user kept here: account data, and with
// an erased user the profile as well.
func (a *Accounts) RemoveUserData(ctx context.Context, user User) error {
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		if user.Erased {
			if err := tx.DeleteProfile(ctx, user.ID); err != nil {
				return err
			}
		}
		return tx.DeleteAccountData(ctx, user.ID)
	})
}
