package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// newRoomAlias is the whole alias for a localpart, free to be taken; "" for "".
func (r *Rooms) newRoomAlias(ctx context.Context, localpart string) (string, error) {
	if localpart == "" {
		return "", nil
	}
	alias := "#" + localpart + ":" + r.signer.ServerName
	if !matrix.ValidRoomAlias(alias) || matrix.ServerOf(alias) != r.signer.ServerName {
		return "", matrix.InvalidParam.Withf("room_alias_name: %q cannot be the name of an alias", localpart)
	}
	if _, err := r.db.AliasByName(ctx, alias); err == nil {
		return "", matrix.RoomInUse
	} else if !errors.Is(err, storage.ErrNotFound) {
		return "", err
	}
	return alias, nil
}

// maxAliasServers bounds the servers that are told with an alias.
const maxAliasServers = 50

// ResolveAlias finds the room that an alias points to, and servers that are in the room;
// for an alias of another server it asks that one.
func (r *Rooms) ResolveAlias(ctx context.Context, alias string) (roomID string, servers []string, err error) {
	switch {
	case !matrix.ValidRoomAlias(alias):
		return "", nil, matrix.InvalidParam.Withf("%q is not a room alias", alias)
	case r.local(alias):
		return r.ResolveOwnAlias(ctx, alias)
	case r.remote == nil:
		return "", nil, errNoAlias
	}
	return r.remote.ResolveAlias(ctx, alias)
}

var errNoAlias = matrix.NotFound.With("There is no such room alias")

// ResolveOwnAlias is [Rooms.ResolveAlias] for aliases of this server alone.
func (r *Rooms) ResolveOwnAlias(ctx context.Context, alias string) (roomID string, servers []string, err error) {
	a, err := r.db.AliasByName(ctx, alias)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil, errNoAlias
	} else if err != nil {
		return "", nil, err
	}
	members, err := serversIn(ctx, r.db, a.Room)
	servers = []string{r.signer.ServerName}
	for server := range members {
		if server != r.signer.ServerName && len(servers) < maxAliasServers {
			servers = append(servers, server)
		}
	}
	slices.Sort(servers[1:])
	return a.RoomID, servers, err
}

// SetAlias makes an alias of this server point to a room that the user is in.
func (r *Rooms) SetAlias(ctx context.Context, alias, roomID, userID string) error {
	if !matrix.ValidRoomAlias(alias) || !r.local(alias) {
		return matrix.InvalidParam.Withf("%q is not a room alias of this server", alias)
	}
	room, err := r.Joined(ctx, roomID, userID)
	if err != nil {
		return err
	}
	err = r.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.InsertAlias(ctx, storage.Alias{Alias: alias, Room: room, Creator: userID})
	})
	if errors.Is(err, storage.ErrExists) {
		return matrix.AliasExists
	}
	return err
}

// DeleteAlias removes an alias. Its creator may, an administrator of the server,
// and whoever may change the room's canonical alias, from which it goes too.
func (r *Rooms) DeleteAlias(ctx context.Context, alias, userID string, admin bool) error {
	a, err := r.db.AliasByName(ctx, alias)
	if errors.Is(err, storage.ErrNotFound) {
		return matrix.NotFound.With("There is no such room alias")
	} else if err != nil {
		return err
	}
	held := false // the room's policy server has to be asked first
	err = r.with(ctx, a.RoomID, func(hot *hotRoom) error {
		b := r.begin(hot)
		powerful, err := b.maySetCanonical(ctx, userID)
		if err != nil {
			return err
		}
		if a.Creator != userID && !admin && !powerful {
			return matrix.Forbidden.With("You did not make this alias and may not change the room's aliases")
		}
		p, err := b.policyOf(ctx)
		if err == nil && powerful {
			err = b.dropCanonical(ctx, alias, userID)
		}
		if err != nil {
			return err
		}
		drop := func(tx *storage.Tx, _ int64) error { return tx.DeleteAlias(ctx, alias) }
		if held = p != nil && len(b.staged) > 0; !held && len(b.staged) > 0 {
			return b.commit(ctx, drop)
		}
		return r.db.Write(ctx, func(tx *storage.Tx) error { return drop(tx, a.Room) })
	})
	if err != nil || !held {
		return err
	}
	err = r.write(ctx, a.RoomID, func(ctx context.Context, b *batch) error { return b.dropCanonical(ctx, alias, userID) })
	if err != nil {
		r.log.Warn("a room keeps the name of an alias that was removed", "room", a.RoomID, "alias", alias, "error", err)
	}
	return nil
}

// maySetCanonical tells whether the user is in the room and may change its canonical alias.
func (b *batch) maySetCanonical(ctx context.Context, userID string) (bool, error) {
	member, err := b.current(ctx, memberName(userID))
	if err != nil || member == nil || member.Membership() != "join" {
		return false, err
	}
	_, levels, err := b.powerLevels(ctx)
	if err != nil {
		return false, err
	}
	return levels.User(userID) >= levels.Event("m.room.canonical_alias", true), nil
}

type canonicalAlias struct {
	Alias      string   `json:"alias"`
	AltAliases []string `json:"alt_aliases"`
}

// dropCanonical takes the alias out of the room's m.room.canonical_alias.
func (b *batch) dropCanonical(ctx context.Context, alias, userID string) error {
	e, err := b.current(ctx, canonicalAliasName)
	if err != nil || e == nil {
		return err
	}
	var named canonicalAlias
	content := map[string]json.RawMessage{}
	if json.Unmarshal(e.Content, &named) != nil || json.Unmarshal(e.Content, &content) != nil {
		return nil // it names no aliases
	}
	if named.Alias != alias && !slices.Contains(named.AltAliases, alias) {
		return nil
	}
	if named.Alias == alias {
		delete(content, "alias")
	}
	if rest := slices.DeleteFunc(named.AltAliases, func(a string) bool { return a == alias }); len(rest) == 0 {
		delete(content, "alt_aliases")
	} else if content["alt_aliases"], err = json.Marshal(rest); err != nil {
		return err
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	empty := ""
	_, err = b.add(ctx, Draft{Type: "m.room.canonical_alias", StateKey: &empty, Sender: userID, Content: raw})
	return err
}

// Aliases are the room's aliases, for whoever may read the room.
func (r *Rooms) Aliases(ctx context.Context, roomID, userID string) ([]string, error) {
	access, err := r.Access(ctx, roomID, userID)
	if err != nil {
		return nil, err
	}
	aliases, err := r.db.AliasesOf(ctx, access.Room.Number)
	names := []string{}
	for _, a := range aliases {
		names = append(names, a.Alias)
	}
	return names, err
}

// checkCanonicalAlias refuses an m.room.canonical_alias whose new aliases do not
// point to the room (client-server API, "m.room.canonical_alias").
func (r *Rooms) checkCanonicalAlias(ctx context.Context, hot *hotRoom, d Draft) error {
	var now, before canonicalAlias
	if err := json.Unmarshal(d.Content, &now); err != nil {
		return matrix.InvalidParam.With("alias must be a string, alt_aliases a list of strings")
	}
	current, err := hot.current(ctx, &r.db.Reader, canonicalAliasName)
	if err != nil {
		return err
	}
	if current != nil && json.Unmarshal(current.Content, &before) != nil {
		before = canonicalAlias{}
	}
	known := append([]string{before.Alias, ""}, before.AltAliases...)
	for _, alias := range append([]string{now.Alias}, now.AltAliases...) {
		if slices.Contains(known, alias) {
			continue
		}
		if !matrix.ValidRoomAlias(alias) {
			return matrix.InvalidParam.Withf("%q is not a room alias", alias)
		}
		a, err := r.db.AliasByName(ctx, alias)
		if errors.Is(err, storage.ErrNotFound) || err == nil && a.Room != hot.room.Number {
			return matrix.BadAlias.Withf("The alias %s does not point to this room", alias)
		} else if err != nil {
			return err
		}
	}
	return nil
}
