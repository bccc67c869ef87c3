// Package bench measures a service beside its direct limit: what the same
// object store or database does for the same work when nothing stands before
// it. Both are measured in one run, turn about, at the same concurrency, and
// every byte that was loaded is read back and compared.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Works are what can be measured, in the order in which it is done.
var Works = []string{"ingest", "play", "search", "draw", "purge"}

// Servers are what the service under test and its direct limit run on.
type Servers struct {
	// DatabaseURL is a superuser's: the benchmark makes a database of its own.
	DatabaseURL string
	RedisURL    string
	S3Endpoint  string
	S3AccessKey string
	S3SecretKey string
}

// Running is a service that runs already. Only ingest and play can be measured
// on it, its memory cannot, and what was loaded stays in it.
type Running struct {
	URL string
	// Key is of an uploader whose key carries a basis for quality assurance,
	// ListenKey of a reviewer, by whom everything is read back.
	Key, ListenKey string
}

// Load is how much work is done.
type Load struct {
	// Rounds is how often each measurement is repeated; medians are told.
	Rounds int
	// Sizes of recordings and numbers of uploads at once, for ingest.
	Sizes       []Size
	Concurrency []int
	// SliceBytes is about how much is uploaded between two glances at the clock.
	SliceBytes Size
	// SlowUploads at 64 KB/s for SlowSeconds are what memory is measured at.
	SlowUploads, SlowSeconds int
	// Ranges are heard in a round of play.
	Ranges int
	// Rows are searched, with Requests for each filter.
	Rows, Requests int
	// Eligible interactions of Agents are drawn from.
	Eligible, Agents int
	// Objects are purged.
	Objects int
}

// Options are what Run is told.
type Options struct {
	// Works are some of Works; all when empty.
	Works []string
	// Program is the earmark program, which is started to be measured.
	Program string
	Servers Servers
	// Running is measured instead, when it is not nil.
	Running *Running
	Load    Load
	// Results is the file to which each measurement is appended as a line of JSON.
	Results string
	// Out gets a table at the end or, with JSON, each measurement at once.
	Out  io.Writer
	JSON bool
	// Progress gets lines, or a bar at a Terminal.
	Progress io.Writer
	Terminal bool
}

// ErrUsage says that what was asked for cannot be measured that way.
var ErrUsage = errors.New("bench")

// Run measures. It returns an error when anything came back wrong: a number
// for work that was not done is none.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	r, err := openReport(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for _, work := range Works {
		if !o.does(work) {
			continue
		}
		b := &bench{Load: o.Load, report: r, progress: newProgress(o, work)}
		if err := b.do(ctx, o, work); err != nil {
			return fmt.Errorf("bench %s: %w", work, err)
		}
	}
	return nil
}

func (o Options) does(work string) bool { return len(o.Works) == 0 || slices.Contains(o.Works, work) }

func (o Options) check() error {
	for _, work := range o.Works {
		if !slices.Contains(Works, work) {
			return fmt.Errorf("%w: there is no work %q", ErrUsage, work)
		}
		if o.Running != nil && work != "ingest" && work != "play" {
			return fmt.Errorf("%w: %s needs a database of its own and is not measured on a service that runs", ErrUsage, work)
		}
	}
	if o.Running != nil && len(o.Works) == 0 {
		return fmt.Errorf("%w: say ingest or play with a service that runs", ErrUsage)
	}
	if o.Running == nil && (o.Servers.DatabaseURL == "" || o.Servers.RedisURL == "") || o.Servers.S3Endpoint == "" {
		return fmt.Errorf("%w: there are no servers to measure on: use `make bench`, which starts them", ErrUsage)
	}
	return o.Load.check()
}

func (l Load) check() error {
	for name, n := range map[string]int{
		"rounds": l.Rounds, "slow uploads": l.SlowUploads, "slow seconds": l.SlowSeconds, "ranges": l.Ranges, "rows": l.Rows,
		"requests": l.Requests, "eligible": l.Eligible, "agents": l.Agents, "objects": l.Objects,
	} {
		if n < 1 {
			return fmt.Errorf("%w: %s must be 1 at least", ErrUsage, name)
		}
	}
	for _, size := range l.Sizes {
		if size < minContent {
			return fmt.Errorf("%w: a recording has %d bytes at least", ErrUsage, minContent)
		}
	}
	for _, n := range l.Concurrency {
		if n < 1 {
			return fmt.Errorf("%w: concurrency must be 1 at least", ErrUsage)
		}
	}
	if l.Eligible < l.Agents*perAgent {
		return fmt.Errorf("%w: %d agents have %d interactions at least", ErrUsage, l.Agents, l.Agents*perAgent)
	}
	return nil
}

// bench is one work on its way.
type bench struct {
	Load
	report   *report
	progress *progress
	service  *service
	direct   *direct
}

func (b *bench) do(ctx context.Context, o Options, work string) (err error) {
	if b.direct, err = openDirect(ctx, o.Servers); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.direct.close(ctx)) }()
	if b.service, err = openService(ctx, o, b.direct); err != nil {
		return err
	}
	defer func() { err = errors.Join(b.service.explain(err), b.service.close(ctx)) }()
	defer b.progress.end()
	switch work {
	case "ingest":
		return b.ingest(ctx)
	case "play":
		return b.play(ctx)
	case "search":
		return b.search(ctx)
	case "draw":
		return b.draw(ctx)
	default:
		return b.purge(ctx)
	}
}
