package storage_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

// benchWrite measures transactions of one row and one position, by so many
// writers at once.
func benchWrite(b *testing.B, url string, writers int) {
	db := storagetest.Open(b, url)
	var n atomic.Int64
	var group sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range writers {
		group.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := writeSetting(b.Context(), db, fmt.Sprint("name", i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func writeSetting(ctx context.Context, db *storage.DB, name string) error {
	return db.Write(ctx, func(tx *storage.Tx) error {
		pos := tx.Reserve()
		tx.Publish(stream.Entry{Pos: pos, Kind: stream.AccountData, User: name})
		return tx.Exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)`, name, "value")
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("sqlite/%d", writers), func(b *testing.B) {
			benchWrite(b, storagetest.SQLiteURL(b), writers)
		})
		b.Run(fmt.Sprintf("postgres/%d", writers), func(b *testing.B) {
			benchWrite(b, storagetest.OpenPostgresURL(b), writers)
		})
	}
}

// BenchmarkExec measures one statement in a transaction that goes on.
func BenchmarkExec(b *testing.B) {
	eachEngine(b, func(b *testing.B, db *storage.DB) {
		err := db.Write(b.Context(), func(tx *storage.Tx) error {
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				err := tx.Exec(b.Context(), `INSERT INTO settings (name, value) VALUES ($1, $2)`, fmt.Sprint("name", i), "value")
				if err != nil {
					return err
				}
			}
			b.StopTimer()
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkRead measures a look-up by key outside of a transaction.
func BenchmarkRead(b *testing.B) {
	eachEngine(b, func(b *testing.B, db *storage.DB) {
		if err := writeSetting(b.Context(), db, "name"); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			_, err := storage.Select[string](context.Background(), &db.Reader, `SELECT value FROM settings WHERE name = $1`, "name")
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func eachEngine(b *testing.B, bench func(b *testing.B, db *storage.DB)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, storagetest.Open(b, storagetest.SQLiteURL(b))) })
	b.Run("postgres", func(b *testing.B) { bench(b, storagetest.Open(b, storagetest.OpenPostgresURL(b))) })
}
