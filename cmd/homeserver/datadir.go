package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"beep/config"
	"beep/matrix"
	"beep/storage"
)

// serving is the command of a holder that is a server.
const serving = "serve"

// dataDir is the data directory of a server that starts: locked, with its keys.
type dataDir struct {
	*lock
	// signer has the server's name once the database is open.
	signer *matrix.Signer
	// registrationSecret is the shared secret of /_synapse/admin/v1/register.
	registrationSecret config.Secret
	// socket is where the control socket belongs.
	socket string
	remove func() error
}

// openDataDir makes the directory and what belongs into it, and locks it. A
// directory that another server uses is refused.
func openDataDir(ctx context.Context, cfg *config.Config, log *slog.Logger) (*dataDir, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	l, err := awaitLock(ctx, cfg.Data, serving, func(h holder) bool { return h.Command == serving })
	if err != nil {
		return nil, err
	}
	d := &dataDir{lock: l, remove: func() error { return nil }}
	if err := d.fill(cfg); err != nil {
		return nil, errors.Join(err, d.close())
	}
	for _, path := range []string{cfg.SigningKey.Path, cfg.File} {
		if path != "" && openToOthers(path) {
			log.Warn("every user of this machine may read this file; chmod o= it", "file", path)
		}
	}
	return d, nil
}

func (d *dataDir) fill(cfg *config.Config) error {
	if err := makeKeys(cfg, d); err != nil {
		return err
	}
	return d.placeSocket(cfg.Data)
}

// makeKeys reads the signing key and the secrets, and makes those that are not there.
func makeKeys(cfg *config.Config, d *dataDir) error {
	var err error
	if d.signer, err = readSigningKey(cfg.SigningKey.Path); err != nil {
		return err
	}
	d.registrationSecret, err = readSecret(cfg, cfg.Registration.SharedSecret, "registration_shared_secret")
	return err
}

// socketPathMax is the length that a socket's path may have, less the suffix of
// one that is being made.
const socketPathMax = 103

// placeSocket says where the control socket belongs: in the data directory, unless
// the kernel finds that path too long.
func (d *dataDir) placeSocket(data string) error {
	d.socket = filepath.Join(data, "control.sock")
	if len(d.socket) <= socketPathMax {
		return nil
	}
	dir, err := os.MkdirTemp("", "homeserver-")
	if err != nil {
		return fmt.Errorf("cannot make a directory for the control socket: %w", err)
	}
	d.socket = filepath.Join(dir, "control.sock")
	d.remove = func() error { return os.RemoveAll(dir) }
	return nil
}

func (d *dataDir) close() error { return errors.Join(d.remove(), d.release()) }

const serverNameSetting = "server_name"

// settleServerName fills in the server's name, which a database keeps from its
// first start on. A configuration that names another one is refused: the users and
// rooms of the database have the old name in them.
func settleServerName(ctx context.Context, db *storage.DB, cfg *config.Config) error {
	kept, err := db.Setting(ctx, serverNameSetting)
	if errors.Is(err, storage.ErrNotFound) {
		if cfg.ServerName == "" {
			cfg.ServerName = "localhost"
		}
		return db.Write(ctx, func(tx *storage.Tx) error {
			return tx.SetSetting(ctx, serverNameSetting, cfg.ServerName)
		})
	}
	if err != nil {
		return err
	}
	if cfg.ServerName != "" && cfg.ServerName != kept {
		return fmt.Errorf("the database %s belongs to the server name %q and cannot be used for %q: the name is part of every "+
			"user ID, room and event; take another data directory or database for another name", cfg.ShownDatabase(), kept, cfg.ServerName)
	}
	cfg.ServerName = kept
	return nil
}
