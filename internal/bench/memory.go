package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// slowRate is that of a softphone on a bad line, in bytes a second.
const slowRate = 64 << 10

// memory measures what the service holds above idle while many slow uploads
// are under way, half of them raw and half in one request. It comes first: the
// heap of a service that just started has not grown for anything else.
func (b *bench) memory(ctx context.Context) error {
	if err := b.progress.step("%d at %d KB/s, memory", b.SlowUploads, slowRate>>10); err != nil {
		return err
	}
	c := newContent(Size(b.SlowSeconds * slowRate))
	warm := c.recordings(2 * readBackStreams)
	if _, err := load(ctx, len(warm), readBackStreams, func(ctx context.Context, i int) error {
		return b.service.uploader.post(ctx, warm[i], warm[i].reader())
	}); err != nil {
		return err
	}
	recordings := c.recordings(b.SlowUploads)
	if _, err := load(ctx, len(recordings), readBackStreams, func(ctx context.Context, i int) error {
		if !sentRaw(i) {
			return nil
		}
		return b.service.uploader.announce(ctx, recordings[i])
	}); err != nil {
		return err
	}
	idle, err := resetPeak(b.service.serve.pid())
	if err != nil {
		return err
	}
	_, err = load(ctx, len(recordings), len(recordings), func(ctx context.Context, i int) error {
		r := recordings[i]
		slow := &slowly{ctx: ctx, r: r.reader(), began: time.Now()}
		if sentRaw(i) {
			return b.service.uploader.put(ctx, r, slow)
		}
		return b.service.uploader.post(ctx, r, slow)
	})
	if err != nil {
		return err
	}
	peak, err := status(b.service.serve.pid(), "VmHWM")
	if err != nil {
		return err
	}
	if err := b.readBack(ctx, append(recordings, warm...)); err != nil {
		return err
	}
	return b.report.add(Measurement{
		Work: "ingest", Case: fmt.Sprintf("slow, %d KB/s", slowRate>>10), Bytes: c.size(), Concurrency: len(recordings),
		Earmark: round(float64(peak-idle) / float64(len(recordings)) / 1e6), Unit: "MB an upload", MemoryBytes: max(0, peak-idle),
	})
}

// sentRaw says which half of the uploads needs an interaction first.
func sentRaw(i int) bool { return i%2 == 0 }

// slowly gives slowRate bytes a second.
type slowly struct {
	ctx   context.Context
	r     io.Reader
	began time.Time
	given int64
}

// slowPiece is what comes at once.
const slowPiece = 8 << 10

func (s *slowly) Read(p []byte) (int, error) {
	due := s.began.Add(time.Duration(s.given) * time.Second / slowRate)
	select {
	case <-time.After(time.Until(due)):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	n, err := s.r.Read(p[:min(len(p), slowPiece)])
	s.given += int64(n)
	return n, err
}

// resetPeak has the kernel forget the largest resident set of a process, and
// returns the present one.
func resetPeak(pid int) (bytes int64, err error) {
	const peak = "5" // proc_pid_clear_refs(5)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peak), 0); err != nil {
		return 0, fmt.Errorf("forget the peak of memory: %w", err)
	}
	return status(pid, "VmRSS")
}

var errStatus = errors.New("the kernel does not say how much memory a process holds")

// status reads one size of /proc/<pid>/status, in bytes.
func status(pid int, field string) (bytes int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, field+":")
		if !ok {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errStatus, err)
		}
		return kilobytes << 10, nil
	}
	return 0, errStatus
}
