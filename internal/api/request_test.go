package api

import (
	"net/http"
	"testing"

	"earmark/internal/access"
)

// Strangers invent methods as they like: each must not become a time series,
// nor what it says be kept.
func TestInventedMethodsAreNotKept(t *testing.T) {
	h := open(t, setting{})
	for _, path := range []string{"/v1/interactions", "/nowhere"} {
		if got := h.do(h.request("", "M"+marker, path, nil)); got.StatusCode < 400 {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	h.repeatsNothing(h.get(access.Admin, "/metrics").body)
	if got := h.get(access.Admin, "/metrics"); got.StatusCode != http.StatusOK {
		t.Errorf("/metrics: %d", got.StatusCode)
	}
}
