package account

import (
	"context"
	"slices"
	"sync"

	"beep/storage"
)

const (
	// seenEvery is after how many ms a device is noted again.
	seenEvery = 30_000
	// maxAgent is how many bytes of a User-Agent are kept.
	maxAgent = 256
)

type deviceKey struct{ userID, deviceID string }

// seen gathers when devices were last heard of, until it is written.
type seen struct {
	mu      sync.Mutex
	devices map[deviceKey]storage.Seen
}

func newSeen() *seen { return &seen{devices: make(map[deviceKey]storage.Seen)} }

func (s *seen) note(key deviceKey, at storage.Seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[key] = at
}

// take gives what was gathered and begins anew.
func (s *seen) take() map[deviceKey]storage.Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	devices := s.devices
	s.devices = make(map[deviceKey]storage.Seen)
	return devices
}

// giveBack keeps what could not be written, where nothing newer is known.
func (s *seen) giveBack(devices map[deviceKey]storage.Seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, at := range devices {
		if _, newer := s.devices[key]; !newer {
			s.devices[key] = at
		}
	}
}

// flushSeen writes when devices were last heard of.
func (a *Accounts) flushSeen(ctx context.Context) error {
	gathered := a.seen.take()
	if len(gathered) == 0 {
		return nil
	}
	devices := make([]storage.Device, 0, len(gathered))
	for key, at := range gathered {
		devices = append(devices, storage.Device{UserID: key.userID, ID: key.deviceID, Seen: at})
	}
	err := a.db.Write(ctx, func(tx *storage.Tx) error {
		for batch := range slices.Chunk(devices, storage.SeenBatch) {
			if err := tx.UpdateSeen(ctx, batch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.seen.giveBack(gathered)
	}
	return err
}
