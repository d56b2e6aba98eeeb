package storage

import (
	"context"

	"beep/stream"
)

// Presence is what others are told of a user (client-server API, "Presence").
type Presence struct {
	UserID     string
	State      string // online, unavailable or offline
	StatusMsg  string // "" for none
	LastActive int64  // ms; 0: never
	Pos        stream.Pos
}

const presenceSelect = `SELECT user_id, presence, status_msg, last_active_ts, pos FROM presence `

func scanPresence(row scanner, p *Presence) error {
	return row.Scan(&p.UserID, &p.State, &p.StatusMsg, &p.LastActive, &p.Pos)
}

// PresenceOf is the last presence of those of the users who ever had one, in no order.
func (q *Reader) PresenceOf(ctx context.Context, userIDs []string) ([]Presence, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, presenceSelect+`WHERE user_id = ANY($1)`, scanPresence, List(userIDs))
}

// PresenceSince is the presence of those of the users for whom it changed last with
// after < pos <= upTo, in order.
func (q *Reader) PresenceSince(ctx context.Context, userIDs []string, after, upTo stream.Pos) ([]Presence, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, presenceSelect+`WHERE user_id = ANY($1) AND pos > $2 AND pos <= $3 ORDER BY pos`,
		scanPresence, List(userIDs), after, upTo)
}

// PresentUsers are at most limit users who are not offline and whose id comes after
// the given one, in order.
func (q *Reader) PresentUsers(ctx context.Context, after string, limit int) ([]Presence, error) {
	return selectAll(ctx, q, presenceSelect+`WHERE presence <> 'offline' AND user_id > $1 ORDER BY user_id LIMIT $2`,
		scanPresence, after, limit)
}

// RoomPresence is the presence of a user who is joined to a room.
type RoomPresence struct {
	Room int64
	Presence
}

// PresentIn are at most limit users of the server who are joined to the rooms and not
// offline, those who came online last first.
func (q *Reader) PresentIn(ctx context.Context, server string, rooms []int64, limit int) ([]RoomPresence, error) {
	return selectAll(ctx, q, `SELECT c.room, p.user_id, p.presence, p.status_msg, p.last_active_ts, p.pos FROM current_state c
		JOIN presence p ON p.user_id = c.state_key AND p.presence <> 'offline'
		WHERE c.room = ANY($1) AND c.type = 'm.room.member' AND c.membership = 'join' AND c.pos <> 0
			AND substr(c.state_key, length(c.state_key) - length($2) + 1) = $2
		ORDER BY p.pos DESC LIMIT $3`,
		func(row scanner, p *RoomPresence) error {
			return row.Scan(&p.Room, &p.UserID, &p.State, &p.StatusMsg, &p.LastActive, &p.Pos)
		}, Ints(rooms), ":"+server, limit)
}

// PutPresence sets a user's presence and publishes it; with keepMessage the status
// message stays what it is. The Pos of p is not looked at. One goroutine at a time
// may do so for a user.
func (tx *Tx) PutPresence(ctx context.Context, p Presence, keepMessage bool) (err error) {
	p.Pos = tx.Reserve()
	p.StatusMsg, err = selectOne(ctx, &tx.Reader, `INSERT INTO presence (user_id, presence, status_msg, last_active_ts, pos)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id) DO UPDATE SET presence = excluded.presence,
			status_msg = CASE WHEN $6 THEN presence.status_msg ELSE excluded.status_msg END,
			last_active_ts = excluded.last_active_ts, pos = excluded.pos
		RETURNING status_msg`, scanValue[string], p.UserID, p.State, p.StatusMsg, p.LastActive, p.Pos, keepMessage)
	if err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: p.Pos, Kind: stream.Presence, User: p.UserID, Value: p, Size: len(p.StatusMsg)})
	return nil
}
