package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"earmark/internal/seal"
)

func newRing(t testing.TB) *seal.Ring {
	t.Helper()
	return parse(t, seal.NewKEK())
}

func parse(t testing.TB, text string) *seal.Ring {
	t.Helper()
	ring, err := seal.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestWrapAndUnwrap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ring := newRing(t)
		plain := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain")
		aad := rapid.String().Draw(rt, "aad")
		w := ring.Wrap(plain, aad)
		if w.KEK != ring.InForce() {
			rt.Fatalf("wrapped by %s, in force is %s", w.KEK, ring.InForce())
		}
		got, err := ring.Unwrap(w, aad)
		if err != nil || !bytes.Equal(got, plain) {
			rt.Fatalf("%x, %v", got, err)
		}
		if _, err := ring.Unwrap(w, aad+"x"); !errors.Is(err, seal.ErrUnwrap) {
			rt.Fatalf("unwrapped for another: %v", err)
		}
		at := rapid.IntRange(0, len(w.Bytes)-1).Draw(rt, "at")
		w.Bytes[at] ^= 1
		if _, err := ring.Unwrap(w, aad); !errors.Is(err, seal.ErrUnwrap) {
			rt.Fatalf("changed bytes were unwrapped: %v", err)
		}
		if _, err := ring.Unwrap(seal.Wrapped{KEK: w.KEK, Bytes: w.Bytes[:at]}, aad); !errors.Is(err, seal.ErrUnwrap) {
			rt.Fatalf("truncated bytes were unwrapped: %v", err)
		}
	})
}

func TestTheSameSecretNeverLooksTheSame(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	if bytes.Equal(ring.Wrap([]byte("x"), "id").Bytes, ring.Wrap([]byte("x"), "id").Bytes) {
		t.Error("it does")
	}
}

func TestKeyIsBoundToItsInteraction(t *testing.T) {
	t.Parallel()
	ring, key := newRing(t), newKey(t)
	w := key.Wrap(ring, "one")
	if bytes.Contains(w.Bytes, []byte("AGE-SECRET")) {
		t.Error("the wrapped key shows")
	}
	if _, err := ring.Open(w, "another"); !errors.Is(err, seal.ErrUnwrap) {
		t.Errorf("opened for another: %v", err)
	}
	again, err := ring.Open(w, "one")
	if err != nil {
		t.Fatal(err)
	}
	want := content(1, 1000)
	o := sealed(t, key, want)
	if got, err := readRange(open(t, again, o), 0, 1000); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the key that came back: %v", err)
	}
	if _, err := ring.Open(ring.Wrap([]byte("no identity"), "one"), "one"); !errors.Is(err, seal.ErrUnwrap) {
		t.Errorf("opened what is no key: %v", err)
	}
}

// Rotation: what was wrapped by the old key moves to the new one; once the old
// one is destroyed, what was not moved is lost, and the error says so.
func TestRotation(t *testing.T) {
	t.Parallel()
	oldKEK, newKEK := seal.NewKEK(), seal.NewKEK()
	oldRing, both, newRing := parse(t, oldKEK), parse(t, newKEK+","+oldKEK), parse(t, newKEK)

	w := oldRing.Wrap([]byte("secret"), "id")
	moved, err := both.Rewrap(w, "id")
	if err != nil || moved.KEK != newRing.InForce() {
		t.Fatalf("Rewrap = %s, %v", moved.KEK, err)
	}
	if got, err := newRing.Unwrap(moved, "id"); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := newRing.Unwrap(w, "id"); !errors.Is(err, seal.ErrNoKEK) {
		t.Errorf("unwrapped without its key: %v", err)
	}
	if _, err := newRing.Rewrap(w, "id"); !errors.Is(err, seal.ErrNoKEK) {
		t.Errorf("rewrapped without its key: %v", err)
	}
	again, err := both.Rewrap(moved, "id")
	if diff := cmp.Diff(moved, again); diff != "" || err != nil {
		t.Errorf("rewrapped again: %s, %v", diff, err)
	}
	if _, err := both.Rewrap(moved, "other"); !errors.Is(err, seal.ErrUnwrap) {
		t.Errorf("rewrapped for another: %v", err)
	}
	if !both.Has(w.KEK) || newRing.Has(w.KEK) {
		t.Error("Has")
	}
}

func TestParseRingTakesEveryForm(t *testing.T) {
	t.Parallel()
	key := content(7, 32)
	std := base64.StdEncoding.EncodeToString(key)
	forms := []string{
		std, strings.TrimRight(std, "="), base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
		hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), std + "\n", " " + std + ",",
	}
	bare := parse(t, std)
	w := bare.Wrap([]byte("secret"), "id")
	for _, form := range forms {
		ring := parse(t, form)
		if ring.InForce() != bare.InForce() {
			t.Errorf("%q has the id %s", form, ring.InForce())
		}
		if got, err := ring.Unwrap(w, "id"); err != nil || string(got) != "secret" {
			t.Errorf("%q: %v", form, err)
		}
	}
	named := parse(t, "2026-11:"+std+",\n old.1:"+seal.NewKEK()[17:])
	if named.InForce() != "2026-11" {
		t.Errorf("in force: %s", named.InForce())
	}
}

func TestParseRingRefuses(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(content(7, 32))
	bad := []string{
		"", " ", ",", "short", "id:", ":" + key, "a b:" + key[:10], "id:" + key[:40], "id:" + key + "AAAA", "x y z",
		"a:" + key + ",a:" + key, key + "," + key, "ü:" + key, strings.Repeat("x", 65) + ":" + key, "id:" + key + ",broken",
		hex.EncodeToString(content(1, 31)), "a:b:" + key,
	}
	for _, text := range bad {
		ring, err := seal.ParseRing(text)
		if !errors.Is(err, seal.ErrRing) {
			t.Errorf("%q: %v, %v", text, ring, err)
			continue
		}
		if strings.Contains(err.Error(), key[:16]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestKeysDoNotShow(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	secret := ageIdentity(t, key).String()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "in", struct{ K seal.Key }{key})
	shown := []string{fmt.Sprintf("%v %+v %#v %s %q %x", key, key, key, key, key, key), fmt.Sprintf("%+v", []seal.Key{key}), log.String()}
	if slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(strings.ToUpper(s), secret[16:]) }) {
		t.Errorf("the key shows in %q", shown)
	}
}

func FuzzParseRing(f *testing.F) {
	f.Add(seal.NewKEK())
	f.Add("id:" + strings.Repeat("A", 43) + "=, " + strings.Repeat("0", 64))
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		ring, err := seal.ParseRing(text)
		if err != nil {
			if !errors.Is(err, seal.ErrRing) {
				t.Errorf("%v", err)
			}
			return
		}
		if got, err := ring.Unwrap(ring.Wrap([]byte("x"), "id"), "id"); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
