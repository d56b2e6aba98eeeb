package main

import (
	"context"

	"beep/federation/allow"
	"beep/mediaapi"
)

// openMedia makes the content repository.
func (h *homeserver) openMedia(ctx context.Context) (err error) {
	options := mediaapi.Options{
		DB: h.db, Accounts: h.accounts, ServerName: h.cfg.ServerName, Config: h.cfg.Media, Limiter: h.limiter, Metrics: h.registry, Logger: h.log,
	}
	if h.others != nil {
		options.Remote = h.others.client
		options.Admit = func(ctx context.Context, server string) error {
			return h.others.allow.Admit(ctx, allow.Media, server, allow.About{})
		}
	}
	h.media, err = mediaapi.Open(ctx, options)
	return err
}
