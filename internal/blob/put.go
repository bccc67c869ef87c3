package blob

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// putter sends PUT requests. The library's own hold three buffers of a chunk
// for each; with hundreds of slow uploads under way that is most of the memory.
// This one passes the bytes through.
type putter struct {
	http                 *http.Client
	endpoint, bucket     string
	accessKey, secretKey string
	region               string
}

func newPutter(c S3Config, transport http.RoundTripper, region string) *putter {
	return &putter{
		// A body is read once: there is nothing to send to another address.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		endpoint: strings.TrimSuffix(c.Endpoint, "/"), bucket: c.Bucket,
		accessKey: c.AccessKey, secretKey: c.SecretKey, region: region,
	}
}

// put creates an object of size bytes and returns its version, empty where the
// bucket has none. What the service refuses is a [minio.ErrorResponse].
func (p *putter) put(ctx context.Context, key, attempt string, content io.Reader, size int64) (version string, err error) {
	body := newAWSChunked(content, size)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, p.endpoint+"/"+s3utils.EncodePath(p.bucket+"/"+key), body)
	if err != nil {
		return "", err
	}
	request.ContentLength = body.length()
	for name, value := range map[string]string{
		"Content-Type":                 "application/octet-stream",
		"Content-Encoding":             "aws-chunked",
		"If-None-Match":                "*",
		"X-Amz-Content-Sha256":         "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
		"X-Amz-Decoded-Content-Length": strconv.FormatInt(size, 10),
		"X-Amz-Meta-" + attemptHeader:  attempt,
		"X-Amz-Trailer":                checksumTrailer,
	} {
		request.Header.Set(name, value)
	}
	answer, err := p.http.Do(signer.SignV4(*request, p.accessKey, p.secretKey, "", p.region))
	if err != nil {
		return "", err
	}
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	err = errors.Join(err, answer.Body.Close())
	if answer.StatusCode == http.StatusOK {
		return answer.Header.Get("X-Amz-Version-Id"), nil // it is stored, whatever became of the rest of the answer
	}
	return "", errors.Join(refusal(answer.StatusCode, said), err)
}

// maxRefusal bounds what is read of a refusal.
const maxRefusal = 64 << 10

// refusal is the service's error, or what the status says when it gave none.
func refusal(status int, said []byte) error {
	refused := minio.ErrorResponse{StatusCode: status}
	if err := xml.Unmarshal(said, &refused); err != nil {
		refused.Message = http.StatusText(status)
	}
	if refused.Code == "" && status == http.StatusPreconditionFailed {
		refused.Code = minio.PreconditionFailed
	}
	return refused
}

const (
	awsChunk        = 64 << 10
	checksumTrailer = "x-amz-checksum-crc32c"
)

// awsChunked frames a body of known size in chunks and ends it with its CRC-32C,
// which the service compares ("aws-chunked" with a trailing checksum, Amazon S3
// API reference, "Signature calculations: trailing headers").
type awsChunked struct {
	content io.Reader
	crc     hash.Hash32
	size    int64
	left    int64  // of the content, after this chunk
	chunk   int64  // left of this chunk
	framing []byte // goes before what is left
	ended   bool
}

func newAWSChunked(content io.Reader, size int64) *awsChunked {
	c := &awsChunked{content: content, crc: crc32.New(crc32.MakeTable(crc32.Castagnoli)), size: size, left: size}
	c.next()
	return c
}

// next begins a chunk, or the end.
func (c *awsChunked) next() {
	c.chunk = min(c.left, awsChunk)
	c.left -= c.chunk
	c.framing = append(strconv.AppendInt(c.framing, c.chunk, 16), "\r\n"...)
	if c.chunk == 0 {
		c.framing = append(c.framing, checksumTrailer+":"+base64.StdEncoding.EncodeToString(c.crc.Sum(nil))+"\r\n\r\n"...)
		c.ended = true
	}
}

// Read implements [io.Reader].
func (c *awsChunked) Read(p []byte) (int, error) {
	if len(c.framing) > 0 {
		n := copy(p, c.framing)
		c.framing = c.framing[n:]
		return n, nil
	}
	if c.ended {
		return 0, io.EOF
	}
	n, err := c.content.Read(p[:min(int64(len(p)), c.chunk)])
	c.crc.Write(p[:n])
	c.chunk -= int64(n)
	if c.chunk == 0 {
		c.framing = append(c.framing[:0], "\r\n"...)
		c.next()
		return n, nil
	}
	if err == io.EOF {
		return n, fmt.Errorf("%w: %d bytes are missing", ErrSize, c.chunk+c.left)
	}
	return n, err
}

// length is that of the framed body.
func (c *awsChunked) length() int64 {
	chunk := func(n int64) int64 { return int64(len(strconv.FormatInt(n, 16))+len("\r\n\r\n")) + n }
	total := c.size / awsChunk * chunk(awsChunk)
	if rest := c.size % awsChunk; rest > 0 {
		total += chunk(rest)
	}
	return total + int64(len("0\r\n"+checksumTrailer+":\r\n\r\n")+base64.StdEncoding.EncodedLen(crc32.Size))
}
