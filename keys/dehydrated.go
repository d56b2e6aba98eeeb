package keys

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"strconv"
	"time"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

const (
	// maxDeviceData bounds what a dehydrated device is made of again, in bytes.
	maxDeviceData = 64 << 10
	// dehydratedPage is how many messages for a dehydrated device are given at once.
	dehydratedPage = 100
)

// Dehydration is a device that is left at the server, with its keys: it gets messages for
// the user's next device, which cannot get them itself yet (MSC3814).
type Dehydration struct {
	DeviceID    string             `json:"device_id"`
	DeviceData  stdjson.RawMessage `json:"device_data"`
	DisplayName string             `json:"initial_device_display_name"`
	Upload      `json:",inline"`
}

// Dehydrated is a dehydrated device as it was left.
type Dehydrated struct {
	DeviceID   string             `json:"device_id"`
	DeviceData stdjson.RawMessage `json:"device_data"`
}

var errNotDehydrated = matrix.NotFound.With("There is no dehydrated device")

// Dehydrate makes a user's dehydrated device, in the place of the one before. M_BAD_JSON,
// M_MISSING_PARAM, M_INVALID_PARAM, M_INVALID_SIGNATURE, M_TOO_LARGE.
func (k *Keys) Dehydrate(ctx context.Context, userID string, d *Dehydration) error {
	switch {
	case !validID(d.DeviceID) || len(d.DisplayName) > maxID || !matrix.ValidText(d.DisplayName):
		return matrix.InvalidParam.Withf("A device has an id of 1 to %d bytes, and a name of as many at most", maxID)
	case len(d.DeviceData) == 0 || d.DeviceData[0] != '{':
		return matrix.BadJSON.With("device_data must be an object")
	case len(d.DeviceData) > maxDeviceData:
		return matrix.TooLarge.Withf("The device_data may have at most %d bytes", maxDeviceData)
	}
	p, err := d.parse(userID, d.DeviceID)
	if err != nil {
		return err
	}
	if p.device == nil {
		return matrix.MissingParam.With("The device_keys are missing")
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error { return k.dehydrate(ctx, tx, userID, d, p) })
}

func (k *Keys) dehydrate(ctx context.Context, tx *storage.Tx, userID string, d *Dehydration, p *parsed) error {
	if _, err := tx.LockDeviceList(ctx, userID); err != nil { // of two at the same time, one is the later
		return err
	}
	if _, err := k.removeDehydrated(ctx, tx, userID); err != nil && !errors.Is(err, errNotDehydrated) {
		return err
	}
	device := &storage.Device{UserID: userID, ID: d.DeviceID, DisplayName: d.DisplayName, Created: time.Now().UnixMilli()}
	if made, err := tx.InsertDevice(ctx, device); err != nil {
		return err
	} else if !made {
		return matrix.InvalidParam.With("There is another device with this id")
	}
	if err := tx.AddDehydratedDevice(ctx, userID, storage.DehydratedDevice{DeviceID: d.DeviceID, Data: d.DeviceData}); err != nil {
		return err
	}
	if _, err := k.upload(ctx, tx, userID, d.DeviceID, p); err != nil {
		return err
	}
	failures := &Failures{map[string]map[string]Failure{}}
	if err := k.addSignatures(ctx, tx, userID, Signatures{userID: {d.DeviceID: d.DeviceKeys}}, failures); err != nil {
		return err
	}
	if refused, ok := failures.Failures[userID][d.DeviceID]; ok {
		return errSignature.With("device_keys: " + refused.Message)
	}
	return nil
}

// removeDehydrated removes a user's dehydrated device with all that is kept for it.
func (k *Keys) removeDehydrated(ctx context.Context, tx *storage.Tx, userID string) (deviceID string, err error) {
	deviceID, err = tx.TakeDehydratedDevice(ctx, userID)
	if errors.Is(err, storage.ErrNotFound) {
		return "", errNotDehydrated
	} else if err != nil {
		return "", err
	}
	if _, _, err := tx.DeleteDevices(ctx, userID, []string{deviceID}); err != nil {
		return "", err
	}
	return deviceID, k.DevicesChanged(ctx, tx, userID, []string{deviceID})
}

// RemoveDehydrated removes a user's dehydrated device, and gives its id. M_NOT_FOUND.
func (k *Keys) RemoveDehydrated(ctx context.Context, userID string) (deviceID string, err error) {
	err = k.db.Write(ctx, func(tx *storage.Tx) error {
		deviceID, err = k.removeDehydrated(ctx, tx, userID)
		return err
	})
	return deviceID, err
}

// Dehydrated finds a user's dehydrated device. M_NOT_FOUND.
func (k *Keys) Dehydrated(ctx context.Context, userID string) (*Dehydrated, error) {
	d, err := k.db.DehydratedDevice(ctx, userID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotDehydrated
	}
	return &Dehydrated{d.DeviceID, d.Data}, err
}

// DehydratedEvents are messages for a dehydrated device. They stay until that is removed.
type DehydratedEvents struct {
	Events []DehydratedEvent `json:"events"`
	// NextBatch is where the next ones begin.
	NextBatch string `json:"next_batch,omitzero"`
	More      bool   `json:"-"`
}

// DehydratedEvent is one of them.
type DehydratedEvent struct {
	Sender  string             `json:"sender"`
	Type    string             `json:"type"`
	Content stdjson.RawMessage `json:"content"`
}

// DehydratedEvents gives the messages for a user's dehydrated device, which has this id, from
// the first one or a NextBatch on. M_FORBIDDEN for another device, M_INVALID_PARAM.
func (k *Keys) DehydratedEvents(ctx context.Context, userID, deviceID, from string) (*DehydratedEvents, error) {
	var after stream.Pos
	if from != "" {
		n, err := strconv.ParseInt(from, 10, 64)
		if err != nil || n < 0 {
			return nil, matrix.InvalidParam.With("This is no next_batch")
		}
		after = stream.Pos(n)
	}
	d, err := k.db.DehydratedDevice(ctx, userID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && d.DeviceID != deviceID {
		return nil, matrix.Forbidden.With("This is not the dehydrated device")
	} else if err != nil {
		return nil, err
	}
	upTo, err := k.present(ctx)
	if err != nil {
		return nil, err
	}
	messages, err := k.db.ToDeviceMessages(ctx, userID, deviceID, after, upTo, dehydratedPage+1)
	if err != nil {
		return nil, err
	}
	answer := &DehydratedEvents{Events: []DehydratedEvent{}, More: len(messages) > dehydratedPage}
	for _, m := range messages[:min(len(messages), dehydratedPage)] {
		answer.Events = append(answer.Events, DehydratedEvent{m.Sender, m.Type, m.Content})
		after = m.Pos
	}
	answer.NextBatch = posText(after)
	return answer, nil
}

// present is a position below which everything is done that was acknowledged until now: who
// reads up to it misses no message, and none comes later that lies before it.
func (k *Keys) present(ctx context.Context) (pos stream.Pos, err error) {
	err = k.db.Write(ctx, func(tx *storage.Tx) error {
		pos = tx.Reserve()
		return nil
	})
	if err == nil {
		_, err = k.db.Clock.Wait(ctx, pos-1)
	}
	return pos, err
}
