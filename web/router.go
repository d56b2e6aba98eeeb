package web

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"beep/matrix"
)

// DefaultMaxBody is the limit of a request's body in bytes where nothing else is said.
const DefaultMaxBody = 1 << 20

// Options are what a [Router] is built from. The zero value serves without rate
// limits, trusts no proxy and logs nowhere.
type Options struct {
	Logger *slog.Logger
	// Metrics is where the router registers its metrics.
	Metrics *prometheus.Registry
	// MaxBody is the default limit of a body in bytes; 0 means [DefaultMaxBody].
	MaxBody int64
	// Limiter holds the rates that [Limit] names; nil means no limits.
	Limiter *Limiter
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// TrustUnixPeers tells that the peer of a unix socket is such a proxy.
	TrustUnixPeers bool
}

// Router dispatches requests to the routes that [GET], [POST], [PUT] and [DELETE]
// registered. Register everything before the first request.
type Router struct {
	tree    node
	routes  []Route
	logger  *slog.Logger
	metrics *metrics
	unknown *routeMetrics
	maxBody int64
	limiter *Limiter
	proxies proxies
}

// Route is one line of the route table.
type Route struct {
	Method  string
	Pattern string
}

// route is what the patterns of one registration have in common.
type route struct {
	Route
	options routeOptions
	metrics *routeMetrics
	plan    *plan
	serve   func(x *exchange) error
}

// NewRouter is a router without routes.
func NewRouter(o Options) *Router {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	m := newMetrics(o.Metrics)
	return &Router{
		logger:  o.Logger,
		metrics: m,
		unknown: m.forRoute("other", "unknown"),
		maxBody: o.MaxBody,
		limiter: o.Limiter,
		proxies: proxies{prefixes: o.TrustedProxies, unix: o.TrustUnixPeers},
	}
}

// Routes lists what was registered, sorted by pattern, without the older names of
// the same paths.
func (rt *Router) Routes() []Route {
	routes := slices.Clone(rt.routes)
	slices.SortFunc(routes, func(a, b Route) int {
		return slices.Compare([]string{a.Pattern, a.Method}, []string{b.Pattern, b.Method})
	})
	return routes
}

// Nobody is the caller of an open route.
type Nobody struct{}

// Anyone is the authentication of an open route.
func Anyone(*http.Request) (Nobody, error) { return Nobody{}, nil }

// Empty is the answer {}.
type Empty struct{}

// Handler answers one kind of request. The request has been decoded into Req; the
// error is a [matrix.Error], or the client gets 500 M_UNKNOWN and the log the cause.
type Handler[C, Req, Resp any] = func(ctx context.Context, who C, req *Req) (*Resp, error)

// GET registers a handler for GET and HEAD of a path. See [PUT] for Req.
func GET[C, Req, Resp any](rt *Router, path string, auth func(*http.Request) (C, error), h Handler[C, Req, Resp], opts ...Option) {
	register(rt, http.MethodGet, path, auth, h, opts)
}

// POST registers a handler. See [PUT].
func POST[C, Req, Resp any](rt *Router, path string, auth func(*http.Request) (C, error), h Handler[C, Req, Resp], opts ...Option) {
	register(rt, http.MethodPost, path, auth, h, opts)
}

// DELETE registers a handler. See [PUT].
func DELETE[C, Req, Resp any](rt *Router, path string, auth func(*http.Request) (C, error), h Handler[C, Req, Resp], opts ...Option) {
	register(rt, http.MethodDelete, path, auth, h, opts)
}

// PUT registers a handler. The path has wildcards as {roomID}; a final {$} stands
// for a trailing slash. Paths under /_matrix/client/v3 and /_matrix/media/v3 are
// served under their older names as well.
//
// Every field of Req says where it comes from: `path:"roomID"`, `query:"limit"`,
// `header:"X-Thing"`, or it is the one field Body. Such values are strings, integers,
// booleans, pointers to them (nil when absent), []string for a repeated query key, or
// an [encoding.TextUnmarshaler]. `path:"stateKey,optional"` is for a Req that also
// serves patterns without that wildcard.
//
// Body is a struct, map or slice decoded strictly (exact names, no duplicates, valid
// UTF-8, unknown members ignored), a [json.RawMessage] for any JSON object under the
// same rules, a [url.Values] for an HTML form, or an [io.Reader] for raw bytes, which
// is cut off at the limit of the body. A [Resp] is marshalled as JSON in the manner
// of json/v2 (use omitzero; nil slices are []), unless it has the method
// AppendJSON([]byte) []byte, or is [Raw].
//
// A caller C may have the methods LogUser() string, the user for logs and rate limits,
// and Unlimited() bool, for those whom rate limits do not hold. A mistake in a
// registration panics, as it does in net/http.
func PUT[C, Req, Resp any](rt *Router, path string, auth func(*http.Request) (C, error), h Handler[C, Req, Resp], opts ...Option) {
	register(rt, http.MethodPut, path, auth, h, opts)
}

func register[C, Req, Resp any](rt *Router, method, path string, auth func(*http.Request) (C, error), h Handler[C, Req, Resp], opts []Option) {
	var o routeOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.maxBody == 0 {
		o.maxBody = rt.maxBody
	}
	if !rt.limiter.knows(o.limit) {
		panic(fmt.Sprintf("web: %s %s: no rate limit is named %q", method, path, o.limit))
	}
	r := &route{Route: Route{method, path}, options: o, metrics: rt.metrics.forRoute(method, path)}
	r.plan = newPlan(reflect.TypeFor[Req](), method, append([]string{path}, o.also...))
	mayBeNil := reflect.TypeFor[C]().Kind() == reflect.Pointer
	r.serve = func(x *exchange) error {
		who, err := auth(x.r)
		if err != nil {
			return err
		}
		if err := x.admit(who, mayBeNil); err != nil {
			return err
		}
		req := new(Req)
		if err := r.plan.fill(x, reflect.ValueOf(req).Elem()); err != nil {
			return err
		}
		resp, err := h(x, who, req)
		if err != nil {
			return err
		}
		if resp == nil {
			return x.writeJSON(x.successStatus(), Empty{})
		}
		return x.writeAnswer(resp)
	}
	rt.add(r)
}

func (rt *Router) add(r *route) {
	for _, pattern := range append([]string{r.Pattern}, r.options.also...) {
		names := wildcards(pattern)
		if !rt.tree.add(r.Method, pattern, &leaf{route: r, names: names}) {
			panic(fmt.Sprintf("web: %s %s is registered twice", r.Method, pattern))
		}
		rt.routes = append(rt.routes, Route{r.Method, pattern})
		for _, alias := range aliases(pattern) {
			rt.tree.add(r.Method, alias, &leaf{route: r, names: names, alias: true})
		}
	}
}

// Constant header values, shared by all answers and never written to.
var (
	anyOrigin      = []string{"*"}
	allMethods     = []string{"GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD"}
	allHeaders     = []string{"X-Requested-With, Content-Type, Authorization, Date"}
	exposedHeaders = []string{"Retry-After, X-Request-Id"}
	noSniff        = []string{"nosniff"}
	noStore        = []string{"no-store"}
)

// ServeHTTP answers one request: client-server API, "Web Browser Clients" for the
// CORS headers and "Common error codes" for M_UNRECOGNIZED.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Context: r.Context(), router: rt, w: w, started: time.Now()}
	x.id[0] = strconv.FormatUint(rand.Uint64(), 36)
	x.r = r.WithContext(x)
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Allow-Methods"] = allMethods
	h["Access-Control-Allow-Headers"] = allHeaders
	h["Access-Control-Expose-Headers"] = exposedHeaders
	h["X-Content-Type-Options"] = noSniff
	h["X-Request-Id"] = x.id[:]
	if len(r.TransferEncoding) > 0 {
		// It may have come with a Content-Length too, which net/http hides: a proxy that
		// went by that one would take what follows for another client's request.
		h.Set("Connection", "close")
	}
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	rt.metrics.inFlight.Inc()
	defer x.finish()
	if err := x.route(); err != nil {
		x.leaveBody()
		x.fail(err)
		return
	}
	x.awaitBody()
	if err := x.leaf.route.serve(x); err != nil {
		x.fail(err)
	}
}

// route finds the leaf for the request's path and method.
func (x *exchange) route() error {
	path, encoded := requestPath(x.r.URL)
	if !cleanPath(path, encoded) {
		return matrix.Unrecognized
	}
	x.leaf = x.router.tree.find(x.r.Method, path[1:], encoded, &x.match)
	switch {
	case x.leaf != nil:
		return x.checkBodyHeaders()
	case len(x.match.known) > 0:
		x.w.Header().Set("Allow", x.match.allowed())
		return matrix.MethodNotAllowed
	default:
		return matrix.Unrecognized
	}
}

// Option refines a route.
type Option func(*routeOptions)

type routeOptions struct {
	limit        string
	maxBody      int64
	status       int
	optionalBody bool
	longPoll     bool
	also         []string
}

// Limit puts the route under the rate limit of that name, by user or else by address.
func Limit(kind string) Option { return func(o *routeOptions) { o.limit = kind } }

// MaxBody sets the limit of the request's body in bytes.
func MaxBody(n int64) Option { return func(o *routeOptions) { o.maxBody = n } }

// Status sets the status of a successful JSON answer; it is 200 otherwise.
func Status(code int) Option { return func(o *routeOptions) { o.status = code } }

// OptionalBody lets an empty body stand for {}.
func OptionalBody() Option { return func(o *routeOptions) { o.optionalBody = true } }

// LongPoll tells that a slow answer of this route is nothing to log.
func LongPoll() Option { return func(o *routeOptions) { o.longPoll = true } }

// Also serves the route under further paths, as the unstable name of an endpoint.
func Also(paths ...string) Option {
	return func(o *routeOptions) { o.also = append(o.also, paths...) }
}
