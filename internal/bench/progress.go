package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress says how far a work is: a bar at a terminal, plain lines otherwise.
type progress struct {
	out      io.Writer
	terminal bool
	work     string
	began    time.Time
	bar      *progressbar.ProgressBar
}

func newProgress(o Options, work string) *progress {
	return &progress{out: o.Progress, terminal: o.Terminal, work: work, began: time.Now()}
}

// steps announces how many steps there will be.
func (p *progress) steps(n int) {
	if !p.terminal {
		return
	}
	p.bar = progressbar.NewOptions(n, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(p.work),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth())
}

// step begins the next step.
func (p *progress) step(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if p.bar == nil {
		_, err := fmt.Fprintf(p.out, "%7s  %s: %s\n", time.Since(p.began).Round(100*time.Millisecond), p.work, what)
		return err
	}
	p.bar.Describe(p.work + ": " + what)
	return p.bar.Add(1)
}

func (p *progress) end() {
	if p.bar != nil {
		p.bar.Exit() //nolint:errcheck // a bar that cannot be cleared is all that is lost
	}
}
