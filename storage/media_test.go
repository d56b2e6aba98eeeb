package storage_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
)

func TestMedia(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		full := storage.Media{ID: "a", UserID: alice, Created: 1, Hash: "h1", Size: 5, ContentType: "image/png", Name: "ä.png", Frozen: true}
		write(t, db, func(tx *storage.Tx) error { return tx.InsertMedia(ctx, &full) })
		got, err := db.Media(ctx, "", "a")
		if diff := cmp.Diff(full, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if _, err := db.Media(ctx, "elsewhere", "a"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("of another server: %v", err)
		}
		refused(t, db, storage.ErrExists, func(tx *storage.Tx) error { return tx.InsertMedia(ctx, &full) })

		remote := storage.Media{Server: "elsewhere", ID: "a", Created: 1, Used: 1, Hash: "h1", Size: 5}
		write(t, db, func(tx *storage.Tx) error { return tx.ReplaceMedia(ctx, &remote) })
		remote.Hash, remote.Size = "h2", 7
		write(t, db, func(tx *storage.Tx) error { return tx.ReplaceMedia(ctx, &remote) })
		got, err = db.Media(ctx, "elsewhere", "a")
		equal(t, "the replaced", remote, got, err)
	})
}

func TestPendingMedia(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		for i := range 3 {
			m := storage.Media{ID: fmt.Sprint("p", i), UserID: alice, Expires: int64(100 + i)}
			write(t, db, func(tx *storage.Tx) error { return tx.InsertMedia(ctx, &m) })
		}
		pending := func(now, want int64) {
			t.Helper()
			n, err := db.PendingMedia(ctx, alice, now)
			equal(t, fmt.Sprint("pending at ", now), want, n, err)
		}
		pending(99, 3)
		pending(100, 2)
		fill := storage.Media{ID: "p1", UserID: alice, Hash: "h", Size: 3, ContentType: "a/b", Name: "n", Frozen: true}
		for name, m := range map[string]storage.Media{
			"of another user": {ID: "p1", UserID: "@bob:example.org", Hash: "h"}, "an unknown one": {ID: "p9", UserID: alice, Hash: "h"},
			"an expired one": {ID: "p0", UserID: alice, Hash: "h"},
		} {
			t.Run(name, func(t *testing.T) {
				refused(t, db, storage.ErrNotFound, func(tx *storage.Tx) error { return tx.FillMedia(ctx, &m, 100) })
			})
		}
		write(t, db, func(tx *storage.Tx) error { return tx.FillMedia(ctx, &fill, 100) })
		refused(t, db, storage.ErrNotFound, func(tx *storage.Tx) error { return tx.FillMedia(ctx, &fill, 100) })
		got, err := db.Media(ctx, "", "p1")
		equal(t, "the filled", fill, got, err)
		pending(99, 2)
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteExpiredMedia(ctx, 101) })
		pending(0, 1)
		if _, err := db.Media(ctx, "", "p1"); err != nil {
			t.Errorf("what was uploaded expires: %v", err)
		}
	})
}

func TestCountUploads(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		const users = 8
		var group sync.WaitGroup
		for range users {
			group.Go(func() {
				err := db.Write(ctx, func(tx *storage.Tx) error {
					_, _, err := tx.CountUpload(ctx, alice, 1, 10)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		files, bytes, err := db.Uploaded(ctx, alice)
		equal(t, "files and bytes", [2]int64{users, 10 * users}, [2]int64{files, bytes}, err)
		files, bytes, err = db.Uploaded(ctx, "@bob:example.org")
		equal(t, "of nobody", [2]int64{}, [2]int64{files, bytes}, err)
	})
}

func TestRemoteMedia(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		total := func(want int64) {
			t.Helper()
			n, err := db.RemoteMediaBytes(ctx)
			equal(t, "bytes of other servers", want, n, err)
		}
		total(0)
		oldest := func(limit int) (ids []string) {
			t.Helper()
			found, err := db.OldestRemoteMedia(ctx, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range found {
				ids = append(ids, fmt.Sprint(m.Server, "/", m.ID, " ", m.Hash, " ", m.Size))
			}
			return ids
		}
		m := storage.Media{Server: "x", ID: "1", Used: 30, Hash: "h1", Size: 10}
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(
				tx.InsertMedia(ctx, &storage.Media{ID: "own", UserID: alice, Hash: "h1", Size: 1000}),
				tx.InsertMedia(ctx, &m),
				tx.InsertMedia(ctx, &storage.Media{Server: "x", ID: "2", Used: 20, Hash: "h2", Size: 10}),
				tx.AddThumbnail(ctx, &m, &storage.Thumbnail{Source: "h1", Width: 32, Height: 32, Method: "crop", Hash: "t1", Size: 3}),
				tx.AddThumbnail(ctx, &m, &storage.Thumbnail{Source: "h1", Width: 32, Height: 32, Method: "crop", Hash: "t2", Size: 9}),
				tx.AddThumbnail(ctx, &m, &storage.Thumbnail{Source: "h1", Width: 96, Height: 96, Method: "crop", Hash: "h1", Size: 10}),
			)
		})
		total(23)
		equal(t, "the oldest", []string{"x/2 h2 10", "x/1 h1 13"}, oldest(5), nil)
		write(t, db, func(tx *storage.Tx) error { return tx.UseMedia(ctx, "x", "2", 40) })
		equal(t, "the oldest after a use", []string{"x/1 h1 13"}, oldest(1), nil)
		var gone []storage.Media
		write(t, db, func(tx *storage.Tx) (err error) {
			gone, err = tx.DeleteOldestRemoteMedia(ctx, 1)
			return err
		})
		equal(t, "the removed", []storage.Media{{Server: "x", ID: "1", Hash: "h1", Size: 13}}, gone, nil)
		total(10)
	})
}

func TestThumbnailsAndFiles(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		used := func(want ...string) {
			t.Helper()
			got, err := db.UsedFiles(ctx, []string{"", "h1", "h2", "t1", "t2", "other"})
			slices.Sort(got)
			equal(t, "used files", append([]string{}, want...), got, err)
		}
		m := storage.Media{Server: "x", ID: "a", Hash: "h1", Size: 10}
		thumbnail := storage.Thumbnail{Source: "h1", Width: 32, Height: 32, Method: "crop", Hash: "t1", Size: 3, ContentType: "image/png"}
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(
				tx.InsertMedia(ctx, &m),
				tx.InsertMedia(ctx, &storage.Media{ID: "pending", UserID: alice, Expires: 5}),
				tx.AddThumbnail(ctx, &m, &thumbnail),
				tx.AddThumbnail(ctx, &m, &storage.Thumbnail{Source: "h1", Width: 96, Height: 96, Method: "crop", Hash: "h1", Size: 10}),
				tx.AddThumbnail(ctx, &m, &storage.Thumbnail{Source: "h2", ContentType: "no image"}),
			)
		})
		used("h1", "t1")
		got, err := db.Thumbnail(ctx, "h1", 32, 32, "crop")
		equal(t, "a thumbnail", thumbnail, got, err)
		for _, method := range []string{"scale", ""} {
			if _, err := db.Thumbnail(ctx, "h1", 32, 32, method); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("another method: %v", err)
			}
		}
		got, err = db.Thumbnail(ctx, "h2", 32, 32, "crop")
		equal(t, "of what has none", storage.Thumbnail{Source: "h2", ContentType: "no image"}, got, err)

		write(t, db, func(tx *storage.Tx) error { return tx.DeleteStrayThumbnails(ctx) })
		if _, err = db.Thumbnail(ctx, "h2", 32, 32, "crop"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("of an unknown image: %v", err)
		}
		write(t, db, func(tx *storage.Tx) error {
			_, err := tx.DeleteOldestRemoteMedia(ctx, 5)
			return err
		})
		used("t1") // not by the thumbnail that is the image itself
		var hashes []string
		write(t, db, func(tx *storage.Tx) (err error) {
			hashes, err = tx.DeleteThumbnails(ctx, "h1")
			return err
		})
		slices.Sort(hashes)
		equal(t, "files of deleted thumbnails", []string{"h1", "t1"}, hashes, nil)
		used()
	})
}
