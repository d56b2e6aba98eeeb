package keys

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// keptLists are those of the users, who are near, whose lists of devices are kept and can be
// believed. Of a few users who have none their servers are asked, as long as limited says.
func (k *Keys) keptLists(ctx, limited context.Context, near []string) ([]string, error) {
	kept, missing, err := k.splitLists(ctx, near)
	if err != nil || len(missing) == 0 || len(missing) > maxFetched {
		return kept, err
	}
	var group errgroup.Group
	for _, userID := range missing {
		group.Go(func() error {
			err := k.fetch(ctx, limited, userID)
			if _, ok := errors.AsType[*noAnswer](err); ok {
				k.logger.Debug("a list of devices could not be fetched", slog.String("user", userID), slog.Any("error", err))
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	kept, _, err = k.splitLists(ctx, near)
	return kept, err
}

// splitLists tells of which users there are lists that can be believed, and of which not.
func (k *Keys) splitLists(ctx context.Context, userIDs []string) (kept, missing []string, err error) {
	lists, err := k.db.RemoteLists(ctx, userIDs)
	for _, userID := range userIDs {
		if list, known := lists[userID]; known && !list.Stale {
			kept = append(kept, userID)
		} else {
			missing = append(missing, userID)
		}
	}
	return kept, missing, err
}

// noAnswer says that another server did not give a list of devices.
type noAnswer struct{ cause error }

// Error is the text for logs.
func (e *noAnswer) Error() string { return fmt.Sprintf("no list of devices: %v", e.cause) }

// silent tells whether the server answers nobody now; otherwise it refuses this one list.
func (e *noAnswer) silent() bool {
	told, ok := errors.AsType[*matrix.Error](e.cause)
	return !ok || told.Status == http.StatusBadGateway
}

// fetch has the list of a user of another server kept. One at a time asks for it, and who
// had to wait finds it there. It waits as long as limited says. [*noAnswer]: the other
// server did not give it.
func (k *Keys) fetch(ctx, limited context.Context, userID string) error {
	done, err := k.fetching.take(limited, userID)
	if err != nil {
		return &noAnswer{err}
	}
	defer done()
	if _, missing, err := k.splitLists(ctx, []string{userID}); err != nil || len(missing) == 0 {
		return err
	}
	before, err := k.db.Changes(ctx, []string{userID})
	if err != nil {
		return err
	}
	answer, err := k.remote.UserDevices(limited, userID)
	if err != nil {
		return &noAnswer{err}
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		return k.keep(ctx, tx, userID, answer.StreamID, answer.devices(), theirCrossKeys(userID, answer.MasterKey, answer.SelfSigningKey), before[userID])
	})
}

// devices are those that can be believed.
func (u *UserDevices) devices() []storage.DeviceKeys {
	var devices []storage.DeviceKeys
	seen := map[string]bool{}
	for _, d := range u.Devices {
		device := theirDevice(u.UserID, d.DeviceID, d.DisplayName, d.Keys)
		if device != nil && !seen[d.DeviceID] && len(devices) < maxDevices {
			seen[d.DeviceID] = true
			devices = append(devices, *device)
		}
	}
	return devices
}

// keep stores the list of a user's devices, which was asked for when the last change had
// the position before. If there was another since, or the user has gone, it is not kept.
// Clients are told of a list that is new to this server, as they may know an older one, and
// of one that somebody has asked for in vain since the last update.
func (k *Keys) keep(ctx context.Context, tx *storage.Tx, userID string, streamID int64, devices []storage.DeviceKeys, cross []storage.CrossSigningKey,
	before stream.Pos) error {
	now, err := tx.LockDeviceList(ctx, userID)
	if err != nil || now.Pos != before {
		return err
	}
	near, err := tx.WithUs(ctx, k.own, []string{userID})
	if err != nil {
		return err
	}
	if len(near) == 0 {
		return tx.DropRemoteLists(ctx, k.own, []string{userID}, nil)
	}
	lists, err := tx.RemoteLists(ctx, near)
	if err != nil {
		return err
	}
	list, known := lists[userID]
	_, awaited := k.awaited.Load(userID)
	same, err := sameList(ctx, tx, userID, devices, cross)
	if err != nil {
		return err
	}
	if err := tx.SetCrossSigningKeys(ctx, userID, cross); err != nil {
		return err
	}
	if err := tx.SetRemoteDevices(ctx, userID, streamID, devices); err != nil {
		return err
	}
	tx.AfterCommit(func() { k.awaited.Delete(userID) })
	if same || known && list.Failures == 0 && !awaited {
		return nil
	}
	return tx.ChangeDeviceList(ctx, userID)
}

// sameList tells whether a list is what is kept of the user.
func sameList(ctx context.Context, tx *storage.Tx, userID string, devices []storage.DeviceKeys, cross []storage.CrossSigningKey) (bool, error) {
	keptDevices, err := tx.RemoteDevices(ctx, []string{userID})
	if err != nil {
		return false, err
	}
	keptKeys, err := tx.CrossSigningKeys(ctx, []string{userID})
	if err != nil {
		return false, err
	}
	return slices.EqualFunc(byDevice(keptDevices), byDevice(devices), sameDevice) && slices.EqualFunc(byUsage(keptKeys), byUsage(cross), sameKey), nil
}

func byDevice(devices []storage.DeviceKeys) []storage.DeviceKeys {
	return slices.SortedFunc(slices.Values(devices), func(a, b storage.DeviceKeys) int { return cmp.Compare(a.DeviceID, b.DeviceID) })
}

func sameDevice(a, b storage.DeviceKeys) bool {
	return a.DeviceID == b.DeviceID && a.DisplayName == b.DisplayName && bytes.Equal(a.Keys, b.Keys)
}

func byUsage(keys []storage.CrossSigningKey) []storage.CrossSigningKey {
	return slices.SortedFunc(slices.Values(keys), func(a, b storage.CrossSigningKey) int { return cmp.Compare(a.Usage, b.Usage) })
}

func sameKey(a, b storage.CrossSigningKey) bool {
	return a.Usage == b.Usage && a.ID == b.ID && bytes.Equal(a.Key, b.Key)
}

// turns is a lock for each user, which waits as long as the context allows.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the turn is over
}

// take waits for the caller's turn. The turn ends with the call of done.
func (t *turns) take(ctx context.Context, userID string) (done func(), err error) {
	for {
		t.mu.Lock()
		over, taken := t.busy[userID]
		if !taken {
			over = make(chan struct{})
			t.busy[userID] = over
			t.mu.Unlock()
			return func() { t.end(userID, over) }, nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turns) end(userID string, over chan struct{}) {
	t.mu.Lock()
	delete(t.busy, userID)
	t.mu.Unlock()
	close(over)
}
