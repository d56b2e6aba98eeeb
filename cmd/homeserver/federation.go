package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"beep/account"
	"beep/config"
	"beep/federation"
	"beep/federation/allow"
	"beep/federation/remote"
	"beep/federation/sender"
	"beep/identity"
	"beep/matrix"
	"beep/outbound"
	"beep/roomserver"
	"beep/storage"
)

// others is how this server knows, finds and reaches other servers.
type others struct {
	allow  *allow.List // nil for an open federation
	client *remote.Client
	keys   *remote.KeyRing
	rooms  *remote.Rooms
	sender *sender.Sender
	own    []matrix.ServerKey // this server's keys
	// presence is that of the users of other servers.
	presence *account.RemotePresence
	// api is what others ask and tell.
	api *federation.API
}

// newOthers makes what it takes to speak with other servers.
func newOthers(ctx context.Context, cfg *config.Config, db *storage.DB, signer *matrix.Signer, registry *prometheus.Registry, log *slog.Logger) (*others, error) {
	o := &others{}
	var err error
	if o.allow, err = newAllowList(ctx, cfg, db, registry, log); err != nil {
		return nil, err
	}
	dialer, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	if o.client, err = remote.New(remote.Options{
		Signer: signer, Dialer: dialer, UserAgent: "beep/" + programVersion(),
		Gate: func(ctx context.Context, server string) error {
			return o.allow.Admit(ctx, allow.Destination, server, allow.About{})
		},
	}); err != nil {
		return nil, err
	}
	if o.own, err = ownKeys(&cfg.Federation, signer); err != nil {
		return nil, err
	}
	notaries := make([]remote.Notary, len(cfg.Federation.TrustedNotaries))
	for i, server := range cfg.Federation.TrustedNotaries {
		notaries[i].Server = server
	}
	if o.keys, err = remote.NewKeyRing(remote.KeyRingOptions{Client: o.client, Store: db, Own: o.own, Notaries: notaries, Pinned: o.allow.PinnedKeys, Logger: log}); err != nil {
		return nil, err
	}
	o.rooms = &remote.Rooms{Client: o.client, Keys: o.keys}
	o.sender = sender.New(sender.Options{DB: db, ServerName: signer.ServerName, Send: o.client.SendTransaction, NoPresence: !cfg.Presence.Enabled, Metrics: registry, Logger: log})
	return o, nil
}

func newAllowList(ctx context.Context, cfg *config.Config, db *storage.DB, registry *prometheus.Registry, log *slog.Logger) (*allow.List, error) {
	f := &cfg.Federation
	if !f.Closed {
		return nil, nil
	}
	keys, err := authorityKeys(&f.List)
	if err != nil {
		return nil, err
	}
	return allow.New(ctx, allow.Options{ServerName: cfg.ServerName, Servers: f.Allow, Path: f.List.Path, Keys: keys, DB: db, Logger: log, Registry: registry})
}

// authorityKeys are the keys of which one must have signed the list.
func authorityKeys(l *config.FederationList) (map[string]ed25519.PublicKey, error) {
	keys := make(map[string]ed25519.PublicKey, len(l.Keys))
	for id, text := range l.Keys {
		key, err := matrix.DecodeVerifyKey(text)
		if err != nil {
			return nil, fmt.Errorf("federation.list.keys.%s: %w", id, err)
		}
		keys[id] = key
	}
	return keys, nil
}

// newDialer makes the connections to other servers.
func newDialer(cfg *config.Config) (*outbound.Dialer, error) {
	f := &cfg.Federation
	return dialerTo(cfg, f.AllowedNetworks, f.CAFile, outbound.TLSOptions{CertificateFile: f.ClientCertificate, KeyFile: f.ClientKey})
}

// dialerTo makes connections that may lead to some private networks, with an authority of
// their own; "" for none.
func dialerTo(cfg *config.Config, networks []config.Network, caFile string, tls outbound.TLSOptions) (*outbound.Dialer, error) {
	options := outbound.Options{NoDenyList: cfg.Unsafe.NoOutboundDenyList}
	for _, network := range networks {
		options.Allow = append(options.Allow, network.Prefix)
	}
	if cfg.Unsafe.ExtraCAFile != "" {
		options.CAFiles = []string{cfg.Unsafe.ExtraCAFile}
	}
	dialer, err := outbound.New(options)
	if err != nil {
		return nil, err
	}
	if caFile != "" {
		tls.CAFiles = []string{caFile}
	}
	return dialer.WithTLS(tls)
}

// newIdentity is what asks identity servers; nil if none may be asked.
func newIdentity(cfg *config.Config) (roomserver.Identity, error) {
	i := &cfg.IdentityServers
	if len(i.Allow) == 0 {
		return nil, nil
	}
	dialer, err := dialerTo(cfg, i.AllowedNetworks, i.CAFile, outbound.TLSOptions{})
	if err != nil {
		return nil, err
	}
	return identity.New(identity.Options{Servers: i.Allow, Dialer: dialer, UserAgent: "beep/" + programVersion()}), nil
}

// ownKeys are the keys that this server signs with and has signed with.
func ownKeys(f *config.Federation, signer *matrix.Signer) ([]matrix.ServerKey, error) {
	keys := []matrix.ServerKey{{Server: signer.ServerName, ID: signer.KeyID, Key: signer.Key.Public().(ed25519.PublicKey)}}
	for i, old := range f.OldVerifyKeys {
		key, err := matrix.DecodeVerifyKey(old.Key)
		if err != nil {
			return nil, fmt.Errorf("federation.old_verify_keys[%d]: %w", i, err)
		}
		if remote.Compromised(key) {
			return nil, fmt.Errorf("federation.old_verify_keys[%d]: this key is publicly known, and what it has signed proves nothing; take it out", i)
		}
		keys = append(keys, matrix.ServerKey{Server: signer.ServerName, ID: old.ID, Key: key, Expired: old.Expired.UnixMilli()})
	}
	return keys, nil
}

// admitSender refuses events of servers outside of a closed federation.
func (o *others) admitSender(ctx context.Context, e *matrix.Event) error {
	return o.allow.Admit(ctx, allow.Sender, matrix.ServerOf(e.Sender), allow.About{Room: e.RoomID, Event: e.ID})
}

// admitInvitee refuses invites of users of servers outside of a closed federation.
func (o *others) admitInvitee(ctx context.Context, userID string) error {
	return o.allow.Admit(ctx, allow.Invite, matrix.ServerOf(userID), allow.About{User: userID})
}

// reload reads again, at each signal, what is read from files: the list of a closed
// federation. Certificates are read again whenever they have changed.
func (h *homeserver) reload(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		switch {
		case h.others == nil || h.cfg.Federation.List.Path == "":
			h.log.Info("SIGHUP: there is nothing to read again; a new configuration needs a restart")
		default:
			if err := h.others.allow.Reload(ctx); err != nil {
				h.log.Error("SIGHUP: the file of the federation list cannot be used; the last good list stays in force", "reason", err)
			} else {
				h.log.Info("SIGHUP: the federation list was read again")
			}
		}
	}
}

// directories are a client that reads the room directories of other servers as this one's
// own is read.
type directories struct{ *remote.Client }

// PublicRooms gives a page of a server's room directory.
func (d directories) PublicRooms(ctx context.Context, server string, q roomserver.PublishedQuery) (*roomserver.PublishedPage, error) {
	page, err := d.Client.PublicRooms(ctx, server, &remote.PublicRoomsFilter{Limit: q.Limit, Since: q.Since, SearchTerm: q.Search, RoomTypes: q.Types})
	if err != nil {
		return nil, err
	}
	answer := &roomserver.PublishedPage{NextBatch: page.NextBatch, PrevBatch: page.PrevBatch, Total: page.Total}
	for i := range page.Rooms {
		answer.Chunk = append(answer.Chunk, publicRoom(&page.Rooms[i]))
	}
	return answer, nil
}

// publicRoom is a room of another server's directory, without what is not as it has to be.
func publicRoom(s *remote.RoomSummary) roomserver.PublicRoom {
	r := roomserver.PublicRoom{RoomID: s.RoomID, Name: s.Name, Topic: s.Topic, RoomType: s.RoomType, JoinRule: cmp.Or(s.JoinRule, "public"),
		JoinedMembers: s.JoinedMembers, WorldReadable: s.WorldReadable, GuestCanJoin: s.GuestCanJoin}
	if matrix.ValidRoomAlias(s.CanonicalAlias) {
		r.CanonicalAlias = s.CanonicalAlias
	}
	if strings.HasPrefix(s.AvatarURL, "mxc://") {
		r.AvatarURL = s.AvatarURL
	}
	return r
}

// run sends others what is for them, keeps what they have said for its time, and follows
// the list of those that may take part.
func (o *others) run(ctx context.Context) error {
	defer o.client.Close()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return o.sender.Run(ctx) })
	parts.Go(func() error { return o.presence.Run(ctx) })
	parts.Go(func() error { return o.api.Run(ctx) })
	if o.allow != nil {
		parts.Go(func() error { return o.allow.Run(ctx) })
	}
	return parts.Wait()
}
