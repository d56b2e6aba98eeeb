package keys

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"beep/storage"
	"beep/stream"
)

const (
	// watchedSetting is the setting with the position up to which it was seen who came
	// into rooms and who left, and watchedEvery how often it is written.
	watchedSetting = "keys_watched"
	watchedEvery   = time.Minute
	// watchPause is after an error of the database.
	watchPause = 5 * time.Second
	// watchBatch is over how many positions the database is asked at once.
	watchBatch = 100_000
)

// watch follows who comes into rooms and who leaves, until the context is done: servers
// that a user of this one meets are told of the user's devices, and lists of users whom
// nobody here meets any more are dropped, as nobody tells of their changes.
func (k *Keys) watch(ctx context.Context) {
	after := stream.Pos(-1)
	written := time.Now()
	for ctx.Err() == nil {
		err := k.watchOn(ctx, &after, &written)
		if err == nil || ctx.Err() != nil {
			continue
		}
		k.logger.Error("who comes and leaves could not be followed; trying again", slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// watchOn takes in the next part of the log; after is below 0 at the beginning.
func (k *Keys) watchOn(ctx context.Context, after *stream.Pos, written *time.Time) (err error) {
	if *after < 0 {
		*after, err = k.watched(ctx)
		return err
	}
	upTo, err := k.db.Clock.Wait(ctx, *after)
	if err != nil {
		return err
	}
	upTo = min(upTo, *after+watchBatch)
	save := time.Since(*written) > watchedEvery
	if err := k.look(ctx, *after, upTo, save); err != nil {
		return err
	}
	if *after = upTo; save {
		*written = time.Now()
	}
	return nil
}

// watched is the position up to which the log was followed; now for the first time.
func (k *Keys) watched(ctx context.Context) (stream.Pos, error) {
	text, err := k.db.Setting(ctx, watchedSetting)
	if errors.Is(err, storage.ErrNotFound) {
		return k.db.Clock.Current(), nil
	} else if err != nil {
		return -1, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return min(stream.Pos(n), k.db.Clock.Current()), err
}

// look takes in a part of the log.
func (k *Keys) look(ctx context.Context, after, upTo stream.Pos, save bool) error {
	news := false
	ok := k.db.Log.Range(after, upTo, func(e *stream.Entry) bool {
		news = news || e.Kind == stream.State || e.Kind == stream.Event && isMember(e.Value)
		return !news
	})
	var members []storage.MemberChange
	if !ok || news {
		var err error
		if members, err = k.db.MemberChanges(ctx, after, upTo); err != nil {
			return err
		}
		if members, err = k.amongOthers(ctx, members); err != nil {
			return err
		}
	}
	if len(members) == 0 && !save {
		return nil
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		if err := k.takeMembers(ctx, tx, members); err != nil {
			return err
		}
		return tx.SetSetting(ctx, watchedSetting, strconv.FormatInt(int64(upTo), 10))
	})
}

// amongOthers leaves out the users of this server who came into rooms in which no other
// server is: most rooms are such, and nobody has to be told.
func (k *Keys) amongOthers(ctx context.Context, members []storage.MemberChange) ([]storage.MemberChange, error) {
	came := func(m storage.MemberChange) bool { return m.Joined && k.ours(m.UserID) }
	var rooms []int64
	for _, m := range members {
		if came(m) {
			rooms = append(rooms, m.Room)
		}
	}
	shared, err := k.db.SharedRooms(ctx, k.own, rooms)
	return slices.DeleteFunc(members, func(m storage.MemberChange) bool {
		return m.Joined && !k.ours(m.UserID) || came(m) && !slices.Contains(shared, m.Room)
	}), err
}

// isMember tells whether what the log has is a member event.
func isMember(value any) bool {
	e, ok := value.(interface{ Membership() string })
	return ok && e.Membership() != ""
}

func (k *Keys) takeMembers(ctx context.Context, tx *storage.Tx, members []storage.MemberChange) error {
	var left []string
	var rooms []int64
	for _, m := range members {
		switch {
		case m.Joined && k.ours(m.UserID):
			if err := k.greet(ctx, tx, m.UserID, m.Room); err != nil {
				return err
			}
		case !m.Joined && k.ours(m.UserID):
			rooms = append(rooms, m.Room)
		case !m.Joined:
			left = append(left, m.UserID)
		}
	}
	if len(left)+len(rooms) == 0 {
		return nil
	}
	return tx.DropRemoteLists(ctx, k.own, left, rooms)
}

// greet tells the servers that a user meets in a room, and in no other, of the user's
// devices: by an update that follows on nothing, so that they ask for all.
func (k *Keys) greet(ctx context.Context, tx *storage.Tx, userID string, room int64) error {
	servers, err := tx.NewServers(ctx, k.own, userID, room)
	if err != nil || len(servers) == 0 {
		return err
	}
	devices, err := tx.DeviceKeys(ctx, []string{userID})
	if err != nil || len(devices) == 0 {
		return err
	}
	list, err := tx.DeviceList(ctx, userID)
	if err != nil {
		return err
	}
	update := listUpdate{UserID: userID, DeviceID: devices[0].DeviceID, StreamID: list.StreamID, PrevID: []int64{}, Keys: devices[0].Keys}
	return queueUpdate(ctx, tx, servers, update)
}
