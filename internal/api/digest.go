package api

import (
	"encoding/base64"
	"net/http"
	"strings"

	"earmark/internal/invalid"
)

// contentDigests reads Content-Digest (RFC 9530): algorithm=:base64:, several
// parted by commas. Algorithms other than sha-256 and sha-512 are left out, as
// the RFC allows; a header without any that is known is refused, since its
// sender counts on a check.
func contentDigests(h http.Header) (map[string][]byte, error) {
	field := strings.Join(h.Values("Content-Digest"), ",")
	if field == "" {
		return nil, nil
	}
	sizes := map[string]int{"sha-256": 32, "sha-512": 64}
	digests := map[string][]byte{}
	for member := range strings.SplitSeq(field, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		size, known := sizes[strings.ToLower(name)]
		if !known {
			continue
		}
		value, opened := strings.CutPrefix(value, ":")
		value, closed := strings.CutSuffix(value, ":")
		sum, err := base64.StdEncoding.DecodeString(value)
		if !opened || !closed || err != nil || len(sum) != size {
			return nil, invalid.New("header.Content-Digest", "expected %s=:<base64 of the %d bytes>:", strings.ToLower(name), size)
		}
		digests[strings.ToLower(name)] = sum
	}
	if len(digests) == 0 {
		return nil, invalid.New("header.Content-Digest", "expected sha-256 or sha-512, such as sha-256=:<base64>:")
	}
	return digests, nil
}
