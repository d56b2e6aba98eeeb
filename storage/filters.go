package storage

import "context"

// Filter is the definition of a user's filter, a JSON object.
func (q *Reader) Filter(ctx context.Context, userID, filterID string) (string, error) {
	return selectOne(ctx, q, `SELECT definition FROM filters WHERE user_id = $1 AND filter_id = $2`,
		scanValue[string], userID, filterID)
}

// PutFilter keeps a filter. The id stands for this definition for ever.
func (tx *Tx) PutFilter(ctx context.Context, userID, filterID, definition string) error {
	return tx.exec(ctx, `INSERT INTO filters (user_id, filter_id, definition) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, filter_id) DO NOTHING`, userID, filterID, definition)
}
