package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Disk is a [Store] in a directory, which it shares with no one but other Disks:
//
//	objects/<key>   whole objects, never written to
//	writing/<name>  objects on their way in
//
// An object is written and synced under writing/ and then linked to its key,
// which succeeds once and shows all of it or nothing, also after a crash. All
// access goes through an [os.Root], so that no key and no symbolic link leads
// out of the directory.
type Disk struct {
	root *os.Root
}

var _ Store = (*Disk)(nil)

const (
	objectsDir = "objects"
	writingDir = "writing"
)

// OpenDisk returns the store in the directory dir and creates it when it does
// not exist. The caller closes it.
func OpenDisk(dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("open store", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, diskError("open store", err)
	}
	d := &Disk{root}
	for _, sub := range []string{objectsDir, writingDir} {
		if err := d.mkdir(sub); err != nil {
			return nil, errors.Join(diskError("open store", err), root.Close())
		}
	}
	return d, nil
}

// Close ends the use of the store. What Open returned stays readable.
func (d *Disk) Close() error { return d.root.Close() }

// Put implements [Store].
func (d *Disk) Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, fmt.Errorf("blob: put: %w", err)
	}
	if _, err := d.stat(key); err == nil {
		return Info{}, fmt.Errorf("blob: put: %w", ErrExists)
	}
	b, err := newBody(ctx, r, size)
	if err != nil {
		return Info{}, fmt.Errorf("blob: put: %w", err)
	}
	name := path.Join(writingDir, rand.Text())
	modified, err := d.write(name, b)
	if _, bodyErr := b.stop(); bodyErr != nil {
		return Info{}, fmt.Errorf("blob: put: read content: %w", errors.Join(bodyErr, d.root.Remove(name)))
	}
	if err == nil {
		err = d.publish(ctx, name, key)
	}
	if rm := d.root.Remove(name); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	if err != nil {
		return Info{}, diskError("put", err)
	}
	return Info{Ref: Ref{Key: key}, Size: size, Modified: modified}, nil
}

// write makes a synced file of a body.
func (d *Disk) write(name string, b *body) (modified time.Time, err error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, b); err != nil {
		return time.Time{}, err
	}
	if err := f.Sync(); err != nil {
		return time.Time{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// publish links a written file to its key. A deletion may remove the key's
// directory at any moment before the link is in it, so that is tried again.
func (d *Disk) publish(ctx context.Context, name, key string) error {
	target := path.Join(objectsDir, key)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.mkdir(path.Dir(target)); err != nil {
			return err
		}
		err := d.root.Link(name, target)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := d.root.Lstat(name); err != nil {
				return err // not the directory is gone, but what was written
			}
			continue
		}
		if err != nil {
			return err
		}
		err = d.sync(path.Dir(target))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // absent: deleted again already
			return errors.Join(err, d.root.Remove(target))
		}
		return nil
	}
}

// mkdir makes a directory with its parents, durably. What a deletion removes
// meanwhile is made again.
func (d *Disk) mkdir(dir string) error {
	for {
		err := d.root.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err == nil {
			err = d.sync(path.Dir(dir))
		}
		if !errors.Is(err, fs.ErrNotExist) || path.Dir(dir) == "." {
			return err
		}
		if err := d.mkdir(path.Dir(dir)); err != nil {
			return err
		}
	}
}

// sync makes the entries of a directory durable.
func (d *Disk) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open implements [Store].
func (d *Disk) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := CheckKey(key); err != nil {
		return nil, Info{}, fmt.Errorf("blob: open: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, Info{}, fmt.Errorf("blob: open: %w", err)
	}
	f, err := d.root.Open(path.Join(objectsDir, key))
	if err != nil {
		return nil, Info{}, diskError("open", d.absence(err))
	}
	info, err := fileInfo(f, key)
	if err == nil {
		length, err = checkRange(offset, length, info.Size)
	}
	if err != nil {
		return nil, Info{}, diskError("open", errors.Join(err, f.Close()))
	}
	return &diskReader{ctx, f, io.NewSectionReader(f, offset, length), length}, info, nil
}

func fileInfo(f *os.File, key string) (Info, error) {
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	if !stat.Mode().IsRegular() {
		return Info{}, ErrNotFound
	}
	return Info{Ref: Ref{Key: key}, Size: stat.Size(), Modified: stat.ModTime()}, nil
}

// diskReader ends with the context and makes a file that ends early an error.
type diskReader struct {
	ctx  context.Context
	file *os.File
	part *io.SectionReader
	left int64
}

func (r *diskReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("blob: read: %w", err)
	}
	n, err := r.part.Read(p)
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		return n, fmt.Errorf("blob: read: %w", io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		return n, diskError("read", err)
	default:
		return n, err
	}
}

func (r *diskReader) Close() error { return r.file.Close() }

// Stat implements [Store].
func (d *Disk) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, fmt.Errorf("blob: stat: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return Info{}, fmt.Errorf("blob: stat: %w", err)
	}
	info, err := d.stat(key)
	if err != nil {
		return Info{}, diskError("stat", d.absence(err))
	}
	return info, nil
}

// absence tells an object that is not there from a store that is not: it returns
// ErrNotFound only when the store itself still stands.
func (d *Disk) absence(err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if _, err := d.root.Lstat(objectsDir); err != nil {
		return err
	}
	return ErrNotFound
}

func (d *Disk) stat(key string) (Info, error) {
	stat, err := d.root.Lstat(path.Join(objectsDir, key))
	if err != nil {
		return Info{}, err
	}
	if !stat.Mode().IsRegular() {
		return Info{}, fs.ErrNotExist
	}
	return Info{Ref: Ref{Key: key}, Size: stat.Size(), Modified: stat.ModTime()}, nil
}

// List implements [Store].
func (d *Disk) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, fmt.Errorf("blob: list: %w", err))
			return
		}
		l := listing{d, ctx, prefix, after, func(info Info) bool { return yield(info, nil) }}
		if err := l.below(""); err != nil && !errors.Is(err, errEnough) {
			yield(Info{}, diskError("list", err))
		}
	}
}

// errEnough ends a listing that its reader has left.
var errEnough = errors.New("listing was left")

type listing struct {
	d             *Disk
	ctx           context.Context
	prefix, after string
	yield         func(Info) bool
}

// below lists the keys that begin with dir, which is empty or ends in a slash.
func (l *listing) below(dir string) error {
	names, err := l.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := l.entry(dir + name); err != nil {
			return err
		}
	}
	return nil
}

// entry lists one key, or all below it when it ends in a slash.
func (l *listing) entry(key string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if strings.HasSuffix(key, "/") {
		overlaps := strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)
		if !overlaps || key < l.after && !strings.HasPrefix(l.after, key) {
			return nil
		}
		return l.below(key)
	}
	if key <= l.after || !strings.HasPrefix(key, l.prefix) {
		return nil
	}
	info, err := l.d.stat(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since the directory was read
	}
	if err != nil {
		return err
	}
	if !l.yield(info) {
		return errEnough
	}
	return nil
}

// names returns a directory's entries in the order of the keys they stand for:
// a directory sorts by its name with the slash, so that "a-b" precedes "a/b".
func (l *listing) names(dir string) ([]string, error) {
	f, err := l.d.root.Open(path.Join(objectsDir, dir))
	if errors.Is(err, fs.ErrNotExist) && dir != "" {
		return nil, nil // emptied and removed meanwhile
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if errors.Is(err, fs.ErrNotExist) && dir != "" {
		err = nil // removed since it was opened
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		switch {
		case entry.IsDir():
			names = append(names, entry.Name()+"/")
		case entry.Type().IsRegular():
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Delete implements [Store]. It removes the directories that it empties.
func (d *Disk) Delete(ctx context.Context, refs ...Ref) ([]Kept, error) {
	touched := make(map[string]bool)
	for _, ref := range refs {
		if err := CheckKey(ref.Key); err != nil {
			return nil, fmt.Errorf("blob: delete: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("blob: delete: %w", err)
		}
		dir, err := d.remove(ref.Key)
		if err != nil {
			return nil, diskError("delete", err)
		}
		touched[dir] = true
	}
	for dir := range touched {
		// A directory that is gone was synced away with the one it stood in.
		err := d.sync(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, diskError("delete", err)
		}
	}
	return nil, nil
}

// remove returns the directory whose entries it has changed last.
func (d *Disk) remove(key string) (string, error) {
	name := path.Join(objectsDir, key)
	_, err := d.stat(key)
	if err == nil {
		err = d.root.Remove(name)
	}
	if err != nil {
		if err := d.absence(err); !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	for dir := path.Dir(name); dir != objectsDir; dir = path.Dir(dir) {
		if emptied, err := d.rmdir(dir); err != nil || !emptied {
			return dir, err
		}
	}
	return objectsDir, nil
}

// rmdir removes a directory if it is one and empty, and says whether it is gone.
func (d *Disk) rmdir(dir string) (bool, error) {
	stat, err := d.root.Lstat(dir)
	if err == nil && stat.IsDir() {
		err = d.root.Remove(dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return true, nil
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY):
		return false, nil
	case err == nil && !stat.IsDir():
		return false, nil
	default:
		return err == nil, err
	}
}

// Sweep implements [Store]. The time of a file that is being written is that of
// its last write, so before should lie further back than the longest upload may
// pause.
func (d *Disk) Sweep(ctx context.Context, before time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("blob: sweep: %w", err)
	}
	f, err := d.root.Open(writingDir)
	if err != nil {
		return 0, diskError("sweep", err)
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, diskError("sweep", err)
	}
	swept := 0
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return swept, fmt.Errorf("blob: sweep: %w", err)
		}
		removed, err := d.sweep(entry, before)
		if err != nil {
			return swept, diskError("sweep", err)
		}
		if removed {
			swept++
		}
	}
	return swept, nil
}

func (d *Disk) sweep(entry fs.DirEntry, before time.Time) (bool, error) {
	stat, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its writer has finished
	}
	if err != nil {
		return false, err
	}
	if !stat.ModTime().Before(before) {
		return false, nil
	}
	err = d.root.Remove(path.Join(writingDir, entry.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Check implements [Store]: it writes and removes an empty file.
func (d *Disk) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("blob: check: %w", err)
	}
	b, err := newBody(ctx, strings.NewReader(""), 0)
	if err != nil {
		return fmt.Errorf("blob: check: %w", err)
	}
	name := path.Join(writingDir, "check-"+rand.Text())
	if _, err := d.write(name, b); err != nil {
		return diskError("check", err)
	}
	if err := d.root.Remove(name); err != nil {
		return diskError("check", err)
	}
	return nil
}

// diskError wraps an error of the file system in the sentinel that fits it.
func diskError(op string, err error) error {
	var onPath *fs.PathError
	var onLink *os.LinkError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("blob: %s: %w: %w", op, ErrFull, err)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("blob: %s: %w: %w", op, ErrExists, err)
	case errors.As(err, &onPath), errors.As(err, &onLink):
		return fmt.Errorf("blob: %s: %w: %w", op, ErrUnavailable, err)
	default:
		return fmt.Errorf("blob: %s: %w", op, err)
	}
}
