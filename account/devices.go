package account

import (
	"context"
	"errors"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// Device is a user's device.
type Device = storage.Device

// Devices are all devices of a user, by id.
func (a *Accounts) Devices(ctx context.Context, userID string) ([]Device, error) {
	return a.db.Devices(ctx, userID)
}

// Device finds a user's device. M_NOT_FOUND.
func (a *Accounts) Device(ctx context.Context, userID, deviceID string) (Device, error) {
	if !validDeviceID(deviceID) {
		return Device{}, errUnknownID
	}
	device, err := a.db.Device(ctx, userID, deviceID)
	return device, unknownDevice(err)
}

// RenameDevice gives a device a display name; a nil name leaves the one it has.
// M_NOT_FOUND, M_INVALID_PARAM.
func (a *Accounts) RenameDevice(ctx context.Context, userID, deviceID string, name *string) error {
	if name == nil {
		_, err := a.Device(ctx, userID, deviceID)
		return err
	}
	if !validDeviceID(deviceID) {
		return errUnknownID
	}
	if err := checkDisplayName(*name); err != nil {
		return err
	}
	return unknownDevice(a.db.Write(ctx, func(tx *storage.Tx) error { return a.rename(ctx, tx, userID, deviceID, *name) }))
}

func (a *Accounts) rename(ctx context.Context, tx *storage.Tx, userID, deviceID, name string) error {
	if err := tx.RenameDevice(ctx, userID, deviceID, name); err != nil {
		return err
	}
	return a.devicesChanged(ctx, tx, userID, []string{deviceID})
}

// devicesChanged tells the part that keeps the keys of devices.
func (a *Accounts) devicesChanged(ctx context.Context, tx *storage.Tx, userID string, deviceIDs []string) error {
	if a.options.OnDevices == nil || len(deviceIDs) == 0 {
		return nil
	}
	return a.options.OnDevices(ctx, tx, userID, deviceIDs)
}

// insertDevice makes a device unless the user has it already.
func (a *Accounts) insertDevice(ctx context.Context, tx *storage.Tx, d *Device) (made bool, err error) {
	if made, err = tx.InsertDevice(ctx, d); err != nil || !made {
		return made, err
	}
	return true, a.devicesChanged(ctx, tx, d.UserID, []string{d.ID})
}

// PutDevice is [Accounts.RenameDevice] for an application service, for which a
// missing device is made (application service API, "Creating devices").
func (a *Accounts) PutDevice(ctx context.Context, userID, deviceID string, name *string) (made bool, err error) {
	request := DeviceRequest{DeviceID: deviceID}
	if name != nil {
		request.DisplayName = *name
	}
	if err := request.check(); err != nil {
		return false, err
	}
	now := a.nowMS()
	device := Device{UserID: userID, ID: deviceID, DisplayName: request.DisplayName, Created: now, Seen: storage.Seen{At: now}}
	err = a.db.Write(ctx, func(tx *storage.Tx) (err error) {
		if made, err = a.insertDevice(ctx, tx, &device); err != nil || made || name == nil {
			return err
		}
		return a.rename(ctx, tx, userID, deviceID, *name)
	})
	return made, err
}

// DeleteDevices removes those of the devices that exist, with their tokens.
func (a *Accounts) DeleteDevices(ctx context.Context, userID string, deviceIDs []string) error {
	deviceIDs = slices.DeleteFunc(slices.Clone(deviceIDs), func(id string) bool { return !validDeviceID(id) })
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		ids, tokens, err := tx.DeleteDevices(ctx, userID, deviceIDs)
		return a.removed(ctx, tx, userID, ids, tokens, err)
	})
}

// removeDevicesExcept removes all devices of a user but the one to keep, with their tokens.
func (a *Accounts) removeDevicesExcept(ctx context.Context, tx *storage.Tx, userID, keep string) error {
	ids, tokens, err := tx.DeleteDevicesExcept(ctx, userID, keep)
	return a.removed(ctx, tx, userID, ids, tokens, err)
}

// removed is what follows when devices were removed with their tokens, or err.
func (a *Accounts) removed(ctx context.Context, tx *storage.Tx, userID string, deviceIDs []string, tokens []storage.Hash, err error) error {
	if err != nil {
		return err
	}
	tx.AfterCommit(func() { a.cache.drop(tokens) })
	return a.devicesChanged(ctx, tx, userID, deviceIDs)
}

var errUnknownID = matrix.NotFound.With("The user has no such device")

func unknownDevice(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errUnknownID.Because(err)
	}
	return err
}
