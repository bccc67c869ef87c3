package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"earmark/internal/archive"
	"earmark/internal/invalid"
)

// Whatever the body: no panic, no more than its bounds, a refusal that is one
// of ours, and a size that is never more than what comes.
func FuzzReadUpload(f *testing.F) {
	whole := form(`{"source":"pbx"}`, noise(50))
	for _, body := range []string{
		whole, strings.TrimSuffix(whole, "\r\n"), whole + "epilogue", "preamble\r\n" + whole, whole[:len(whole)/2],
		strings.ReplaceAll(whole, "\r\n", "\n"), "--" + boundary + "--\r\n", "", "--" + boundary + "\r\n",
		part("metadata", "", "{}") + part("audio", "", "") + "--" + boundary + "--\r\n",
	} {
		f.Add([]byte(body), true, boundary)
		f.Add([]byte(body), false, boundary)
	}
	f.Add([]byte(whole), true, "----formdata-undici-1")
	f.Fuzz(func(t *testing.T, body []byte, sized bool, boundary string) {
		r := &http.Request{Header: http.Header{"Content-Type": {`multipart/form-data; boundary="` + boundary + `"`}},
			Body: io.NopCloser(bytes.NewReader(body)), ContentLength: -1}
		if sized {
			r.ContentLength = int64(len(body))
		}
		u, err := readUpload(r)
		if err != nil {
			var fields *invalid.Error
			if classify(err) == nil && !errors.As(err, &fields) {
				t.Fatalf("not a refusal of ours: %v", err)
			}
			return
		}
		if len(u.metadata) > maxMetadata {
			t.Fatalf("%d bytes of metadata", len(u.metadata))
		}
		audio, err := io.ReadAll(u.audio.Body)
		if err != nil {
			if !errors.Is(err, archive.ErrFraming) && !errors.Is(err, archive.ErrTruncated) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("not a refusal of ours: %v", err)
			}
			return
		}
		if u.audio.Bytes >= 0 && int64(len(audio)) < u.audio.Bytes {
			t.Fatalf("%d bytes of audio, %d announced, and no error", len(audio), u.audio.Bytes)
		}
		if !bytes.Contains(body, audio) || !bytes.Contains(body, u.metadata) {
			t.Fatal("what was read was not sent")
		}
	})
}

func FuzzContentDigests(f *testing.F) {
	good := digestOf([]byte("a"))
	for _, field := range []string{good, good + ", md5=:AAAA:", "md5=:AAAA:," + good, "SHA-256" + good[7:], good + ";a=1", "sha-256", "sha-256=", "sha-256=::", ",", "sha-512=:AAAA:"} {
		f.Add(field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		digests, err := contentDigests(http.Header{"Content-Digest": {field}})
		if err != nil {
			var fields *invalid.Error
			if !errors.As(err, &fields) || fields.Fields[0].Location != "header.Content-Digest" {
				t.Fatalf("not a refusal of ours: %v", err)
			}
			return
		}
		if len(digests) == 0 && field != "" {
			t.Fatalf("%q asks for a check and gets none", field)
		}
		for name, sum := range digests {
			if name != "sha-256" && name != "sha-512" || len(sum) != map[string]int{"sha-256": 32, "sha-512": 64}[name] {
				t.Fatalf("%s of %d bytes", name, len(sum))
			}
			// The last letter before the padding may have bits that say nothing.
			if !strings.Contains(field, base64.StdEncoding.EncodeToString(sum)[:40]) && !strings.ContainsAny(field, "\r\n") {
				t.Fatalf("%s: %x does not stand in %q", name, sum, field)
			}
		}
	})
}
