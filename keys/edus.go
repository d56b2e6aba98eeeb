package keys

import (
	"context"
	stdjson "encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/storage"
)

// maxMessageID is how many characters a message_id may have.
const maxMessageID = 32

// TakeToDevice takes in m.direct_to_device of another server. Messages in the name of
// users who are not of that server are dropped.
func (k *Keys) TakeToDevice(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	var list []*ToDevice
	for _, raw := range contents {
		var content struct {
			Sender    string   `json:"sender"`
			Type      string   `json:"type"`
			MessageID string   `json:"message_id"`
			Messages  Messages `json:"messages"`
		}
		if json.Unmarshal(raw, &content) != nil || !matrix.ValidUserID(content.Sender) || matrix.ServerOf(content.Sender) != origin ||
			utf8.RuneCountInString(content.MessageID) > maxMessageID {
			continue
		}
		m := &ToDevice{Sender: content.Sender, Type: content.Type, TxnID: content.MessageID, Messages: content.Messages}
		if m.check() == nil {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return k.deliver(ctx, list)
}

// listUpdate is the content of m.device_list_update.
type listUpdate struct {
	UserID      string             `json:"user_id"`
	DeviceID    string             `json:"device_id"`
	StreamID    int64              `json:"stream_id"`
	PrevID      []int64            `json:"prev_id"`
	Deleted     bool               `json:"deleted,omitzero"`
	DisplayName string             `json:"device_display_name,omitzero"`
	Keys        stdjson.RawMessage `json:"keys,omitzero"`
}

// TakeDeviceLists takes in m.device_list_update of another server, of its users who share
// a room with users of this one.
func (k *Keys) TakeDeviceLists(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	updates := map[string][]listUpdate{}
	for _, raw := range contents {
		var u listUpdate
		if json.Unmarshal(raw, &u) == nil && matrix.ValidUserID(u.UserID) && matrix.ServerOf(u.UserID) == origin && validID(u.DeviceID) {
			updates[u.UserID] = append(updates[u.UserID], u)
		}
	}
	return k.takeChanges(ctx, updates)
}

// takeChanges tells clients of the users, and brings their lists up to date. Lists that are
// not kept yet are fetched: their servers are there now, and may not be when clients ask.
func (k *Keys) takeChanges(ctx context.Context, updates map[string][]listUpdate) error {
	userIDs := make([]string, 0, len(updates))
	for userID := range updates {
		userIDs = append(userIDs, userID)
	}
	near, err := k.db.WithUs(ctx, k.own, userIDs)
	if err != nil || len(near) == 0 {
		return err
	}
	slices.Sort(near) // no two transactions lock them in another order
	stale := false
	err = k.db.Write(ctx, func(tx *storage.Tx) error {
		stale = false
		for _, userID := range near {
			if err := tx.ChangeDeviceList(ctx, userID); err != nil {
				return err
			}
		}
		lists, err := tx.RemoteLists(ctx, near)
		if err != nil {
			return err
		}
		for _, userID := range near {
			whole, err := false, error(nil)
			if list, kept := lists[userID]; kept && !list.Stale {
				whole, err = k.follow(ctx, tx, list, updates[userID])
			}
			if err == nil && !whole {
				stale, err = true, tx.MarkStale(ctx, userID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && stale {
		k.wakeRenewal()
	}
	return err
}

// follow brings one list up to date. It tells whether it could: whether no update was
// missed, and there are not more devices than are believed.
func (k *Keys) follow(ctx context.Context, tx *storage.Tx, list storage.RemoteList, updates []listUpdate) (whole bool, err error) {
	at := list.StreamID
	for _, u := range updates {
		if u.StreamID == at && at != 0 {
			continue // it came before
		}
		if u.StreamID < at || at == 0 || len(u.PrevID) == 0 || slices.ContainsFunc(u.PrevID, func(id int64) bool { return id != at }) {
			return false, nil
		}
		device := storage.DeviceKeys{UserID: u.UserID, DeviceID: u.DeviceID}
		if d := theirDevice(u.UserID, u.DeviceID, u.DisplayName, u.Keys); d != nil && !u.Deleted {
			device = *d
		}
		if err := tx.SetRemoteDevice(ctx, device); err != nil {
			return false, err
		}
		at = u.StreamID
	}
	n, err := tx.CountRemoteDevices(ctx, list.UserID)
	if err != nil || n > maxDevices {
		return false, err
	}
	return true, tx.SetRemoteList(ctx, list.UserID, at)
}
