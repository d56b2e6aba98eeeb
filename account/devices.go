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
	return unknownDevice(a.db.Write(ctx, func(tx *storage.Tx) error { return tx.RenameDevice(ctx, userID, deviceID, *name) }))
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
		if made, err = tx.InsertDevice(ctx, &device); err != nil || made || name == nil {
			return err
		}
		return tx.RenameDevice(ctx, userID, deviceID, *name)
	})
	return made, err
}

// DeleteDevices removes those of the devices that exist, with their tokens.
func (a *Accounts) DeleteDevices(ctx context.Context, userID string, deviceIDs []string) error {
	deviceIDs = slices.DeleteFunc(slices.Clone(deviceIDs), func(id string) bool { return !validDeviceID(id) })
	return a.db.Write(ctx, func(tx *storage.Tx) error {
		gone, err := tx.DeleteDevices(ctx, userID, deviceIDs)
		tx.AfterCommit(func() { a.cache.drop(gone) })
		return err
	})
}

var errUnknownID = matrix.NotFound.With("The user has no such device")

func unknownDevice(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errUnknownID.Because(err)
	}
	return err
}
