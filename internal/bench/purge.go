package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"earmark/internal/access"
	"earmark/internal/ledger"
	"earmark/internal/lifecycle"
)

const (
	purgeSize    = 100 << 10
	purgeStreams = 4
	purgeBatch   = 250
	purgePace    = 50 * time.Millisecond
	purgeLimit   = 10 * time.Minute
)

// purge destroys recordings, from the second person's approval to the signed
// certificate, beside bare multi-deletes of as many equal objects: four streams
// of 250. The recordings are not analysed first, so that there are as many
// objects on both sides.
func (b *bench) purge(ctx context.Context) error {
	b.progress.steps(5 * b.Rounds)
	var officers [2]client
	for i := range officers {
		var err error
		if officers[i], err = b.service.keyOf(ctx, access.RecordsOfficer, fmt.Sprintf("officer-%d", i)); err != nil {
			return err
		}
	}
	c := newContent(purgeSize)
	reached, err := turnAbout(ctx, b.Rounds,
		func(ctx context.Context) (float64, error) { return b.deleteDirectly(ctx, c.recordings(b.Objects)) },
		func(ctx context.Context) (float64, error) { return b.purgeOnce(ctx, officers, c.recordings(b.Objects)) })
	if err != nil {
		return err
	}
	return b.report.add(Measurement{Work: "purge", Case: "approval to certificate", Bytes: purgeSize, Rows: b.Objects}.
		rates(reached[0], reached[1], "objects/s"))
}

func (b *bench) deleteDirectly(ctx context.Context, recordings []*recording) (float64, error) {
	if err := b.progress.step("%d objects are put", len(recordings)); err != nil {
		return 0, err
	}
	_, err := load(ctx, len(recordings), readBackStreams, func(ctx context.Context, i int) error { return b.direct.put(ctx, recordings[i]) })
	if err != nil {
		return 0, err
	}
	if err := b.progress.step("four streams delete them"); err != nil {
		return 0, err
	}
	batches := slices.Collect(slices.Chunk(recordings, purgeBatch))
	perSecond, err := load(ctx, len(batches), purgeStreams, func(ctx context.Context, i int) error { return b.direct.delete(ctx, batches[i]) })
	if err != nil {
		return 0, err
	}
	left, err := b.direct.count(ctx, b.direct.bucket, "")
	if err != nil || left > 0 {
		return 0, errors.Join(fmt.Errorf("%d objects are left", left), err)
	}
	return perSecond * float64(len(recordings)) / float64(len(batches)), nil
}

// delete removes one batch by one request.
func (d *direct) delete(ctx context.Context, batch []*recording) error {
	objects := make(chan minio.ObjectInfo, len(batch))
	for _, r := range batch {
		objects <- minio.ObjectInfo{Key: r.key}
	}
	close(objects)
	for result := range d.RemoveObjectsWithResult(ctx, d.bucket, objects, minio.RemoveObjectsOptions{}) {
		if result.Err != nil {
			return result.Err
		}
	}
	return ctx.Err()
}

func (b *bench) purgeOnce(ctx context.Context, officers [2]client, recordings []*recording) (float64, error) {
	if err := b.progress.step("%d recordings are sent", len(recordings)); err != nil {
		return 0, err
	}
	_, err := load(ctx, len(recordings), readBackStreams, func(ctx context.Context, i int) error {
		if err := b.service.uploader.post(ctx, recordings[i], recordings[i].reader()); err != nil {
			return err
		}
		return b.service.reviewer.readBack(ctx, recordings[i])
	})
	if err != nil {
		return 0, err
	}
	if err := b.ready(ctx); err != nil {
		return 0, err
	}
	var purge lifecycle.Purge
	request := map[string]any{"reason": "benchmark", "filter": map[string]string{"source": benchSource}, "override": true}
	if err := officers[0].ask(ctx, "/v1/purges", request, &purge); err != nil {
		return 0, err
	}
	if purge.Items != len(recordings) {
		return 0, fmt.Errorf("%d of %d would go", purge.Items, len(recordings))
	}
	if err := b.progress.step("they are purged"); err != nil {
		return 0, err
	}
	began := time.Now()
	path := "/v1/purges/" + purge.ID.String()
	if err := officers[1].ask(ctx, path+"/approve", map[string]bool{"override": true}, &purge); err != nil {
		return 0, err
	}
	certificate, err := b.certificate(ctx, officers[0], path)
	if err != nil {
		return 0, err
	}
	seconds := time.Since(began).Seconds()
	return float64(len(recordings)) / seconds, b.gone(ctx, officers[0], certificate, recordings)
}

// ready starts the worker, with nothing to do but what it will be told, and
// waits until it has come up: what is measured is the purge.
func (b *bench) ready(ctx context.Context) error {
	if err := b.service.exec(ctx, `delete from outbox where kind = 'recording.analyse'`); err != nil {
		return err
	}
	if b.service.worker != nil {
		return nil
	}
	if err := b.service.startWorker(); err != nil {
		return err
	}
	// The sequencer empties this once the worker runs.
	return b.until(ctx, "the worker", func() (bool, error) {
		var waiting bool
		err := b.service.db.QueryRow(ctx, `select exists (select from ledger_pending)`).Scan(&waiting)
		return !waiting, err
	})
}

// certificate waits for it.
func (b *bench) certificate(ctx context.Context, officer client, path string) ([]byte, error) {
	err := b.until(ctx, "the certificate", func() (bool, error) {
		var purge lifecycle.Purge
		err := officer.ask(ctx, path, nil, &purge)
		return purge.State == "done", err
	})
	if err != nil {
		return nil, err
	}
	return b.document(ctx, officer, path+"/certificate")
}

// until asks again and again until done says so.
func (b *bench) until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, purgeLimit, fmt.Errorf("waited too long for %s", what))
	defer cancel()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), fmt.Errorf("the worker says: %s", b.service.worker.said()))
		case <-time.After(purgePace):
		}
	}
}

// gone checks the certificate, and that nothing is left in the bucket.
func (b *bench) gone(ctx context.Context, officer client, certificate []byte, recordings []*recording) error {
	key, err := b.document(ctx, officer, "/v1/ledger/key")
	if err != nil {
		return err
	}
	verifier, err := ledger.ParseVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return err
	}
	proven, err := lifecycle.VerifyCertificate(certificate, verifier)
	if err != nil {
		return err
	}
	if len(proven.Items) != len(recordings) || len(proven.Remaining) > 0 {
		return fmt.Errorf("%d of %d are certified as gone", len(proven.Items), len(recordings))
	}
	left, err := b.direct.count(ctx, b.direct.serviceBucket, ".age")
	if err != nil || left > 0 {
		return errors.Join(fmt.Errorf("%d objects are left", left), err)
	}
	return nil
}
