package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"beep/account"
	"beep/clientapi"
	"beep/config"
	"beep/federation"
	"beep/keys"
	"beep/matrix"
	"beep/mediaapi"
	"beep/push"
	"beep/roomserver"
	"beep/storage"
	"beep/syncapi"
	"beep/web"
)

// homeserver is a server that has been built and not yet run.
type homeserver struct {
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	limiter  *web.Limiter
	dir      *dataDir
	db       *storage.DB
	accounts *account.Accounts
	keys     *keys.Keys
	presence *account.Presence
	rooms    *roomserver.Rooms
	typing   *roomserver.Typing
	others   *others // nil for a server that is alone
	clients  *clientapi.API
	sync     *syncapi.API
	media    *mediaapi.API
	front    *web.Server
}

// serve runs the server until ctx ends. Ready is called once, with the addresses
// of the client listeners, when they accept connections.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, ready func(addresses []string)) error {
	warn(cfg, log)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	dir, err := openDataDir(ctx, cfg, log)
	if err != nil {
		return err
	}
	h, err := build(ctx, cfg, dir, log)
	if err != nil {
		return errors.Join(err, dir.close())
	}
	if err := dir.announce(dir.socket); err != nil {
		return errors.Join(err, h.front.Close(), h.db.Close(), dir.close())
	}
	log.Info("started", "server_name", cfg.ServerName, "version", programVersion())
	ready(h.clientAddresses())
	return errors.Join(h.run(ctx, hangups), dir.close())
}

// gcPercent lets the heap grow a little further than Go does by itself before it is
// collected: a large answer costs less CPU, for some 5 MiB.
const gcPercent = 120

// warn says what is dangerous about the configuration.
func warn(cfg *config.Config, log *slog.Logger) {
	for _, key := range cfg.Unsafe.On() {
		log.Warn("an unsafe switch is on: this server is for tests only", "key", key)
	}
	if cfg.Registration.Open && !cfg.Registration.TokenRequired {
		log.Warn("everybody may register; registration.token_required would keep strangers out")
	}
}

// build makes every part, from the database up to the listeners.
func build(ctx context.Context, cfg *config.Config, dir *dataDir, log *slog.Logger) (*homeserver, error) {
	h := &homeserver{cfg: cfg, log: log, dir: dir, registry: newRegistry()}
	var err error
	if h.db, err = openDatabase(ctx, cfg, log); err != nil {
		return nil, err
	}
	dir.signer.ServerName = cfg.ServerName
	if !cfg.Unsafe.NoRateLimits {
		h.limiter = web.NewLimiter(rates(cfg), h.registry)
	}
	if err := h.makeRooms(ctx, cfg, dir, log); err != nil {
		return nil, errors.Join(err, h.db.Close())
	}
	h.keys = newKeys(cfg, h.db, h.others, log)
	h.accounts = newAccounts(cfg, h.db, h.limiter, dir.registrationSecret, h.keys, log, h.leaveRooms, h.removeUserData)
	h.presence = account.NewPresence(h.db, cfg.ServerName, cfg.Presence.Enabled, log)
	h.typing = roomserver.NewTyping(h.rooms)
	filters := account.NewFilters(h.db)
	h.sync = syncapi.New(syncapi.Options{
		DB: h.db, Rooms: h.rooms, Accounts: h.accounts, Filters: filters, Presence: h.presence, Typing: h.typing, Logger: log,
	})
	parts := clientapi.Parts{
		Accounts: h.accounts, Rooms: h.rooms, Filters: filters, Presence: h.presence, Typing: h.typing, Keys: h.keys,
		Push: push.NewRules(h.db), BaseURL: cfg.BaseURL(), WellKnown: cfg.WellKnown,
	}
	if h.others != nil {
		parts.Remote = directories{h.others.client}
	}
	h.clients = clientapi.New(parts)
	if err := h.openMedia(ctx); err != nil {
		return nil, errors.Join(err, h.db.Close())
	}
	if h.front, err = h.listen(ctx); err != nil {
		return nil, errors.Join(err, h.db.Close())
	}
	return h, nil
}

// makeRooms makes the room server, and what reaches other servers if there are to be any.
func (h *homeserver) makeRooms(ctx context.Context, cfg *config.Config, dir *dataDir, log *slog.Logger) error {
	options := roomserver.Options{
		DB: h.db, Signer: dir.signer, DefaultVersion: matrix.RoomVersion(cfg.Rooms.DefaultVersion), Logger: log,
	}
	if cfg.Federation.Enabled {
		var err error
		if h.others, err = newOthers(ctx, cfg, h.db, dir.signer, h.registry, log); err != nil {
			return err
		}
		options.Remote, options.AdmitSender, options.AdmitInvitee = h.others.rooms, h.others.admitSender, h.others.admitInvitee
	}
	var err error
	if options.Identity, err = newIdentity(cfg); err != nil {
		return err
	}
	h.rooms = roomserver.New(options)
	return nil
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// openDatabase opens the database, and fills in the server name that it has.
func openDatabase(ctx context.Context, cfg *config.Config, log *slog.Logger) (*storage.DB, error) {
	db, err := storage.Open(ctx, storage.Options{
		URL:                   cfg.Database.URL.Reveal(),
		MaxConnections:        cfg.Database.MaxConnections,
		Logger:                log,
		AllowUnsafeDurability: cfg.Unsafe.UnsafeDurability,
	})
	if err != nil {
		return nil, err
	}
	if err := db.Claim(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database.url: %w", err), db.Close())
	}
	if err := settleServerName(ctx, db, cfg); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func rates(cfg *config.Config) map[string]web.Rate {
	all := map[string]web.Rate{}
	for kind, rate := range cfg.Limits.Rates.ByName() {
		all[kind] = web.Rate{PerSecond: rate.PerSecond, Burst: rate.Burst}
	}
	return all
}

// newKeys makes the keys of devices, for the server and, without others, for the user
// commands.
func newKeys(cfg *config.Config, db *storage.DB, o *others, log *slog.Logger) *keys.Keys {
	options := keys.Options{DB: db, ServerName: cfg.ServerName, Federation: cfg.Federation.Enabled, Logger: log}
	if o != nil {
		options.Remote = o.client
	}
	return keys.New(options)
}

// newAccounts makes the accounts, for the server and for the user commands.
func newAccounts(cfg *config.Config, db *storage.DB, limiter *web.Limiter, secret config.Secret, k *keys.Keys, log *slog.Logger,
	onDeactivate ...func(context.Context, account.User) error) *account.Accounts {
	options := account.Options{
		DB:                  db,
		ServerName:          cfg.ServerName,
		MinPassword:         cfg.Registration.PasswordMinLength,
		Registration:        registrationOf(&cfg.Registration, secret),
		AccessTokenLifetime: cfg.Login.AccessTokenLifetime,
		LoginTokenLifetime:  cfg.Login.LoginTokenLifetime,
		OnDeactivate:        onDeactivate,
		OnDevices:           k.DevicesChanged,
		Limiter:             limiter,
		Logger:              log,
	}
	if cfg.Unsafe.CheapPasswordHashing {
		options.Hashing = account.CheapHashing
	}
	return account.New(options)
}

func registrationOf(r *config.Registration, secret config.Secret) account.Registration {
	all := account.Registration{Open: r.Open, TokenRequired: r.TokenRequired, Guests: r.Guests, SharedSecret: secret.Reveal()}
	for _, t := range r.Terms {
		terms := account.Terms{Name: t.Name, Version: t.Version, Languages: map[string]account.TermsText{}}
		for language, text := range t.Languages {
			terms.Languages[language] = account.TermsText(text)
		}
		all.Terms = append(all.Terms, terms)
	}
	return all
}

// clientRoutes are the routes that clients and other servers use.
func (h *homeserver) clientRoutes() http.Handler {
	router := web.NewRouter(web.Options{
		Logger:         h.log,
		Metrics:        h.registry,
		MaxBody:        int64(h.cfg.Limits.RequestBody),
		Limiter:        h.limiter,
		TrustedProxies: h.cfg.Prefixes(),
		TrustUnixPeers: true,
	})
	h.clients.Routes(router)
	h.sync.Routes(router)
	h.media.Routes(router)
	others := h.federation()
	others.Routes(router)
	if h.others != nil {
		mediaapi.FederationRoutes(h.media, router, others.Authenticate)
	}
	return router
}

// federation is the API for other servers.
func (h *homeserver) federation() *federation.API {
	if h.others == nil {
		return federation.New(h.accounts, h.rooms)
	}
	h.others.presence = account.NewRemotePresence(h.db, h.cfg.ServerName, h.cfg.Presence.Enabled, h.log)
	h.others.api = federation.NewAPI(federation.Parts{
		Version: programVersion(), Signer: h.dir.signer, OwnKeys: h.others.own, Keys: h.others.keys, Allow: h.others.allow,
		Heard: func(server string) { h.others.sender.Alive(server); h.keys.Alive(server) },
		DB:    h.db, Accounts: h.accounts, Rooms: h.rooms, Serving: roomserver.NewServing(h.rooms), Typing: h.typing,
		Presence: h.others.presence, Logger: h.log, UserKeys: h.keys,
		EDUs: map[string]federation.EDUHandler{
			"m.direct_to_device": h.keys.TakeToDevice, "m.device_list_update": h.keys.TakeDeviceLists, "m.signing_key_update": h.keys.TakeSigningKeys,
		},
	})
	return h.others.api
}

// removeUserData removes what a deactivated user kept here.
func (h *homeserver) removeUserData(ctx context.Context, user account.User) error {
	if err := h.keys.RemoveUser(ctx, user.ID); err != nil {
		return err
	}
	return h.accounts.RemoveUserData(ctx, user)
}

// leaveRooms takes a deactivated user out of all rooms.
func (h *homeserver) leaveRooms(ctx context.Context, user account.User) error {
	return h.rooms.LeaveAll(ctx, user.ID)
}

// listen binds every address: of the clients, of metrics, of the control socket.
func (h *homeserver) listen(ctx context.Context) (*web.Server, error) {
	clients := h.clientRoutes()
	var listeners []web.Listener
	for _, l := range h.cfg.Listeners {
		listener := web.Listener{Address: l.Address, SocketMode: l.Mode.FileMode(), Handler: clients}
		if l.TLS != nil {
			listener.CertFile, listener.KeyFile, listener.ClientCAFile = l.TLS.Certificate, l.TLS.Key, l.TLS.ClientCA
		}
		listeners = append(listeners, listener)
	}
	if h.cfg.Metrics.Listen != "" {
		listeners = append(listeners, web.Listener{Address: h.cfg.Metrics.Listen, Handler: web.Operations(h.registry, h.log, h.answers)})
	}
	listeners = append(listeners, web.Listener{
		Address: "unix:" + h.dir.socket, SocketMode: 0o600, Handler: controlRoutes(localUsers{h.accounts}, h.log),
	})
	return web.Listen(ctx, web.ServerOptions{
		Listeners:     listeners,
		Logger:        h.log,
		MaxConnsPerIP: h.cfg.Limits.ConnectionsPerAddress,
		Uncapped:      h.cfg.Prefixes(),
	})
}

// answers tells whether the database does.
func (h *homeserver) answers(ctx context.Context) error {
	_, err := h.db.Setting(ctx, serverNameSetting)
	return err
}

// clientAddresses are the addresses of the client listeners as people write them.
func (h *homeserver) clientAddresses() []string {
	var all []string
	for i, l := range h.cfg.Listeners {
		all = append(all, l.URL(h.front.Addrs()[i].String()))
	}
	return all
}

// run runs every part until ctx ends or one of them fails, and stops them from the
// top down: the listeners take no more connections and requests finish; then the
// parts that work in the background stop; the database closes last.
func (h *homeserver) run(ctx context.Context, hangups <-chan os.Signal) error {
	front, stopFront := context.WithCancel(ctx)
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	background, below := errgroup.WithContext(below)
	background.Go(func() error { return h.accounts.Run(below) })
	background.Go(func() error { return h.keys.Run(below) })
	background.Go(func() error { return h.presence.Run(below) })
	background.Go(func() error { return h.typing.Run(below) })
	background.Go(func() error { return h.rooms.Run(below) })
	background.Go(func() error { return h.sync.Run(below) })
	background.Go(func() error { return h.media.Run(below) })
	background.Go(func() error { return h.db.Run(below) })
	if h.others != nil {
		background.Go(func() error { return h.others.run(below) })
	}
	background.Go(func() error { return h.reload(below, hangups) })
	background.Go(func() error { return h.withdraw(front) })
	context.AfterFunc(below, stopFront) // without one of them there is nothing to serve

	err := h.front.Run(front)
	stopFront()
	stopBelow()
	return errors.Join(err, background.Wait(), h.db.Close())
}

// withdraw takes the control socket's name back when the server begins to stop, so that
// commands wait for the end instead.
func (h *homeserver) withdraw(front context.Context) error {
	<-front.Done()
	h.log.Info("stopping; requests under way may finish")
	return h.dir.announce("")
}
