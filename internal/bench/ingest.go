package bench

import (
	"context"
	"fmt"
)

// ingest sends recordings as a raw body and in one multipart request, beside
// PutObject of the same bytes. The worker does not run: what is measured is
// what stands between a softphone and its 201.
func (b *bench) ingest(ctx context.Context) error {
	b.progress.steps(1 + len(b.Sizes)*len(b.Concurrency)*b.Rounds*3)
	if b.service.serve != nil {
		if err := b.memory(ctx); err != nil {
			return err
		}
	}
	for _, size := range b.Sizes {
		c := newContent(size)
		for _, concurrency := range b.Concurrency {
			if err := b.ingestAt(ctx, c, concurrency); err != nil {
				return err
			}
		}
	}
	return nil
}

// ingestAt measures one size at one concurrency.
func (b *bench) ingestAt(ctx context.Context, c *content, concurrency int) error {
	n := b.slice(c, concurrency)
	ways := []struct {
		name    string
		prepare func(context.Context, *recording) error
		send    func(context.Context, *recording) error
		verify  func(context.Context, []*recording) error
	}{
		{"direct", nil, b.direct.put, b.emptyDirect},
		{"raw", b.service.uploader.announce, func(ctx context.Context, r *recording) error {
			return b.service.uploader.put(ctx, r, r.reader())
		}, b.readBack},
		{"one-shot", nil, func(ctx context.Context, r *recording) error {
			return b.service.uploader.post(ctx, r, r.reader())
		}, b.readBack},
	}
	contenders := make([]func(context.Context) (float64, error), len(ways))
	for i, way := range ways {
		contenders[i] = func(ctx context.Context) (float64, error) {
			if err := b.progress.step("%d of %s, %s, %d at once", n, Size(c.size()), way.name, concurrency); err != nil {
				return 0, err
			}
			recordings := c.recordings(n)
			if way.prepare != nil {
				if _, err := load(ctx, n, readBackStreams, func(ctx context.Context, i int) error { return way.prepare(ctx, recordings[i]) }); err != nil {
					return 0, err
				}
			}
			rate, err := load(ctx, n, concurrency, func(ctx context.Context, i int) error { return way.send(ctx, recordings[i]) })
			if err != nil {
				return 0, fmt.Errorf("%s: %w", way.name, err)
			}
			return rate, way.verify(ctx, recordings)
		}
	}
	reached, err := turnAbout(ctx, b.Rounds, contenders...)
	if err != nil {
		return err
	}
	for i, way := range ways[1:] {
		m := Measurement{Work: "ingest", Case: way.name, Bytes: c.size(), Concurrency: concurrency}
		if err := b.report.add(m.rates(reached[0], reached[i+1], "objects/s")); err != nil {
			return err
		}
	}
	return nil
}

// maxSlice bounds the objects of one slice, whatever their size.
const maxSlice = 400

// slice is how many recordings are sent between two glances at the clock:
// enough that the last of them, when not all streams are busy any more, count
// for little.
func (b *bench) slice(c *content, concurrency int) int {
	return max(2*concurrency, min(maxSlice, int(int64(b.SliceBytes)/c.size())))
}

const readBackStreams = 8

// readBack hears what was sent, counts the objects in the service's bucket,
// and makes room for the next.
func (b *bench) readBack(ctx context.Context, recordings []*recording) error {
	_, err := load(ctx, len(recordings), readBackStreams, func(ctx context.Context, i int) error {
		return b.service.reviewer.readBack(ctx, recordings[i])
	})
	if err != nil || b.service.serve == nil {
		return err
	}
	objects, err := b.direct.count(ctx, b.direct.serviceBucket, ".age")
	if err != nil {
		return err
	}
	if objects != len(recordings) {
		return fmt.Errorf("%d recordings were sent, %d objects are there", len(recordings), objects)
	}
	return b.direct.empty(ctx, b.direct.serviceBucket)
}

func (b *bench) emptyDirect(ctx context.Context, recordings []*recording) error {
	objects, err := b.direct.count(ctx, b.direct.bucket, ".wav")
	if err != nil {
		return err
	}
	if objects != len(recordings) {
		return fmt.Errorf("%d objects were put directly, %d are there", len(recordings), objects)
	}
	return b.direct.empty(ctx, b.direct.bucket)
}
