package storage

import (
	"context"
	"encoding/json"
)

// Profile is a user's profile: the fields by name, each any JSON value. A user
// without profile has an empty one.
func (q *Reader) Profile(ctx context.Context, userID string) (map[string]json.RawMessage, error) {
	profile := map[string]json.RawMessage{}
	err := q.each(ctx, `SELECT field, value FROM profiles WHERE user_id = $1`, func(row scanner) error {
		var field, value string
		if err := row.Scan(&field, &value); err != nil {
			return err
		}
		profile[field] = json.RawMessage(value)
		return nil
	}, userID)
	return profile, err
}

// SetProfileField sets a field of the profile.
func (tx *Tx) SetProfileField(ctx context.Context, userID, field string, value json.RawMessage) error {
	return tx.exec(ctx, `INSERT INTO profiles (user_id, field, value) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, field) DO UPDATE SET value = excluded.value`, userID, field, string(value))
}

// DeleteProfileField removes a field of the profile, if it is there.
func (tx *Tx) DeleteProfileField(ctx context.Context, userID, field string) error {
	return tx.exec(ctx, `DELETE FROM profiles WHERE user_id = $1 AND field = $2`, userID, field)
}

// DeleteProfile removes the whole profile.
func (tx *Tx) DeleteProfile(ctx context.Context, userID string) error {
	return tx.exec(ctx, `DELETE FROM profiles WHERE user_id = $1`, userID)
}
