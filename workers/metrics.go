package workers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var jobSeconds = promauto.NewHistogramVec(prometheus.HistogramOpts{
	Name:    "earmark_job_seconds",
	Help:    "How long jobs ran, by kind and result.",
	Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
}, []string{"kind", "result"})

func observe(kind string, took time.Duration, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	jobSeconds.WithLabelValues(kind, result).Observe(took.Seconds())
}
