package blob

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestFramingHasTheLengthItAnnounces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 5), rapid.IntRange(awsChunk-2, awsChunk+2), rapid.IntRange(2*awsChunk-1, 2*awsChunk+1),
			rapid.IntRange(0, 5*awsChunk)).Draw(t, "size")
		content := bytes.Repeat([]byte{'x'}, size)
		var source io.Reader = bytes.NewReader(content)
		if rapid.Bool().Draw(t, "halting") {
			source = iotest.HalfReader(source)
		}
		body := newAWSChunked(source, int64(size))
		announced := body.length()
		framed, err := io.ReadAll(body)
		if err != nil || int64(len(framed)) != announced {
			t.Fatalf("%d bytes were announced and %d read: %v", announced, len(framed), err)
		}
		if body.crc.Sum32() != crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)) {
			t.Fatal("the checksum is of something else")
		}
	})
}

func TestFraming(t *testing.T) {
	t.Parallel()
	framed, err := io.ReadAll(newAWSChunked(strings.NewReader("123456789"), 9))
	// The check value of CRC-32C is e3069283.
	want := "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32c:4waSgw==\r\n\r\n"
	if err != nil || string(framed) != want {
		t.Errorf("framed %q, %v; want %q", framed, err, want)
	}
}

func TestFramingOfTooLittleIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := io.ReadAll(newAWSChunked(strings.NewReader("12345"), 9)); !errors.Is(err, ErrSize) {
		t.Errorf("read %v", err)
	}
}
