package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// MemberChange asks for a change of somebody's membership.
type MemberChange struct {
	Sender  string          // who asks
	Target  string          // whose membership it is
	Reason  string          // "" for none
	Content json.RawMessage // further keys of the event's content; nil for none
	Direct  bool            // is_direct, of an invite
	Guest   bool            // the sender is a guest
	Via     []string        // servers that may be in the room, for joins and knocks
}

// Join makes the user a member of the room, where its rules allow it: with the help of
// another server if this one is not in the room, or no user of it may let the user in.
func (r *Rooms) Join(ctx context.Context, roomID string, c MemberChange) error {
	c.Target = c.Sender
	remote, err := r.elsewhere(ctx, roomID, c.Via)
	if err == nil && !remote {
		remote, err = r.unknownHere(ctx, roomID, c.Target)
	}
	if err != nil {
		return err
	}
	switch {
	case !remote:
		err = r.joinLocal(ctx, roomID, c)
	case r.remote == nil:
		err = errNotInRoom
	}
	if r.remote != nil && (remote || errors.Is(err, matrix.UnableToGrantJoin) || errors.Is(err, matrix.UnableToAuthoriseJoin)) {
		elsewhere := r.joinRemote(ctx, roomID, c)
		if remote || elsewhere != error(errNowhere) {
			return elsewhere
		}
	}
	return err
}

func (r *Rooms) joinLocal(ctx context.Context, roomID string, c MemberChange) error {
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		if m != nil && m.Membership() == "join" && c.Content == nil {
			return nil
		}
		if c.Guest {
			if err := b.admitGuest(ctx); err != nil {
				return err
			}
		}
		content, err := r.memberContent(ctx, "join", c)
		if err != nil {
			return err
		}
		if err := r.authoriseRestricted(ctx, b, m, c.Target, content); err != nil {
			return err
		}
		return b.addMember(ctx, c, content, nil)
	})
}

// Leave takes the user out of the room: it also declines invites and takes knocks back.
func (r *Rooms) Leave(ctx context.Context, roomID string, c MemberChange) error {
	c.Target = c.Sender
	if remote, err := r.elsewhere(ctx, roomID, nil); remote || err != nil {
		if err == nil {
			err = r.leaveRemote(ctx, roomID, c)
		}
		return err
	}
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		switch {
		case m == nil:
			return errNotInRoom
		case m.Membership() == "leave":
			return nil
		case m.Membership() == "ban":
			return matrix.Forbidden.With("You are banned from this room")
		}
		return b.setMember(ctx, "leave", c)
	})
}

// Invite invites a user.
func (r *Rooms) Invite(ctx context.Context, roomID string, c MemberChange) error {
	if err := r.checkInvitee(ctx, c.Target); err != nil {
		return err
	}
	if !r.local(c.Target) {
		return r.inviteRemote(ctx, roomID, c)
	}
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, _ *stateEvent) error {
		if err := b.mayInvite(ctx, c.Target); err != nil {
			return err
		}
		return b.invite(ctx, c)
	})
}

// checkInvitee refuses to invite whom this server cannot tell of it.
func (r *Rooms) checkInvitee(ctx context.Context, userID string) error {
	if !matrix.ValidUserID(userID) {
		return matrix.InvalidParam.Withf("%q is not a user id", userID)
	}
	if !r.local(userID) {
		if r.remote == nil {
			return matrix.Forbidden.With("This server does not federate: only its own users can be invited")
		}
		if r.admitInvitee != nil {
			return r.admitInvitee(ctx, userID)
		}
		return nil
	}
	user, err := r.db.User(ctx, userID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && user.Deactivated {
		return matrix.NotFound.With("There is no such user on this server")
	}
	return err
}

func (b *batch) invite(ctx context.Context, c MemberChange) error {
	content, err := b.rooms.memberContent(ctx, "invite", c)
	if err != nil {
		return err
	}
	if c.Direct {
		content["is_direct"] = json.RawMessage("true")
	}
	stripped, err := b.stripped(ctx, c.Sender)
	if err != nil {
		return err
	}
	return b.addMember(ctx, c, content, stripped)
}

// Kick takes another user out of the room.
func (r *Rooms) Kick(ctx context.Context, roomID string, c MemberChange) error {
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		if m == nil || m.Membership() == "leave" || m.Membership() == "ban" {
			return matrix.Forbidden.With("The user is not in this room")
		}
		return b.setMember(ctx, "leave", c)
	})
}

// Ban keeps a user out of the room.
func (r *Rooms) Ban(ctx context.Context, roomID string, c MemberChange) error {
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		if m != nil && m.Membership() == "ban" && m.ContentString("reason") == c.Reason {
			return nil
		}
		return b.setMember(ctx, "ban", c)
	})
}

// Unban lets a banned user come back.
func (r *Rooms) Unban(ctx context.Context, roomID string, c MemberChange) error {
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		if m == nil || m.Membership() != "ban" {
			return matrix.BadState.With("The user is not banned from this room")
		}
		return b.setMember(ctx, "leave", c)
	})
}

// Knock asks to be invited.
func (r *Rooms) Knock(ctx context.Context, roomID string, c MemberChange) error {
	c.Target = c.Sender
	if remote, err := r.elsewhere(ctx, roomID, c.Via); remote || err != nil {
		if err == nil && r.remote == nil {
			err = errNotInRoom
		}
		if err != nil {
			return err
		}
		return r.knockRemote(ctx, roomID, c)
	}
	return r.change(ctx, roomID, c.Target, func(ctx context.Context, b *batch, m *stateEvent) error {
		switch {
		case !b.room.Version.Knocking():
			return matrix.Forbidden.With("The room's version does not know knocking")
		case m != nil && m.Membership() == "join":
			return matrix.Forbidden.With("You are in this room already")
		case m != nil && m.Membership() == "invite":
			return matrix.Forbidden.With("You are invited to this room already")
		}
		content, err := r.memberContent(ctx, "knock", c)
		if err != nil {
			return err
		}
		stripped, err := b.stripped(ctx, "")
		if err != nil {
			return err
		}
		return b.addMember(ctx, c, content, stripped)
	})
}

// change runs fn with the target's member event, nil if there is none, and
// stores what fn adds.
func (r *Rooms) change(ctx context.Context, roomID, target string, fn func(context.Context, *batch, *stateEvent) error) error {
	return r.write(ctx, roomID, func(ctx context.Context, b *batch) error {
		member, err := b.current(ctx, memberName(target))
		if err != nil {
			return err
		}
		return fn(ctx, b, member)
	})
}

// setMember adds a member event with nothing but the membership and the reason.
func (b *batch) setMember(ctx context.Context, membership string, c MemberChange) error {
	content := map[string]json.RawMessage{"membership": quote(membership)}
	if c.Reason != "" {
		content["reason"] = quote(c.Reason)
	}
	return b.addMember(ctx, c, content, nil)
}

func (b *batch) addMember(ctx context.Context, c MemberChange, content map[string]json.RawMessage, stripped []byte) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	d := Draft{Type: "m.room.member", StateKey: &c.Target, Sender: c.Sender, Content: raw, StrippedState: stripped}
	if same, err := b.unchanged(ctx, d); same != "" || err != nil {
		return err
	}
	_, err = b.add(ctx, d)
	return err
}

// admitGuest refuses guests where the room does not welcome them (client-server
// API, "Guest access").
func (b *batch) admitGuest(ctx context.Context) error {
	e, err := b.current(ctx, guestAccessName)
	if err == nil && (e == nil || e.ContentString("guest_access") != "can_join") {
		return matrix.GuestAccessForbidden
	}
	return err
}

func quote(s string) json.RawMessage { return matrix.AppendString(nil, s) }

// memberContent is the content of a member event: what the client gave, the
// target's profile, and the membership.
func (r *Rooms) memberContent(ctx context.Context, membership string, c MemberChange) (map[string]json.RawMessage, error) {
	content := map[string]json.RawMessage{}
	if c.Content != nil {
		if err := json.Unmarshal(c.Content, &content); err != nil {
			return nil, matrix.BadJSON.Because(err)
		}
	}
	profile, err := r.db.Profile(ctx, c.Target)
	if err != nil {
		return nil, err
	}
	for _, field := range []string{"displayname", "avatar_url"} {
		if value, ok := profile[field]; ok && content[field] == nil {
			content[field] = value
		}
	}
	if c.Reason != "" {
		content["reason"] = quote(c.Reason)
	}
	content["membership"] = quote(membership)
	delete(content, "join_authorised_via_users_server")
	return content, nil
}

// authoriseRestricted finds, for a join that only membership in another room
// allows, a user of this server who may invite, and names that user in the content
// (client-server API, "Restricted rooms").
func (r *Rooms) authoriseRestricted(ctx context.Context, b *batch, m *stateEvent, userID string, content map[string]json.RawMessage) error {
	if m != nil && (m.Membership() == "join" || m.Membership() == "invite") {
		return nil
	}
	rules, err := b.current(ctx, joinRulesName)
	if err != nil || rules == nil {
		return err
	}
	rule := rules.ContentString("join_rule")
	if !(rule == "restricted" && b.room.Version.Restricted() || rule == "knock_restricted" && b.room.Version.KnockRestricted()) {
		return nil
	}
	allowed, err := r.inAllowedRoom(ctx, rules.Event.Event, userID)
	if err != nil {
		return err
	}
	if !allowed {
		return errInNoAllowedRoom
	}
	inviter, err := r.inviter(ctx, b)
	if err != nil {
		return err
	}
	content["join_authorised_via_users_server"] = quote(inviter)
	return nil
}

var errInNoAllowedRoom = matrix.Forbidden.With("You are in none of the rooms whose members may join")

// allowedRooms are the rooms whose members a join rule lets in.
func allowedRooms(rules *matrix.Event) []string {
	var content struct {
		Allow []struct {
			Type   string `json:"type"`
			RoomID string `json:"room_id"`
		} `json:"allow"`
	}
	if json.Unmarshal(rules.Content, &content) != nil {
		return nil
	}
	var rooms []string
	for _, allow := range content.Allow {
		if allow.Type == "m.room_membership" {
			rooms = append(rooms, allow.RoomID)
		}
	}
	return rooms
}

// inAllowedRoom tells whether the user is in a room that a join rule allows.
func (r *Rooms) inAllowedRoom(ctx context.Context, rules *matrix.Event, userID string) (bool, error) {
	memberships, err := r.db.Memberships(ctx, userID)
	if err != nil {
		return false, err
	}
	joined := map[string]bool{}
	for _, m := range memberships {
		joined[m.RoomID] = m.Membership == "join"
	}
	return slices.ContainsFunc(allowedRooms(rules), func(roomID string) bool { return joined[roomID] }), nil
}

// inviter is a member from this server who may invite.
func (r *Rooms) inviter(ctx context.Context, b *batch) (string, error) {
	create, levels, err := b.powerLevels(ctx)
	if err != nil {
		return "", err
	}
	powerful := slices.Clone(create.Creators())
	for userID := range levels.Users {
		powerful = append(powerful, userID)
	}
	if levels.UsersDefault >= levels.Invite {
		members, err := r.db.Members(ctx, b.room.Number, []string{"join"})
		if err != nil {
			return "", err
		}
		for _, m := range members {
			powerful = append(powerful, m.UserID)
		}
	}
	members, err := r.db.CurrentMembers(ctx, b.room.Number, powerful)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if user := *m.StateKey; r.local(user) && m.Membership() == "join" && levels.User(user) >= levels.Invite {
			return user, nil
		}
	}
	return "", matrix.UnableToGrantJoin
}

// strippedTypes are the state events that an invited user is shown (client-server
// API, "Stripped state").
var strippedTypes = []string{"m.room.create", "m.room.name", "m.room.avatar", "m.room.topic", "m.room.join_rules",
	"m.room.canonical_alias", "m.room.encryption"}

// strippedNames are the names of what an invited user is shown, with the inviter's
// membership if there is an inviter.
func strippedNames(inviter string) []stateName {
	names := make([]stateName, 0, len(strippedTypes)+1)
	for _, eventType := range strippedTypes {
		names = append(names, stateName{Type: eventType})
	}
	if inviter != "" {
		names = append(names, memberName(inviter))
	}
	return names
}

// stripped is the room's stripped state, with the inviter's member event if there
// is an inviter: a JSON list.
func (b *batch) stripped(ctx context.Context, inviter string) ([]byte, error) {
	out := []byte{'['}
	for _, name := range strippedNames(inviter) {
		e, err := b.current(ctx, name)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = AppendStripped(out, e.Event.Event)
	}
	return append(out, ']'), nil
}

// dismissGuests takes the guests of this server out of a room if another server's events
// say that they are not welcome any more.
func (r *Rooms) dismissGuests(ctx context.Context, roomID string, events []*matrix.Event) {
	if !slices.ContainsFunc(events, func(e *matrix.Event) bool { return e.IsState(guestAccessName.Type, "") }) {
		return
	}
	if err := r.removeGuests(ctx, roomID); err != nil && ctx.Err() == nil {
		r.log.Warn("guests could not be taken out of a room that does not welcome them", "room", roomID, "error", err)
	}
}

// removeGuests takes the guests of this server out of a room if it does not welcome them
// (client-server API, "Guest access").
func (r *Rooms) removeGuests(ctx context.Context, roomID string) error {
	room, err := r.db.RoomByID(ctx, roomID)
	if err != nil {
		return err
	}
	guests, err := r.db.GuestsIn(ctx, room.Number)
	if err != nil || len(guests) == 0 {
		return err
	}
	access, err := r.db.CurrentStateEvent(ctx, room.Number, guestAccessName.Type, guestAccessName.StateKey)
	if err == nil && access.ContentString("guest_access") == "can_join" {
		return nil
	} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	for _, guest := range guests {
		if err := r.Leave(ctx, roomID, MemberChange{Sender: guest}); err != nil {
			return err
		}
	}
	return nil
}

// Forget hides a room that the user has left.
func (r *Rooms) Forget(ctx context.Context, roomID, userID string) error {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return errNotInRoom
	} else if err != nil {
		return err
	}
	m, err := r.db.MembershipIn(ctx, room.Number, userID)
	if errors.Is(err, storage.ErrNotFound) {
		return errNotInRoom
	} else if err != nil {
		return err
	}
	if m.Membership != "leave" && m.Membership != "ban" {
		return matrix.StillInRoom
	}
	return r.db.Write(ctx, func(tx *storage.Tx) error { return tx.ForgetRoom(ctx, userID, room.Number, m.Pos) })
}

// JoinedRooms are the ids of the rooms that the user is joined to.
func (r *Rooms) JoinedRooms(ctx context.Context, userID string) ([]string, error) {
	memberships, err := r.db.Memberships(ctx, userID)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, m := range memberships {
		if m.Membership == "join" {
			ids = append(ids, m.RoomID)
		}
	}
	return ids, nil
}

// LeaveAll takes the user out of all rooms and declines all invites; it goes on
// after a failure and gives the first.
func (r *Rooms) LeaveAll(ctx context.Context, userID string) error {
	memberships, err := r.db.Memberships(ctx, userID)
	if err != nil {
		return err
	}
	var first error
	for _, m := range memberships {
		if m.Membership == "leave" || m.Membership == "ban" {
			continue
		}
		if err := r.Leave(ctx, m.RoomID, MemberChange{Sender: userID}); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// ProfileChanged tells the rooms that the user is joined to of a new display name
// or avatar; it goes on after a failure and gives the first.
func (r *Rooms) ProfileChanged(ctx context.Context, userID string) error {
	rooms, err := r.JoinedRooms(ctx, userID)
	if err != nil {
		return err
	}
	profile, err := r.db.Profile(ctx, userID)
	if err != nil {
		return err
	}
	var first error
	for _, roomID := range rooms {
		err := r.change(ctx, roomID, userID, func(ctx context.Context, b *batch, m *stateEvent) error {
			return b.updateProfile(ctx, m, profile)
		})
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (b *batch) updateProfile(ctx context.Context, m *stateEvent, profile map[string]json.RawMessage) error {
	if m == nil || m.Membership() != "join" {
		return nil
	}
	userID := *m.StateKey
	content := map[string]json.RawMessage{}
	if err := json.Unmarshal(m.Content, &content); err != nil {
		return err
	}
	before := len(content)
	changed := false
	for _, field := range []string{"displayname", "avatar_url"} {
		if value, ok := profile[field]; !ok {
			delete(content, field)
		} else if string(value) != string(content[field]) {
			content[field], changed = value, true
		}
	}
	delete(content, "join_authorised_via_users_server")
	delete(content, "reason")
	if !changed && len(content) == before {
		return nil
	}
	return b.addMember(ctx, MemberChange{Sender: userID, Target: userID}, content, nil)
}
