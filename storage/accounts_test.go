package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
)

const alice = "@alice:example.org"

// refused runs a transaction that has to fail with want.
func refused(t *testing.T, db *storage.DB, want error, fn func(tx *storage.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), fn); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func insertUsers(t *testing.T, db *storage.DB, users ...storage.Credentials) {
	t.Helper()
	ctx := t.Context()
	write(t, db, func(tx *storage.Tx) error {
		for _, u := range users {
			if err := tx.InsertUser(ctx, &u); err != nil {
				return err
			}
		}
		return nil
	})
}

func user(id string) storage.Credentials {
	return storage.Credentials{User: storage.User{ID: id, Created: 1}, Password: "hash"}
}

func TestUsers(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		full := storage.Credentials{
			User:     storage.User{ID: alice, Created: 1234567890123, Admin: true, Appservice: "irc", Type: "bot"},
			Password: "$argon2id$…",
		}
		guest := storage.Credentials{User: storage.User{ID: "@guest:example.org", Created: 2, Guest: true}}
		insertUsers(t, db, full, guest, user("@Zoe:example.org"))

		got, err := db.Credentials(ctx, alice)
		if diff := cmp.Diff(full, got); err != nil || diff != "" {
			t.Errorf("Credentials: %v\n%s", err, diff)
		}
		if u, err := db.User(ctx, guest.ID); err != nil || u != guest.User {
			t.Errorf("User: %+v, %v", u, err)
		}
		if _, err := db.User(ctx, "@ALICE:example.org"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("an unknown user: %v", err)
		}
		refused(t, db, storage.ErrExists, func(tx *storage.Tx) error {
			again := user(alice)
			return tx.InsertUser(ctx, &again)
		})

		var ids []string
		for after := ""; ; {
			page, err := db.Users(ctx, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, u := range page {
				ids = append(ids, u.ID)
			}
			after = ids[len(ids)-1]
		}
		if diff := cmp.Diff([]string{"@Zoe:example.org", alice, guest.ID}, ids); diff != "" {
			t.Error("Users are ordered by byte, on both engines:\n", diff)
		}
	})
}

func TestUserChanges(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		guest := user("@guest:example.org")
		guest.Guest, guest.Password = true, ""
		insertUsers(t, db, user(alice), guest)
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(
				tx.SetAdmin(ctx, alice, true),
				tx.SetLocked(ctx, alice, true),
				tx.SetSuspended(ctx, alice, true),
				tx.ReplacePassword(ctx, alice, "another", "unseen"),
				tx.ReplacePassword(ctx, alice, "hash", "newer"),
				tx.UpgradeGuest(ctx, guest.ID, "theirs"),
				tx.AcceptTerms(ctx, alice, "privacy", "1", 5),
				tx.AcceptTerms(ctx, alice, "privacy", "1", 6),
			)
		})
		want := user(alice)
		want.Admin, want.Locked, want.Suspended, want.Password = true, true, true, "newer"
		if got, err := db.Credentials(ctx, alice); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		guest.Guest, guest.Password = false, "theirs"
		if got, err := db.Credentials(ctx, guest.ID); err != nil || got != guest {
			t.Errorf("got %+v, %v, want %+v", got, err, guest)
		}
		for name, fn := range map[string]func(tx *storage.Tx) error{
			"SetPassword":  func(tx *storage.Tx) error { return tx.SetPassword(ctx, "@x:y", "h") },
			"SetAdmin":     func(tx *storage.Tx) error { return tx.SetAdmin(ctx, "@x:y", true) },
			"UpgradeGuest": func(tx *storage.Tx) error { return tx.UpgradeGuest(ctx, alice, "h") },
			"LockUser": func(tx *storage.Tx) error {
				_, err := tx.LockUser(ctx, "@x:y")
				return err
			},
		} {
			t.Run(name, func(t *testing.T) { refused(t, db, storage.ErrNotFound, fn) })
		}
	})
}

func TestDeactivateUser(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertUsers(t, db, user(alice), user("@bob:example.org"))
		deactivate := func(erase bool) {
			write(t, db, func(tx *storage.Tx) error { return tx.DeactivateUser(ctx, alice, erase) })
		}
		leaving := func(want ...string) {
			t.Helper()
			users, err := db.LeavingUsers(ctx, 10)
			ids := []string{}
			for _, u := range users {
				ids = append(ids, u.ID)
			}
			if err != nil || !slices.Equal(ids, want) {
				t.Errorf("leaving are %v, %v, want %v", ids, err, want)
			}
		}
		left := func() {
			write(t, db, func(tx *storage.Tx) error { return tx.EndLeaving(ctx, alice) })
		}
		leaving()
		deactivate(false)
		leaving(alice)
		if c, _ := db.Credentials(ctx, alice); !c.Deactivated || c.Erased || c.Password != "hash" {
			t.Errorf("deactivated: %+v", c)
		}
		left()
		leaving()
		deactivate(false) // once more changes nothing
		leaving()
		deactivate(true) // but to erase is something new
		leaving(alice)
		left()
		deactivate(true)
		leaving()
		if c, _ := db.Credentials(ctx, alice); !c.Deactivated || !c.Erased || c.Password != "" {
			t.Errorf("erased: %+v", c)
		}
	})
}

func TestDevices(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		devices := make([]storage.Device, 2*storage.SeenBatch)
		for i := range devices {
			devices[i] = storage.Device{UserID: alice, ID: fmt.Sprintf("D%02d", i), DisplayName: "a phone", Created: 7, Seen: storage.Seen{At: 7}}
		}
		write(t, db, func(tx *storage.Tx) error {
			for i := range devices {
				if made, err := tx.InsertDevice(ctx, &devices[i]); err != nil || !made {
					return fmt.Errorf("made %v: %w", made, err)
				}
			}
			again := devices[0]
			again.DisplayName = "stolen"
			if made, err := tx.InsertDevice(ctx, &again); err != nil || made {
				return fmt.Errorf("made %v: %w", made, err)
			}
			return tx.RenameDevice(ctx, alice, "D01", "")
		})
		devices[1].DisplayName = ""
		got, err := db.Devices(ctx, alice)
		if diff := cmp.Diff(devices, got); err != nil || diff != "" {
			t.Fatalf("Devices: %v\n%s", err, diff)
		}
		refused(t, db, storage.ErrNotFound, func(tx *storage.Tx) error {
			return tx.RenameDevice(ctx, "@bob:example.org", "D01", "x")
		})

		// A full batch, and a part of one with a device that is gone.
		for i := range storage.SeenBatch + 1 {
			devices[i].Seen = storage.Seen{At: int64(1e12) + int64(i), IP: "2001:db8::1", Agent: "client/1"}
		}
		write(t, db, func(tx *storage.Tx) error {
			gone := storage.Device{UserID: alice, ID: "GONE", Seen: storage.Seen{At: 9}}
			return errors.Join(
				tx.UpdateSeen(ctx, devices[:storage.SeenBatch]),
				tx.UpdateSeen(ctx, append([]storage.Device{gone}, devices[storage.SeenBatch])),
			)
		})
		got, err = db.Devices(ctx, alice)
		if diff := cmp.Diff(devices, got); err != nil || diff != "" {
			t.Fatalf("after UpdateSeen: %v\n%s", err, diff)
		}
		if _, err := db.Device(ctx, alice, "GONE"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a device that nobody made: %v", err)
		}
	})
}

// tokensOf gives a device with an access token and a refresh token of a family.
func tokensOf(ctx context.Context, tx *storage.Tx, userID, device, family string, generation int64) error {
	name := userID + device + family + fmt.Sprint(generation)
	_, err := tx.InsertDevice(ctx, &storage.Device{UserID: userID, ID: device})
	return errors.Join(err,
		tx.InsertAccessToken(ctx, &storage.AccessToken{Hash: storage.HashToken("a" + name), UserID: userID, DeviceID: device,
			Family: []byte(family), Generation: generation, Created: generation, Expires: 99}),
		tx.InsertRefreshToken(ctx, &storage.RefreshToken{Hash: storage.HashToken("r" + name), UserID: userID, DeviceID: device,
			Family: []byte(family), Generation: generation, Created: generation}))
}

func TestSessions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertUsers(t, db, user(alice))
		plain := storage.AccessToken{Hash: storage.HashToken("plain"), UserID: alice, DeviceID: "D", Used: true, Created: 3}
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tx.SetLocked(ctx, alice, true), tx.InsertAccessToken(ctx, &plain))
		})
		want := storage.Session{AccessToken: plain, User: storage.User{ID: alice, Locked: true}}
		got, err := db.SessionByToken(ctx, plain.Hash)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("SessionByToken: %v\n%s", err, diff)
		}
		if _, err := db.SessionByToken(ctx, storage.HashToken("other")); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("an unknown token: %v", err)
		}
		if hashes, err := db.AccessTokens(ctx, alice); err != nil || !slices.Equal(hashes, []storage.Hash{plain.Hash}) {
			t.Errorf("AccessTokens: %v, %v", hashes, err)
		}
		refused(t, db, storage.ErrExists, func(tx *storage.Tx) error { return tx.InsertAccessToken(ctx, &plain) })
	})
}

func TestGenerations(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		insertUsers(t, db, user(alice))
		family := []byte("F")
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tokensOf(ctx, tx, alice, "D", "F", 1), tokensOf(ctx, tx, alice, "D", "F", 2),
				tokensOf(ctx, tx, alice, "E", "G", 1))
		})
		newest, err := db.NewestOfFamily(ctx, family)
		if err != nil || newest.Generation != 2 || newest.UserID != alice || newest.DeviceID != "D" {
			t.Fatalf("NewestOfFamily: %+v, %v", newest, err)
		}
		write(t, db, func(tx *storage.Tx) error {
			gone, err := tx.UseGeneration(ctx, alice, "D", family, 2)
			if want := storage.HashToken("a" + alice + "DF1"); !slices.Equal(gone, []storage.Hash{want}) {
				t.Errorf("UseGeneration gave %v", gone)
			}
			return err
		})
		if s, err := db.SessionByToken(ctx, storage.HashToken("a"+alice+"DF2")); err != nil || !s.Used {
			t.Errorf("the token in use: %+v, %v", s.AccessToken, err)
		}
		if _, err := db.RefreshToken(ctx, storage.HashToken("r"+alice+"DF1")); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the refresh token before: %v", err)
		}
		write(t, db, func(tx *storage.Tx) error {
			gone, err := tx.DeleteGeneration(ctx, &newest, 2, 2)
			if len(gone) != 0 {
				t.Error("DeleteGeneration removed a token of that very time")
			}
			return err
		})
		write(t, db, func(tx *storage.Tx) error {
			gone, err := tx.DeleteGeneration(ctx, &newest, 2, 3)
			if len(gone) != 1 {
				t.Errorf("DeleteGeneration gave %v", gone)
			}
			return err
		})
		if _, err := db.NewestOfFamily(ctx, family); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a family without tokens: %v", err)
		}
		if _, err := db.NewestOfFamily(ctx, []byte("G")); err != nil {
			t.Errorf("another family: %v", err)
		}
	})
}

// deleted checks which devices were removed, and gives the rest of the results.
func deleted(t *testing.T, want []string) func(ids []string, gone []storage.Hash, err error) ([]storage.Hash, error) {
	return func(ids []string, gone []storage.Hash, err error) ([]storage.Hash, error) {
		if slices.Sort(ids); !slices.Equal(ids, want) {
			t.Errorf("the devices %v were removed, not %v", ids, want)
		}
		return gone, err
	}
}

func TestDeleteDevices(t *testing.T) {
	const bob = "@bob:example.org"
	for _, test := range []struct {
		name   string
		delete func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error)
		gone   []string // access tokens
		left   []string // devices of alice
	}{
		{"some", func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error) {
			return deleted(t, []string{"A", "C"})(tx.DeleteDevices(ctx, alice, []string{"A", "C", "unknown"}))
		}, []string{"A", "C"}, []string{"B"}},
		{"none", func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error) {
			return deleted(t, []string{})(tx.DeleteDevices(ctx, alice, nil))
		}, nil, []string{"A", "B", "C"}},
		{"but one", func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error) {
			return deleted(t, []string{"A", "C"})(tx.DeleteDevicesExcept(ctx, alice, "B"))
		}, []string{"A", "C"}, []string{"B"}},
		{"all", func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error) {
			return deleted(t, []string{"A", "B", "C"})(tx.DeleteDevicesExcept(ctx, alice, ""))
		}, []string{"A", "B", "C"}, nil},
		{"tokens only", func(ctx context.Context, tx *storage.Tx) ([]storage.Hash, error) {
			return tx.DeleteTokens(ctx, alice, "A")
		}, []string{"A"}, []string{"A", "B", "C"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			storagetest.Each(t, func(t *testing.T, db *storage.DB) {
				ctx := t.Context()
				insertUsers(t, db, user(alice), user(bob))
				write(t, db, func(tx *storage.Tx) error {
					return errors.Join(tokensOf(ctx, tx, alice, "A", "F", 1), tokensOf(ctx, tx, alice, "B", "F", 1),
						tokensOf(ctx, tx, alice, "C", "F", 1), tokensOf(ctx, tx, bob, "A", "F", 1))
				})
				want := []storage.Hash{}
				for _, device := range test.gone {
					want = append(want, storage.HashToken("a"+alice+device+"F1"))
				}
				write(t, db, func(tx *storage.Tx) error {
					gone, err := test.delete(ctx, tx)
					if diff := cmp.Diff(want, gone, cmp.Transformer("sort", sortHashes)); diff != "" {
						t.Error("the hashes of what is gone:\n", diff)
					}
					return err
				})
				devices, err := db.Devices(ctx, alice)
				var left []string
				for _, d := range devices {
					left = append(left, d.ID)
				}
				if err != nil || !slices.Equal(left, test.left) {
					t.Errorf("left are %v, %v, want %v", left, err, test.left)
				}
				for _, device := range test.gone {
					if _, err := db.RefreshToken(ctx, storage.HashToken("r"+alice+device+"F1")); !errors.Is(err, storage.ErrNotFound) {
						t.Errorf("refresh token of %s: %v", device, err)
					}
				}
				if _, err := db.SessionByToken(ctx, storage.HashToken("a"+bob+"AF1")); err != nil {
					t.Errorf("the other user's token: %v", err)
				}
			})
		})
	}
}

func sortHashes(hashes []storage.Hash) []string {
	all := []string{}
	for _, h := range hashes {
		all = append(all, fmt.Sprintf("%x", h[:]))
	}
	slices.Sort(all)
	return all
}

func TestPurposeTokens(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		login, openID, old := storage.HashToken("login"), storage.HashToken("openid"), storage.HashToken("old")
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(
				tx.InsertPurposeToken(ctx, login, storage.PurposeLogin, alice, 100),
				tx.InsertPurposeToken(ctx, openID, storage.PurposeOpenID, alice, 100),
				tx.InsertPurposeToken(ctx, old, storage.PurposeLogin, alice, 50))
		})
		take := func(hash storage.Hash, purpose string) func(tx *storage.Tx) error {
			return func(tx *storage.Tx) error {
				userID, err := tx.TakePurposeToken(ctx, hash, purpose, 50)
				if err == nil && userID != alice {
					t.Errorf("the token is of %q", userID)
				}
				return err
			}
		}
		refused(t, db, storage.ErrNotFound, take(openID, storage.PurposeLogin))
		refused(t, db, storage.ErrNotFound, take(old, storage.PurposeLogin))
		write(t, db, take(login, storage.PurposeLogin))
		refused(t, db, storage.ErrNotFound, take(login, storage.PurposeLogin))

		write(t, db, func(tx *storage.Tx) error { return tx.DeleteExpiredTokens(ctx, 99) })
		if userID, err := db.PurposeToken(ctx, openID, storage.PurposeOpenID, 99); err != nil || userID != alice {
			t.Errorf("PurposeToken: %q, %v", userID, err)
		}
		if _, err := db.PurposeToken(ctx, openID, storage.PurposeOpenID, 100); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("an expired token: %v", err)
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeletePurposeTokens(ctx, alice) })
		if _, err := db.PurposeToken(ctx, openID, storage.PurposeOpenID, 1); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a deleted token: %v", err)
		}
	})
}

func TestRegistrationTokens(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		two, expires := int64(2), int64(100)
		limited := storage.RegistrationToken{Token: "limited", UsesAllowed: &two, Expires: &expires}
		free := storage.RegistrationToken{Token: "free"}
		write(t, db, func(tx *storage.Tx) error {
			return errors.Join(tx.InsertRegistrationToken(ctx, &limited), tx.InsertRegistrationToken(ctx, &free))
		})
		refused(t, db, storage.ErrExists, func(tx *storage.Tx) error { return tx.InsertRegistrationToken(ctx, &free) })

		use := func(token string, now int64) func(tx *storage.Tx) error {
			return func(tx *storage.Tx) error { return tx.UseRegistrationToken(ctx, token, now) }
		}
		refused(t, db, storage.ErrNotFound, use("limited", 100))
		write(t, db, use("limited", 99))
		write(t, db, use("limited", 99))
		refused(t, db, storage.ErrNotFound, use("limited", 99))
		write(t, db, use("free", 1e15))
		refused(t, db, storage.ErrNotFound, use("unknown", 1))

		limited.Completed, free.Completed = 2, 1
		got, err := db.RegistrationTokens(ctx)
		if diff := cmp.Diff([]storage.RegistrationToken{free, limited}, got); err != nil || diff != "" {
			t.Errorf("RegistrationTokens: %v\n%s", err, diff)
		}
		limited.UsesAllowed, limited.Expires = nil, nil
		write(t, db, func(tx *storage.Tx) error { return tx.UpdateRegistrationToken(ctx, &limited) })
		one, err := db.RegistrationToken(ctx, "limited")
		if diff := cmp.Diff(limited, one); err != nil || diff != "" {
			t.Errorf("RegistrationToken: %v\n%s", err, diff)
		}
		write(t, db, func(tx *storage.Tx) error { return tx.DeleteRegistrationToken(ctx, "limited") })
		refused(t, db, storage.ErrNotFound, func(tx *storage.Tx) error { return tx.DeleteRegistrationToken(ctx, "limited") })
		refused(t, db, storage.ErrNotFound, func(tx *storage.Tx) error { return tx.UpdateRegistrationToken(ctx, &limited) })
	})
}
