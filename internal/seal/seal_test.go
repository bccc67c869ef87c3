package seal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"

	"earmark/internal/seal"
)

const chunk = 64 << 10

// borders are sizes at which the age format changes its shape.
var borders = []int{0, 1, 2, chunk - 17, chunk - 16, chunk - 1, chunk, chunk + 1, chunk + 16, 2*chunk - 1, 2 * chunk, 2*chunk + 1, 3*chunk + 7}

func newKey(t testing.TB) seal.Key {
	t.Helper()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func content(seed, size int) []byte {
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed)})
	src.Read(b)
	return b
}

// object is a sealed one as it is stored, with the fetches that were made.
type object struct {
	bytes   []byte
	header  []byte
	fetches [][2]int64
}

func sealed(t testing.TB, key seal.Key, plain []byte) *object {
	t.Helper()
	s, err := key.Seal(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); !errors.Is(err, seal.ErrUnfinished) {
		t.Errorf("header before the end: %v", err)
	}
	file, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	header, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	return &object{bytes: file, header: header}
}

// fetch answers like an object store: what lies outside the object is missing.
func (o *object) fetch(_ context.Context, offset, length int64) (io.ReadCloser, int64, error) {
	o.fetches = append(o.fetches, [2]int64{offset, length})
	size := int64(len(o.bytes))
	part := o.bytes[min(offset, size):min(offset+length, size)]
	return io.NopCloser(bytes.NewReader(part)), size, nil
}

func open(t testing.TB, key seal.Key, o *object) *seal.Plain {
	t.Helper()
	plain, err := key.Open(o.header, o.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func readRange(p *seal.Plain, off, n int64) ([]byte, error) {
	r, err := p.Range(context.Background(), off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func TestSealedSizeIsExact(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, size := range borders {
		o := sealed(t, key, content(1, size))
		if got := seal.SealedSize(int64(size)); got != int64(len(o.bytes)) {
			t.Errorf("SealedSize(%d) = %d, sealed are %d", size, got, len(o.bytes))
		}
		if len(o.header) != seal.HeaderSize {
			t.Errorf("a header of %d bytes", len(o.header))
		}
		if got := open(t, key, o).Size(); got != int64(size) {
			t.Errorf("Size() = %d of %d", got, size)
		}
	}
}

// Invariant 4: bytes in are bytes out, whatever range is read.
func TestRangesAreThePlaintext(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.SampledFrom(borders), rapid.IntRange(0, 5*chunk)).Draw(rt, "size")
		want := content(size, size)
		o := sealed(t, key, want)
		plain := open(t, key, o)
		for range 4 {
			off := rapid.IntRange(0, size).Draw(rt, "off")
			n := rapid.OneOf(rapid.IntRange(0, size-off), rapid.Just(size-off), rapid.IntRange(0, min(20, size-off))).Draw(rt, "n")
			o.fetches = nil
			got, err := readRange(plain, int64(off), int64(n))
			if err != nil || !bytes.Equal(got, want[off:off+n]) {
				rt.Fatalf("range %d+%d of %d: %d bytes, %v", off, n, size, len(got), err)
			}
			checkFetch(rt, o.fetches, off, n, size)

			at := make([]byte, n)
			if read, err := plain.ReaderAt(context.Background()).ReadAt(at, int64(off)); read != n || err != nil || !bytes.Equal(at, want[off:off+n]) {
				rt.Fatalf("ReadAt %d+%d of %d: %d, %v", off, n, size, read, err)
			}
		}
	})
}

// checkFetch asserts that one request fetched the chunks of a range and no more.
func checkFetch(rt *rapid.T, fetches [][2]int64, off, n, size int) {
	if n == 0 && size > 0 {
		if len(fetches) != 0 {
			rt.Fatalf("nothing was read by %v", fetches)
		}
		return
	}
	if len(fetches) != 1 {
		rt.Fatalf("range %d+%d of %d took %d fetches", off, n, size, len(fetches))
	}
	chunks := 1
	if n > 0 {
		chunks = (off+n-1)/chunk - off/chunk + 1
	}
	if most := int64(chunks*(chunk+16) + 200); fetches[0][1] > most {
		rt.Fatalf("range %d+%d of %d fetched %d bytes, needs at most %d", off, n, size, fetches[0][1], most)
	}
}

func TestRangeOutside(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	o := sealed(t, key, content(1, 1000))
	plain := open(t, key, o)
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 1001}, {1000, 1}, {1001, 0}, {1, 1<<63 - 1}, {1<<63 - 1, 1}} {
		if _, err := plain.Range(t.Context(), r[0], r[1]); !errors.Is(err, seal.ErrRange) {
			t.Errorf("Range(%d, %d): %v", r[0], r[1], err)
		}
	}
	b := make([]byte, 10)
	if n, err := plain.ReaderAt(t.Context()).ReadAt(b, 995); n != 5 || err != io.EOF {
		t.Errorf("ReadAt over the end = %d, %v", n, err)
	}
	if len(o.fetches) != 1 {
		t.Errorf("fetches: %v", o.fetches)
	}
}

// The file is a standard one: the library reads it whole and at random, and so
// does the age program with the key as it is wrapped.
func TestAgeReadsIt(t *testing.T) {
	t.Parallel()
	key, ring := newKey(t), newRing(t)
	secret, err := ring.Unwrap(key.Wrap(ring, "interaction"), "interaction")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.ParseX25519Identity(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range borders {
		want := content(2, size)
		o := sealed(t, key, want)
		at, n, err := age.DecryptReaderAt(bytes.NewReader(o.bytes), int64(len(o.bytes)), identity)
		if err != nil || n != int64(size) {
			t.Fatalf("%d bytes: DecryptReaderAt finds %d, %v", size, n, err)
		}
		got, err := io.ReadAll(io.NewSectionReader(at, 0, n))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: the library reads others, %v", size, err)
		}
		file := filepath.Join(dir, fmt.Sprint(size))
		if err := os.WriteFile(file, o.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err = exec.Command("age", "--decrypt", "--identity", keyFile, file).Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: age --decrypt: %v", size, err)
		}
	}
}

// Invariant 4: a wrong byte is an error, never audio.
func TestChangedObjectIsCorrupt(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom(borders).Draw(rt, "size")
		want := content(1, size)
		o := sealed(t, key, want)
		switch rapid.SampledFrom([]string{"flip", "truncate", "extend", "swap chunks"}).Draw(rt, "change") {
		case "flip":
			at := rapid.OneOf(rapid.IntRange(0, len(o.bytes)-1), rapid.IntRange(0, 183), rapid.IntRange(len(o.bytes)-16, len(o.bytes)-1)).Draw(rt, "at")
			o.bytes[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		case "truncate":
			o.bytes = o.bytes[:len(o.bytes)-rapid.IntRange(1, len(o.bytes)).Draw(rt, "by")]
		case "extend":
			o.bytes = append(o.bytes, content(9, rapid.IntRange(1, 2*chunk).Draw(rt, "by"))...)
		case "swap chunks":
			if size < 2*chunk {
				rt.Skip("it has no two full chunks")
			}
			first, second := o.bytes[184:184+chunk+16], o.bytes[184+chunk+16:184+2*(chunk+16)]
			kept := bytes.Clone(first)
			copy(first, second)
			copy(second, kept)
		}
		got, err := readRange(open(t, key, o), 0, int64(size))
		if !errors.Is(err, seal.ErrCorrupt) {
			rt.Fatalf("a changed object of %d was read: %v", size, err)
		}
		if !bytes.HasPrefix(want, got) {
			rt.Fatal("wrong bytes were handed out before the error")
		}
	})
}

func TestRangeOfACorruptChunkOnlyFails(t *testing.T) {
	t.Parallel()
	key, want := newKey(t), content(1, 4*chunk)
	o := sealed(t, key, want)
	o.bytes[184+2*(chunk+16)+100] ^= 1 // in the third chunk
	plain := open(t, key, o)
	for i := range 4 {
		got, err := readRange(plain, int64(i*chunk+5), 50)
		if i == 2 {
			if !errors.Is(err, seal.ErrCorrupt) || len(got) != 0 {
				t.Errorf("chunk %d: %d bytes, %v", i, len(got), err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, want[i*chunk+5:i*chunk+55]) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
}

func TestSwappedObjectIsCorrupt(t *testing.T) {
	t.Parallel()
	for _, size := range borders {
		key, other := newKey(t), newKey(t)
		one, two := sealed(t, key, content(1, size)), sealed(t, key, content(2, size))
		foreign := sealed(t, other, content(1, size))

		swapped := map[string]*object{
			"another of the same interaction": {bytes: two.bytes, header: one.header},
			"another interaction's":           {bytes: foreign.bytes, header: one.header},
			"payload under the old header":    {bytes: append(bytes.Clone(one.bytes[:184]), two.bytes[184:]...), header: one.header},
		}
		for name, o := range swapped {
			// Even from a position where the object's own header is not read.
			for _, off := range []int{0, size / 2, max(0, size-1)} {
				if off == size && size > 0 {
					continue
				}
				if got, err := readRange(open(t, key, o), int64(off), int64(min(1, size-off))); !errors.Is(err, seal.ErrCorrupt) || len(got) != 0 {
					t.Errorf("%s of %d at %d: %d bytes, %v", name, size, off, len(got), err)
				}
			}
		}
		if _, err := key.Open(foreign.header, foreign.fetch); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("a header of another interaction was taken: %v", err)
		}
	}
}

func TestHeaderIsAuthenticated(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	o := sealed(t, key, content(1, 1000))
	for i := range o.header {
		changed := bytes.Clone(o.header)
		changed[i] ^= 1
		if _, err := key.Open(changed, o.fetch); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for _, header := range [][]byte{nil, o.header[:len(o.header)-1], append(bytes.Clone(o.header), 0)} {
		if _, err := key.Open(header, o.fetch); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("a header of %d bytes: %v", len(header), err)
		}
	}
}

var errNetwork = errors.New("connection reset")

type failing struct{ after io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.after.Read(p)
	if err == io.EOF {
		return n, errNetwork
	}
	return n, err
}

// A failing store is not a corrupt object: the first may be asked again.
func TestFetchErrorsComeThrough(t *testing.T) {
	t.Parallel()
	key, want := newKey(t), content(1, 3*chunk)
	o := sealed(t, key, want)
	plain, err := key.Open(o.header, func(context.Context, int64, int64) (io.ReadCloser, int64, error) {
		return nil, 0, errNetwork
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Range(t.Context(), 0, 10); !errors.Is(err, errNetwork) || errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("Range: %v", err)
	}
	plain, err = key.Open(o.header, func(context.Context, int64, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(failing{bytes.NewReader(o.bytes[:100_000])}), int64(len(o.bytes)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRange(plain, 0, 3*chunk)
	if !errors.Is(err, errNetwork) || errors.Is(err, seal.ErrCorrupt) || !bytes.Equal(got, want[:chunk]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestSealPassesOnTheReadersError(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 10, chunk, 3 * chunk} {
		s, err := newKey(t).Seal(failing{bytes.NewReader(content(1, size))})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, s); !errors.Is(err, errNetwork) || n >= seal.SealedSize(int64(size)) {
			t.Errorf("%d bytes sealed of a broken reader, %v", n, err)
		}
		if _, err := s.Header(); !errors.Is(err, seal.ErrUnfinished) {
			t.Errorf("header: %v", err)
		}
	}
}

// The object must hold no plaintext.
func TestNothingOfThePlaintextShows(t *testing.T) {
	t.Parallel()
	o := sealed(t, newKey(t), bytes.Repeat([]byte("secret words"), 20_000))
	if bytes.Contains(o.bytes, []byte("secret")) || bytes.Contains(o.header, []byte("secret")) {
		t.Error("plaintext shows")
	}
}

func TestCheckTurnsTheEndIntoAnError(t *testing.T) {
	t.Parallel()
	want := content(1, 3*chunk)
	sum := sha256.Sum256(want)
	read := func(b []byte) error {
		_, err := io.Copy(io.Discard, seal.Check(io.NopCloser(bytes.NewReader(b)), sum))
		return err
	}
	if err := read(want); err != nil {
		t.Error(err)
	}
	flipped := bytes.Clone(want)
	flipped[chunk] ^= 1
	for _, wrong := range [][]byte{nil, flipped, want[:len(want)-1], append(bytes.Clone(want), 0)} {
		if err := read(wrong); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(wrong), err)
		}
	}
	key := newKey(t)
	o := sealed(t, key, want)
	r, err := open(t, key, o).Range(t.Context(), 0, int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, seal.Check(r, sum)); n != int64(len(want)) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Not parallel: it counts the memory of the process.
func TestStreamsAGigabyteInFlatMemory(t *testing.T) {
	const size = 1 << 30
	key := newKey(t)
	s, err := key.Seal(io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	// The sealed stream is opened while it is made: neither is ever held whole.
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, s)
		w.CloseWithError(err)
	}()
	identity := ageIdentity(t, key)
	plain, err := age.Decrypt(r, identity)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, plain, size); n != size || err != nil {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if peak := int64(after.HeapSys) - int64(before.HeapSys); peak > 64<<20 {
		t.Errorf("the heap grew by %d MiB", peak>>20)
	}
}

func TestSealAllocatesLittle(t *testing.T) {
	key := newKey(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := key.Seal(io.LimitReader(zeros{}, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("sealing 64 MiB allocated %d KiB", used>>10)
	}
}

func ageIdentity(t testing.TB, key seal.Key) *age.X25519Identity {
	t.Helper()
	ring := newRing(t)
	secret, err := ring.Unwrap(key.Wrap(ring, ""), "")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.ParseX25519Identity(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func BenchmarkNewKey(b *testing.B) {
	for b.Loop() {
		if _, err := seal.NewKey(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal1MB(b *testing.B) {
	key := newKey(b)
	b.SetBytes(1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		s, err := key.Seal(io.LimitReader(zeros{}, 1_000_000))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlay256KB is what one ranged request costs beside its fetch: the key
// unwrapped, the header opened, five chunks decrypted.
func BenchmarkPlay256KB(b *testing.B) {
	key, ring := newKey(b), newRing(b)
	wrapped := key.Wrap(ring, "id")
	o := sealed(b, key, content(1, 5_000_000))
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for b.Loop() {
		o.fetches = o.fetches[:0]
		key, err := ring.Open(wrapped, "id")
		if err != nil {
			b.Fatal(err)
		}
		r, err := open(b, key, o).Range(b.Context(), 1_000_000, 256<<10)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}
