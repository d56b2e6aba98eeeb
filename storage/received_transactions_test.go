package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

func TestReceivedTransactions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		add := func(server, txnID string, ts int64, answer string) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error { return tx.AddReceived(ctx, server, txnID, ts, []byte(answer)) })
		}
		add("a", "1", 10, `{"pdus":{}}`)
		add("a", "1", 20, `{"pdus":{"$x":{}}}`)
		add("b", "1", 30, `{"b":1}`)
		for i := range 5 {
			add("a", fmt.Sprint("t", i), int64(40+i), "{}")
		}
		answer, err := db.ReceivedAnswer(ctx, "a", "1")
		equal(t, "the first answer", `{"pdus":{}}`, string(answer), err)
		if _, err := db.ReceivedAnswer(ctx, "a", "2"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a new one: %v", err)
		}
		for _, step := range []struct{ before, limit, want int64 }{{30, 10, 1}, {44, 2, 2}, {44, 10, 3}, {44, 10, 0}} {
			var n int64
			write(t, db, func(tx *storage.Tx) (err error) {
				n, err = tx.ForgetReceived(ctx, step.before, int(step.limit))
				return err
			})
			equal(t, fmt.Sprint("forgotten before ", step.before), step.want, n, nil)
		}
		if _, err := db.ReceivedAnswer(ctx, "b", "1"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the oldest is still there: %v", err)
		}
		if _, err := db.ReceivedAnswer(ctx, "a", "t4"); err != nil {
			t.Errorf("the newest is gone: %v", err)
		}
	})
}
