package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTime is how long the check for readiness may take.
const readyTime = 2 * time.Second

// Operations serves what those who run the server ask for, on an address of its own:
// /health/live, /health/ready, /health/startup, and /metrics of registry.
//
// live is 200 while the process answers at all; ready is 200 while ready(ctx) gives nil
// and the server is not stopping; startup is 200 once ready was. Why it is not ready
// goes to the log.
func Operations(registry *prometheus.Registry, logger *slog.Logger, ready func(context.Context) error) http.Handler {
	h := &health{check: ready, logger: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) { tell(w, true) })
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, r *http.Request) { tell(w, h.ready(r)) })
	mux.HandleFunc("GET /health/startup", func(w http.ResponseWriter, r *http.Request) {
		tell(w, h.started.Load() || h.ready(r))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

type health struct {
	check   func(context.Context) error
	logger  *slog.Logger
	started atomic.Bool
}

func (h *health) ready(r *http.Request) bool {
	if stopping(r.Context()) {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	if err := h.check(ctx); err != nil {
		h.logger.Warn("not ready", "error", err)
		return false
	}
	h.started.Store(true)
	return true
}

func tell(w http.ResponseWriter, ok bool) {
	h := w.Header()
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["Content-Type"] = jsonType
	if ok {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"status":"unavailable"}`)
}
