package storage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"beep/stream"
)

// AccountData is one type of a user's account data.
type AccountData struct {
	UserID  string
	Room    int64 // 0: of the account
	Type    string
	Content json.RawMessage // a JSON object
	Pos     stream.Pos      // of the last change
}

const accountDataSelect = `SELECT user_id, room, type, content, pos FROM account_data `

func scanAccountData(row scanner, d *AccountData) error {
	var content string
	err := row.Scan(&d.UserID, &d.Room, &d.Type, &content, &d.Pos)
	d.Content = json.RawMessage(content)
	return err
}

// AccountData finds one type of account data; room is 0 for that of the account.
func (q *Reader) AccountData(ctx context.Context, userID string, room int64, dataType string) (AccountData, error) {
	return selectOne(ctx, q, accountDataSelect+`WHERE user_id = $1 AND room = $2 AND type = $3`,
		scanAccountData, userID, room, dataType)
}

// AccountDataAll is all account data of the user, of the account and of all rooms.
func (q *Reader) AccountDataAll(ctx context.Context, userID string) ([]AccountData, error) {
	return selectAll(ctx, q, accountDataSelect+`WHERE user_id = $1 ORDER BY pos`, scanAccountData, userID)
}

// AccountDataOf are these types of the user's account data of the account, less those that
// there are not.
func (q *Reader) AccountDataOf(ctx context.Context, userID string, types []string) ([]AccountData, error) {
	return selectAll(ctx, q, accountDataSelect+`WHERE user_id = $1 AND room = 0 AND type = ANY($2)`, scanAccountData, userID, List(types))
}

// AccountDataIn is all account data of the user of these rooms, 0 for the account.
func (q *Reader) AccountDataIn(ctx context.Context, userID string, rooms []int64) ([]AccountData, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, accountDataSelect+`WHERE user_id = $1 AND room = ANY($2) ORDER BY pos`, scanAccountData, userID, Ints(rooms))
}

// Tags are the user's tags of all rooms, by room.
func (q *Reader) Tags(ctx context.Context, userID string) (map[int64][]string, error) {
	rows, err := selectAll(ctx, q, accountDataSelect+`WHERE user_id = $1 AND type = 'm.tag'`, scanAccountData, userID)
	tags := make(map[int64][]string, len(rows))
	for _, d := range rows {
		var content struct {
			Tags map[string]json.RawMessage `json:"tags"`
		}
		if json.Unmarshal(d.Content, &content) == nil { // what is malformed has no tags
			tags[d.Room] = slices.Collect(maps.Keys(content.Tags))
		}
	}
	return tags, err
}

// AccountDataSince is the account data of the user that changed last with
// after < pos <= upTo, in order.
func (q *Reader) AccountDataSince(ctx context.Context, userID string, after, upTo stream.Pos) ([]AccountData, error) {
	return selectAll(ctx, q, accountDataSelect+`WHERE user_id = $1 AND pos > $2 AND pos <= $3 ORDER BY pos`,
		scanAccountData, userID, after, upTo)
}

// AccountDataSize is how many bytes all account data of the user has.
func (q *Reader) AccountDataSize(ctx context.Context, userID string) (int64, error) {
	return selectOne(ctx, q, `SELECT COALESCE(SUM(OCTET_LENGTH(content) + OCTET_LENGTH(type)), 0) FROM account_data
		WHERE user_id = $1`, scanValue[int64], userID)
}

// PutAccountData sets account data and publishes it. Room is 0 for that of the account.
func (tx *Tx) PutAccountData(ctx context.Context, userID string, room int64, dataType string, content json.RawMessage) error {
	return tx.UpdateAccountData(ctx, userID, room, dataType, func(json.RawMessage) (json.RawMessage, error) {
		return content, nil
	})
}

// UpdateAccountData sets account data to what fn makes of it, and publishes it;
// no other update comes between. Fn gets nil when there is none yet, and gives nil
// to change nothing.
func (tx *Tx) UpdateAccountData(ctx context.Context, userID string, room int64, dataType string,
	fn func(old json.RawMessage) (json.RawMessage, error)) error {
	// The row is locked first and gets its position then: of two updates the one
	// that stays is the one with the later position.
	before, err := selectOne(ctx, &tx.Reader, `INSERT INTO account_data (user_id, room, type, content, pos)
		VALUES ($1, $2, $3, '', 0) ON CONFLICT (user_id, room, type) DO UPDATE SET pos = account_data.pos
		RETURNING user_id, room, type, content, pos`, scanAccountData, userID, room, dataType)
	if err != nil {
		return err
	}
	var old json.RawMessage
	if before.Pos != 0 {
		old = before.Content
	}
	content, err := fn(old)
	if err != nil {
		return err
	}
	if content == nil {
		return tx.exec(ctx, `DELETE FROM account_data WHERE user_id = $1 AND room = $2 AND type = $3 AND pos = 0`,
			userID, room, dataType)
	}
	d := AccountData{UserID: userID, Room: room, Type: dataType, Content: content, Pos: tx.Reserve()}
	err = tx.exec(ctx, `UPDATE account_data SET content = $1, pos = $2 WHERE user_id = $3 AND room = $4 AND type = $5`,
		string(content), d.Pos, userID, room, dataType)
	if err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: d.Pos, Kind: stream.AccountData, Room: room, User: userID, Value: d, Size: len(content)})
	return nil
}

// DeleteAccountData removes all account data of the user.
func (tx *Tx) DeleteAccountData(ctx context.Context, userID string) error {
	return tx.exec(ctx, `DELETE FROM account_data WHERE user_id = $1`, userID)
}
