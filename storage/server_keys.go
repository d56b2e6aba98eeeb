package storage

import (
	"context"

	"beep/matrix"
)

// ServerKeys are the keys that are stored of the servers, in no order.
func (q *Reader) ServerKeys(ctx context.Context, servers []string) ([]matrix.ServerKey, error) {
	if len(servers) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT server, key_id, key, valid_until, expired, fetched, response FROM server_keys WHERE server = ANY($1)`,
		func(row scanner, k *matrix.ServerKey) error {
			return row.Scan(&k.Server, &k.ID, (*[]byte)(&k.Key), &k.ValidUntil, &k.Expired, &k.Fetched, &k.Response)
		}, List(servers))
}

// SaveServerKeys stores keys of other servers, none twice, each in the place of the one of
// that server with that id. A key without Response leaves the stored one as it is.
func (db *DB) SaveServerKeys(ctx context.Context, keys []matrix.ServerKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		response := k.Response
		if response == nil {
			response = []byte{} // nil would be NULL
		}
		rows[i] = []any{k.Server, k.ID, []byte(k.Key), k.ValidUntil, k.Expired, k.Fetched, response}
	}
	return db.Write(ctx, func(tx *Tx) error {
		return tx.execEach(ctx, `INSERT INTO server_keys (server, key_id, key, valid_until, expired, fetched, response)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (server, key_id) DO UPDATE
			SET key = excluded.key, valid_until = excluded.valid_until, expired = excluded.expired, fetched = excluded.fetched,
				response = CASE WHEN length(excluded.response) > 0 THEN excluded.response ELSE server_keys.response END`, rows)
	})
}
