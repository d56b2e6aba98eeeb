package storage

import "context"

// ErasedUsers are those of the users who asked to be forgotten when their
// account was deactivated.
func (q *Reader) ErasedUsers(ctx context.Context, userIDs []string) ([]string, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT user_id FROM users WHERE erased AND user_id = ANY($1)`, scanValue[string], List(userIDs))
}
