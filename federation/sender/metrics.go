package sender

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the sender's. No server's name is among the labels: there may be too many.
type metrics struct {
	transactions, failed, refused prometheus.Counter
	pdus, edus                    prometheus.Counter
	delay                         prometheus.Histogram
	givenUp                       prometheus.Counter
	sending, waiting, lost        prometheus.Gauge
}

func newMetrics(registry *prometheus.Registry) *metrics {
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	transactions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "federation_transactions_sent_total",
		Help: "Transactions sent to other servers, by what became of them.",
	}, []string{"result"})
	parts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "federation_sent_total",
		Help: "Events (pdu) and EDUs that other servers have taken.",
	}, []string{"kind"})
	destinations := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "federation_destinations",
		Help: "Servers that something is to be sent to: it is under way, it waits, or the server cannot be reached for long.",
	}, []string{"state"})
	m := &metrics{
		transactions: transactions.WithLabelValues("delivered"),
		failed:       transactions.WithLabelValues("failed"),
		refused:      transactions.WithLabelValues("refused"),
		pdus:         parts.WithLabelValues("pdu"),
		edus:         parts.WithLabelValues("edu"),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "federation_send_delay_seconds",
			Help:    "Time from the making of the oldest event of a transaction until the other server has taken it.",
			Buckets: []float64{0.02, 0.1, 0.5, 2, 10, 60, 600, 3600, 86400},
		}),
		givenUp: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "federation_given_up_total",
			Help: "EDUs and events that were queued for servers which could not be reached for 90 days, and are queued no more.",
		}),
		sending: destinations.WithLabelValues("sending"),
		waiting: destinations.WithLabelValues("waiting"),
		lost:    destinations.WithLabelValues("unreachable"),
	}
	registry.MustRegister(transactions, parts, destinations, m.delay, m.givenUp)
	return m
}

func (m *metrics) delivered(t *transaction, now time.Time) {
	m.transactions.Inc()
	m.pdus.Add(float64(len(t.PDUs)))
	m.edus.Add(float64(len(t.EDUs)))
	if len(t.PDUs) > 0 {
		m.delay.Observe(now.Sub(time.UnixMilli(t.oldest)).Seconds())
	}
}

func (m *metrics) count(destinations map[string]*destination) {
	var sending, waiting, lost float64
	for _, d := range destinations {
		switch {
		case d.busy:
			sending++
		case d.failures < patience:
			waiting++
		default:
			lost++
		}
	}
	m.sending.Set(sending)
	m.waiting.Set(waiting)
	m.lost.Set(lost)
}
