package bench

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// quantile is the smallest value that at least the share q of all values does
// not exceed (nearest rank); zero of none.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var none T
	if len(values) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianRatio is the median of a[i] / b[i]: what was measured side by side is
// compared before anything is summed up.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, 0, len(a))
	for i, v := range a {
		if i < len(b) && b[i] > 0 {
			ratios = append(ratios, v/b[i])
		}
	}
	return median(ratios)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// turnAbout runs each contender once a round, each round beginning with the
// next one, and returns what they reached: by contender, then by round.
func turnAbout(ctx context.Context, rounds int, contenders ...func(context.Context) (float64, error)) ([][]float64, error) {
	reached := make([][]float64, len(contenders))
	for round := range rounds {
		for turn := range contenders {
			i := (round + turn) % len(contenders)
			value, err := contenders[i](ctx)
			if err != nil {
				return nil, err
			}
			reached[i] = append(reached[i], value)
		}
	}
	return reached, nil
}

// load does n things, at most concurrency of them at once, and tells how many
// a second were done.
func load(ctx context.Context, n, concurrency int, do func(ctx context.Context, i int) error) (perSecond float64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	began := time.Now()
	for range min(n, concurrency) {
		group.Go(func() error {
			for i := range next {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(next)
		for i := range n {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// samples collects times from several goroutines.
type samples struct {
	mu  sync.Mutex
	all []float64
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, milliseconds(d))
}

// quantiles are the median and the 99th percentile, in milliseconds.
func (s *samples) quantiles() (p50, p99 float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return round(quantile(s.all, 0.50)), round(quantile(s.all, 0.99))
}
