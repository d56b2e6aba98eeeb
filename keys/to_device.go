package keys

import (
	"context"
	stdjson "encoding/json"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxMessage bounds the content of a message, in bytes.
	maxMessage = 64 << 10
	// allDevices stands for all devices of a user.
	allDevices = "*"
)

// Messages are contents, JSON objects, by user and device. The device * stands for all of
// the user's devices that are not named.
type Messages map[string]map[string]stdjson.RawMessage

// ToDevice is a message, the same in type and sender, for many devices.
type ToDevice struct {
	Sender   string
	DeviceID string // of the sender; "" for one of another server
	Type     string
	TxnID    string // a transaction of the device, or the message_id of the other server
	Messages Messages
}

// SendToDevice sends messages of a user of this server to devices. What was sent before
// with the same transaction id is not sent again. M_INVALID_PARAM, M_TOO_LARGE.
func (k *Keys) SendToDevice(ctx context.Context, m *ToDevice) error {
	if err := m.check(); err != nil {
		return err
	}
	return k.deliver(ctx, m, k.ownMessages(m.Messages))
}

// check refuses what has not the form of a message.
func (m *ToDevice) check() error {
	if !validID(m.Type) || !validID(m.TxnID) {
		return matrix.InvalidParam.Withf("A type and a transaction id have 1 to %d bytes", maxID)
	}
	for userID, devices := range m.Messages {
		if !matrix.ValidUserID(userID) {
			return matrix.InvalidParam.Withf("%q is not a user id", userID)
		}
		for _, content := range devices {
			if len(content) == 0 || content[0] != '{' {
				return matrix.BadJSON.With("The content of a message must be an object")
			}
			if len(content) > maxMessage {
				return matrix.TooLarge.Withf("The content of a message may have at most %d bytes", maxMessage)
			}
		}
	}
	return nil
}

// ownMessages are those for users of this server.
func (k *Keys) ownMessages(all Messages) Messages {
	own := Messages{}
	for userID, devices := range all {
		if k.ours(userID) {
			own[userID] = devices
		}
	}
	return own
}

// deliver stores messages for users of this server.
func (k *Keys) deliver(ctx context.Context, m *ToDevice, own Messages) error {
	list, err := k.address(ctx, m, own)
	if err != nil {
		return err
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		txn := storage.ToDeviceTxn{Sender: m.Sender, DeviceID: m.DeviceID, Type: m.Type, TxnID: m.TxnID}
		isNew, err := tx.AddToDeviceTxn(ctx, txn, time.Now().UnixMilli())
		if err != nil || !isNew {
			return err
		}
		return tx.AddToDevice(ctx, list)
	})
}

// address makes a message for each device. Devices that do not exist get none, and neither
// do those for which too many wait already.
func (k *Keys) address(ctx context.Context, m *ToDevice, own Messages) ([]storage.ToDeviceMessage, error) {
	userIDs := make([]string, 0, len(own))
	for userID := range own {
		userIDs = append(userIDs, userID)
	}
	reachable, err := k.db.Reachable(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	var list []storage.ToDeviceMessage
	for userID, deviceIDs := range reachable {
		for _, deviceID := range deviceIDs {
			content, named := own[userID][deviceID]
			if !named {
				if content, named = own[userID][allDevices]; !named {
					continue
				}
			}
			list = append(list, storage.ToDeviceMessage{UserID: userID, DeviceID: deviceID, Sender: m.Sender, Type: m.Type, Content: content})
		}
	}
	return list, nil
}
