package sender

import (
	"context"
	"time"

	"beep/federation/remote"
)

// settle takes in how a transaction ended, and tells whether the worker goes on.
func (s *Sender) settle(ctx context.Context, d *destination, results *remote.Results, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := d.transaction
	switch {
	case err == nil:
		s.delivered(d, t, results)
		return true
	case ctx.Err() != nil:
	case unwanted(err):
		s.divide(d, t, err)
		return true
	default:
		s.failed(d, err)
	}
	s.end(ctx, d)
	return false
}

func (s *Sender) delivered(d *destination, t *transaction, results *remote.Results) {
	if d.failures > 0 {
		s.log.Info("another server can be reached again", "server", d.server, "failures", d.failures)
	}
	d.failures, d.failing, d.next, d.transaction = 0, time.Time{}, time.Time{}, nil
	d.most *= 2
	if d.most > remote.MaxPDUs {
		d.most = 0
	}
	s.reached.Add(d.server, struct{}{})
	if t.queued {
		s.acked[d.server] = struct{}{}
	}
	s.pass(d, t.end)
	s.metrics.delivered(t, time.Now())
	if results != nil && (len(results.Errors) > 0 || results.Malformed != nil) {
		s.log.Debug("another server did not take some events", "server", d.server, "transaction", t.ID,
			"errors", results.Errors, "malformed", results.Malformed)
	}
}

// divide makes the next transaction smaller, to find what it is that the server refuses;
// what it refuses alone it does not get.
func (s *Sender) divide(d *destination, t *transaction, err error) {
	s.metrics.refused.Inc()
	if t.kept > 1 {
		s.log.Info("another server refuses a transaction; sending it in parts", "server", d.server, "parts", t.kept, "error", err)
		d.most = t.kept / 2
		d.forget()
		return
	}
	s.log.Warn("another server refuses what it is sent; it will not get it", "server", d.server, "pdus", len(t.PDUs), "edus", len(t.EDUs), "error", err)
	d.transaction = nil
	if t.queued {
		s.acked[d.server] = struct{}{}
	}
	s.pass(d, t.end)
}

func (s *Sender) failed(d *destination, err error) {
	d.tried = time.Now()
	if d.failing.IsZero() {
		d.failing = d.tried
	}
	before := d.failures
	s.postpone(d, d.tried, err)
	d.news = news{}
	d.brief = d.brief || d.failures >= longAway
	if d.failures >= patience {
		d.forget()
	}
	s.reached.Remove(d.server)
	s.metrics.failed.Inc()
	if d.failures > before && (d.failures == 1 || d.failures == patience) {
		s.log.Info("another server cannot be reached", "server", d.server, "failures", d.failures, "retry", d.retry, "error", err)
	}
}
