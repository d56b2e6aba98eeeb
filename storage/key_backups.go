package storage

import (
	"context"
	"encoding/json"

	"beep/stream"
)

// KeyBackup is a backup of a user's room keys ("Server-side key backups").
type KeyBackup struct {
	Version   stream.Pos // when it was made; the latest is the current one
	Algorithm string
	AuthData  json.RawMessage
	ETag      stream.Pos // of the last change of its keys
	Count     int64      // of its keys
}

// BackedUpKey is the key of a session in a backup.
type BackedUpKey struct {
	RoomID            string
	SessionID         string
	FirstMessageIndex int64
	ForwardedCount    int64
	IsVerified        bool
	SessionData       json.RawMessage
}

const keyBackupColumns = `version, algorithm, auth_data, etag, count`

func scanKeyBackup(row scanner, b *KeyBackup) error {
	return row.Scan(&b.Version, &b.Algorithm, (*[]byte)(&b.AuthData), &b.ETag, &b.Count)
}

// KeyBackup finds a backup of a user. [ErrNotFound]: there is none, or none any more.
func (q *Reader) KeyBackup(ctx context.Context, userID string, version stream.Pos) (KeyBackup, error) {
	return selectOne(ctx, q, `SELECT `+keyBackupColumns+` FROM key_backups WHERE user_id = $1 AND version = $2 AND NOT deleted`,
		scanKeyBackup, userID, version)
}

// CurrentKeyBackup is the latest backup of a user. [ErrNotFound]: there is none.
func (q *Reader) CurrentKeyBackup(ctx context.Context, userID string) (KeyBackup, error) {
	return selectOne(ctx, q, `SELECT `+keyBackupColumns+` FROM key_backups WHERE user_id = $1 AND NOT deleted
		ORDER BY version DESC LIMIT 1`, scanKeyBackup, userID)
}

// KeyBackupSizes are the numbers of keys of all backups of a user, by version.
func (q *Reader) KeyBackupSizes(ctx context.Context, userID string) (map[stream.Pos]int64, error) {
	sizes := map[stream.Pos]int64{}
	err := q.each(ctx, `SELECT version, count FROM key_backups WHERE user_id = $1 AND NOT deleted`, func(row scanner) error {
		var version stream.Pos
		var count int64
		err := row.Scan(&version, &count)
		sizes[version] = count
		return err
	}, userID)
	return sizes, err
}

// HadKeyBackup tells whether a user has or had a backup.
func (q *Reader) HadKeyBackup(ctx context.Context, userID string, version stream.Pos) (bool, error) {
	return selectOne(ctx, q, `SELECT EXISTS (SELECT 1 FROM key_backups WHERE user_id = $1 AND version = $2)`,
		scanValue[bool], userID, version)
}

// AddKeyBackup makes an empty backup, which is the user's current one from then on.
func (tx *Tx) AddKeyBackup(ctx context.Context, userID, algorithm string, authData json.RawMessage) (stream.Pos, error) {
	version := tx.Reserve()
	return version, tx.exec(ctx, `INSERT INTO key_backups (version, user_id, algorithm, auth_data, etag) VALUES ($1, $2, $3, $4, $1)`,
		version, userID, algorithm, string(authData))
}

// LockKeyBackup is [Reader.KeyBackup], and keeps other transactions that change the backup
// or its keys waiting until the end of this one.
func (tx *Tx) LockKeyBackup(ctx context.Context, userID string, version stream.Pos) (KeyBackup, error) {
	return selectOne(ctx, &tx.Reader, `UPDATE key_backups SET etag = etag WHERE user_id = $1 AND version = $2 AND NOT deleted
		RETURNING `+keyBackupColumns, scanKeyBackup, userID, version)
}

// SetBackupAuth replaces the AuthData of a locked backup.
func (tx *Tx) SetBackupAuth(ctx context.Context, version stream.Pos, authData json.RawMessage) error {
	return tx.exec(ctx, `UPDATE key_backups SET auth_data = $1 WHERE version = $2`, string(authData), version)
}

// ChangeBackup notes that the keys of a locked backup have changed, and how many there are
// now. It gives the new ETag.
func (tx *Tx) ChangeBackup(ctx context.Context, version stream.Pos, count int64) (stream.Pos, error) {
	etag := tx.Reserve()
	return etag, tx.exec(ctx, `UPDATE key_backups SET etag = $1, count = $2 WHERE version = $3`, etag, count, version)
}

// DeleteKeyBackup removes a backup that has no keys any more.
func (tx *Tx) DeleteKeyBackup(ctx context.Context, version stream.Pos) error {
	return tx.exec(ctx, `UPDATE key_backups SET deleted = TRUE, auth_data = '', algorithm = '' WHERE version = $1`, version)
}

const backedUpKeySelect = `SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data FROM backup_keys `

func scanBackedUpKey(row scanner, k *BackedUpKey) error {
	return row.Scan(&k.RoomID, &k.SessionID, &k.FirstMessageIndex, &k.ForwardedCount, &k.IsVerified, (*[]byte)(&k.SessionData))
}

// BackedUpKey finds one key of a backup.
func (q *Reader) BackedUpKey(ctx context.Context, version stream.Pos, roomID, sessionID string) (BackedUpKey, error) {
	return selectOne(ctx, q, backedUpKeySelect+`WHERE backup = $1 AND room_id = $2 AND session_id = $3`,
		scanBackedUpKey, version, roomID, sessionID)
}

// BackedUpKeys are the next keys of a backup, by room and session. An empty text comes
// before all.
func (q *Reader) BackedUpKeys(ctx context.Context, version stream.Pos, afterRoom, afterSession string, limit int) ([]BackedUpKey, error) {
	return selectAll(ctx, q, backedUpKeySelect+`WHERE backup = $1 AND (room_id, session_id) > ($2, $3)
		ORDER BY room_id, session_id LIMIT $4`, scanBackedUpKey, version, afterRoom, afterSession, limit)
}

// BackedUpKeysOfRoom are the next keys of a backup for one room, by session.
func (q *Reader) BackedUpKeysOfRoom(ctx context.Context, version stream.Pos, roomID, afterSession string, limit int) ([]BackedUpKey, error) {
	return selectAll(ctx, q, backedUpKeySelect+`WHERE backup = $1 AND room_id = $2 AND session_id > $3
		ORDER BY session_id LIMIT $4`, scanBackedUpKey, version, roomID, afterSession, limit)
}

// BackedUpSessions are the keys of a backup for sessions of these ids, in whatever room,
// without their SessionData.
func (q *Reader) BackedUpSessions(ctx context.Context, version stream.Pos, sessionIDs []string) ([]BackedUpKey, error) {
	return selectAll(ctx, q, `SELECT room_id, session_id, first_message_index, forwarded_count, is_verified FROM backup_keys
		WHERE backup = $1 AND session_id = ANY($2)`, func(row scanner, k *BackedUpKey) error {
		return row.Scan(&k.RoomID, &k.SessionID, &k.FirstMessageIndex, &k.ForwardedCount, &k.IsVerified)
	}, version, List(sessionIDs))
}

// PutBackedUpKeys stores keys, no two of one session, in a locked backup, in the place of
// those that are there.
func (tx *Tx) PutBackedUpKeys(ctx context.Context, version stream.Pos, keys []BackedUpKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{version, k.RoomID, k.SessionID, k.FirstMessageIndex, k.ForwardedCount, k.IsVerified, string(k.SessionData)}
	}
	return tx.execEach(ctx, `INSERT INTO backup_keys
		(backup, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (backup, room_id, session_id) DO UPDATE
		SET first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
			is_verified = excluded.is_verified, session_data = excluded.session_data`, rows)
}

// DeleteBackedUpKeys removes at most limit keys of a locked backup: of all rooms if roomID is
// "", of all sessions if sessionID is. It tells how many.
func (tx *Tx) DeleteBackedUpKeys(ctx context.Context, version stream.Pos, roomID, sessionID string, limit int) (int64, error) {
	const first, last = `DELETE FROM backup_keys WHERE (backup, room_id, session_id) IN
		(SELECT backup, room_id, session_id FROM backup_keys WHERE backup = $1`, ` LIMIT $2)`
	switch {
	case roomID == "":
		return tx.execCount(ctx, first+last, version, limit)
	case sessionID == "":
		return tx.execCount(ctx, first+` AND room_id = $3`+last, version, limit, roomID)
	default:
		return tx.execCount(ctx, first+` AND room_id = $3 AND session_id = $4`+last, version, limit, roomID, sessionID)
	}
}
