package blob

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"2026/01/31/call/audio.age", "../x", "a//b", "a.b/c", ".", "", "a/.b", strings.Repeat("a/", 300)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if err := CheckKey(key); err != nil {
			if !errors.Is(err, ErrKey) {
				t.Errorf("%q: %v", key, err)
			}
			return
		}
		if !fs.ValidPath(key) || key == "." || strings.ContainsAny(key, "\\%?* \n") {
			t.Errorf("%q was taken", key)
		}
		for i := range len(key) + 1 {
			if err := checkPrefix(key[:i]); err != nil {
				t.Errorf("%q is a key, its beginning %q was refused: %v", key, key[:i], err)
			}
		}
	})
}

func TestFullDiskIsFull(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = full.Write([]byte("x"))
	if err := diskError("put", err); !errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}
