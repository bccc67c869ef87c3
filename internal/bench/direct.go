package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// direct is the object store with nothing before it, by minio-go as it comes.
type direct struct {
	*minio.Core
	// bucket is its own, serviceBucket that of the service under test.
	bucket, serviceBucket string
}

func openDirect(ctx context.Context, s Servers) (*direct, error) {
	endpoint, err := url.Parse(s.S3Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("%w: the object store's endpoint is not a URL", ErrUsage)
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(s.S3AccessKey, s.S3SecretKey, ""), Secure: endpoint.Scheme == "https", Region: "us-east-1",
	})
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	name := "earmark-bench-" + strings.ToLower(rand.Text()[:10])
	d := &direct{Core: core, bucket: name + "-direct", serviceBucket: name}
	if err := core.MakeBucket(ctx, d.bucket, minio.MakeBucketOptions{Region: "us-east-1"}); err != nil {
		return nil, fmt.Errorf("make bucket: %w", err)
	}
	return d, nil
}

// put is the direct limit of an upload: the library's defaults.
func (d *direct) put(ctx context.Context, r *recording) error {
	r.key = rand.Text() + ".wav"
	_, err := d.Client.PutObject(ctx, d.bucket, r.key, r.reader(), r.size(), minio.PutObjectOptions{})
	return err
}

// count tells how many objects with the suffix a bucket holds.
func (d *direct) count(ctx context.Context, bucket, suffix string) (int, error) {
	n := 0
	for object := range d.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if object.Err != nil {
			return 0, fmt.Errorf("count objects: %w", object.Err)
		}
		if strings.HasSuffix(object.Key, suffix) {
			n++
		}
	}
	return n, ctx.Err()
}

// empty removes everything from a bucket, if there is such a bucket.
func (d *direct) empty(ctx context.Context, bucket string) error {
	exists, err := d.BucketExists(ctx, bucket)
	if err != nil || !exists {
		return err
	}
	objects := d.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true})
	removed, err := d.RemoveObjectsWithIter(ctx, bucket, objects, minio.RemoveObjectsOptions{})
	if err != nil {
		return fmt.Errorf("empty bucket: %w", err)
	}
	for result := range removed {
		if result.Err != nil {
			return fmt.Errorf("empty bucket: %w", result.Err)
		}
	}
	return nil
}

func (d *direct) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return errors.Join(d.remove(ctx, d.bucket), d.remove(ctx, d.serviceBucket))
}

func (d *direct) remove(ctx context.Context, bucket string) error {
	if err := d.empty(ctx, bucket); err != nil {
		return err
	}
	err := d.RemoveBucket(ctx, bucket)
	if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchBucket {
		return fmt.Errorf("remove bucket: %w", err)
	}
	return nil
}
