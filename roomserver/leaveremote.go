package roomserver

import (
	"context"
	"encoding/json"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// leaveRemote declines an invite to a room, or takes a knock back, that this server has
// no part in. That no server is to be reached does not keep the user in.
func (r *Rooms) leaveRemote(ctx context.Context, roomID string, c MemberChange) error {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return errNotInRoom
	} else if err != nil {
		return err
	}
	entry, err := r.db.CurrentStateEvent(ctx, room.Number, "m.room.member", c.Target)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errNotInRoom
	case err != nil:
		return err
	case entry.Membership() == "leave":
		return nil
	case entry.Membership() != "invite" && entry.Membership() != "knock":
		return matrix.Forbidden.With("You are not in this room")
	}
	var servers []string
	if r.remote != nil {
		if servers, err = r.candidates(ctx, roomID, c.Target, nil); err != nil {
			return err
		}
	}
	content := map[string]json.RawMessage{"membership": quote("leave")}
	if c.Reason != "" {
		content["reason"] = quote(c.Reason)
	}
	var left *matrix.Event
	err = r.anywhere(ctx, servers, func(server string) (err error) {
		left, err = r.leaveVia(ctx, server, &room, c.Target, content)
		return err
	})
	if err != nil && ctx.Err() == nil {
		r.log.Warn("nobody could be told that a user declines an invite", "room", roomID, "user", c.Target, "error", err)
		left, err = r.leaveAlone(&room, &entry, content)
	}
	if err != nil {
		return err
	}
	return r.storeOutOfBand(ctx, room, left, nil)
}

func (r *Rooms) leaveVia(ctx context.Context, server string, room *storage.Room, userID string, content map[string]json.RawMessage) (*matrix.Event, error) {
	t, err := r.remote.MakeMember(ctx, server, "leave", room.ID, userID, nil)
	if err != nil {
		return nil, err
	}
	t.Version = room.Version // make_leave need not say it
	leave, err := r.proposed(ctx, server, t, room.ID, userID, "leave", content)
	if err != nil {
		return nil, err
	}
	return leave, r.remote.SendLeave(ctx, server, leave)
}

// leaveAlone is a leave that nobody else knows of: it follows on the invite.
func (r *Rooms) leaveAlone(room *storage.Room, entry *storage.StateEntry, content map[string]json.RawMessage) (*matrix.Event, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	invite := []matrix.Reference{entry.Reference()}
	return r.signer.Build(&matrix.Proto{Version: room.Version, RoomID: room.ID, Type: "m.room.member", StateKey: entry.StateKey,
		Sender: *entry.StateKey, Content: raw, OriginServerTS: nowMS(), Depth: min(entry.Depth+1, matrix.MaxSafeInteger),
		PrevEvents: invite, AuthEvents: invite})
}

// knockRemote knocks at a room with the help of another server.
func (r *Rooms) knockRemote(ctx context.Context, roomID string, c MemberChange) error {
	servers, err := r.candidates(ctx, roomID, c.Target, c.Via)
	if err != nil {
		return err
	}
	return r.anywhere(ctx, servers, func(server string) error { return r.knockVia(ctx, server, roomID, c) })
}

func (r *Rooms) knockVia(ctx context.Context, server, roomID string, c MemberChange) error {
	t, err := r.remote.MakeMember(ctx, server, "knock", roomID, c.Target, knockingVersions())
	if err != nil {
		return err
	}
	content, err := r.memberContent(ctx, "knock", c)
	if err != nil {
		return err
	}
	knock, err := r.proposed(ctx, server, t, roomID, c.Target, "knock", content)
	if err != nil {
		return err
	}
	state, err := r.remote.SendKnock(ctx, server, knock)
	if err != nil {
		return err
	}
	room, err := r.strangerRoom(ctx, roomID, t.Version)
	if err != nil {
		return err
	}
	return r.storeOutOfBand(ctx, room, knock, strippedFrom(state))
}

func knockingVersions() []matrix.RoomVersion {
	var versions []matrix.RoomVersion
	for _, v := range matrix.RoomVersions() {
		if v.Knocking() {
			versions = append(versions, v)
		}
	}
	return versions
}
