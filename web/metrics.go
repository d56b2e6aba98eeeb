package web

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the router's, labelled by the pattern of the matched route: a raw path
// would let a client invent time series.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total",
			Help: "Requests answered, by method, route and class of status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_duration_seconds",
			Help:    "Time from the first byte of a request to the end of its answer.",
			Buckets: []float64{0.002, 0.01, 0.05, 0.2, 1, 5, 30},
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight",
			Help: "Requests being answered now.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "http_handler_panics_total",
			Help: "Handlers that panicked.",
		}),
	}
	registry.MustRegister(m.requests, m.duration, m.inFlight, m.panics)
	return m
}

var statusClasses = [...]string{"canceled", "1xx", "2xx", "3xx", "4xx", "5xx"}

// routeMetrics resolves the labels of a route once, and only for what occurs: most
// routes never see most classes.
type routeMetrics struct {
	all           *metrics
	method, route string
	counters      [len(statusClasses)]atomic.Pointer[prometheus.Counter]
	duration      atomic.Pointer[prometheus.Observer]
}

func (m *metrics) forRoute(method, route string) *routeMetrics {
	return &routeMetrics{all: m, method: method, route: route}
}

func (rm *routeMetrics) observe(status int, took time.Duration) {
	class := status / 100
	if status == statusCanceled || class >= len(statusClasses) {
		class = 0
	}
	counter := rm.counters[class].Load()
	if counter == nil {
		c := rm.all.requests.WithLabelValues(rm.method, rm.route, statusClasses[class])
		counter = &c
		rm.counters[class].Store(counter)
	}
	(*counter).Inc()
	duration := rm.duration.Load()
	if duration == nil {
		d := rm.all.duration.WithLabelValues(rm.method, rm.route)
		duration = &d
		rm.duration.Store(duration)
	}
	(*duration).Observe(took.Seconds())
}
