package federation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"beep/federation"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream/bubbletest"
)

// Answers to transactions are forgotten after some days: those of before a start at once,
// however many they are, and the others when their time has come.
func TestAnswersAreForgotten(t *testing.T) {
	for engine, url := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		t.Run(engine, func(t *testing.T) {
			at := url(t)
			bubbletest.Test(t, func(t *testing.T) { answersAreForgotten(t, storagetest.Open(t, at)) })
		})
	}
}

func answersAreForgotten(t *testing.T, db *storage.DB) {
	const day = 24 * time.Hour
	add := func(txnID string, age time.Duration) {
		t.Helper()
		err := db.Write(t.Context(), func(tx *storage.Tx) error {
			return tx.AddReceived(t.Context(), "a.example", txnID, time.Now().Add(-age).UnixMilli(), []byte("{}"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := func(txnID string) bool {
		t.Helper()
		_, err := db.ReceivedAnswer(t.Context(), "a.example", txnID)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	err := db.Write(t.Context(), func(tx *storage.Tx) error {
		for i := range 2500 {
			if err := tx.AddReceived(t.Context(), "a.example", fmt.Sprint("old", i), time.Now().Add(-4*day).UnixMilli(), []byte("{}")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	add("yesterday", day)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- federation.NewAPI(federation.Parts{DB: db}).Run(ctx) }()
	time.Sleep(time.Minute)
	for i := range 2500 {
		if txnID := fmt.Sprint("old", i); kept(txnID) {
			t.Fatalf("%s is still there", txnID)
		}
	}
	if add("now", 0); !kept("yesterday") || !kept("now") {
		t.Error("what may be sent again is forgotten")
	}
	time.Sleep(2*day + 2*time.Hour)
	if kept("yesterday") || !kept("now") {
		t.Error("two days later only the one of yesterday is to be forgotten")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
