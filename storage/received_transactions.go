package storage

import "context"

// ReceivedAnswer is the answer that a transaction of another server got. [ErrNotFound]:
// the transaction is new, or was forgotten.
func (q *Reader) ReceivedAnswer(ctx context.Context, server, txnID string) ([]byte, error) {
	answer, err := selectOne(ctx, q, `SELECT answer FROM received_transactions WHERE server = $1 AND txn = $2`, scanValue[string], server, txnID)
	return []byte(answer), err
}

// AddReceived remembers the answer to a transaction that came at ts (ms). The first answer
// stays when there is one.
func (tx *Tx) AddReceived(ctx context.Context, server, txnID string, ts int64, answer []byte) error {
	return tx.exec(ctx, `INSERT INTO received_transactions (server, txn, ts, answer) VALUES ($1, $2, $3, $4)
		ON CONFLICT (server, txn) DO NOTHING`, server, txnID, ts, string(answer))
}

// ForgetReceived forgets at most limit of the transactions that came before a time (ms),
// the oldest first, and tells how many.
func (tx *Tx) ForgetReceived(ctx context.Context, before int64, limit int) (int64, error) {
	return tx.execCount(ctx, `DELETE FROM received_transactions WHERE (server, txn) IN (
		SELECT server, txn FROM received_transactions WHERE ts < $1 ORDER BY ts LIMIT $2)`, before, limit)
}
