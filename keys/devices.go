package keys

import (
	"context"
	"slices"

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
	gone := slices.DeleteFunc(slices.Clone(deviceIDs), func(id string) bool {
		return slices.ContainsFunc(devices, func(d storage.DeviceKeys) bool { return d.DeviceID == id })
	})
	if len(gone) > 0 {
		if err := tx.DeleteDeviceKeys(ctx, userID, gone); err != nil {
			return err
		}
	}
	return tx.ChangeDeviceList(ctx, userID)
}
