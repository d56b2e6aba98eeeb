package mediaapi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the content repository's.
type metrics struct {
	uploaded                 prometheus.Counter
	fetched, refused, failed prometheus.Counter
	made, unsupported        prometheus.Counter
}

func newMetrics(registry *prometheus.Registry, kept *cache) *metrics {
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "media_remote_fetches_total",
		Help: "Files wanted from other servers that were not kept here, by what became of that.",
	}, []string{"result"})
	thumbnails := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "media_thumbnails_total",
		Help: "Thumbnails that were made, and images of which none can be made.",
	}, []string{"result"})
	m := &metrics{
		made:        thumbnails.WithLabelValues("made"),
		unsupported: thumbnails.WithLabelValues("unsupported"),
		fetched:     fetches.WithLabelValues("fetched"),
		refused:     fetches.WithLabelValues("refused"),
		failed:      fetches.WithLabelValues("failed"),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "media_uploaded_bytes_total",
			Help: "Bytes of files that users of this server have uploaded.",
		}),
	}
	bytes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "media_remote_bytes",
		Help: "Bytes of files of other servers that are kept here, with their thumbnails.",
	}, func() float64 { return float64(kept.size()) })
	registry.MustRegister(m.uploaded, fetches, thumbnails, bytes)
	return m
}
