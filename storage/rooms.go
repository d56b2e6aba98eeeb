package storage

import (
	"context"
	"encoding/json"

	"beep/matrix"
	"beep/stream"
)

// Room is a room's row: what joins, sends and summaries need of it.
type Room struct {
	Number      int64
	ID          string
	Version     matrix.RoomVersion
	Extremities []string   // ids of the events that no event follows yet
	Depth       int64      // the greatest depth among them
	State       int64      // the current state
	Joined      int64      // how many members are joined
	Invited     int64      // and how many are invited
	Published   bool       // it stands in the room directory
	Resident    bool       // this server takes part; else it has but invites and knocks there
	Whole       stream.Pos // since when all of the state is known; 0: always; NotYet: it is partial
}

const roomColumns = `r.nid, r.room_id, r.version, r.extremities, r.depth, r.state, r.joined, r.invited, r.published, r.resident, r.whole`

func scanRoom(row scanner, r *Room) error {
	var extremities string
	var published, resident int64
	err := row.Scan(&r.Number, &r.ID, &r.Version, &extremities, &r.Depth, &r.State, &r.Joined, &r.Invited, &published, &resident, &r.Whole)
	if err != nil {
		return err
	}
	r.Published, r.Resident = published != 0, resident != 0
	return json.Unmarshal([]byte(extremities), &r.Extremities)
}

// RoomByID finds a room.
func (q *Reader) RoomByID(ctx context.Context, roomID string) (Room, error) {
	return selectOne(ctx, q, `SELECT `+roomColumns+` FROM rooms r WHERE r.room_id = $1`, scanRoom, roomID)
}

// Rooms finds rooms by number, in no order.
func (q *Reader) Rooms(ctx context.Context, numbers []int64) ([]Room, error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+roomColumns+` FROM rooms r WHERE r.nid = ANY($1)`, scanRoom, Ints(numbers))
}

// InsertRoom makes a room's row. [ErrExists]: its id is taken.
func (tx *Tx) InsertRoom(ctx context.Context, r *Room) error {
	return tx.exec(ctx, `INSERT INTO rooms (nid, room_id, version) VALUES ($1, $2, $3)`, r.Number, r.ID, r.Version)
}

// UpdateRoom writes what a new event changes of the room: extremities, depth,
// state, the counts of members, whether this server takes part, and since when the state
// is whole.
func (tx *Tx) UpdateRoom(ctx context.Context, r *Room) error {
	extremities, err := json.Marshal(r.Extremities)
	if err != nil {
		return err
	}
	return tx.exec(ctx, `UPDATE rooms SET extremities = $1, depth = $2, state = $3, joined = $4, invited = $5, resident = $6, whole = $7 WHERE nid = $8`,
		string(extremities), r.Depth, r.State, r.Joined, r.Invited, number(r.Resident), r.Whole, r.Number)
}

// PublishRoom puts the room into the room directory or takes it out.
func (tx *Tx) PublishRoom(ctx context.Context, room int64, published bool) error {
	return tx.exec(ctx, `UPDATE rooms SET published = $1 WHERE nid = $2`, number(published), room)
}

// number is a truth value as a BIGINT column has it.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// StateRow is a stored state of a room: packed changes to its parent.
type StateRow struct {
	ID     int64
	Room   int64
	Parent int64
	Layer  int
	Delta  []byte
}

// States finds stored states, in no order.
func (q *Reader) States(ctx context.Context, ids []int64) ([]StateRow, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT id, room, parent, layer, delta FROM states WHERE id = ANY($1)`,
		func(row scanner, s *StateRow) error { return row.Scan(&s.ID, &s.Room, &s.Parent, &s.Layer, &s.Delta) }, Ints(ids))
}

// InsertState stores a state.
func (tx *Tx) InsertState(ctx context.Context, s *StateRow) error {
	return tx.exec(ctx, `INSERT INTO states (id, room, parent, layer, delta) VALUES ($1, $2, $3, $4, $5)`,
		s.ID, s.Room, s.Parent, s.Layer, s.Delta)
}

// StateKey is a type and key that a room's state has or had.
type StateKey struct {
	Key        int64 // its number in packed states
	Type       string
	StateKey   string
	Pos        stream.Pos // of the current event; 0 when there is none now
	Changed    stream.Pos // when it became so; for SetCurrentState only
	Membership string     // of m.room.member
}

// SetCurrentState makes the event at k.Pos, or with 0 none, the room's current
// state of its type and key.
func (tx *Tx) SetCurrentState(ctx context.Context, room int64, k StateKey) error {
	return tx.exec(ctx, setCurrentState, k.row(room)...)
}

const setCurrentState = `INSERT INTO current_state (room, type, state_key, key, pos, changed, membership)
	VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (room, type, state_key)
	DO UPDATE SET pos = excluded.pos, changed = excluded.changed, membership = excluded.membership`

func (k *StateKey) row(room int64) []any {
	var membership any
	if k.Membership != "" {
		membership = k.Membership
	}
	return []any{room, k.Type, k.StateKey, k.Key, k.Pos, k.Changed, membership}
}

// SetCurrentStates is SetCurrentState for many, no two of one type and key.
func (tx *Tx) SetCurrentStates(ctx context.Context, room int64, keys []StateKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = k.row(room)
	}
	return tx.execEach(ctx, setCurrentState, rows)
}

// CurrentStateKeys are the numbers of the types and keys that the room's current state has.
func (q *Reader) CurrentStateKeys(ctx context.Context, room int64) ([]int64, error) {
	return selectAll(ctx, q, `SELECT key FROM current_state WHERE room = $1 AND pos <> 0`, scanValue[int64], room)
}

const stateTables = ` FROM current_state c JOIN events e ON e.pos = c.pos JOIN rooms r ON r.nid = c.room `

// StateEntry is an event of the current state with its number in packed states.
type StateEntry struct {
	Event
	Key int64
}

func scanStateEntry(row scanner, s *StateEntry) error { return scanEventAnd(row, &s.Event, &s.Key) }

// CurrentState is the whole current state of the room, in no order.
func (q *Reader) CurrentState(ctx context.Context, room int64) ([]StateEntry, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+`, c.key`+stateTables+`WHERE c.room = $1`, scanStateEntry, room)
}

// CurrentStateOfType are the room's current events of one type, in no order.
func (q *Reader) CurrentStateOfType(ctx context.Context, room int64, eventType string) ([]StateEntry, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+`, c.key`+stateTables+`WHERE c.room = $1 AND c.type = $2`,
		scanStateEntry, room, eventType)
}

// CurrentStateEvent is the room's current event of this type and key.
// [ErrNotFound]: the state has none.
func (q *Reader) CurrentStateEvent(ctx context.Context, room int64, eventType, stateKey string) (StateEntry, error) {
	return selectOne(ctx, q, `SELECT `+eventColumns+`, c.key`+stateTables+
		`WHERE c.room = $1 AND c.type = $2 AND c.state_key = $3`, scanStateEntry, room, eventType, stateKey)
}

// CurrentMembers are the current member events of the users in the room.
func (q *Reader) CurrentMembers(ctx context.Context, room int64, userIDs []string) ([]StateEntry, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+`, c.key`+stateTables+
		`WHERE c.room = $1 AND c.type = 'm.room.member' AND c.state_key = ANY($2)`, scanStateEntry, room, List(userIDs))
}

// StateKeyByName finds the number of a type and key in the room's packed states.
// [ErrNotFound]: the room's state never had it.
func (q *Reader) StateKeyByName(ctx context.Context, room int64, eventType, stateKey string) (StateKey, error) {
	return selectOne(ctx, q, `SELECT key, type, state_key, pos, COALESCE(membership, '') FROM current_state
		WHERE room = $1 AND type = $2 AND state_key = $3`, scanStateKey, room, eventType, stateKey)
}

// StateKeysByName finds the numbers of one type's keys in several rooms; the
// result is by room.
func (q *Reader) StateKeysByName(ctx context.Context, rooms []int64, eventType string, stateKeys []string) (map[int64][]StateKey, error) {
	type row struct {
		room int64
		StateKey
	}
	rows, err := selectAll(ctx, q, `SELECT room, key, type, state_key, pos, COALESCE(membership, '') FROM current_state
		WHERE room = ANY($1) AND type = $2 AND state_key = ANY($3)`, func(s scanner, r *row) error {
		return s.Scan(&r.room, &r.Key, &r.Type, &r.StateKey.StateKey, &r.Pos, &r.Membership)
	}, Ints(rooms), eventType, List(stateKeys))
	if err != nil {
		return nil, err
	}
	found := make(map[int64][]StateKey, len(rooms))
	for _, r := range rows {
		found[r.room] = append(found[r.room], r.StateKey)
	}
	return found, nil
}

// StateKeysAmong are the numbers of the room's types and keys among these types and
// these keys, more than asked for where the pairs do not match.
func (q *Reader) StateKeysAmong(ctx context.Context, room int64, types, stateKeys []string) ([]StateKey, error) {
	if len(types) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT key, type, state_key, pos, COALESCE(membership, '') FROM current_state
		WHERE room = $1 AND type = ANY($2) AND state_key = ANY($3)`, scanStateKey, room, List(types), List(stateKeys))
}

// GoneStateKeys are the types and keys that the room's state had and has no more, or
// that only events outside of its state have.
func (q *Reader) GoneStateKeys(ctx context.Context, room int64) ([]StateKey, error) {
	return selectAll(ctx, q, `SELECT key, type, state_key, pos, COALESCE(membership, '') FROM current_state
		WHERE room = $1 AND pos = 0`, scanStateKey, room)
}

func scanStateKey(row scanner, k *StateKey) error {
	return row.Scan(&k.Key, &k.Type, &k.StateKey, &k.Pos, &k.Membership)
}

// Membership is a user's place in a room.
type Membership struct {
	Room       int64
	RoomID     string
	UserID     string
	Membership string     // join, invite, leave, ban, knock
	Pos        stream.Pos // of the member event
	At         stream.Pos // when that became state
	Forgotten  bool       // the user wants to hear no more of it
	Whole      stream.Pos // [Room.Whole]
}

const membershipSelect = `SELECT c.room, r.room_id, c.state_key, c.membership, c.pos, c.changed, CASE WHEN f.pos IS NULL THEN 0 ELSE 1 END, r.whole
	FROM current_state c JOIN rooms r ON r.nid = c.room
	LEFT JOIN forgotten_rooms f ON f.room = c.room AND f.user_id = c.state_key AND f.pos >= c.pos
	WHERE c.type = 'm.room.member' AND c.pos <> 0 `

func scanMembership(row scanner, m *Membership) error {
	var forgotten int64
	err := row.Scan(&m.Room, &m.RoomID, &m.UserID, &m.Membership, &m.Pos, &m.At, &forgotten, &m.Whole)
	m.Forgotten = forgotten != 0
	return err
}

// Memberships are all rooms that the user is or was in, or is invited to.
func (q *Reader) Memberships(ctx context.Context, userID string) ([]Membership, error) {
	return selectAll(ctx, q, membershipSelect+`AND c.state_key = $1`, scanMembership, userID)
}

// MembershipIn is the user's place in one room. [ErrNotFound]: none ever.
func (q *Reader) MembershipIn(ctx context.Context, room int64, userID string) (Membership, error) {
	return selectOne(ctx, q, membershipSelect+`AND c.room = $1 AND c.state_key = $2`, scanMembership, room, userID)
}

// Members are the users with one of the memberships in the room, by position.
func (q *Reader) Members(ctx context.Context, room int64, memberships []string) ([]Membership, error) {
	return selectAll(ctx, q, membershipSelect+`AND c.room = $1 AND c.membership = ANY($2) ORDER BY c.pos`,
		scanMembership, room, List(memberships))
}

// GuestsIn are the guests of this server who are joined to the room.
func (q *Reader) GuestsIn(ctx context.Context, room int64) ([]string, error) {
	return selectAll(ctx, q, `SELECT u.user_id FROM current_state c JOIN users u ON u.user_id = c.state_key
		WHERE c.room = $1 AND c.type = 'm.room.member' AND c.membership = 'join' AND u.guest`, scanValue[string], room)
}

// ShareRoom tells whether two users are joined to one same room.
func (q *Reader) ShareRoom(ctx context.Context, a, b string) (bool, error) {
	return selectOne(ctx, q, `SELECT EXISTS (SELECT 1 FROM current_state x JOIN current_state y ON y.room = x.room
			AND y.type = 'm.room.member' AND y.state_key = $2 AND y.membership = 'join'
		WHERE x.type = 'm.room.member' AND x.state_key = $1 AND x.membership = 'join')`,
		scanValue[bool], a, b)
}

// SetStrippedState keeps the stripped state of a user's latest invite or knock,
// a JSON list.
func (tx *Tx) SetStrippedState(ctx context.Context, room int64, userID string, state []byte) error {
	return tx.exec(ctx, `INSERT INTO stripped_state (room, user_id, state) VALUES ($1, $2, $3)
		ON CONFLICT (room, user_id) DO UPDATE SET state = excluded.state`, room, userID, string(state))
}

// StrippedState is the stripped state of the user's invites and knocks, by room.
func (q *Reader) StrippedState(ctx context.Context, userID string, rooms []int64) (map[int64]json.RawMessage, error) {
	type row struct {
		room  int64
		state string
	}
	found := make(map[int64]json.RawMessage, len(rooms))
	if len(rooms) == 0 {
		return found, nil
	}
	rows, err := selectAll(ctx, q, `SELECT room, state FROM stripped_state WHERE user_id = $1 AND room = ANY($2)`,
		func(s scanner, r *row) error { return s.Scan(&r.room, &r.state) }, userID, Ints(rooms))
	for _, r := range rows {
		found[r.room] = json.RawMessage(r.state)
	}
	return found, err
}

// ForgetRoom marks the room as forgotten by the user, until the user's next
// member event.
func (tx *Tx) ForgetRoom(ctx context.Context, userID string, room int64, pos stream.Pos) error {
	return tx.exec(ctx, `INSERT INTO forgotten_rooms (user_id, room, pos) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, room) DO UPDATE SET pos = excluded.pos`, userID, room, pos)
}

// Alias is a room alias of this server.
type Alias struct {
	Alias   string
	Room    int64
	RoomID  string
	Creator string
}

const aliasSelect = `SELECT a.alias, a.room, r.room_id, a.creator FROM room_aliases a JOIN rooms r ON r.nid = a.room `

func scanAlias(row scanner, a *Alias) error {
	return row.Scan(&a.Alias, &a.Room, &a.RoomID, &a.Creator)
}

// AliasByName finds an alias.
func (q *Reader) AliasByName(ctx context.Context, alias string) (Alias, error) {
	return selectOne(ctx, q, aliasSelect+`WHERE a.alias = $1`, scanAlias, alias)
}

// AliasesOf are the aliases of a room, in order of name.
func (q *Reader) AliasesOf(ctx context.Context, room int64) ([]Alias, error) {
	return selectAll(ctx, q, aliasSelect+`WHERE a.room = $1 ORDER BY a.alias`, scanAlias, room)
}

// InsertAlias makes an alias. [ErrExists]: it is taken.
func (tx *Tx) InsertAlias(ctx context.Context, a Alias) error {
	return tx.exec(ctx, `INSERT INTO room_aliases (alias, room, creator) VALUES ($1, $2, $3)`, a.Alias, a.Room, a.Creator)
}

// DeleteAlias removes an alias. [ErrNotFound]: there is none.
func (tx *Tx) DeleteAlias(ctx context.Context, alias string) error {
	n, err := tx.execCount(ctx, `DELETE FROM room_aliases WHERE alias = $1`, alias)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
