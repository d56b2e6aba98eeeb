package keys_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"beep/keys"
	"beep/storage"
	"beep/storage/storagetest"
)

// Messages for a device are dropped when there are too many or too large ones already, and
// the log tells it, not for each. Other devices get theirs.
func TestQueuesAreBounded(t *testing.T) {
	const many, large, each = 10_000, 64 << 20, 1000
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		log := &bytes.Buffer{}
		k := keys.New(keys.Options{DB: db, ServerName: own, Logger: slog.New(slog.NewTextHandler(log, nil))})
		write := func(fn func(tx *storage.Tx) error) {
			t.Helper()
			if err := db.Write(ctx, fn); err != nil {
				t.Fatal(err)
			}
		}
		write(func(tx *storage.Tx) error {
			for _, id := range []string{"LARGE", "MANY", "OTHER"} {
				if _, err := tx.InsertDevice(ctx, &storage.Device{UserID: alice, ID: id}); err != nil {
					return err
				}
			}
			return nil
		})
		fill := func(device, content string, n int) {
			t.Helper()
			var batches [][]storage.ToDeviceMessage
			for range n {
				batches = append(batches, []storage.ToDeviceMessage{{UserID: alice, DeviceID: device, Sender: bob, Type: "t", Content: json.RawMessage(content)}})
			}
			write(func(tx *storage.Tx) error { return tx.AddToDevice(ctx, batches) })
		}
		fill("LARGE", `{"x":"`+strings.Repeat("x", large/8)+`"}`, 7)
		for range many/each - 1 {
			fill("MANY", `{}`, each)
		}
		fill("MANY", `{}`, each-1)
		waiting := func() (all [3]int64) {
			t.Helper()
			queues, err := db.ToDeviceQueues(ctx, []string{alice})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range queues {
				all[strings.Index("LMO", w.DeviceID[:1])] = w.Messages
			}
			return all
		}
		send := func(txn string) {
			t.Helper()
			message := &keys.ToDevice{Sender: alice, DeviceID: "OTHER", Type: "t", TxnID: txn,
				Messages: keys.Messages{alice: {"*": json.RawMessage(`{}`)}}}
			if err := k.SendToDevice(ctx, message); err != nil {
				t.Fatal(err)
			}
		}
		send("fits")
		if got := waiting(); got != [3]int64{8, many, 1} || log.Len() > 0 {
			t.Errorf("waiting are %v; %s", got, log)
		}
		fill("LARGE", `{"x":"`+strings.Repeat("x", large/8)+`"}`, 1)
		for i := range 3 {
			send(fmt.Sprint(i))
		}
		if got := waiting(); got != [3]int64{9, many, 4} {
			t.Errorf("waiting are %v", got)
		}
		if n := strings.Count(log.String(), "dropped"); n != 2 { // once in the text, once as the number
			t.Errorf("logged: %s", log)
		}
	})
}
