package keys

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"strconv"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

const (
	// maxBackups is how many backups a user may have, and maxBackedUp how many keys in all
	// of them.
	maxBackups  = 100
	maxBackedUp = 500_000
	// maxAuthData and maxSessionData bound what clients put beside an algorithm, in bytes.
	maxAuthData    = 16 << 10
	maxSessionData = 4 << 10
	// maxBackUp is how many keys may be stored at once, and deleteBackedUp how many are
	// removed in one transaction.
	maxBackUp      = 10_000
	deleteBackedUp = 10_000
)

// BackupInfo is what clients know a backup of room keys by. What the algorithm is and
// what belongs to it is theirs alone.
type BackupInfo struct {
	Algorithm string             `json:"algorithm"`
	AuthData  stdjson.RawMessage `json:"auth_data"`
}

// Backup is a backup of a user's room keys.
type Backup struct {
	BackupInfo `json:",inline"`
	BackupState
	Version string `json:"version"`
}

// BackupState tells what keys are in a backup.
type BackupState struct {
	Count int64  `json:"count"`
	ETag  string `json:"etag"` // another one whenever a key was stored or deleted
}

// BackedUpKey is the key of one session.
type BackedUpKey struct {
	FirstMessageIndex *int64             `json:"first_message_index"`
	ForwardedCount    *int64             `json:"forwarded_count"`
	IsVerified        *bool              `json:"is_verified"`
	SessionData       stdjson.RawMessage `json:"session_data"`
}

// BackedUpRoom are the keys of one room, by session.
type BackedUpRoom struct {
	Sessions map[string]BackedUpKey `json:"sessions"`
}

// BackedUpRooms are keys by room.
type BackedUpRooms map[string]BackedUpRoom

// noBackup answers where a backup does not exist.
func noBackup(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return matrix.NotFound.With("There is no such backup").Because(err)
	}
	return err
}

// versionOf reads what [Backup] has as version. M_MISSING_PARAM, M_NOT_FOUND for what
// cannot be one.
func versionOf(text string) (stream.Pos, error) {
	if text == "" {
		return 0, matrix.MissingParam.With("The version is missing")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || text != posText(stream.Pos(n)) {
		return 0, noBackup(storage.ErrNotFound)
	}
	return stream.Pos(n), nil
}

// backup finds a backup of a user. M_MISSING_PARAM, M_NOT_FOUND.
func (k *Keys) backup(ctx context.Context, userID, version string) (storage.KeyBackup, error) {
	pos, err := versionOf(version)
	if err != nil {
		return storage.KeyBackup{}, err
	}
	b, err := k.db.KeyBackup(ctx, userID, pos)
	return b, noBackup(err)
}

func posText(pos stream.Pos) string { return strconv.FormatInt(int64(pos), 10) }

func stateOf(b storage.KeyBackup) BackupState { return BackupState{b.Count, posText(b.ETag)} }

// check refuses what cannot be the description of a backup. M_MISSING_PARAM,
// M_INVALID_PARAM, M_TOO_LARGE.
func (i *BackupInfo) check() error {
	switch {
	case i.Algorithm == "":
		return matrix.MissingParam.With("The algorithm is missing")
	case !validID(i.Algorithm):
		return matrix.InvalidParam.Withf("The name of an algorithm has at most %d bytes", maxID)
	case len(i.AuthData) == 0 || string(i.AuthData) == "null":
		return matrix.MissingParam.With("The auth_data are missing")
	case len(i.AuthData) > maxAuthData:
		return matrix.TooLarge.Withf("The auth_data may have at most %d bytes", maxAuthData)
	}
	return nil
}

// NewBackup makes an empty backup, which is the user's current one from then on, and gives
// its version. M_MISSING_PARAM, M_INVALID_PARAM, M_TOO_LARGE.
func (k *Keys) NewBackup(ctx context.Context, userID string, info *BackupInfo) (string, error) {
	if err := info.check(); err != nil {
		return "", err
	}
	var version stream.Pos
	err := k.db.Write(ctx, func(tx *storage.Tx) error {
		sizes, err := tx.KeyBackupSizes(ctx, userID)
		if err != nil {
			return err
		}
		if len(sizes) >= maxBackups {
			return matrix.TooLarge.Withf("A user may have %d backups of keys; delete old ones first", maxBackups)
		}
		version, err = tx.AddKeyBackup(ctx, userID, info.Algorithm, info.AuthData)
		return err
	})
	return posText(version), err
}

// Backup finds a backup of a user; the current one for version "". M_NOT_FOUND.
func (k *Keys) Backup(ctx context.Context, userID, version string) (b *Backup, err error) {
	var found storage.KeyBackup
	if version == "" {
		found, err = k.db.CurrentKeyBackup(ctx, userID)
		err = noBackup(err)
	} else {
		found, err = k.backup(ctx, userID, version)
	}
	return &Backup{BackupInfo{found.Algorithm, found.AuthData}, stateOf(found), posText(found.Version)}, err
}

// SetBackup replaces the AuthData of a backup. M_NOT_FOUND, M_INVALID_PARAM for another
// algorithm, M_MISSING_PARAM, M_TOO_LARGE.
func (k *Keys) SetBackup(ctx context.Context, userID, version string, info *BackupInfo) error {
	if err := info.check(); err != nil {
		return err
	}
	pos, err := versionOf(version)
	if err != nil {
		return err
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		b, err := tx.LockKeyBackup(ctx, userID, pos)
		if err != nil {
			return noBackup(err)
		}
		if b.Algorithm != info.Algorithm {
			return matrix.InvalidParam.With("The algorithm of a backup cannot be changed")
		}
		return tx.SetBackupAuth(ctx, b.Version, info.AuthData)
	})
}

// BackUp stores keys in the user's current backup, but for those that are not better than
// what is there. M_NOT_FOUND, M_WRONG_ROOM_KEYS_VERSION, M_BAD_JSON, M_INVALID_PARAM,
// M_TOO_LARGE.
func (k *Keys) BackUp(ctx context.Context, userID, version string, rooms BackedUpRooms) (*BackupState, error) {
	pos, err := versionOf(version)
	if err != nil {
		return nil, err
	}
	keys, err := rooms.check()
	if err != nil {
		return nil, err
	}
	var state BackupState
	err = k.db.Write(ctx, func(tx *storage.Tx) error {
		b, err := lockCurrent(ctx, tx, userID, pos)
		if err != nil {
			return err
		}
		b, err = backUp(ctx, tx, userID, b, keys)
		state = stateOf(b)
		return err
	})
	return &state, err
}

// check gives the keys as they are stored. M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE.
func (r BackedUpRooms) check() ([]storage.BackedUpKey, error) {
	var keys []storage.BackedUpKey
	for roomID, room := range r {
		if !matrix.ValidRoomID(roomID) {
			return nil, matrix.InvalidParam.Withf("%q is not a room id", roomID)
		}
		if len(keys)+len(room.Sessions) > maxBackUp {
			return nil, matrix.TooLarge.Withf("At most %d keys can be stored at once", maxBackUp)
		}
		for sessionID, key := range room.Sessions {
			if err := key.check(sessionID); err != nil {
				return nil, err
			}
			keys = append(keys, storage.BackedUpKey{
				RoomID: roomID, SessionID: sessionID, FirstMessageIndex: *key.FirstMessageIndex,
				ForwardedCount: *key.ForwardedCount, IsVerified: *key.IsVerified, SessionData: key.SessionData,
			})
		}
	}
	return keys, nil
}

func (key *BackedUpKey) check(sessionID string) error {
	switch {
	case !validID(sessionID):
		return matrix.InvalidParam.Withf("The id of a session has 1 to %d bytes", maxID)
	case key.FirstMessageIndex == nil || key.ForwardedCount == nil || key.IsVerified == nil ||
		len(key.SessionData) == 0 || string(key.SessionData) == "null":
		return matrix.BadJSON.With("A key has first_message_index, forwarded_count, is_verified and session_data")
	case *key.FirstMessageIndex < 0 || *key.ForwardedCount < 0:
		return matrix.BadJSON.With("first_message_index and forwarded_count cannot be negative")
	case len(key.SessionData) > maxSessionData:
		return matrix.TooLarge.Withf("The session_data of a key may have at most %d bytes", maxSessionData)
	}
	return nil
}

// lockCurrent locks the user's current backup, which has to be of this version.
func lockCurrent(ctx context.Context, tx *storage.Tx, userID string, version stream.Pos) (storage.KeyBackup, error) {
	current, err := tx.CurrentKeyBackup(ctx, userID)
	if err != nil {
		return current, noBackup(err)
	}
	if current.Version == version {
		current, err = tx.LockKeyBackup(ctx, userID, version)
		return current, noBackup(err)
	}
	had, err := tx.HadKeyBackup(ctx, userID, version)
	if err == nil && !had {
		err = noBackup(storage.ErrNotFound)
	} else if err == nil {
		err = matrix.WrongRoomKeysVersion.Field("current_version", posText(current.Version))
	}
	return current, err
}

// backUp stores keys in a locked backup.
func backUp(ctx context.Context, tx *storage.Tx, userID string, b storage.KeyBackup, keys []storage.BackedUpKey) (storage.KeyBackup, error) {
	stored, added, err := betterKeys(ctx, tx, b.Version, keys)
	if err != nil || len(stored) == 0 {
		return b, err
	}
	if added > 0 {
		sizes, err := tx.KeyBackupSizes(ctx, userID)
		if err != nil {
			return b, err
		}
		all := added
		for _, n := range sizes {
			all += n
		}
		if all > maxBackedUp {
			return b, matrix.TooLarge.Withf("A user may have %d keys in backups; delete old backups first", maxBackedUp)
		}
	}
	if err := tx.PutBackedUpKeys(ctx, b.Version, stored); err != nil {
		return b, err
	}
	b.Count += added
	b.ETag, err = tx.ChangeBackup(ctx, b.Version, b.Count)
	return b, err
}

// betterKeys are those of the keys that are to be stored. Added is how many of them are of
// sessions of which there is no key yet.
func betterKeys(ctx context.Context, tx *storage.Tx, version stream.Pos, keys []storage.BackedUpKey) (better []storage.BackedUpKey, added int64, err error) {
	type session struct{ roomID, id string }
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.SessionID
	}
	there, err := tx.BackedUpSessions(ctx, version, ids)
	if err != nil {
		return nil, 0, err
	}
	before := make(map[session]storage.BackedUpKey, len(there))
	for _, key := range there {
		before[session{key.RoomID, key.SessionID}] = key
	}
	for _, key := range keys {
		old, known := before[session{key.RoomID, key.SessionID}]
		if !known {
			added++
		}
		if !known || betterKey(key, old) {
			better = append(better, key)
		}
	}
	return better, added, nil
}

// betterKey tells whether a key takes the place of an old one of the same session.
func betterKey(key, old storage.BackedUpKey) bool {
	switch {
	case key.IsVerified != old.IsVerified:
		return key.IsVerified
	case key.FirstMessageIndex != old.FirstMessageIndex:
		return key.FirstMessageIndex < old.FirstMessageIndex
	default:
		return key.ForwardedCount < old.ForwardedCount
	}
}

// DeleteBackedUp removes keys from a backup: of all rooms if roomID is "", of all sessions
// if sessionID is. M_NOT_FOUND for the backup.
func (k *Keys) DeleteBackedUp(ctx context.Context, userID, version, roomID, sessionID string) (*BackupState, error) {
	pos, err := versionOf(version)
	if err != nil {
		return nil, err
	}
	return k.deleteBackedUp(ctx, userID, pos, roomID, sessionID, func(*storage.Tx) error { return nil })
}

// DeleteBackup removes a backup with its keys. One that was there once is removed already;
// M_NOT_FOUND for others.
func (k *Keys) DeleteBackup(ctx context.Context, userID, version string) error {
	pos, err := versionOf(version)
	if err != nil {
		return err
	}
	err = k.deleteBackup(ctx, userID, pos)
	if !errors.Is(err, matrix.NotFound) {
		return err
	}
	if had, hadErr := k.db.HadKeyBackup(ctx, userID, pos); hadErr != nil || had {
		return hadErr
	}
	return err
}

func (k *Keys) deleteBackup(ctx context.Context, userID string, version stream.Pos) error {
	_, err := k.deleteBackedUp(ctx, userID, version, "", "", func(tx *storage.Tx) error { return tx.DeleteKeyBackup(ctx, version) })
	return err
}

// deleteBackedUp removes keys, not too many in one transaction: other writers need their
// turn. Last is done together with the end of it.
func (k *Keys) deleteBackedUp(ctx context.Context, userID string, version stream.Pos, roomID, sessionID string, last func(*storage.Tx) error) (*BackupState, error) {
	var state BackupState
	for more := true; more; {
		err := k.db.Write(ctx, func(tx *storage.Tx) error {
			b, err := tx.LockKeyBackup(ctx, userID, version)
			if err != nil {
				return noBackup(err)
			}
			n, err := tx.DeleteBackedUpKeys(ctx, version, roomID, sessionID, deleteBackedUp)
			if err != nil {
				return err
			}
			if n > 0 {
				b.Count -= n
				if b.ETag, err = tx.ChangeBackup(ctx, version, b.Count); err != nil {
					return err
				}
			}
			state = stateOf(b)
			if more = n == deleteBackedUp; more {
				return nil
			}
			return last(tx)
		})
		if err != nil {
			return nil, err
		}
	}
	return &state, nil
}

// deleteBackups removes all backups of a user.
func (k *Keys) deleteBackups(ctx context.Context, userID string) error {
	sizes, err := k.db.KeyBackupSizes(ctx, userID)
	if err != nil {
		return err
	}
	for version := range sizes {
		if err := k.deleteBackup(ctx, userID, version); err != nil && !errors.Is(err, matrix.NotFound) {
			return err
		}
	}
	return nil
}
