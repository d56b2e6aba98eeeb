package mediaapi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the content repository's.
type metrics struct {
	uploaded prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	m := &metrics{
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "media_uploaded_bytes_total",
			Help: "Bytes of files that users of this server have uploaded.",
		}),
	}
	registry.MustRegister(m.uploaded)
	return m
}
