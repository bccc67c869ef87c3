package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	playSize        = 5 << 20
	playRange       = 256 << 10
	playConcurrency = 8
	playRecordings  = 24
)

// play hears ranges of recordings, beside a GetObject of the same range of the
// same bytes in the clear. Each range is compared to what was sent.
func (b *bench) play(ctx context.Context) error {
	b.progress.steps(1 + 2*b.Rounds)
	if err := b.progress.step("%d recordings of %s are sent", playRecordings, Size(playSize)); err != nil {
		return err
	}
	recordings := newContent(playSize).recordings(playRecordings)
	if _, err := load(ctx, len(recordings), playConcurrency, func(ctx context.Context, i int) error {
		return b.provide(ctx, recordings[i])
	}); err != nil {
		return err
	}
	offsets := make([]int64, b.Ranges)
	for i := range offsets {
		offsets[i] = rand.Int64N(playSize - playRange + 1) //nolint:gosec // any offset will do
	}
	var first [2]rounds
	heard := func(name string, times *rounds, open func(context.Context, *recording, int64) (io.ReadCloser, error)) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			if err := b.progress.step("%d ranges, %s", b.Ranges, name); err != nil {
				return 0, err
			}
			round := times.next()
			return load(ctx, b.Ranges, playConcurrency, func(ctx context.Context, i int) error {
				r := recordings[i%len(recordings)]
				began := time.Now()
				body, err := open(ctx, r, offsets[i])
				if err != nil {
					return err
				}
				return compareRange(body, r, offsets[i], func() { round.add(time.Since(began)) })
			})
		}
	}
	reached, err := turnAbout(ctx, b.Rounds, heard("direct", &first[0], b.direct.open), heard("earmark", &first[1], b.service.reviewer.open))
	if err != nil {
		return err
	}
	m := Measurement{Work: "play", Case: "range", Bytes: playRange, Concurrency: playConcurrency}
	if err := b.report.add(m.rates(reached[0], reached[1], "ranges/s")); err != nil {
		return err
	}
	m.Case = "first byte"
	m.P50MS, m.P99MS = first[1].quantiles()
	return b.report.add(m.times(first[0].medians(), first[1].medians(), "ms"))
}

// provide sends a recording to both, and hears it once: so it is verified, and
// the ledger has its entry.
func (b *bench) provide(ctx context.Context, r *recording) error {
	if err := b.service.uploader.post(ctx, r, r.reader()); err != nil {
		return err
	}
	return errors.Join(b.service.reviewer.readBack(ctx, r), b.direct.put(ctx, r))
}

func (d *direct) open(ctx context.Context, r *recording, offset int64) (io.ReadCloser, error) {
	var options minio.GetObjectOptions
	if err := options.SetRange(offset, offset+playRange-1); err != nil {
		return nil, err
	}
	body, _, _, err := d.GetObject(ctx, d.bucket, r.key, options)
	return body, err
}

func (c client) open(ctx context.Context, r *recording, offset int64) (io.ReadCloser, error) {
	response, err := c.send(ctx, request{method: http.MethodGet, path: audioPath(r),
		header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, offset+playRange-1)}}}, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// compareRange reads a range to its end and compares it; began is called when
// its first byte is there.
func compareRange(body io.ReadCloser, r *recording, offset int64, began func()) (err error) {
	defer func() { err = errors.Join(err, body.Close()) }()
	got, want := make([]byte, playRange+1), make([]byte, playRange)
	if _, err := io.ReadFull(body, got[:1]); err != nil {
		return err
	}
	began()
	n, err := io.ReadFull(body, got[1:])
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.Join(fmt.Errorf("range at %d: %w", offset, errOtherBytes), err)
	}
	if _, err := r.ReadAt(want, offset); err != nil {
		return err
	}
	if !bytes.Equal(got[:n+1], want) {
		return fmt.Errorf("range at %d: %w", offset, errOtherBytes)
	}
	return nil
}

// rounds are the samples of several rounds.
type rounds []*samples

func (r *rounds) next() *samples {
	s := &samples{}
	*r = append(*r, s)
	return s
}

func (r rounds) medians() []float64 {
	all := make([]float64, len(r))
	for i, s := range r {
		all[i], _ = s.quantiles()
	}
	return all
}

// quantiles are over all rounds, in milliseconds.
func (r rounds) quantiles() (p50, p99 float64) {
	var all samples
	for _, s := range r {
		all.all = append(all.all, s.all...)
	}
	return all.quantiles()
}
