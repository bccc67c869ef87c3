package main

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Invariant 10, Redis may vanish: what is due lives in PostgreSQL.
func TestFlushedQueueLosesNoWork(t *testing.T) {
	t.Parallel()
	in := install(t).onS3(t)
	front := in.start(t, nil, "serve")
	calls, doomed := newCalls(100), newCalls(20)
	var group errgroup.Group
	group.SetLimit(8)
	for _, c := range append(doomed, calls...) {
		group.Go(func() error {
			_, err := c.upload(t.Context(), in.client(front, "uploader"))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	asked := in.preview(t, front, doomed...)
	if _, err := in.approve(t, front, asked); err != nil {
		t.Fatal(err)
	}

	// The store stands still while the purge is past its point of no return.
	store, endpoint := linkTo(t, in.env["EARMARK_S3_ENDPOINT"])
	worker := in.launch(t, []string{"EARMARK_S3_ENDPOINT=" + endpoint}, "worker")
	eventually(t, "some recordings are ready", func() bool {
		return in.count(t, `select count(*) from recordings where state = 'ready'`) > 0
	})
	resume := store.stall()
	defer resume()
	in.redis.flush(t)
	left := in.count(t, `select count(*) from outbox where kind = 'recording.analyse'`)
	if left < 50 {
		t.Fatalf("only %d recordings are still to be looked into: the flush came too late to show anything", left)
	}
	resume()
	eventually(t, "keys are destroyed", func() bool {
		return in.count(t, `select count(*) from purge_items where state = 'pending'`) == 0
	})
	in.redis.flush(t)

	in.awaitPurge(t, front, asked)
	// A hundred take longer than one may be waited for.
	for left > 0 {
		before := left
		eventually(t, "another recording is looked into", func() bool {
			left = in.count(t, `select count(*) from outbox where kind = 'recording.analyse'`)
			return left < before
		})
	}
	if n := in.count(t, `select count(*) from recordings where state = 'ready'`); n != len(calls) {
		t.Errorf("%d recordings are ready, want %d", n, len(calls))
	}
	mustBeErased(t, in.client(front, "reviewer"), doomed...)
	worker.stop(t)
	in.verifyAll(t)
}

// Invariants 1 and 10: what is acknowledged without Redis is worked when it is
// back.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.redis.stop(t)
	p := in.start(t, nil, "up")
	first, second := newCalls(3), newCalls(3)
	takeIn(t, in.client(p, "uploader"), first...)
	mustPlay(t, in.client(p, "reviewer"), first...)
	in.redis.start(t)
	in.awaitAnalysed(t)

	in.redis.stop(t)
	takeIn(t, in.client(p, "uploader"), second...)
	if n := in.count(t, `select count(*) from outbox where kind = 'recording.analyse'`); n != len(second) {
		t.Errorf("%d jobs wait, want %d", n, len(second))
	}
	in.redis.start(t)
	in.awaitAnalysed(t)
	in.verifyAll(t)
	p.stop(t)
}

// halfway is a body of which the rest comes when it is let go.
type halfway struct {
	first, rest io.Reader
	reached     chan struct{}
	goOn        chan struct{}
}

func newHalfway(body []byte) *halfway {
	middle := len(body) / 2
	return &halfway{
		first: bytes.NewReader(body[:middle]), rest: bytes.NewReader(body[middle:]),
		reached: make(chan struct{}), goOn: make(chan struct{}),
	}
}

func (h *halfway) Read(p []byte) (int, error) {
	n, err := h.first.Read(p)
	if err != io.EOF {
		return n, err
	}
	select {
	case <-h.reached:
	default:
		close(h.reached)
	}
	<-h.goOn
	return h.rest.Read(p)
}

type attempt struct {
	answer answer
	err    error
}

// uploadHalf begins to upload and returns when half of the body is sent; finish
// sends the rest.
func (c *call) uploadHalf(t *testing.T, to client) (finish func() (answer, error)) {
	t.Helper()
	body, contentType, err := c.form()
	if err != nil {
		t.Fatal(err)
	}
	half, done := newHalfway(body), make(chan attempt, 1)
	go func() {
		a, err := c.taken(to.send(t.Context(), http.MethodPost, "/v1/interactions", contentType, half))
		done <- attempt{a, err}
	}()
	<-half.reached
	return func() (answer, error) {
		close(half.goOn)
		a := <-done
		return a.answer, a.err
	}
}

// Invariant 2, nothing half-there: without PostgreSQL nothing is taken in, and
// with it again everything works.
func TestDatabaseCut(t *testing.T) {
	t.Parallel()
	in := install(t).onS3(t)
	database, url := linkTo(t, in.env["EARMARK_DATABASE_URL"])
	p := in.start(t, []string{"EARMARK_DATABASE_URL=" + url}, "up")
	uploader, reviewer := in.client(p, "uploader"), in.client(p, "reviewer")
	kept, torn, refused := newCall(), newCall(), newCall()
	takeIn(t, uploader, kept)
	in.awaitAnalysed(t)

	finish := torn.uploadHalf(t, uploader)
	database.cut(t)
	a, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	a.expectProblem(t, http.StatusServiceUnavailable, "database_unavailable")
	if a, err = refused.upload(t.Context(), uploader); err != nil {
		t.Fatal(err)
	}
	a.expectProblem(t, http.StatusServiceUnavailable, "database_unavailable")
	reviewer.get(t, "/v1/interactions").expectProblem(t, http.StatusServiceUnavailable, "database_unavailable")
	reviewer.get(t, kept.audioPath()).expectProblem(t, http.StatusServiceUnavailable, "database_unavailable")
	p.stranger().get(t, "/readyz").expect(t, http.StatusServiceUnavailable)
	p.stranger().get(t, "/healthz").expect(t, http.StatusOK)
	if n := in.count(t, `select count(*) from interactions`); n != 1 {
		t.Errorf("%d interactions, want 1", n)
	}

	database.mend(t)
	eventually(t, "the service is ready again", func() bool { return p.stranger().get(t, "/readyz").status == http.StatusOK })
	takeIn(t, uploader, torn, refused)
	mustPlay(t, reviewer, kept, torn, refused)
	in.awaitAnalysed(t)
	in.verifyAll(t)
	p.stop(t)
}

// Invariant 2, the same without the object store.
func TestObjectStoreGone(t *testing.T) {
	t.Parallel()
	in := install(t).onS3(t)
	store, endpoint := linkTo(t, in.env["EARMARK_S3_ENDPOINT"])
	p := in.start(t, []string{"EARMARK_S3_ENDPOINT=" + endpoint}, "up")
	uploader, reviewer := in.client(p, "uploader"), in.client(p, "reviewer")
	kept, torn, refused, doomed := newCall(), newCall(), newCall(), newCall()
	takeIn(t, uploader, kept, doomed)
	asked := in.preview(t, p, doomed)

	finish := torn.uploadHalf(t, uploader)
	store.cut(t)
	a, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	mustTryAgain(t, a)
	if a, err = refused.upload(t.Context(), uploader); err != nil {
		t.Fatal(err)
	}
	mustTryAgain(t, a)
	mustTryAgain(t, reviewer.get(t, kept.audioPath()))
	p.stranger().get(t, "/readyz").expect(t, http.StatusServiceUnavailable)
	reviewer.get(t, "/v1/interactions").expect(t, http.StatusOK)
	if n := in.count(t, `select count(*) from interactions`); n != 2 {
		t.Errorf("%d interactions, want 2", n)
	}
	// What the purge has begun it goes on with.
	if a, err = in.approve(t, p, asked); err != nil {
		t.Fatal(err)
	}
	a.expect(t, http.StatusOK)
	eventually(t, "the purge meets the missing store", func() bool {
		return in.count(t, `select count(*) from purge_items where state = 'purging' and attempts > 0`) == 1
	})
	mustBeErased(t, reviewer, doomed)

	store.mend(t)
	takeIn(t, uploader, torn, refused)
	in.awaitPurge(t, p, asked)
	mustPlay(t, reviewer, kept, torn, refused)
	in.awaitAnalysed(t)
	in.verifyAll(t)
	p.stop(t)
}

// mustTryAgain expects a problem that says that it will pass.
func mustTryAgain(t *testing.T, a answer) {
	t.Helper()
	a.expect(t, http.StatusServiceUnavailable)
	if code := a.problem(); code != "store_unavailable" && code != "try_again" {
		t.Errorf("problem %q: %s", code, a.body)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("the answer does not say when to try again")
	}
}
