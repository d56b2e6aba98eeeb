package account

import (
	"context"
	"log/slog"
	"time"

	"beep/matrix"
	"beep/storage"
	"beep/web"
)

// Options say how accounts work on this server.
type Options struct {
	DB *storage.DB
	// ServerName stands at the end of every user id.
	ServerName string
	// Hashing says what a password hash costs; the zero value is [DefaultHashing].
	Hashing Hashing
	// MinPassword is how many characters a password must have; 0 means 1.
	MinPassword int
	// Registration says who may make an account; the zero value lets nobody.
	Registration Registration
	// AccessTokenLifetime is how long an access token works for a client that can
	// refresh it; 0 means for ever.
	AccessTokenLifetime time.Duration
	// LoginTokenLifetime is how long an m.login.token works; 0 means 2 minutes.
	LoginTokenLifetime time.Duration
	// Appservices are the application services that may act as their users.
	Appservices []Appservice
	// OnDeactivate is done with every account that was deactivated, in this order,
	// again until all of it succeeds: it is where the user leaves the rooms. A
	// process without it leaves that to one that has it.
	OnDeactivate []func(ctx context.Context, user User) error
	// OnDevices is called in the transaction in which devices of a user are made, renamed
	// or removed: it is where their keys go with them. It may be nil.
	OnDevices func(ctx context.Context, tx *storage.Tx, userID string, deviceIDs []string) error
	// Limiter counts wrong passwords by address under the kind [LimitLogin]; nil
	// means that passwords may be guessed at full speed.
	Limiter *web.Limiter
	// Logger takes what happens in the background; nil discards it.
	Logger *slog.Logger
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Accounts are the accounts of this server.
type Accounts struct {
	db           *storage.DB
	options      Options
	logger       *slog.Logger
	now          func() time.Time
	hasher       *hasher
	guesses      *guesses
	cache        *tokenCache
	seen         *seen
	interactions *interactions
	nonces       *nonces
	appservices  map[storage.Hash]*Appservice
}

// New makes the accounts over a database. Call [Accounts.Run] beside it.
func New(o Options) *Accounts {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Hashing == (Hashing{}) {
		o.Hashing = DefaultHashing
	}
	if o.LoginTokenLifetime == 0 {
		o.LoginTokenLifetime = 2 * time.Minute
	}
	return &Accounts{
		db:           o.DB,
		options:      o,
		logger:       o.Logger,
		now:          o.Now,
		hasher:       newHasher(o.Hashing),
		guesses:      newGuesses(o.Limiter),
		cache:        newTokenCache(),
		seen:         newSeen(),
		interactions: newInteractions(o.Now),
		nonces:       newNonces(o.Now),
		appservices:  appservicesByToken(o.Appservices),
	}
}

const (
	// tick is how often the memory is tidied.
	tick = time.Minute
	// ticksToFlush is how many ticks pass until it is written when devices were
	// last seen.
	ticksToFlush = 3
	// lastFlush is how long the end may take.
	lastFlush = 5 * time.Second
)

// Run writes what is gathered in memory and removes what has expired, until the
// context is done. The database must stay open until it returns.
func (a *Accounts) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		a.background(ctx, "deactivate accounts", a.finishDeactivations)
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			return a.flushSeen(end)
		case <-ticker.C:
		}
		a.interactions.sweep()
		if n%ticksToFlush == 0 {
			a.background(ctx, "write when devices were seen", a.flushSeen)
			a.background(ctx, "remove expired tokens", a.removeExpired)
		}
	}
}

// background does what is tried again at the next tick when it fails.
func (a *Accounts) background(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && ctx.Err() == nil {
		a.logger.Warn("could not "+what+"; trying again later", slog.Any("error", err))
	}
}

func (a *Accounts) removeExpired(ctx context.Context) error {
	return a.db.Write(ctx, func(tx *storage.Tx) error { return tx.DeleteExpiredTokens(ctx, a.nowMS()) })
}

// ServerName is the name at the end of every user id.
func (a *Accounts) ServerName() string { return a.options.ServerName }

// nowMS is the present in the database's unit.
func (a *Accounts) nowMS() int64 { return a.now().UnixMilli() }

// softLogout says of a token that it no longer works, while the client may keep
// its device and its keys ("Soft logout").
var softLogout = matrix.UnknownToken.With("The session has to be renewed").Field("soft_logout", true)
