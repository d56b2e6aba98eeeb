package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"beep/matrix"
)

// slowRequest is from when on a request is worth a line in the log.
const slowRequest = 5 * time.Second

// statusCanceled stands in metrics and logs for an answer nobody waited for.
const statusCanceled = 499

// exchange is one request and its answer. It is the handler's context too, so that
// what is known about the request needs one allocation and no chain of values.
type exchange struct {
	context.Context
	router  *Router
	w       http.ResponseWriter
	r       *http.Request
	leaf    *leaf // nil while the route is unknown
	match   match
	id      [1]string
	length  [1]string
	user    string
	status  int // 0 until the answer has begun
	started time.Time
}

type exchangeKey struct{}

func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

// Logger is the logger of the request that ctx belongs to: it names the request's id,
// route and user. Outside of a request it is [slog.Default].
func Logger(ctx context.Context) *slog.Logger {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return slog.Default()
	}
	return x.log()
}

// RequestID is the id that the answer carries as X-Request-Id; "" outside of a request.
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id[0]
	}
	return ""
}

// ClientAddr is the address of the client that ctx belongs to. Behind a trusted proxy
// it is what the proxy tells. It is the zero Addr for an untrusted unix socket peer.
func ClientAddr(ctx context.Context) netip.Addr {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return netip.Addr{}
	}
	return x.router.proxies.client(x.r)
}

func (x *exchange) log() *slog.Logger {
	l := x.router.logger.With("request", x.id[0], "method", x.methodName(), "route", x.pattern())
	if x.user != "" {
		l = l.With("user", x.user)
	}
	return l
}

func (x *exchange) pattern() string {
	if x.leaf == nil {
		return "unknown"
	}
	return x.leaf.route.Pattern
}

func (x *exchange) methodName() string {
	if x.leaf == nil {
		return "other"
	}
	return x.leaf.route.Method
}

// admit notes who calls and applies the route's rate limit.
func (x *exchange) admit(who any, mayBeNil bool) error {
	unlimited := false
	if !mayBeNil || !isNil(who) {
		if u, ok := who.(interface{ LogUser() string }); ok {
			x.user = u.LogUser()
		}
		if u, ok := who.(interface{ Unlimited() bool }); ok {
			unlimited = u.Unlimited()
		}
	}
	kind := x.leaf.route.options.limit
	if kind == "" || unlimited || x.router.limiter == nil {
		return nil
	}
	key := x.user
	if key == "" {
		key = AddrKey(x.router.proxies.client(x.r))
	}
	return x.router.limiter.Allow(kind, key)
}

// fail answers with err. It is the one place that logs a failed request.
func (x *exchange) fail(err error) {
	var told *matrix.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &told):
		switch {
		case told.Status == http.StatusBadGateway, told.Status == http.StatusGatewayTimeout: // the failure of others
			x.log().Info("request failed elsewhere", "error", err)
		case told.Status >= http.StatusInternalServerError:
			x.log().Error("request failed", "error", err)
		}
	case errors.As(err, &tooLarge):
		told = matrix.TooLarge
	case errors.Is(err, context.Canceled) && x.Context.Err() != nil:
		x.log().Debug("client went away", "error", err)
		told = matrix.ServiceUnavailable
		defer func() { x.status = statusCanceled }()
	case errors.Is(err, context.Canceled) && stopping(x.Context):
		x.log().Info("request cut short by the stop of the server", "error", err)
		told = matrix.ServiceUnavailable
	default:
		x.log().Error("request failed", "error", err)
		told = matrix.Unknown
	}
	if x.status != 0 {
		// The answer has begun: cutting it off is all that can still be said.
		panic(http.ErrAbortHandler)
	}
	x.writeError(told)
}

// finish closes the books of the request, and turns a panic into a 500.
func (x *exchange) finish() {
	m := x.router.metrics
	m.inFlight.Dec()
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p)
		}
		m.panics.Inc()
		x.log().Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
		if x.status != 0 {
			panic(http.ErrAbortHandler)
		}
		x.writeError(matrix.Unknown)
	}
	took := time.Since(x.started)
	rm := x.router.unknown
	if x.leaf != nil {
		rm = x.leaf.route.metrics
	}
	rm.observe(x.status, took)
	x.logDone(took)
}

func (x *exchange) logDone(took time.Duration) {
	level := slog.LevelDebug
	if took > slowRequest && x.leaf != nil && !x.leaf.route.options.longPoll {
		level = slog.LevelInfo
	}
	if x.router.logger.Enabled(x, level) {
		x.log().Log(x, level, "request", "status", x.status, "duration", took)
	}
}

type stoppingKey struct{}

// ShuttingDown is closed when the server that ctx belongs to begins to stop. Whoever
// waits long for something else watches it and answers early. It is nil, and so never
// ready, outside of a [Server].
func ShuttingDown(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return c
}

func stopping(ctx context.Context) bool {
	select {
	case <-ShuttingDown(ctx):
		return true
	default:
		return false
	}
}
