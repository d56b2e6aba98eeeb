package main

import (
	"beep/mediaapi"
)

// openMedia makes the content repository.
func (h *homeserver) openMedia() (err error) {
	h.media, err = mediaapi.Open(mediaapi.Options{
		DB: h.db, Accounts: h.accounts, ServerName: h.cfg.ServerName, Config: h.cfg.Media, Limiter: h.limiter, Metrics: h.registry, Logger: h.log,
	})
	return err
}
