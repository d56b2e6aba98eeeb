package keys

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/storage"
)

// DevicesChanged is called in the transaction in which devices of a user of this server
// were made, renamed or removed. The keys of those that are gone go with them, and all who
// share a room with the user are told.
func (k *Keys) DevicesChanged(ctx context.Context, tx *storage.Tx, userID string, deviceIDs []string) error {
	if len(deviceIDs) == 0 {
		return nil
	}
	devices, err := tx.DevicesNamed(ctx, userID, deviceIDs)
	if err != nil {
		return err
	}
	if err := k.checkIDs(ctx, tx, userID, devices); err != nil {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(deviceIDs), func(id string) bool {
		return slices.ContainsFunc(devices, func(d storage.DeviceKeys) bool { return d.DeviceID == id })
	})
	if len(gone) > 0 {
		if err := tx.DeleteDeviceKeys(ctx, userID, gone); err != nil {
			return err
		}
		if err := tx.DeleteSignatures(ctx, userID, gone); err != nil {
			return err
		}
	}
	if err := tx.ChangeDeviceList(ctx, userID); err != nil {
		return err
	}
	return k.tellServers(ctx, tx, userID, devices, gone)
}

// checkIDs refuses devices with the id of one of the user's cross-signing keys: signatures
// would not tell them apart. M_INVALID_PARAM.
func (k *Keys) checkIDs(ctx context.Context, tx *storage.Tx, userID string, devices []storage.DeviceKeys) error {
	cross, err := tx.CrossSigningKeys(ctx, []string{userID})
	if err != nil {
		return err
	}
	for _, key := range cross {
		if slices.ContainsFunc(devices, func(d storage.DeviceKeys) bool { return d.DeviceID == key.ID }) {
			return matrix.InvalidParam.With("A cross-signing key has this id")
		}
	}
	return nil
}

// maxUpdates is how many devices other servers are told of one by one. Of more they are
// told so that they ask.
const maxUpdates = 20

// tellServers tells the servers around the user of a change. The names of devices are
// nobody's business there.
func (k *Keys) tellServers(ctx context.Context, tx *storage.Tx, userID string, devices []storage.DeviceKeys, gone []string) error {
	if !k.federation {
		return nil
	}
	around, err := tx.ServersAround(ctx, k.own, []string{userID})
	if err != nil || len(around[userID]) == 0 {
		return err
	}
	keyed, err := k.sign(ctx, &tx.Reader, []string{userID}, devices, "")
	if err != nil {
		return err
	}
	devices = keyed.devices
	updates := make([]listUpdate, 0, len(devices)+len(gone))
	for _, d := range devices {
		updates = append(updates, listUpdate{UserID: userID, DeviceID: d.DeviceID, Keys: d.Keys})
	}
	for _, id := range gone {
		updates = append(updates, listUpdate{UserID: userID, DeviceID: id, Deleted: true})
	}
	ids, before, err := tx.NextUpdate(ctx, userID, min(len(updates), maxUpdates+1))
	if err != nil {
		return err
	}
	if len(updates) > maxUpdates {
		// It follows on one that nobody gets.
		updates, ids, before = updates[len(updates)-1:], ids[maxUpdates:], ids[maxUpdates-1]
	}
	for i, u := range updates {
		u.StreamID, u.PrevID = ids[i], []int64{}
		if before != 0 {
			u.PrevID = []int64{before}
		}
		before = ids[i]
		if err := queueUpdate(ctx, tx, around[userID], u); err != nil {
			return err
		}
	}
	return nil
}

func queueUpdate(ctx context.Context, tx *storage.Tx, servers []string, u listUpdate) error {
	content, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return tx.QueueEDU(ctx, storage.QueuedEDU{Servers: servers, Type: "m.device_list_update", Content: content})
}
