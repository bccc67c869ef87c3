package blob_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"earmark/internal/blob"
	"earmark/internal/blob/blobtest"
)

func TestDisk(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return newDisk(t, t.TempDir()) })
}

func newDisk(t *testing.T, dir string) *blob.Disk {
	t.Helper()
	disk, err := blob.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

func TestDiskRemovesEmptyDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := newDisk(t, dir)
	for _, key := range []string{"2026/01/02/a/x.age", "2026/01/03/b/x.age"} {
		if _, err := disk.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := blob.Purge(t.Context(), disk, "2026/01/02/"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "objects/2026/01/02")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the emptied directory: %v", err)
	}
	if _, err := blob.Purge(t.Context(), disk, "2026/"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "objects"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestDiskDoesNotFollowLinksOut(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := newDisk(t, dir)
	if err := errors.Join(
		os.Symlink(outside, filepath.Join(dir, "objects/out")),
		os.Symlink(secret, filepath.Join(dir, "objects/file")),
	); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"out/secret", "file"} {
		if body, _, err := disk.Open(t.Context(), key, 0, -1); err == nil {
			t.Errorf("%s was read, %v", key, body.Close())
		}
		if _, err := disk.Stat(t.Context(), key); err == nil {
			t.Errorf("%s is there", key)
		}
	}
	if _, err := disk.Delete(t.Context(), blob.Ref{Key: "out/secret"}); err == nil {
		t.Error("a deletion led outside")
	}
	if _, err := disk.Delete(t.Context(), blob.Ref{Key: "file"}); err != nil {
		t.Errorf("a link is no object, so it is absent: %v", err)
	}
	if _, err := disk.Put(t.Context(), "out/new", strings.NewReader("x"), 1); err == nil {
		t.Error("an object was stored outside")
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDiskTellsATruncatedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := newDisk(t, dir)
	if _, err := disk.Put(t.Context(), "k", bytes.NewReader(make([]byte, 1000)), 1000); err != nil {
		t.Fatal(err)
	}
	body, _, err := disk.Open(t.Context(), "k", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "objects/k"), 400); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if len(got) != 400 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

func TestDiskThatWentAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	disk := newDisk(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	ops := map[string]func() error{
		"Put":    func() error { _, err := disk.Put(ctx, "k", strings.NewReader("x"), 1); return err },
		"Purge":  func() error { _, err := blob.Purge(ctx, disk, "k/"); return err },
		"Check":  func() error { return disk.Check(ctx) },
		"Sweep":  func() error { _, err := disk.Sweep(ctx, time.Now()); return err },
		"Stat":   func() error { _, err := disk.Stat(ctx, "k"); return err },
		"Open":   func() error { _, _, err := disk.Open(ctx, "k", 0, -1); return err },
		"Delete": func() error { _, err := disk.Delete(ctx, blob.Ref{Key: "k"}); return err },
	}
	for name, op := range ops {
		if err := op(); !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const crashDirEnv = "EARMARK_BLOB_CRASH_DIR"

// writeUntilKilled is the child of the test below.
func writeUntilKilled(dir string) {
	disk, err := blob.OpenDisk(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		key := "crash/" + uuid.NewString()[:2] + "/" + uuid.NewString()
		data := crashContent(key)
		if _, err := disk.Put(context.Background(), key, bytes.NewReader(data), int64(len(data))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

// crashContent follows from the key, so that whoever finds one can check it.
func crashContent(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return bytes.Repeat([]byte(hex.EncodeToString(sum[:])), 4000)
}

// Invariants 1 and 2: what Put has acknowledged survives a kill -9, and nothing
// half-written is ever seen.
func TestDiskSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := 0
	for round := range 8 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDirEnv+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var keys []string
		for range 5 + 7*round {
			if !lines.Scan() {
				t.Fatal("the child has ended by itself")
			}
			keys = append(keys, lines.Text())
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			keys = append(keys, lines.Text())
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
		acknowledged += len(keys)
		disk := newDisk(t, dir)
		for _, key := range keys {
			if info, err := disk.Stat(t.Context(), key); err != nil || info.Size != 256_000 {
				t.Errorf("acknowledged %s: %+v, %v", key, info, err)
			}
		}
	}
	disk, seen := newDisk(t, dir), 0
	for info, err := range disk.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		seen++
		body, _, err := disk.Open(t.Context(), info.Key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(got, crashContent(info.Key)) {
			t.Errorf("%s is damaged: %v", info.Key, err)
		}
	}
	if seen < acknowledged {
		t.Errorf("%d of %d acknowledged are there", seen, acknowledged)
	}
	if n, err := disk.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep of what is older than an hour = %d, %v", n, err)
	}
	if _, err := disk.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "writing")); err != nil || len(left) != 0 {
		t.Errorf("left after the sweep: %v, %v", left, err)
	}
}

// An upload that paused for so long that a sweep took it for a dead one's
// remains fails, and may be sent again.
func TestDiskPutThatWasSweptFails(t *testing.T) {
	t.Parallel()
	disk := newDisk(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	swept := endFunc(func() {
		if n, err := disk.Sweep(ctx, time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
	})
	_, err := disk.Put(ctx, "k/x.age", io.MultiReader(strings.NewReader("x"), swept), 1)
	if !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put = %v", err)
	}
	if _, err := disk.Stat(t.Context(), "k/x.age"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat = %v", err)
	}
}

// endFunc is an empty reader that is called at its end.
type endFunc func()

func (f endFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// A listing that comes upon a directory at the moment in which a deletion
// empties and removes it is complete without it.
func TestDiskListsWhileDirectoriesGo(t *testing.T) {
	t.Parallel()
	disk := newDisk(t, t.TempDir())
	done := make(chan error, 1)
	go func() {
		for range 200 {
			if _, err := disk.Put(t.Context(), "2026/01/02/a/x.age", strings.NewReader("x"), 1); err != nil {
				done <- err
				return
			}
			if _, err := disk.Delete(t.Context(), blob.Ref{Key: "2026/01/02/a/x.age"}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		for _, err := range disk.List(t.Context(), "2026/", "") {
			if err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}
