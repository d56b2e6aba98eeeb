package storage

import (
	"context"
	"encoding/json"
	"slices"

	"beep/stream"
)

// OneTimeKey is a one-time key or a fallback key.
type OneTimeKey struct {
	Algorithm string
	ID        string
	Key       json.RawMessage // empty: it was given out
}

// KeyCounts is what a device hears of its keys.
type KeyCounts struct {
	UserID   string
	DeviceID string
	OneTime  map[string]int64 // the number of one-time keys by algorithm; none is 0
	Unused   []string         // algorithms with a fallback key that nobody was given, in order
	Pos      stream.Pos       // of the last change
}

// KeyCounts tells how many keys others may still claim of a device.
func (q *Reader) KeyCounts(ctx context.Context, userID, deviceID string) (KeyCounts, error) {
	ids, err := selectAll(ctx, q, `SELECT id FROM device_keys WHERE user_id = $1 AND device_id = $2`, scanValue[int64], userID, deviceID)
	if err != nil || len(ids) == 0 {
		return KeyCounts{UserID: userID, DeviceID: deviceID}, err
	}
	counts, err := q.keyCounts(ctx, ids)
	if err != nil || len(counts) == 0 {
		return KeyCounts{UserID: userID, DeviceID: deviceID}, err
	}
	return counts[0], nil
}

// keyCounts are the counts of several devices, in no order.
func (q *Reader) keyCounts(ctx context.Context, holders []int64) ([]KeyCounts, error) {
	byID := make(map[int64]*KeyCounts, len(holders))
	err := q.each(ctx, `SELECT d.id, d.user_id, d.device_id, d.counted, '' AS algorithm, 0 AS n FROM device_keys d WHERE d.id = ANY($1)
		UNION ALL SELECT o.device, '', '', 0, o.algorithm, COUNT(*) FROM one_time_keys o
			WHERE o.device = ANY($1) AND o.claimed_ts = 0 GROUP BY o.device, o.algorithm
		UNION ALL SELECT f.device, '', '', 0, f.algorithm, -1 FROM fallback_keys f WHERE f.device = ANY($1) AND NOT f.used`,
		func(row scanner) error {
			var id, n int64
			var algorithm string
			var c KeyCounts
			if err := row.Scan(&id, &c.UserID, &c.DeviceID, &c.Pos, &algorithm, &n); err != nil {
				return err
			}
			byID[id] = byID[id].with(c, algorithm, n)
			return nil
		}, Ints(holders))
	all := make([]KeyCounts, 0, len(byID))
	for _, c := range byID {
		slices.Sort(c.Unused)
		all = append(all, *c)
	}
	return all, err
}

// with takes in one row of the three kinds of [Reader.keyCounts]; n is -1 for a fallback key.
func (c *KeyCounts) with(row KeyCounts, algorithm string, n int64) *KeyCounts {
	if c == nil {
		c = &KeyCounts{OneTime: map[string]int64{}}
	}
	switch {
	case algorithm == "":
		c.UserID, c.DeviceID, c.Pos = row.UserID, row.DeviceID, row.Pos
	case n < 0:
		c.Unused = append(c.Unused, algorithm)
	default:
		c.OneTime[algorithm] = n
	}
	return c
}

// PublishKeyCounts tells devices, whose rows are locked, that their one-time or fallback
// keys have changed. It gives what they hear, in no order.
func (tx *Tx) PublishKeyCounts(ctx context.Context, holders []int64) ([]KeyCounts, error) {
	pos := tx.Reserve()
	if err := tx.exec(ctx, `UPDATE device_keys SET counted = $1 WHERE id = ANY($2)`, pos, Ints(holders)); err != nil {
		return nil, err
	}
	counts, err := tx.keyCounts(ctx, holders)
	if err != nil {
		return nil, err
	}
	tx.Publish(stream.Entry{Pos: pos, Kind: stream.KeyCounts, Value: counts, Size: 200 * len(counts)})
	return counts, nil
}

// OneTimeKeys are those of a device's one-time keys that have one of these ids, whatever
// the algorithm. What was given out lately is among them, without its key.
func (q *Reader) OneTimeKeys(ctx context.Context, holder int64, keyIDs []string) ([]OneTimeKey, error) {
	return selectAll(ctx, q, `SELECT algorithm, key_id, key FROM one_time_keys WHERE device = $1 AND key_id = ANY($2)`,
		scanOneTimeKey, holder, List(keyIDs))
}

func scanOneTimeKey(row scanner, k *OneTimeKey) error {
	return row.Scan(&k.Algorithm, &k.ID, (*[]byte)(&k.Key))
}

// AddOneTimeKeys adds one-time keys of new ids for a device whose row is locked.
func (tx *Tx) AddOneTimeKeys(ctx context.Context, holder int64, keys []OneTimeKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{holder, k.Algorithm, k.ID, string(k.Key)}
	}
	return tx.execEach(ctx, `INSERT INTO one_time_keys (device, algorithm, key_id, key) VALUES ($1, $2, $3, $4)`, rows)
}

// PutFallbackKeys sets fallback keys, no two of one algorithm, of a device whose row is
// locked. One that is there already stays as it is, used or not.
func (tx *Tx) PutFallbackKeys(ctx context.Context, holder int64, keys []OneTimeKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{holder, k.Algorithm, k.ID, string(k.Key)}
	}
	return tx.execEach(ctx, `INSERT INTO fallback_keys (device, algorithm, key_id, key, used) VALUES ($1, $2, $3, $4, FALSE)
		ON CONFLICT (device, algorithm) DO UPDATE SET key_id = excluded.key_id, key = excluded.key,
			used = fallback_keys.used AND fallback_keys.key_id = excluded.key_id AND fallback_keys.key = excluded.key`, rows)
}

// DeleteClaimableKeys removes the one-time and fallback keys of a device whose row is locked.
func (tx *Tx) DeleteClaimableKeys(ctx context.Context, holder int64) error {
	if err := tx.exec(ctx, `DELETE FROM one_time_keys WHERE device = $1`, holder); err != nil {
		return err
	}
	return tx.exec(ctx, `DELETE FROM fallback_keys WHERE device = $1`, holder)
}

// KeyClaim asks for a key of a device.
type KeyClaim struct{ UserID, DeviceID, Algorithm string }

// ClaimKeys gives out a key for each claim: the oldest one-time key, which nobody gets
// again, or else the fallback key. A claim for which there is none has none in the answer.
// now is in ms.
func (tx *Tx) ClaimKeys(ctx context.Context, claims []KeyClaim, now int64) (map[KeyClaim]OneTimeKey, error) {
	holders, err := tx.lockClaimed(ctx, claims)
	if err != nil || len(holders) == 0 {
		return nil, err
	}
	byAlgorithm := map[string]Ints{}
	for claim, holder := range holders {
		byAlgorithm[claim.Algorithm] = append(byAlgorithm[claim.Algorithm], holder)
	}
	claimed := make(map[KeyClaim]OneTimeKey, len(holders))
	var changed []int64
	for algorithm, wanted := range byAlgorithm {
		given, taken, err := tx.claim(ctx, algorithm, wanted, now)
		if err != nil {
			return nil, err
		}
		changed = append(changed, taken...)
		for claim, holder := range holders {
			if key, ok := given[holder]; ok && claim.Algorithm == algorithm {
				claimed[claim] = key
			}
		}
	}
	if len(changed) > 0 {
		_, err = tx.PublishKeyCounts(ctx, changed)
	}
	return claimed, err
}

// lockClaimed finds the rows of the devices that have keys, and locks them.
func (tx *Tx) lockClaimed(ctx context.Context, claims []KeyClaim) (map[KeyClaim]int64, error) {
	type device struct{ userID, deviceID string }
	var userIDs, deviceIDs List
	for _, c := range claims {
		userIDs, deviceIDs = append(userIDs, c.UserID), append(deviceIDs, c.DeviceID)
	}
	ids := map[device]int64{}
	err := tx.each(ctx, `SELECT id, user_id, device_id FROM device_keys WHERE user_id = ANY($1) AND device_id = ANY($2)`, func(row scanner) error {
		var id int64
		var d device
		err := row.Scan(&id, &d.userID, &d.deviceID)
		ids[d] = id
		return err
	}, userIDs, deviceIDs)
	if err != nil {
		return nil, err
	}
	holders := make(map[KeyClaim]int64, len(claims))
	var wanted Ints
	for _, c := range claims {
		if id := ids[device{c.UserID, c.DeviceID}]; id != 0 {
			holders[c] = id
			wanted = append(wanted, id)
		}
	}
	slices.Sort(wanted)
	return holders, tx.exec(ctx, `UPDATE device_keys SET counted = counted WHERE id = ANY($1)`, wanted)
}

// claim gives out keys of one algorithm, by device. Taken are the devices that have to hear
// of it.
func (tx *Tx) claim(ctx context.Context, algorithm string, holders Ints, now int64) (given map[int64]OneTimeKey, taken []int64, err error) {
	given = make(map[int64]OneTimeKey, len(holders))
	var used Ints
	err = tx.each(ctx, `SELECT o.id, o.device, o.key_id, o.key FROM device_keys d JOIN one_time_keys o ON o.id =
			(SELECT n.id FROM one_time_keys n WHERE n.device = d.id AND n.algorithm = $2 AND n.claimed_ts = 0 ORDER BY n.id LIMIT 1)
		WHERE d.id = ANY($1)`, func(row scanner) error {
		var id, holder int64
		key := OneTimeKey{Algorithm: algorithm}
		err := row.Scan(&id, &holder, &key.ID, (*[]byte)(&key.Key))
		given[holder] = key
		used, taken = append(used, id), append(taken, holder)
		return err
	}, holders, algorithm)
	if err != nil {
		return nil, nil, err
	}
	if err := tx.exec(ctx, `UPDATE one_time_keys SET key = '', claimed_ts = $1 WHERE id = ANY($2)`, now, used); err != nil {
		return nil, nil, err
	}
	var left Ints
	for _, holder := range holders {
		if _, ok := given[holder]; !ok {
			left = append(left, holder)
		}
	}
	if len(left) == 0 {
		return given, taken, nil
	}
	first, err := tx.claimFallback(ctx, algorithm, left, given)
	return given, append(taken, first...), err
}

// claimFallback adds fallback keys to those that are given out. It gives the devices whose
// key is used for the first time.
func (tx *Tx) claimFallback(ctx context.Context, algorithm string, holders Ints, given map[int64]OneTimeKey) (first Ints, err error) {
	err = tx.each(ctx, `SELECT device, key_id, key, used FROM fallback_keys WHERE device = ANY($1) AND algorithm = $2`, func(row scanner) error {
		var holder int64
		var used bool
		key := OneTimeKey{Algorithm: algorithm}
		err := row.Scan(&holder, &key.ID, (*[]byte)(&key.Key), &used)
		given[holder] = key
		if !used {
			first = append(first, holder)
		}
		return err
	}, holders, algorithm)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	return first, tx.exec(ctx, `UPDATE fallback_keys SET used = TRUE WHERE device = ANY($1) AND algorithm = $2`, first, algorithm)
}

// ForgetClaimedKeys forgets at most limit of the one-time keys that were given out before a
// time (ms), the oldest first, and tells how many.
func (tx *Tx) ForgetClaimedKeys(ctx context.Context, before int64, limit int) (int64, error) {
	return tx.execCount(ctx, `DELETE FROM one_time_keys WHERE id IN (
		SELECT id FROM one_time_keys WHERE claimed_ts > 0 AND claimed_ts < $1 ORDER BY claimed_ts LIMIT $2)`, before, limit)
}
