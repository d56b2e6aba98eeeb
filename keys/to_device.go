package keys

import (
	"context"
	"crypto/rand"
	stdjson "encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxMessage bounds the content of a message, in bytes.
	maxMessage = 64 << 10
	// maxWaiting is how many messages may wait for one device, and maxWaitingBytes how much
	// in all. What comes beyond that is dropped.
	maxWaiting      = 10_000
	maxWaitingBytes = 64 << 20
	// dropsEvery is how often at most the log has a line of what was dropped.
	dropsEvery = time.Minute
	// maxServers is how many other servers a message may be for.
	maxServers = 1000
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
	if len(k.theirMessages(m)) > maxServers {
		return matrix.InvalidParam.Withf("A message may go to users of at most %d other servers", maxServers)
	}
	return k.deliver(ctx, []*ToDevice{m})
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

// deliver stores messages for users of this server, and has those for others sent.
func (k *Keys) deliver(ctx context.Context, list []*ToDevice) error {
	reachable, err := k.reachable(ctx, list)
	if err != nil {
		return err
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		var batches [][]storage.ToDeviceMessage
		for _, m := range list {
			txn := storage.ToDeviceTxn{Sender: m.Sender, DeviceID: m.DeviceID, Type: m.Type, TxnID: m.TxnID}
			isNew, err := tx.AddToDeviceTxn(ctx, txn, time.Now().UnixMilli())
			if err != nil {
				return err
			}
			if !isNew {
				continue
			}
			batches = append(batches, m.address(reachable))
			if err := k.sendTheirs(ctx, tx, m); err != nil {
				return err
			}
		}
		return tx.AddToDevice(ctx, batches)
	})
}

// reachable are the devices of the users of this server whom messages are for, but for
// those for which too much waits already.
func (k *Keys) reachable(ctx context.Context, list []*ToDevice) (map[string][]string, error) {
	users := map[string]bool{}
	for _, m := range list {
		for userID := range m.Messages {
			if k.ours(userID) {
				users[userID] = true
			}
		}
	}
	queues, err := k.db.ToDeviceQueues(ctx, slices.Collect(maps.Keys(users)))
	reachable := make(map[string][]string, len(users))
	for _, w := range queues {
		if w.Messages < maxWaiting && w.Bytes < maxWaitingBytes {
			reachable[w.UserID] = append(reachable[w.UserID], w.DeviceID)
			continue
		}
		for _, m := range list {
			if m.isFor(w.UserID, w.DeviceID) {
				k.dropped.note(k.logger, time.Now(), w)
			}
		}
	}
	return reachable, err
}

// isFor tells whether there is a message for a device.
func (m *ToDevice) isFor(userID, deviceID string) bool {
	contents := m.Messages[userID]
	return contents[deviceID] != nil || contents[allDevices] != nil
}

// drops counts the messages that are dropped, to tell of them now and then.
type drops struct {
	mu    sync.Mutex
	n     int
	quiet time.Time // until then
}

// note counts a message for a device for which too much waits.
func (d *drops) note(logger *slog.Logger, now time.Time, w storage.ToDeviceQueue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	if now.Before(d.quiet) {
		return
	}
	logger.Warn("messages for devices that do not fetch them are dropped", slog.Int("dropped", d.n), slog.String("user", w.UserID),
		slog.String("device", w.DeviceID), slog.Int64("waiting", w.Messages), slog.Int64("bytes", w.Bytes))
	d.n, d.quiet = 0, now.Add(dropsEvery)
}

// address makes a message for each device that is reachable.
func (m *ToDevice) address(reachable map[string][]string) []storage.ToDeviceMessage {
	var list []storage.ToDeviceMessage
	for userID, contents := range m.Messages {
		for _, deviceID := range reachable[userID] {
			content, named := contents[deviceID]
			if !named {
				if content, named = contents[allDevices]; !named {
					continue
				}
			}
			list = append(list, storage.ToDeviceMessage{UserID: userID, DeviceID: deviceID, Sender: m.Sender, Type: m.Type, Content: content})
		}
	}
	return list
}

// theirMessages are the messages of a user of this server for users of others, by server.
func (k *Keys) theirMessages(m *ToDevice) map[string]Messages {
	theirs := map[string]Messages{}
	if !k.federation || !k.ours(m.Sender) {
		return theirs
	}
	for userID, devices := range m.Messages {
		server := matrix.ServerOf(userID)
		if server == k.own || len(devices) == 0 {
			continue
		}
		if theirs[server] == nil {
			theirs[server] = Messages{}
		}
		theirs[server][userID] = devices
	}
	return theirs
}

// sendTheirs has messages for users of other servers sent.
func (k *Keys) sendTheirs(ctx context.Context, tx *storage.Tx, m *ToDevice) error {
	for server, messages := range k.theirMessages(m) {
		content, err := json.Marshal(map[string]any{
			"sender": m.Sender, "type": m.Type, "message_id": rand.Text(), "messages": messages,
		})
		if err != nil {
			return err
		}
		if err := tx.QueueEDU(ctx, storage.QueuedEDU{Servers: []string{server}, Type: "m.direct_to_device", Content: content}); err != nil {
			return err
		}
	}
	return nil
}
