package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// StateDraft is a state event of a room in the making.
type StateDraft struct {
	Type     string
	StateKey string
	Content  json.RawMessage
}

// RoomDraft is what a client asks of a new room (POST /createRoom).
type RoomDraft struct {
	Creator             string
	Version             matrix.RoomVersion // "" for the server's default
	Preset              string             // private_chat, public_chat, trusted_private_chat; "" follows Published
	Published           bool               // visibility public: it stands in the room directory
	AliasName           string             // localpart of an alias; "" for none
	Name, Topic         string
	Invite              []string
	InviteAddresses     []AddressInvite // their UserID and Direct are the room's
	IsDirect            bool
	CreationContent     map[string]json.RawMessage
	InitialState        []StateDraft
	PowerLevelsOverride map[string]json.RawMessage
}

// preset is what a preset sets (client-server API, "createRoom").
type preset struct {
	joinRule, historyVisibility, guestAccess string
	inviteLevel                              int64
	trusted                                  bool // invited users get the creator's power
}

var presets = map[string]preset{
	"private_chat":         {"invite", "shared", "can_join", 0, false},
	"trusted_private_chat": {"invite", "shared", "can_join", 0, true},
	"public_chat":          {"public", "shared", "forbidden", 50, false},
}

// lastCreate makes the times of create events differ: the id of a room of version
// 12 is the hash of its create event, and two rooms must not have one id.
type lastCreate struct {
	mu sync.Mutex
	ms int64
}

func (l *lastCreate) next() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ms = max(nowMS(), l.ms+1)
	return l.ms
}

// Create makes a room and gives its id. Either all of its first events are
// stored or none.
func (r *Rooms) Create(ctx context.Context, d RoomDraft) (string, error) {
	if d.Version == "" {
		d.Version = r.defaultVersion
	}
	if !d.Version.Supported() {
		return "", matrix.UnsupportedRoomVersion
	}
	rules, err := d.preset()
	if err != nil {
		return "", err
	}
	d.Invite = unique(d.Invite, d.Creator)
	for _, userID := range d.Invite {
		if err := r.checkInvitee(ctx, userID); err != nil {
			return "", err
		}
	}
	for i := range d.InviteAddresses {
		if err := r.checkAddress(&d.InviteAddresses[i]); err != nil {
			return "", err
		}
	}
	alias, err := r.newRoomAlias(ctx, d.AliasName)
	if err != nil {
		return "", err
	}
	b := r.beginNew(d.Version)
	if err := b.create(ctx, d, rules, alias); err != nil {
		return "", err
	}
	err = b.commit(ctx, func(tx *storage.Tx, room int64) error {
		if d.Published {
			if err := tx.PublishRoom(ctx, room, true); err != nil {
				return err
			}
		}
		if alias == "" {
			return nil
		}
		return tx.InsertAlias(ctx, storage.Alias{Alias: alias, Room: room, Creator: d.Creator})
	})
	if errors.Is(err, storage.ErrExists) {
		return "", matrix.RoomInUse.Because(err)
	}
	if err != nil {
		return "", err
	}
	r.inviteOthers(ctx, b.room.ID, &d)
	r.inviteAddresses(ctx, b.room.ID, &d)
	return b.room.ID, nil
}

// inviteOthers invites the users of other servers to a room that was just made. The room
// is there whether they can be reached or not: the creator may invite them again.
func (r *Rooms) inviteOthers(ctx context.Context, roomID string, d *RoomDraft) {
	for _, userID := range d.Invite {
		if r.local(userID) {
			continue
		}
		if err := r.inviteRemote(ctx, roomID, MemberChange{Sender: d.Creator, Target: userID, Direct: d.IsDirect}); err != nil {
			r.log.Warn("a user of another server could not be invited", "room", roomID, "user", userID, "error", err)
		}
	}
}

func (d *RoomDraft) preset() (preset, error) {
	name := d.Preset
	if name == "" {
		name = "private_chat"
		if d.Published {
			name = "public_chat"
		}
	}
	p, ok := presets[name]
	if !ok {
		return p, matrix.InvalidParam.Withf("preset: there is no preset %q", name)
	}
	return p, nil
}

// unique leaves out repetitions and one user.
func unique(users []string, without string) []string {
	var kept []string
	for _, u := range users {
		if u != without && !slices.Contains(kept, u) {
			kept = append(kept, u)
		}
	}
	return kept
}

// create adds the room's first events in the order of the specification.
func (b *batch) create(ctx context.Context, d RoomDraft, rules preset, alias string) error {
	content, err := d.createContent(rules)
	if err != nil {
		return err
	}
	if !d.Version.CreateWithoutRoom() {
		b.room.ID = matrix.NewRoomID(b.rooms.signer.ServerName)
	}
	empty := ""
	create, err := b.add(ctx, Draft{Type: "m.room.create", StateKey: &empty, Sender: d.Creator, Content: content,
		OriginServerTS: b.rooms.lastCreate.next()})
	if err != nil {
		return invalidState(err)
	}
	b.room.ID = create.RoomID
	member, err := b.rooms.memberContent(ctx, "join", MemberChange{Target: d.Creator})
	if err != nil {
		return err
	}
	if err := b.addMember(ctx, MemberChange{Sender: d.Creator, Target: d.Creator}, member, nil); err != nil {
		return err
	}
	states, err := d.firstState(create, rules, alias)
	if err != nil {
		return err
	}
	for _, s := range states {
		if s.Type == "m.room.create" || s.Type == "m.room.member" {
			return matrix.InvalidRoomState.Withf("initial_state must not hold %s", s.Type)
		}
		if s.Type == "m.room.power_levels" {
			if err := checkPowerLevels(d.Version, s.Content); err != nil {
				return err
			}
		}
		if _, err := b.add(ctx, Draft{Type: s.Type, StateKey: &s.StateKey, Sender: d.Creator, Content: s.Content}); err != nil {
			return invalidState(err)
		}
	}
	for _, userID := range d.Invite {
		if !b.rooms.local(userID) {
			continue // another server has to sign that invite, when there is a room
		}
		if err := b.invite(ctx, MemberChange{Sender: d.Creator, Target: userID, Direct: d.IsDirect}); err != nil {
			return err
		}
	}
	return nil
}

// invalidState is the error of a room whose first state its own rules refuse.
func invalidState(err error) error {
	if errors.Is(err, matrix.Forbidden) {
		return matrix.InvalidRoomState.With(err.(*matrix.Error).Message)
	}
	return err
}

func (d *RoomDraft) createContent(rules preset) (json.RawMessage, error) {
	content := map[string]json.RawMessage{}
	for key, value := range d.CreationContent {
		content[key] = value
	}
	content["room_version"] = quote(string(d.Version))
	delete(content, "creator")
	if d.Version.CreatorInContent() {
		content["creator"] = quote(d.Creator)
	}
	if !d.Version.PrivilegedCreators() {
		return json.Marshal(content)
	}
	var additional []string
	if raw, ok := content["additional_creators"]; ok {
		if err := json.Unmarshal(raw, &additional); err != nil {
			return nil, matrix.InvalidParam.With("creation_content.additional_creators must be a list of user ids")
		}
	}
	if rules.trusted {
		additional = append(additional, d.Invite...)
	}
	additional = unique(additional, d.Creator)
	for _, userID := range additional {
		if !matrix.ValidUserID(userID) {
			return nil, matrix.InvalidParam.Withf("creation_content.additional_creators: %q is not a user id", userID)
		}
	}
	delete(content, "additional_creators")
	if len(additional) > 0 {
		raw, err := json.Marshal(additional)
		if err != nil {
			return nil, err
		}
		content["additional_creators"] = raw
	}
	return json.Marshal(content)
}

// firstState are the state events after the creator's join: power levels, alias,
// those of the preset that initial_state does not set, initial_state, name, topic.
func (d *RoomDraft) firstState(create *matrix.Event, rules preset, alias string) ([]StateDraft, error) {
	levels, err := d.powerLevels(create, rules)
	if err != nil {
		return nil, err
	}
	states := []StateDraft{{Type: "m.room.power_levels", Content: levels}}
	if alias != "" {
		states = append(states, StateDraft{Type: "m.room.canonical_alias", Content: object("alias", alias)})
	}
	for _, s := range []StateDraft{
		{Type: "m.room.join_rules", Content: object("join_rule", rules.joinRule)},
		{Type: "m.room.history_visibility", Content: object("history_visibility", rules.historyVisibility)},
		{Type: "m.room.guest_access", Content: object("guest_access", rules.guestAccess)},
	} {
		if s.Type == "m.room.guest_access" && rules.guestAccess == "forbidden" {
			continue // what a room without the event has
		}
		if !slices.ContainsFunc(d.InitialState, func(i StateDraft) bool { return i.Type == s.Type && i.StateKey == "" }) {
			states = append(states, s)
		}
	}
	states = append(states, d.InitialState...)
	if d.Name != "" {
		states = append(states, StateDraft{Type: "m.room.name", Content: object("name", d.Name)})
	}
	if d.Topic != "" {
		content, err := json.Marshal(map[string]any{"topic": d.Topic,
			"m.topic": map[string]any{"m.text": []any{map[string]string{"body": d.Topic}}}})
		if err != nil {
			return nil, err
		}
		states = append(states, StateDraft{Type: "m.room.topic", Content: content})
	}
	return states, nil
}

func object(key, value string) json.RawMessage {
	return append(matrix.AppendString(append(matrix.AppendString([]byte{'{'}, key), ':'), value), '}')
}

func (d *RoomDraft) powerLevels(create *matrix.Event, rules preset) (json.RawMessage, error) {
	users := map[string]int64{}
	tombstone := 100
	if d.Version.PrivilegedCreators() {
		tombstone = 150 // above the admins, who are at 100: an upgrade makes new creators
	} else {
		users[d.Creator] = 100
		if rules.trusted {
			for _, userID := range d.Invite {
				users[userID] = 100
			}
		}
	}
	levels := map[string]any{
		"ban": 50, "kick": 50, "redact": 50, "invite": rules.inviteLevel, "events_default": 0, "state_default": 50,
		"users_default": 0, "users": users,
		"events": map[string]int{"m.room.name": 50, "m.room.avatar": 50, "m.room.canonical_alias": 50,
			"m.room.power_levels": 100, "m.room.history_visibility": 100, "m.room.encryption": 100,
			"m.room.server_acl": 100, "m.room.tombstone": tombstone},
	}
	for key, value := range d.PowerLevelsOverride {
		levels[key] = value
	}
	content, err := json.Marshal(levels)
	if err != nil {
		return nil, err
	}
	if err := checkPowerLevels(d.Version, content); err != nil {
		return nil, err
	}
	var given struct {
		Users map[string]json.RawMessage `json:"users"`
	}
	if err := json.Unmarshal(content, &given); err != nil {
		return nil, matrix.InvalidParam.With("power_level_content_override.users must be an object")
	}
	for _, creator := range authrules.New(create).Creators() {
		if _, named := given.Users[creator]; named && d.Version.PrivilegedCreators() {
			return nil, matrix.InvalidParam.With("A creator's power has no limit in this room version: do not name creators in the power levels")
		}
	}
	return content, nil
}

// checkPowerLevels refuses power levels that are no integers, with an error that
// says which; the rules of old room versions would let some of them pass.
func checkPowerLevels(v matrix.RoomVersion, content json.RawMessage) error {
	var levels map[string]json.RawMessage
	if err := json.Unmarshal(content, &levels); err != nil {
		return matrix.BadJSON.With("The content of m.room.power_levels must be an object")
	}
	for key, value := range levels {
		switch key {
		case "ban", "invite", "kick", "redact", "events_default", "state_default", "users_default":
			if !validLevel(v, value) {
				return matrix.BadJSON.Withf("m.room.power_levels: %s must be an integer", key)
			}
		case "users", "events", "notifications":
			var inner map[string]json.RawMessage
			if err := json.Unmarshal(value, &inner); err != nil {
				return matrix.BadJSON.Withf("m.room.power_levels: %s must be an object", key)
			}
			for name, l := range inner {
				if !validLevel(v, l) {
					return matrix.BadJSON.Withf("m.room.power_levels: %s of %q must be an integer", key, name)
				}
				if key == "users" && !matrix.ValidUserID(name) {
					return matrix.BadJSON.Withf("m.room.power_levels: %q is not a user id", name)
				}
			}
		}
	}
	return nil
}

func validLevel(v matrix.RoomVersion, raw json.RawMessage) bool {
	if len(raw) > 0 && raw[0] == '"' && !v.IntegerPowerLevels() {
		_, err := strconv.ParseInt(strings.TrimSpace(strings.Trim(string(raw), `"`)), 10, 64)
		return err == nil
	}
	var n int64
	return json.Unmarshal(raw, &n) == nil && n <= matrix.MaxSafeInteger && n >= -matrix.MaxSafeInteger
}
