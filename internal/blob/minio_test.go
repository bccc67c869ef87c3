package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"earmark/internal/blob"
	"earmark/internal/blob/blobtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashDirEnv) != "" {
		writeUntilKilled(os.Getenv(crashDirEnv))
	}
	goleak.VerifyTestMain(m)
}

func TestS3(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return newBucket(t).store })
}

func TestS3Versioned(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		b := newBucket(t)
		b.version(t)
		return b.store
	})
}

func env(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

// bucket is a fresh one, with a client that goes round the store.
type bucket struct {
	store  *blob.S3
	config blob.S3Config
	client *minio.Client
}

func newBucket(t testing.TB) bucket {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	t.Cleanup(transport.CloseIdleConnections)
	b := bucket{config: blob.S3Config{
		Endpoint:     env(t, "EARMARK_TEST_S3_ENDPOINT"),
		AccessKey:    env(t, "EARMARK_TEST_S3_ACCESS_KEY"),
		SecretKey:    env(t, "EARMARK_TEST_S3_SECRET_KEY"),
		Bucket:       "blob-" + uuid.NewString(),
		CreateBucket: true,
		Transport:    transport,
	}}
	endpoint, err := url.Parse(b.config.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	b.client, err = minio.New(endpoint.Host, &minio.Options{
		Creds:     credentials.NewStaticV4(b.config.AccessKey, b.config.SecretKey, ""),
		Secure:    endpoint.Scheme == "https",
		Region:    "us-east-1",
		Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.store = b.open(t, nil)
	t.Cleanup(func() { b.drop(t) })
	return b
}

// open returns another store of the bucket, through the transport that wrap
// makes of the usual one.
func (b bucket) open(t testing.TB, wrap func(http.RoundTripper) http.RoundTripper) *blob.S3 {
	t.Helper()
	config := b.config
	if wrap != nil {
		config.Transport = wrap(config.Transport)
	}
	store, err := blob.OpenS3(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (b bucket) version(t *testing.T) {
	t.Helper()
	if err := b.client.EnableVersioning(t.Context(), b.config.Bucket); err != nil {
		t.Fatal(err)
	}
}

func (b bucket) drop(t testing.TB) {
	opts := minio.RemoveBucketOptions{ForceDelete: true}
	if err := b.client.RemoveBucketWithOptions(context.Background(), b.config.Bucket, opts); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchBucket {
		t.Errorf("remove bucket: %v", err)
	}
}

// Invariant 6, gone is gone: a purge removes every version of every object.
func TestPurgeRemovesVersionsAndDeleteMarkers(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.version(t)
	overwrite := func(key, text string) {
		t.Helper()
		_, err := b.client.PutObject(t.Context(), b.config.Bucket, key, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	hide := func(key string) {
		t.Helper()
		if err := b.client.RemoveObject(t.Context(), b.config.Bucket, key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	overwrite("p/1/a", "one")
	overwrite("p/1/a", "two!")
	hide("p/1/a")
	overwrite("p/1/b", "x")
	overwrite("p/2/a", "stays")

	if _, err := b.store.Stat(t.Context(), "p/1/a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat of a hidden object: %v", err)
	}
	markers, versions := 0, 0
	for info, err := range b.store.List(t.Context(), "p/1/", "") {
		if err != nil {
			t.Fatal(err)
		}
		versions++
		if info.DeleteMarker {
			markers++
		}
		if info.Version == "" {
			t.Errorf("no version id: %+v", info)
		}
	}
	if versions != 4 || markers != 1 {
		t.Errorf("%d versions, %d of them delete markers", versions, markers)
	}
	got, err := blob.Purge(t.Context(), b.store, "p/1/")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(blob.Purged{Objects: 2, Versions: 4, Bytes: 8}, got); diff != "" {
		t.Errorf("Purge (-want +got):\n%s", diff)
	}
	kept, err := b.store.Delete(t.Context(), blob.Ref{Key: "p/2/a"})
	if err != nil || len(kept) != 0 {
		t.Errorf("Delete = %v, %v", kept, err)
	}
	for info, err := range b.store.List(t.Context(), "", "") {
		t.Errorf("left: %+v, %v", info, err)
	}
}

func TestPurgeTellsWhatIsLockedAndUntilWhen(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.drop(t)
	if err := b.client.MakeBucket(t.Context(), b.config.Bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(6 * time.Second).UTC().Truncate(time.Second)
	for _, key := range []string{"p/free", "p/held", "p/retained", "p/both"} {
		if _, err := b.store.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	hold, governance := minio.LegalHoldEnabled, minio.Governance
	for _, key := range []string{"p/held", "p/both"} {
		if err := b.client.PutObjectLegalHold(t.Context(), b.config.Bucket, key, minio.PutObjectLegalHoldOptions{Status: &hold}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"p/retained", "p/both"} {
		if err := b.client.PutObjectRetention(t.Context(), b.config.Bucket, key, minio.PutObjectRetentionOptions{Mode: &governance, RetainUntilDate: &until}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { b.unlock(t, "p/held", "p/retained", "p/both") })

	got, err := blob.Purge(t.Context(), b.store, "p/")
	if err != nil {
		t.Fatal(err)
	}
	if got.Objects != 1 || got.Bytes != 1 {
		t.Errorf("Purge = %+v", got)
	}
	locks := make(map[string]blob.LockedError)
	for _, kept := range got.Kept {
		var locked *blob.LockedError
		if !errors.As(kept.Err, &locked) || !errors.Is(kept.Err, blob.ErrLocked) {
			t.Fatalf("%s is kept for %v", kept.Key, kept.Err)
		}
		if locked.Ref != kept.Ref || locked.Version == "" {
			t.Errorf("lock of %+v, kept %+v", locked.Ref, kept.Ref)
		}
		locked.Ref, locked.Until = blob.Ref{}, locked.Until.UTC()
		locks[kept.Key] = *locked
	}
	want := map[string]blob.LockedError{
		"p/held":     {LegalHold: true},
		"p/retained": {Mode: "GOVERNANCE", Until: until},
		"p/both":     {Mode: "GOVERNANCE", Until: until, LegalHold: true},
	}
	if diff := cmp.Diff(want, locks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func (b bucket) unlock(t *testing.T, keys ...string) {
	ctx, off := context.Background(), minio.LegalHoldDisabled
	for _, key := range keys {
		if err := b.client.PutObjectLegalHold(ctx, b.config.Bucket, key, minio.PutObjectLegalHoldOptions{Status: &off}); err != nil {
			t.Error(err)
		}
		for object := range b.client.ListObjectsIter(ctx, b.config.Bucket, minio.ListObjectsOptions{Prefix: key, WithVersions: true}) {
			opts := minio.RemoveObjectOptions{VersionID: object.VersionID, GovernanceBypass: true}
			if err := b.client.RemoveObject(ctx, b.config.Bucket, key, opts); err != nil {
				t.Error(err)
			}
		}
	}
	if err := b.client.RemoveBucket(ctx, b.config.Bucket); err != nil { // force is refused where there are locks
		t.Error(err)
	}
}

// fault is a transport between the store and the service.
type fault func(req *http.Request, next http.RoundTripper) (*http.Response, error)

type faulty struct {
	next  http.RoundTripper
	fault fault
}

func (f faulty) RoundTrip(req *http.Request) (*http.Response, error) { return f.fault(req, f.next) }

func (f fault) wrap(next http.RoundTripper) http.RoundTripper { return faulty{next, f} }

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}

func isObject(req *http.Request) bool { return strings.Count(req.URL.Path, "/") > 1 }

// Invariant 1 and 2: an answer that is lost does not lose or double the object.
func TestPutResolvesALostAnswer(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	lost := map[string]fault{
		"reset": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err == nil && req.Method == http.MethodPut && isObject(req) {
				return nil, errors.Join(errReset, res.Body.Close())
			}
			return res, err
		},
		"bad gateway": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err == nil && req.Method == http.MethodPut && isObject(req) {
				res.StatusCode, res.Status = http.StatusBadGateway, "502 Bad Gateway"
			}
			return res, err
		},
	}
	for name, f := range lost {
		store := b.open(t, f.wrap)
		key := strings.ReplaceAll(name, " ", "-") + "/key"
		info, err := store.Put(t.Context(), key, strings.NewReader("stored anyway"), 13)
		if err != nil || info.Size != 13 || info.Key != key {
			t.Errorf("%s: Put = %+v, %v", name, info, err)
		}
		_, err = store.Put(t.Context(), key, strings.NewReader("stored anyway"), 13)
		if !errors.Is(err, blob.ErrExists) {
			t.Errorf("%s: a second Put, its answer lost too: %v", name, err)
		}
	}
}

func TestPutSaysWhenTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	var down atomic.Bool
	store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if down.Load() {
			return nil, errReset
		}
		res, err := next.RoundTrip(req)
		if err == nil && req.Method == http.MethodPut && isObject(req) {
			down.Store(true)
			return nil, errors.Join(errReset, res.Body.Close())
		}
		return res, err
	}).wrap)
	_, err := store.Put(t.Context(), "k", strings.NewReader("x"), 1)
	if !errors.Is(err, blob.ErrUncertain) || !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
	down.Store(false)
	if _, err := store.Delete(t.Context(), blob.Ref{Key: "k"}); err != nil {
		t.Error(err)
	}
	if _, err := store.Stat(t.Context(), "k"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat after Delete: %v", err)
	}
}

func TestPutThatNeverArrivedIsUnavailable(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	puts := 0
	store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == http.MethodPut && isObject(req) {
			puts++
			return nil, errReset
		}
		return next.RoundTrip(req)
	}).wrap)
	_, err := store.Put(t.Context(), "k", strings.NewReader("x"), 1)
	if !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrUncertain) {
		t.Errorf("Put: %v", err)
	}
	if puts != 1 {
		t.Errorf("sent %d times: a second PUT would take its own object for another's", puts)
	}
}

// Invariant 4: a byte that changes on the way is refused by the service.
func TestPutIsCheckedByTheService(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == http.MethodPut && isObject(req) {
			req = req.Clone(req.Context())
			req.Body = &flipping{ReadCloser: req.Body, want: []byte("genuine")}
		}
		return next.RoundTrip(req)
	}).wrap)
	for _, size := range []int{7, 1 << 20} {
		data := append([]byte("genuine"), make([]byte, size-7)...)
		if _, err := store.Put(t.Context(), "k", bytes.NewReader(data), int64(size)); err == nil {
			t.Errorf("%d bytes, one of them changed, were stored", size)
		}
		if _, err := store.Stat(t.Context(), "k"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Stat: %v", err)
		}
	}
}

type flipping struct {
	io.ReadCloser
	want []byte
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if i := bytes.Index(p[:n], f.want); i >= 0 {
		p[i] ^= 1
	}
	return n, err
}

func TestReadThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	if _, err := b.store.Put(t.Context(), "k", bytes.NewReader(make([]byte, 1000)), 1000); err != nil {
		t.Fatal(err)
	}
	store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		res, err := next.RoundTrip(req)
		if err == nil && req.Method == http.MethodGet && isObject(req) {
			res.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(res.Body, 400), res.Body}
		}
		return res, err
	}).wrap)
	for _, r := range [][2]int64{{0, -1}, {0, 1000}, {10, 500}} {
		body, _, err := store.Open(t.Context(), "k", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if len(got) != 400 || !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenIsOneRequest(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	if _, err := b.store.Put(t.Context(), "k", bytes.NewReader(make([]byte, 1000)), 1000); err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		requests.Add(1)
		return next.RoundTrip(req)
	}).wrap)
	count := func(op func() error) int32 {
		t.Helper()
		requests.Store(0)
		if err := op(); err != nil {
			t.Fatal(err)
		}
		return requests.Load()
	}
	read := func() error {
		body, _, err := store.Open(t.Context(), "k", 10, 20)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		return errors.Join(err, body.Close())
	}
	put := func() error {
		_, err := store.Put(t.Context(), "new", io.LimitReader(zeros{}, 40<<20), 40<<20)
		return err
	}
	if n := count(read); n != 1 {
		t.Errorf("a ranged read took %d requests", n)
	}
	if n := count(put); n != 1 {
		t.Errorf("a put of 40 MiB took %d requests", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An absent bucket must not pass for an empty one: a purge would be certified.
func TestAbsentBucketIsUnavailable(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.drop(t)
	ctx := t.Context()
	ops := map[string]func() error{
		"Put":   func() error { _, err := b.store.Put(ctx, "k", strings.NewReader("x"), 1); return err },
		"Open":  func() error { _, _, err := b.store.Open(ctx, "k", 0, -1); return err },
		"Stat":  func() error { _, err := b.store.Stat(ctx, "k"); return err },
		"Purge": func() error { _, err := blob.Purge(ctx, b.store, "k/"); return err },
		"Check": func() error { return b.store.Check(ctx) },
		"Delete": func() error {
			_, err := b.store.Delete(ctx, blob.Ref{Key: "k", Version: "null"})
			return err
		},
		"Delete key": func() error { _, err := b.store.Delete(ctx, blob.Ref{Key: "k"}); return err },
		"Sweep":      func() error { _, err := b.store.Sweep(ctx, time.Now()); return err },
	}
	for name, op := range ops {
		if err := op(); !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	config := b.config
	config.CreateBucket = false
	if _, err := blob.OpenS3(ctx, config); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("OpenS3: %v", err)
	}
}

func TestAbsentServiceIsUnavailable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := blob.S3Config{Endpoint: "http://" + listener.Addr().String(), AccessKey: "a", SecretKey: "b", Bucket: "bucket"}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.OpenS3(t.Context(), config); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("OpenS3: %v", err)
	}
}

func TestWrongCredentialsAreNotUnavailable(t *testing.T) {
	t.Parallel()
	config := newBucket(t).config
	config.SecretKey += "x"
	_, err := blob.OpenS3(t.Context(), config)
	if err == nil || errors.Is(err, blob.ErrUnavailable) || strings.Contains(err.Error(), config.SecretKey) {
		t.Errorf("OpenS3: %v", err)
	}
}

func TestEndpointMustBeAPlainURL(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"", "127.0.0.1:9000", "ftp://x", "http://", "http://host/path", "http://[::1"} {
		if _, err := blob.OpenS3(t.Context(), blob.S3Config{Endpoint: endpoint, Bucket: "bucket"}); err == nil {
			t.Errorf("%q was taken", endpoint)
		}
	}
}

// The answers are those that MinIO and Amazon give; a full disk cannot be had on
// a machine that others use.
func TestFullServiceIsFull(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for code, status := range map[string]int{"XMinioStorageFull": 507, "XMinioAdminBucketQuotaExceeded": 400} {
		store := b.open(t, fault(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if req.Method != http.MethodPut || !isObject(req) {
				return next.RoundTrip(req)
			}
			_, err := io.Copy(io.Discard, req.Body)
			body := "<Error><Code>" + code + "</Code><Message>full</Message></Error>"
			res := &http.Response{StatusCode: status, Header: http.Header{}, Request: req, Body: io.NopCloser(strings.NewReader(body))}
			return res, err
		}).wrap)
		if _, err := store.Put(t.Context(), "k", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrFull) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestSweepAbortsMultipartUploads(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	core := minio.Core{Client: b.client}
	id, err := core.NewMultipartUpload(t.Context(), b.config.Bucket, "left/over", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.store.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep of what is older than an hour = %d, %v", n, err)
	}
	if n, err := b.store.Sweep(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v", n, err)
	}
	_, err = core.ListObjectParts(t.Context(), b.config.Bucket, "left/over", id, 0, 10)
	if minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
		t.Errorf("the upload is still there: %v", err)
	}
}

func BenchmarkS3Put1MB(b *testing.B) {
	store := newBucket(b).store
	data := make([]byte, 1_000_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Put(b.Context(), "bench/"+uuid.NewString(), bytes.NewReader(data), int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}
