// Package keys is what servers have to do with end-to-end encryption: they keep the public
// keys of devices and users, give out one-time keys, each once, tell who has to know when
// devices change, and carry messages from device to device. What is in the messages they
// cannot tell.
package keys

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// sweepEvery is how often what nobody asks for any more is removed, and sweepBatch how
	// many rows at once.
	sweepEvery = 10 * time.Minute
	sweepBatch = 1000
	// claimedAge is how long it is remembered that a one-time key was given out.
	claimedAge = 30 * 24 * time.Hour
	// txnAge is how long it is remembered what messages were sent.
	txnAge = 24 * time.Hour
	// maxID bounds the ids of devices, keys, algorithms and transactions, in bytes.
	maxID = 255
)

// Options are what the keys stand on.
type Options struct {
	DB         *storage.DB
	ServerName string
	// Federation tells that there are other servers, and Remote reaches them. What is for
	// them is queued without it too.
	Federation bool
	Remote     Remote
	// Logger takes what happens in the background; nil discards it.
	Logger *slog.Logger
}

// Keys are the keys of devices and users. Its methods may be called from several goroutines.
type Keys struct {
	db     *storage.DB
	own    string // the name of this server
	logger *slog.Logger
	// claiming is held while keys are given out: on PostgreSQL two transactions would wait
	// for each other that lock the same devices in a different order.
	claiming   sync.Mutex
	dropped    drops
	federation bool
	remote     Remote
	renewal    chan struct{} // has an item when lists have to be renewed
	fetching   turns         // for each user whose list is asked for
	silent     silences
	awaited    sync.Map // the users whose lists somebody has asked for in vain
}

// New makes the keys. Call [Keys.Run] beside them.
func New(o Options) *Keys {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keys{db: o.DB, own: o.ServerName, logger: o.Logger, federation: o.Federation, remote: o.Remote, renewal: make(chan struct{}, 1),
		fetching: turns{busy: map[string]chan struct{}{}}, silent: silences{servers: map[string]silence{}}}
}

// Run removes what is too old to be of use, and keeps up to date what is known of the
// devices of others, until the context is done.
func (k *Keys) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	if k.remote != nil {
		parts.Go(func() { k.renew(ctx) })
		parts.Go(func() { k.watch(ctx) })
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := k.sweep(ctx, now); err != nil && ctx.Err() == nil {
				k.logger.Warn("could not remove old traces of keys and messages; trying again later", slog.Any("error", err))
			}
		}
	}
}

func (k *Keys) sweep(ctx context.Context, now time.Time) error {
	for _, forget := range []func(tx *storage.Tx) (int64, error){
		func(tx *storage.Tx) (int64, error) {
			return tx.ForgetClaimedKeys(ctx, now.Add(-claimedAge).UnixMilli(), sweepBatch)
		},
		func(tx *storage.Tx) (int64, error) {
			return tx.ForgetToDeviceTxns(ctx, now.Add(-txnAge).UnixMilli(), sweepBatch)
		},
	} {
		for more := true; more; {
			err := k.db.Write(ctx, func(tx *storage.Tx) error {
				n, err := forget(tx)
				more = n == sweepBatch
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ours tells whether a user is of this server.
func (k *Keys) ours(userID string) bool { return matrix.ServerOf(userID) == k.own }

// validID tells whether a text may be the id of a device, key, algorithm or transaction.
func validID(id string) bool {
	return id != "" && len(id) <= maxID && strings.IndexByte(id, 0) < 0
}
