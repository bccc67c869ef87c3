// Package blobtest holds what every [blob.Store] must do.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"earmark/internal/blob"
)

// Run tests a kind of store. Each call of open gives an empty one.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	// This one counts the memory of the whole process, so it runs alone, first.
	t.Run("streams a big object in flat memory", func(t *testing.T) { flatMemory(t, open(t)) })

	tests := map[string]func(*testing.T, blob.Store){
		"gives back what was put":                     roundTrip,
		"reads ranges at every border":                ranges,
		"creates only":                                createsOnly,
		"lets one of many concurrent puts win":        oneWins,
		"stores nothing of a wrong size":              wrongSize,
		"stores nothing of a failed reader":           failedReader,
		"shows nothing of an unfinished put":          unfinished,
		"does not read after put has returned":        readerIsLeft,
		"stops when cancelled":                        cancelled,
		"stops a put half-way when cancelled":         cancelledPut,
		"stops a read half-way when cancelled":        cancelledRead,
		"ends a cancelled listing in an error":        cancelledList,
		"lists in key order, by prefix and after":     lists,
		"lists across pages":                          pages,
		"deletes what is named and nothing else":      deletes,
		"takes the absent for deleted":                absent,
		"purges below prefixes and looks again":       purges,
		"survives puts and deletes in one directory":  churn,
		"refuses odd keys":                            oddKeys,
		"has nothing to sweep after failed puts":      sweeps,
		"says that it can be used":                    checks,
		"tells an object's times":                     times,
		"closes a read that is left before its end":   closesEarly,
		"keeps keys apart that begin alike":           alike,
		"purges a few of many and many of a few":      purgesSome,
		"gives back an object under its longest key":  longestKey,
		"reads while others delete":                   readsDuringDelete,
		"reports the whole size with each range read": wholeSize,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func roundTrip(t *testing.T, s blob.Store) {
	for i, size := range []int{0, 1, 2, 4095, 65535, 65536, 65537, 3<<20 + 1} {
		key, want := fmt.Sprintf("2026/01/02/object/%d.age", i), content(i, size)
		info := put(t, s, key, want)
		if info.Key != key || info.Size != int64(size) {
			t.Errorf("Put(%d bytes) = %+v", size, info)
		}
		if got := read(t, s, key, 0, -1); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
		got, err := s.Stat(t.Context(), key)
		if err != nil || got.Size != int64(size) || got.Key != key || got.DeleteMarker {
			t.Errorf("Stat = %+v, %v", got, err)
		}
	}
}

func ranges(t *testing.T, s blob.Store) {
	const size = 200_001
	want := content(1, size)
	put(t, s, "k", want)
	put(t, s, "empty", nil)
	borders := []int64{0, 1, 2, 65535, 65536, 65537, 131071, 131072, size - 2, size - 1}
	for _, offset := range borders {
		for _, length := range []int64{1, 2, 65535, 65536, 65537, size - offset, -1} {
			end := offset + length
			if length < 0 {
				end = size
			}
			if end > size {
				wantErr(t, openErr(s, "k", offset, length), blob.ErrRange)
				continue
			}
			if got := read(t, s, "k", offset, length); !bytes.Equal(got, want[offset:end]) {
				t.Errorf("bytes %d+%d differ", offset, length)
			}
		}
	}
	for _, r := range [][2]int64{{-1, 1}, {-1, -1}, {0, 0}, {5, 0}, {size, 1}, {size, -1}, {size + 1, -1}, {size, 0}, {0, size + 1}, {1, 1<<63 - 1}} {
		wantErr(t, openErr(s, "k", r[0], r[1]), blob.ErrRange)
	}
	wantErr(t, openErr(s, "empty", 0, 1), blob.ErrRange)
	wantErr(t, openErr(s, "empty", 1, -1), blob.ErrRange)
	wantErr(t, openErr(s, "no/such", 0, -1), blob.ErrNotFound)
	wantErr(t, openErr(s, "no/such", 5, 7), blob.ErrNotFound)
}

func wholeSize(t *testing.T, s blob.Store) {
	put(t, s, "k", content(1, 1000))
	for _, r := range [][2]int64{{0, -1}, {0, 1000}, {0, 1}, {999, 1}, {500, -1}} {
		body, info, err := s.Open(t.Context(), "k", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != 1000 || info.Key != "k" {
			t.Errorf("Open(%d, %d) describes %+v", r[0], r[1], info)
		}
		closeIt(t, body)
	}
}

func createsOnly(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 100, 8 << 20} {
		key := fmt.Sprintf("k/%d", size)
		put(t, s, key, content(1, size))
		_, err := s.Put(t.Context(), key, bytes.NewReader(content(2, size)), int64(size))
		wantErr(t, err, blob.ErrExists)
		_, err = s.Put(t.Context(), key, bytes.NewReader(content(1, size)), int64(size))
		wantErr(t, err, blob.ErrExists)
		if got := read(t, s, key, 0, -1); !bytes.Equal(got, content(1, size)) {
			t.Error("the second put changed the object")
		}
		if n := len(list(t, s, key, "")); n != 1 {
			t.Errorf("%d versions", n)
		}
	}
}

func oneWins(t *testing.T, s blob.Store) {
	const writers = 16
	var errs [writers]error
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range writers {
		wg.Go(func() {
			<-start
			_, errs[i] = s.Put(t.Context(), "contested/key", bytes.NewReader(content(i, 100_000)), 100_000)
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("puts %d and %d have both won", winner, i)
		case err == nil:
			winner = i
		default:
			wantErr(t, err, blob.ErrExists)
		}
	}
	if winner < 0 {
		t.Fatal("no put has won")
	}
	if got := read(t, s, "contested/key", 0, -1); !bytes.Equal(got, content(winner, 100_000)) {
		t.Error("the object is not the winner's")
	}
	if n := len(list(t, s, "", "")); n != 1 {
		t.Errorf("%d versions", n)
	}
}

func wrongSize(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 70_000, 1 << 20} {
		for _, announced := range []int{size - 1, size + 1, 2*size + 3, -2} {
			key := fmt.Sprintf("k/%d/%d", size, announced)
			for name, r := range readers(content(1, size)) {
				_, err := s.Put(t.Context(), key, r, int64(announced))
				if !errors.Is(err, blob.ErrSize) {
					t.Errorf("%s of %d bytes announced as %d: %v", name, size, announced, err)
				}
				wantAbsent(t, s, key)
			}
			put(t, s, key, content(2, size))
		}
	}
}

// readers gives the same bytes in the ways a reader may give them.
func readers(b []byte) map[string]io.Reader {
	return map[string]io.Reader{
		"seeker":      bytes.NewReader(b),
		"plain":       struct{ io.Reader }{bytes.NewReader(b)},
		"eof at once": &dataErrReader{bytes.NewReader(b)},
		"odd pieces":  &pieces{r: bytes.NewReader(b)},
	}
}

// dataErrReader returns io.EOF together with the last bytes.
type dataErrReader struct{ r *bytes.Reader }

func (d *dataErrReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if d.r.Len() == 0 {
		return n, io.EOF
	}
	return n, err
}

// pieces returns few bytes at a time, and every other time none.
type pieces struct {
	r    *bytes.Reader
	full bool
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.full = !p.full; !p.full {
		return 0, nil
	}
	return p.r.Read(b[:min(len(b), 4999)])
}

var errReader = errors.New("the caller's reader failed")

func failedReader(t *testing.T, s blob.Store) {
	const size = 300_000
	for i, after := range []int{0, 1, 65536, size - 1, size} {
		key := fmt.Sprintf("k/%d", i)
		r := io.MultiReader(bytes.NewReader(content(1, after)), failing{})
		_, err := s.Put(t.Context(), key, r, size)
		if after < size {
			wantErr(t, err, errReader)
		} else if err == nil {
			t.Error("a reader that fails in place of its end was taken")
		}
		wantAbsent(t, s, key)
		put(t, s, key, content(2, size))
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errReader }

func unfinished(t *testing.T, s blob.Store) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(t.Context(), "slow/key", r, 200_000)
		done <- err
	}()
	if _, err := w.Write(content(1, 200_000)[:150_000]); err != nil {
		t.Fatal(err)
	}
	if found := list(t, s, "", ""); len(found) != 0 {
		t.Errorf("an unfinished put shows: %v", found)
	}
	if _, err := w.Write(content(1, 200_000)[150_000:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), <-done); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "slow/key", 0, -1); !bytes.Equal(got, content(1, 200_000)) {
		t.Error("other bytes")
	}
}

// readerIsLeft fails under the race detector when a store goes on reading.
func readerIsLeft(t *testing.T, s blob.Store) {
	put(t, s, "taken", []byte("x"))
	for range 20 {
		r := &unguarded{}
		if _, err := s.Put(t.Context(), "taken", r, 4<<20); err == nil {
			t.Fatal("put twice")
		}
		r.reads = 0
	}
}

type unguarded struct{ reads int }

func (u *unguarded) Read(p []byte) (int, error) { u.reads++; return len(p), nil }

func cancelled(t *testing.T, s blob.Store) {
	put(t, s, "k/1", content(1, 100))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ops := map[string]func() error{
		"Put":  func() error { _, err := s.Put(ctx, "k/2", strings.NewReader("x"), 1); return err },
		"Open": func() error { _, _, err := s.Open(ctx, "k/1", 0, -1); return err },
		"Stat": func() error { _, err := s.Stat(ctx, "k/1"); return err },
		"List": func() error {
			for _, err := range s.List(ctx, "", "") {
				return err
			}
			return nil
		},
		"Delete":     func() error { _, err := s.Delete(ctx, blob.Ref{Key: "k/1"}); return err },
		"Delete all": func() error { _, err := blob.Purge(ctx, s, "k/"); return err },
		"Sweep":      func() error { _, err := s.Sweep(ctx, time.Now()); return err },
		"Check":      func() error { return s.Check(ctx) },
	}
	for name, op := range ops {
		if err := op(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantAbsent(t, s, "k/2")
	if got := read(t, s, "k/1", 0, -1); !bytes.Equal(got, content(1, 100)) {
		t.Error("a cancelled call has done something")
	}
}

func cancelledPut(t *testing.T, s blob.Store) {
	for i, after := range []int{1, 100_000, 999_999} {
		ctx, cancel := context.WithCancel(t.Context())
		data, key := content(1, 1_000_000), fmt.Sprintf("k/%d", i)
		r := io.MultiReader(bytes.NewReader(data[:after]), calling{cancel}, bytes.NewReader(data[after:]))
		_, err := s.Put(ctx, key, r, 1_000_000)
		wantErr(t, err, context.Canceled)
		wantAbsent(t, s, key)
		put(t, s, key, data)
	}
}

// calling calls a function when it is read, and is empty.
type calling struct{ call func() }

func (c calling) Read([]byte) (int, error) { c.call(); return 0, io.EOF }

func cancelledRead(t *testing.T, s blob.Store) {
	put(t, s, "k", content(1, 16<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, _, err := s.Open(ctx, "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(t, body)
	if _, err := io.CopyN(io.Discard, body, 1000); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled read ended in %v", err)
	}
}

func cancelledList(t *testing.T, s blob.Store) {
	putMany(t, s, 30)
	ctx, cancel := context.WithCancel(t.Context())
	seen, failed := 0, error(nil)
	for _, err := range s.List(ctx, "", "") {
		if err != nil {
			failed = err
			break
		}
		if seen++; seen == 10 {
			cancel()
		}
	}
	cancel()
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("after %d of 30: %v", seen, failed)
	}
}

func lists(t *testing.T, s blob.Store) {
	keys := []string{
		"a-b", "a.b", "a/b", "a/c/d", "a/c-d", "a/c.d", "a/c_d/e", "a_b", "aa/1", "ab", "b/1/2/3/4", "b/10/x", "B/1",
		"2026/01/31/x/y.age", "2026/02/01/x/y.age",
	}
	for i, key := range keys {
		put(t, s, key, content(i, i))
	}
	slices.Sort(keys)
	prefixes := []string{"", "a", "a/", "a/c", "a/c/", "a-", "b/1", "b/1/", "2026/0", "2026/01/31/", "zz", "a/b", "a/b/"}
	for _, prefix := range prefixes {
		for _, after := range append([]string{"", "a", "a/", "a0", "2026/01/31/", "zz", "a/c"}, keys...) {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if diff := cmp.Diff(want, keysOf(list(t, s, prefix, after))); diff != "" {
				t.Errorf("List(%q, %q) (-want +got):\n%s", prefix, after, diff)
			}
		}
	}
	for _, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Error(err)
		}
		break // leaving early is no error
	}
}

func pages(t *testing.T, s blob.Store) {
	want := putMany(t, s, 1_050)
	if diff := cmp.Diff(want, keysOf(list(t, s, "", ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1000:], keysOf(list(t, s, "", want[999]))); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", want[999], diff)
	}
	done, err := blob.Purge(t.Context(), s, "many/")
	if err != nil || done.Objects != 1_050 || done.Versions != 1_050 || len(done.Kept) != 0 {
		t.Errorf("Purge = %+v, %v", done, err)
	}
	if left := list(t, s, "", ""); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
}

func deletes(t *testing.T, s blob.Store) {
	for _, key := range []string{"d/1", "d/2", "d/3", "d/sub/4", "e"} {
		put(t, s, key, []byte(key))
	}
	remove(t, s, blob.Ref{Key: "d/1"}, blob.Ref{Key: "d/sub/4"})
	if diff := cmp.Diff([]string{"d/2", "d/3", "e"}, keysOf(list(t, s, "", ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantAbsent(t, s, "d/1")
	wantErr(t, openErr(s, "d/1", 0, -1), blob.ErrNotFound)
	put(t, s, "d/1", []byte("again"))

	var refs []blob.Ref
	for _, info := range list(t, s, "", "") {
		refs = append(refs, info.Ref)
	}
	remove(t, s, refs...)
	if left := list(t, s, "", ""); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	remove(t, s, refs...)
}

func absent(t *testing.T, s blob.Store) {
	put(t, s, "here/object", []byte("x"))
	remove(t, s)
	remove(t, s, blob.Ref{Key: "no"}, blob.Ref{Key: "no/such/key"}, blob.Ref{Key: "here/objec"}, blob.Ref{Key: "here"})
	if done, err := blob.Purge(t.Context(), s, "no/", "no/such/"); err != nil || done.Versions != 0 {
		t.Errorf("Purge = %+v, %v", done, err)
	}
	if got := read(t, s, "here/object", 0, -1); string(got) != "x" {
		t.Error("another object was deleted")
	}
}

func purges(t *testing.T, s blob.Store) {
	for _, key := range []string{"p/1/a", "p/1/b", "p/1/c/d", "p/10/a", "p/2/a", "p/3/a", "q"} {
		put(t, s, key, content(1, 10))
	}
	done, err := blob.Purge(t.Context(), s, "p/1/", "p/2/", "p/1/c/", "p/4/")
	if err != nil || done.Objects != 4 || done.Versions != 4 || done.Bytes != 40 || len(done.Kept) != 0 {
		t.Errorf("Purge = %+v, %v", done, err)
	}
	if diff := cmp.Diff([]string{"p/10/a", "p/3/a", "q"}, keysOf(list(t, s, "", ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, prefix := range []string{"", "p", "p/1"} {
		_, err := blob.Purge(t.Context(), s, "p/3/", prefix)
		wantErr(t, err, blob.ErrKey)
	}
	if n := len(list(t, s, "", "")); n != 3 {
		t.Error("a refused purge has removed something")
	}
}

// purgesSome checks that only what was named goes, however the names lie among
// the others: a purge lists the parents of many prefixes, not each of them.
func purgesSome(t *testing.T, s blob.Store) {
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range 400 {
		group.Go(func() error {
			_, err := s.Put(ctx, fmt.Sprintf("day/%03d/x.age", i), strings.NewReader("x"), 1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	doomed := make(map[int]bool)
	purge := func(ids ...int) {
		t.Helper()
		gone := 0
		var prefixes []string
		for _, i := range ids {
			if !doomed[i] && i < 400 {
				gone++
			}
			doomed[i] = true
			prefixes = append(prefixes, fmt.Sprintf("day/%03d/", i))
		}
		done, err := blob.Purge(t.Context(), s, prefixes...)
		if err != nil || done.Objects != gone || len(done.Kept) != 0 {
			t.Errorf("Purge of %d = %+v, %v", gone, done, err)
		}
		var want []string
		for i := range 400 {
			if !doomed[i] {
				want = append(want, fmt.Sprintf("day/%03d/x.age", i))
			}
		}
		if diff := cmp.Diff(want, keysOf(list(t, s, "", ""))); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	}
	between := func(from, to, step int) (ids []int) {
		for i := from; i < to; i += step {
			ids = append(ids, i)
		}
		return ids
	}
	purge(399, 0, 200)
	purge(between(1, 400, 20)...)
	purge(append(between(100, 150, 1), 999, 399, 7)...)
	purge(append(between(0, 20, 1), between(380, 420, 1)...)...)
	purge(between(0, 400, 1)...)
}

func churn(t *testing.T, s blob.Store) {
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 8 {
		group.Go(func() error {
			for j := range 25 {
				key := fmt.Sprintf("one/dir/%d-%d", i, j)
				if _, err := s.Put(ctx, key, strings.NewReader("x"), 1); err != nil {
					return err
				}
				if _, err := s.Delete(ctx, blob.Ref{Key: key}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if left := list(t, s, "", ""); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func oddKeys(t *testing.T, s blob.Store) {
	odd := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", ".hidden", "a/.b", "a b", "a\x00b", "a\nb",
		"a\\b", "a:b", "a.b/c", "a/b.c/d", "a%2fb", "a+b", "ghi-âm", "a?b", "a*b", "\xff", "~a",
		strings.Repeat("x", 201), strings.Repeat("a/", 256) + "a",
	}
	for _, key := range odd {
		_, err := s.Put(t.Context(), key, strings.NewReader("x"), 1)
		wantErr(t, err, blob.ErrKey)
		wantErr(t, openErr(s, key, 0, -1), blob.ErrKey)
		_, err = s.Stat(t.Context(), key)
		wantErr(t, err, blob.ErrKey)
		_, err = s.Delete(t.Context(), blob.Ref{Key: key})
		wantErr(t, err, blob.ErrKey)
	}
	for _, prefix := range []string{"/", "//", "../", "a//", ".", "a b"} {
		for _, err := range s.List(t.Context(), prefix, "") {
			wantErr(t, err, blob.ErrKey)
		}
	}
	if left := list(t, s, "", ""); len(left) != 0 {
		t.Errorf("stored: %v", left)
	}
}

func sweeps(t *testing.T, s blob.Store) {
	put(t, s, "k", []byte("x"))
	_, err := s.Put(t.Context(), "bad", strings.NewReader("short"), 100)
	wantErr(t, err, blob.ErrSize)
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("Sweep = %d, %v", n, err)
	}
	if got := read(t, s, "k", 0, -1); string(got) != "x" {
		t.Error("the object was swept")
	}
}

func checks(t *testing.T, s blob.Store) {
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if left := list(t, s, "", ""); len(left) != 0 {
		t.Errorf("the check left %v", left)
	}
}

func times(t *testing.T, s blob.Store) {
	before := time.Now().Add(-time.Minute)
	put(t, s, "k", []byte("x"))
	for _, info := range list(t, s, "", "") {
		if info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Minute)) {
			t.Errorf("modified %v", info.Modified)
		}
	}
}

func closesEarly(t *testing.T, s blob.Store) {
	put(t, s, "k", content(1, 4<<20))
	for range 10 {
		body, _, err := s.Open(t.Context(), "k", 1, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		closeIt(t, body)
	}
}

func alike(t *testing.T, s blob.Store) {
	for _, key := range []string{"a/key", "a/key2", "a/keys/1"} {
		put(t, s, key, []byte(key))
	}
	remove(t, s, blob.Ref{Key: "a/key"})
	if diff := cmp.Diff([]string{"a/key2", "a/keys/1"}, keysOf(list(t, s, "", ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func longestKey(t *testing.T, s blob.Store) {
	long := strings.Repeat("x", 200)
	key := long + "/" + long + "/" + strings.Repeat("y", 110)
	put(t, s, key, []byte("x"))
	if diff := cmp.Diff([]string{key}, keysOf(list(t, s, long, ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	remove(t, s, blob.Ref{Key: key})
	wantAbsent(t, s, key)
}

// readsDuringDelete reads an object whole or not at all while it goes.
func readsDuringDelete(t *testing.T, s blob.Store) {
	want := content(1, 100_000)
	for i := range 10 {
		key := fmt.Sprintf("k/%d", i)
		put(t, s, key, want)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				body, _, err := s.Open(t.Context(), key, 0, -1)
				if errors.Is(err, blob.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				defer closeIt(t, body)
				if got, err := io.ReadAll(body); err == nil && !bytes.Equal(got, want) {
					t.Error("a partial object was read without an error")
				}
			})
		}
		remove(t, s, blob.Ref{Key: key})
		wg.Wait()
	}
}

func flatMemory(t *testing.T, s blob.Store) {
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	src := rand.NewChaCha8([32]byte{1})
	if _, err := s.Put(t.Context(), "big", io.LimitReader(src, size), size); err != nil {
		t.Fatal(err)
	}
	body, _, err := s.Open(t.Context(), "big", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(t, body)
	if n, err := io.Copy(io.Discard, body); n != size || err != nil {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d MiB were allocated to move %d MiB", used>>20, size>>20)
	}
}

// content is size bytes that differ by seed.
func content(seed, size int) []byte {
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7})
	src.Read(b)
	return b
}

func put(t *testing.T, s blob.Store, key string, b []byte) blob.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

// putMany puts n small objects and returns their keys in order.
func putMany(t *testing.T, s blob.Store, n int) []string {
	t.Helper()
	keys := make([]string, n)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range keys {
		keys[i] = fmt.Sprintf("many/%02d/%05d", i/100, i)
		group.Go(func() error {
			_, err := s.Put(ctx, keys[i], strings.NewReader(keys[i]), int64(len(keys[i])))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func read(t *testing.T, s blob.Store, key string, offset, length int64) []byte {
	t.Helper()
	body, _, err := s.Open(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("open %s at %d+%d: %v", key, offset, length, err)
	}
	defer closeIt(t, body)
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("read %s at %d+%d: %v", key, offset, length, err)
	}
	return b
}

func openErr(s blob.Store, key string, offset, length int64) error {
	body, _, err := s.Open(context.Background(), key, offset, length)
	if err != nil {
		return err
	}
	return body.Close()
}

func list(t *testing.T, s blob.Store, prefix, after string) []blob.Info {
	t.Helper()
	var all []blob.Info
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		all = append(all, info)
	}
	return all
}

func keysOf(infos []blob.Info) []string {
	var keys []string
	for _, info := range infos {
		keys = append(keys, info.Key)
	}
	return keys
}

func remove(t *testing.T, s blob.Store, refs ...blob.Ref) {
	t.Helper()
	if kept, err := s.Delete(t.Context(), refs...); err != nil || len(kept) != 0 {
		t.Errorf("delete: kept %v, %v", kept, err)
	}
}

func wantAbsent(t *testing.T, s blob.Store, key string) {
	t.Helper()
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat(%s): %v, want it absent", key, err)
	}
	if found := list(t, s, key, ""); len(found) != 0 {
		t.Errorf("List(%s) shows %v", key, found)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

func closeIt(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
