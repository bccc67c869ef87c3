package blob

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Config says where an S3-compatible store is.
type S3Config struct {
	// Endpoint is a URL without a path, such as http://127.0.0.1:9000.
	Endpoint             string
	AccessKey, SecretKey string
	Bucket               string
	// Region is us-east-1 when empty.
	Region string
	// CreateBucket makes the bucket when it does not exist, without versioning
	// or object lock.
	CreateBucket bool
	// Transport carries the requests; a transport of its own when nil.
	Transport http.RoundTripper
}

// S3 is a [Store] in a bucket of an S3-compatible service such as MinIO, with
// or without versioning and object lock.
type S3 struct {
	core   minio.Core
	putter *putter
	bucket string
}

var _ Store = (*S3)(nil)

const (
	// maxAttempts bounds the library's own repetition of requests that can be
	// repeated; a Put is sent once.
	maxAttempts = 3
	// resolveTimeout bounds the question whether a failed Put stored its object.
	resolveTimeout = 10 * time.Second
	// idleTimeout is shorter than the 30 seconds after which MinIO ends an idle
	// connection: a body that is read once cannot be sent again over another.
	idleTimeout = 20 * time.Second
	// attemptHeader marks an object with the Put that stored it.
	attemptHeader = "Put-Attempt"
)

// OpenS3 returns the store of a bucket. It fails when the service cannot be
// reached, refuses the credentials, or has no such bucket.
func OpenS3(ctx context.Context, c S3Config) (*S3, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return nil, fmt.Errorf("blob: endpoint is not an http or https URL")
	}
	if strings.Trim(endpoint.Path, "/") != "" {
		return nil, fmt.Errorf("blob: endpoint %s has a path", endpoint.Host)
	}
	transport, region := c.Transport, cmp.Or(c.Region, "us-east-1")
	if transport == nil {
		transport = newTransport()
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:           credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""),
		Secure:          endpoint.Scheme == "https",
		Region:          region,
		Transport:       transport,
		TrailingHeaders: true,
		MaxRetries:      maxAttempts,
	})
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	s := &S3{core: *core, putter: newPutter(c, transport, region), bucket: c.Bucket}
	if c.CreateBucket {
		if err := s.createBucket(ctx, region); err != nil {
			return nil, err
		}
	}
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// newTransport keeps as many idle connections as there are concurrent uploads,
// where the default of two would open one for nearly every request.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       idleTimeout,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ExpectContinueTimeout: 10 * time.Second,
		DisableCompression:    true, // or the transport would decompress what is stored gzipped
	}
}

func (s *S3) createBucket(ctx context.Context, region string) error {
	exists, err := s.core.BucketExists(ctx, s.bucket)
	if err != nil {
		return s3Error("bucket", err)
	}
	if exists {
		return nil
	}
	err = s.core.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: region})
	if code(err) == minio.BucketAlreadyOwnedByYou {
		return nil
	}
	return s3Error("make bucket", err)
}

// Put implements [Store] with one PUT request of any size, create-only by
// If-None-Match and with a CRC-32C that the service verifies.
func (s *S3) Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, fmt.Errorf("blob: put: %w", err)
	}
	b, err := newBody(ctx, r, size)
	if err != nil {
		return Info{}, fmt.Errorf("blob: put: %w", err)
	}
	attempt := rand.Text()
	version, err := s.putter.put(ctx, key, attempt, b, size)
	sent, bodyErr := b.stop()
	switch {
	case err == nil:
		return Info{Ref: Ref{key, version}, Size: size}, nil
	case bodyErr != nil:
		return Info{}, fmt.Errorf("blob: put: read content: %w", bodyErr)
	case ambiguous(err):
		return s.resolve(ctx, key, attempt, sent, err)
	default:
		return Info{}, s3Error("put", err)
	}
}

// ambiguous says that the service may have done what it was asked and only the
// answer was lost.
func ambiguous(err error) bool {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return true
	}
	return answer.StatusCode >= http.StatusInternalServerError && answer.StatusCode != http.StatusInsufficientStorage
}

// resolve finds out what became of a Put whose answer was lost. It outlives the
// caller's context, for a cancelled upload may be stored all the same.
//
// Bytes that were not all sent cannot have been stored, but even then the answer
// that was lost may have been that the key is taken.
func (s *S3) resolve(ctx context.Context, key, attempt string, sent bool, cause error) (Info, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTimeout)
	defer cancel()
	object, err := s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	switch {
	case err == nil && object.UserMetadata[attemptHeader] == attempt:
		return infoOf(object), nil
	case err == nil:
		return Info{}, fmt.Errorf("blob: put: %w", ErrExists)
	case code(err) == minio.NoSuchKey || !sent:
		return Info{}, s3Error("put", cause)
	default:
		return Info{}, errors.Join(fmt.Errorf("blob: put: %w", ErrUncertain), s3Error("put", cause))
	}
}

// Open implements [Store].
func (s *S3) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := CheckKey(key); err != nil {
		return nil, Info{}, fmt.Errorf("blob: open: %w", err)
	}
	if offset < 0 || length == 0 {
		return nil, Info{}, fmt.Errorf("blob: open: %w: offset %d, length %d", ErrRange, offset, length)
	}
	opts, err := rangeOptions(offset, length)
	if err != nil {
		return nil, Info{}, fmt.Errorf("blob: open: %w: %w", ErrRange, err)
	}
	answer, object, header, err := s.core.GetObject(ctx, s.bucket, key, opts)
	if err != nil {
		return nil, Info{}, s3Error("open", err)
	}
	info, length, err := checkAnswer(object, header, offset, length)
	if err != nil {
		return nil, Info{}, fmt.Errorf("blob: open: %w", errors.Join(err, answer.Close()))
	}
	return &s3Reader{answer, length}, info, nil
}

func rangeOptions(offset, length int64) (minio.GetObjectOptions, error) {
	var opts minio.GetObjectOptions
	switch {
	case length > 0:
		return opts, opts.SetRange(offset, offset+length-1)
	case offset > 0:
		return opts, opts.SetRange(offset, 0)
	default:
		return opts, nil
	}
}

// checkAnswer takes the object's whole size from Content-Range, since the other
// headers describe the part that is sent, and refuses a part that is not the one
// that was asked for.
func checkAnswer(object minio.ObjectInfo, header http.Header, offset, length int64) (Info, int64, error) {
	info := infoOf(object)
	if cr := header.Get("Content-Range"); cr != "" {
		total, err := totalOf(cr, offset)
		if err != nil {
			return Info{}, 0, err
		}
		info.Size = total
	} else if offset > 0 || length > 0 && length != object.Size {
		return Info{}, 0, fmt.Errorf("%w: the range was not answered", ErrRange)
	}
	length, err := checkRange(offset, length, info.Size)
	if err != nil {
		return Info{}, 0, err
	}
	if object.Size != length {
		return Info{}, 0, fmt.Errorf("%w: %d bytes were answered", ErrUnavailable, object.Size)
	}
	return info, length, nil
}

// totalOf reads "bytes first-last/total" (RFC 9110, 14.4).
func totalOf(contentRange string, offset int64) (int64, error) {
	span, total, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	if first != strconv.FormatInt(offset, 10) {
		return 0, fmt.Errorf("%w: another range was answered", ErrUnavailable)
	}
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: Content-Range without a size", ErrUnavailable)
	}
	return size, nil
}

// s3Reader makes an answer that ends early an error.
type s3Reader struct {
	io.ReadCloser
	left int64
}

func (r *s3Reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		return n, fmt.Errorf("blob: read: %w: %w", ErrUnavailable, io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		return n, s3Error("read", err)
	default:
		return n, err
	}
}

// Stat implements [Store].
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, fmt.Errorf("blob: stat: %w", err)
	}
	object, err := s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s3Error("stat", err)
	}
	return infoOf(object), nil
}

// List implements [Store].
func (s *S3) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, fmt.Errorf("blob: list: %w", err))
			return
		}
		if after > prefix && !strings.HasPrefix(after, prefix) {
			return // all that begins with prefix comes before
		}
		opts := minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}
		if after > prefix { // MinIO refuses a marker that is not below the prefix
			opts.StartAfter = after
		}
		for object := range s.core.ListObjectsIter(ctx, s.bucket, opts) {
			if object.Err != nil {
				yield(Info{}, s3Error("list", object.Err))
				return
			}
			if object.Key > after && !yield(infoOf(object), nil) {
				return
			}
		}
		// The library ends a cancelled listing as if it were complete.
		if err := ctx.Err(); err != nil {
			yield(Info{}, s3Error("list", err))
		}
	}
}

// Delete implements [Store] by multi-delete requests. Retention by object lock
// is never bypassed.
func (s *S3) Delete(ctx context.Context, refs ...Ref) ([]Kept, error) {
	versions, err := s.versions(ctx, refs)
	if err != nil {
		return nil, fmt.Errorf("blob: delete: %w", err)
	}
	var kept []Kept
	for batch := range slices.Chunk(versions, maxMultiDelete) {
		refused, err := s.multiDelete(ctx, batch)
		if err != nil {
			return nil, s3Error("delete", err)
		}
		for _, k := range refused {
			k.Err = s.whyKept(ctx, k)
			if k.Err != nil {
				kept = append(kept, k)
			}
		}
	}
	return kept, nil
}

const maxMultiDelete = 1000 // the protocol's own limit

// versions replaces a reference to a whole key by those to each of its versions:
// a deletion without a version id would only hide the object behind a marker.
func (s *S3) versions(ctx context.Context, refs []Ref) ([]minio.ObjectInfo, error) {
	var all []minio.ObjectInfo
	for _, ref := range refs {
		if err := CheckKey(ref.Key); err != nil {
			return nil, err
		}
		if ref.Version != "" {
			all = append(all, minio.ObjectInfo{Key: ref.Key, VersionID: ref.Version})
			continue
		}
		for info, err := range s.List(ctx, ref.Key, "") {
			if err != nil {
				return nil, err
			}
			if info.Key != ref.Key {
				break // keys come in order: what follows only begins like it
			}
			all = append(all, minio.ObjectInfo{Key: info.Key, VersionID: info.Version})
		}
	}
	return all, nil
}

// multiDelete returns the versions that the service did not report as deleted,
// with its reason when it gave one.
func (s *S3) multiDelete(ctx context.Context, batch []minio.ObjectInfo) ([]Kept, error) {
	open := make(map[Ref]error, len(batch))
	for _, object := range batch {
		open[Ref{object.Key, object.VersionID}] = nil
	}
	results, err := s.core.RemoveObjectsWithIter(ctx, s.bucket, slices.Values(batch), minio.RemoveObjectsOptions{})
	if err != nil {
		return nil, err
	}
	for result := range results {
		ref := Ref{result.ObjectName, result.ObjectVersionID}
		var answer minio.ErrorResponse
		switch {
		case result.Err == nil:
			delete(open, ref)
		case errors.As(result.Err, &answer) && answer.StatusCode == 0:
			open[ref] = result.Err // a refusal of this version alone
		default:
			return nil, result.Err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var kept []Kept
	for ref, err := range open {
		kept = append(kept, Kept{ref, err})
	}
	slices.SortFunc(kept, func(a, b Kept) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Version, b.Version))
	})
	return kept, nil
}

// whyKept asks the service why a version is still there. It returns nil when it
// is not.
func (s *S3) whyKept(ctx context.Context, k Kept) error {
	locked := &LockedError{Ref: k.Ref}
	mode, until, err := s.core.GetObjectRetention(ctx, s.bucket, k.Key, k.Version)
	if gone(err) {
		return nil
	}
	if err == nil && mode != nil && until != nil {
		locked.Mode, locked.Until = mode.String(), *until
	}
	hold, err := s.core.GetObjectLegalHold(ctx, s.bucket, k.Key, minio.GetObjectLegalHoldOptions{VersionID: k.Version})
	if err == nil && hold != nil && *hold == minio.LegalHoldEnabled {
		locked.LegalHold = true
	}
	switch {
	case locked.LegalHold || locked.Mode != "":
		return locked
	case k.Err != nil:
		return s3Error("delete", k.Err)
	default:
		return ErrUnconfirmed
	}
}

func gone(err error) bool {
	c := code(err)
	return c == minio.NoSuchKey || c == minio.NoSuchVersion
}

// Sweep implements [Store]: it aborts multipart uploads. This package begins
// none, but other tools that fill the bucket do.
func (s *S3) Sweep(ctx context.Context, before time.Time) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	swept := 0
	for upload := range s.core.ListIncompleteUploads(ctx, s.bucket, "", true) {
		if upload.Err != nil {
			return swept, s3Error("sweep", upload.Err)
		}
		if !upload.Initiated.Before(before) {
			continue
		}
		err := s.core.AbortMultipartUpload(ctx, s.bucket, upload.Key, upload.UploadID)
		if err != nil && code(err) != minio.NoSuchUpload {
			return swept, s3Error("sweep", err)
		}
		swept++
	}
	if err := ctx.Err(); err != nil {
		return swept, s3Error("sweep", err)
	}
	return swept, nil
}

// Check implements [Store]: it asks whether the bucket exists.
func (s *S3) Check(ctx context.Context) error {
	exists, err := s.core.BucketExists(ctx, s.bucket)
	if err != nil {
		return s3Error("check", err)
	}
	if !exists {
		return fmt.Errorf("blob: check: %w: there is no bucket %s", ErrUnavailable, s.bucket)
	}
	return nil
}

func infoOf(object minio.ObjectInfo) Info {
	return Info{
		Ref:          Ref{object.Key, object.VersionID},
		Size:         object.Size,
		Modified:     object.LastModified,
		DeleteMarker: object.IsDeleteMarker,
	}
}

func code(err error) string {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// s3Error wraps an error of the library in the sentinel that fits it.
func s3Error(op string, err error) error {
	if err == nil {
		return nil
	}
	if sentinel := sentinelOf(err); sentinel != nil {
		return fmt.Errorf("blob: %s: %w: %w", op, sentinel, err)
	}
	return fmt.Errorf("blob: %s: %w", op, err)
}

func sentinelOf(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return ErrUnavailable // no answer: the network, or a deadline
	}
	switch answer.Code {
	case minio.NoSuchKey, minio.NoSuchVersion:
		return ErrNotFound
	case minio.NoSuchBucket:
		return ErrUnavailable
	case minio.PreconditionFailed:
		return ErrExists
	case "InvalidRange":
		return ErrRange
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded":
		return ErrFull
	}
	switch {
	case answer.StatusCode == http.StatusInsufficientStorage:
		return ErrFull
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return ErrRange
	case answer.StatusCode >= http.StatusInternalServerError, answer.StatusCode == http.StatusTooManyRequests:
		return ErrUnavailable
	default:
		return nil
	}
}
