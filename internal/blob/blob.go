// Package blob is the object store: one narrow port, [Store], kept by an
// S3-compatible service ([S3]) or by a directory ([Disk]). Package blobtest
// holds the suite that both pass.
//
// Objects are written once and never changed: a key is created, read and
// deleted. What is stored is already sealed; the store never sees plaintext.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

var (
	// ErrExists says that the key already holds an object.
	ErrExists = errors.New("object exists")
	// ErrNotFound says that the key holds no object. An absent bucket or
	// directory is ErrUnavailable, so that it never passes for "all gone".
	ErrNotFound = errors.New("object not found")
	// ErrKey says that a key or prefix is not of the permitted form.
	ErrKey = errors.New("invalid object key")
	// ErrSize says that a reader held fewer or more bytes than were announced.
	ErrSize = errors.New("content differs from its announced size")
	// ErrRange says that the bytes asked for are not all inside the object.
	ErrRange = errors.New("range outside the object")
	// ErrFull says that the store has no room left.
	ErrFull = errors.New("object store is full")
	// ErrUnavailable says that the store does not answer, or not properly;
	// the same call may succeed later.
	ErrUnavailable = errors.New("object store is unavailable")
	// ErrLocked says that the store itself forbids the deletion for now; the
	// error is a [*LockedError].
	ErrLocked = errors.New("object is locked")
	// ErrUnconfirmed says that the store did not confirm a deletion and that
	// the version was still there afterwards.
	ErrUnconfirmed = errors.New("deletion was not confirmed")
	// ErrUncertain says that a Put failed and that the store could not be asked
	// whether it had kept the object all the same.
	ErrUncertain = errors.New("object may have been stored")
)

// LockedError tells why the store keeps a version. It is [ErrLocked].
type LockedError struct {
	Ref
	// Mode is GOVERNANCE or COMPLIANCE, or empty when only LegalHold applies.
	Mode string
	// Until is when the retention ends; zero when it is not known or when only
	// LegalHold applies.
	Until time.Time
	// LegalHold says that the object has an S3 legal hold, which has no end.
	LegalHold bool
}

// Error implements error.
func (e *LockedError) Error() string {
	switch {
	case e.LegalHold:
		return "object is locked by a legal hold in the object store"
	case e.Until.IsZero():
		return "object is locked by the object store"
	default:
		return fmt.Sprintf("object is locked (%s) until %s", e.Mode, e.Until.UTC().Format(time.RFC3339))
	}
}

// Is makes a LockedError an [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Ref names one version of one object.
type Ref struct {
	Key string
	// Version is the store's own id of the version; empty where there are no
	// versions. To [Store.Delete] an empty Version means every version of Key.
	Version string
}

// Info describes one version of an object.
type Info struct {
	Ref
	// Size is that of the whole object, in bytes; 0 for a delete marker.
	Size int64
	// Modified is when the store took the version in.
	Modified time.Time
	// DeleteMarker says that the version holds no bytes and hides older ones.
	DeleteMarker bool
}

// Kept is a version that [Store.Delete] could not remove, and why.
type Kept struct {
	Ref
	Err error
}

// Store keeps objects under keys. All methods are safe for concurrent use.
// Errors wrap the sentinels of this package where one fits, and the context's
// error when it was cancelled.
type Store interface {
	// Put stores exactly size bytes of r under key, once: [ErrExists] when the
	// key holds an object already. It reads r to its end; [ErrSize] when r does
	// not hold exactly size bytes. When it returns nil the object is durable.
	//
	// When it returns an error no part of an object is visible, and normally
	// none was stored: an answer that was lost on the way is looked into, and
	// Put reports success when its own bytes are there. Only after
	// [ErrUncertain], or when the process dies, may the whole object be there;
	// the caller deletes the key, or an orphan sweep does. r is not read after
	// Put has returned.
	Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error)

	// Open reads length bytes from offset, or to the end when length is
	// negative, in one request. Info describes the whole object. [ErrNotFound];
	// [ErrRange] unless all bytes asked for exist and length is not 0. The
	// reader ends in io.EOF only after the last byte asked for; anything
	// shorter is another error. The caller closes it.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error)

	// Stat describes the newest version of an object, or is [ErrNotFound], also
	// when that version is a delete marker. Like Open and Delete it may wait for
	// a Put of the same key that is under way; List does not.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields every version and delete marker of the keys that begin with
	// prefix and come after the key after, in byte order of the keys. The last
	// pair carries the error when the listing could not be finished, a
	// cancelled context included: a listing without an error is complete.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes versions for good. What is absent counts as removed. It
	// returns what is still there and why, or an error when the store could not
	// be asked; then any part of the work may be done, and Delete may be called
	// again.
	Delete(ctx context.Context, refs ...Ref) ([]Kept, error)

	// Sweep removes what unfinished writes begun before that time have left
	// over and says how many they were. Such remains are no objects: neither
	// List nor Open sees them.
	Sweep(ctx context.Context, before time.Time) (int, error)

	// Check says whether the store can be reached and used, by doing little.
	Check(ctx context.Context) error
}

const (
	maxKey     = 512
	maxSegment = 200
)

// CheckKey returns [ErrKey] unless key is of the form that every store takes
// alike: segments of letters, digits, '-', '_' and '.' joined by '/', none empty
// or beginning with a '.', at most 200 bytes each and 512 together. Only the last
// segment may hold a '.'.
//
// So a name with an extension ("2026/01/31/call/audio.age") never stands in the
// way of another key. Below a name without one nothing else may be put: Disk has
// no room for it, and MinIO keeps it but leaves it out of every listing.
func CheckKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("%w: %d bytes", ErrKey, len(key))
	}
	name := key
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		name = key[i+1:]
		if err := checkDir(key[:i]); err != nil {
			return err
		}
	}
	return checkSegment(name)
}

// checkPrefix takes what may begin a key, the empty string included.
func checkPrefix(prefix string) error {
	if len(prefix) > maxKey {
		return fmt.Errorf("%w: %d bytes", ErrKey, len(prefix))
	}
	i := strings.LastIndexByte(prefix, '/')
	if i >= 0 {
		if err := checkDir(prefix[:i]); err != nil {
			return err
		}
	}
	if name := prefix[i+1:]; name != "" {
		return checkSegment(name)
	}
	return nil
}

func checkDir(dir string) error {
	for segment := range strings.SplitSeq(dir, "/") {
		if err := checkSegment(segment); err != nil {
			return err
		}
		if strings.Contains(segment, ".") {
			return fmt.Errorf("%w: a dot before the last segment", ErrKey)
		}
	}
	return nil
}

func checkSegment(segment string) error {
	if segment == "" || len(segment) > maxSegment {
		return fmt.Errorf("%w: segment of %d bytes", ErrKey, len(segment))
	}
	if segment[0] == '.' {
		return fmt.Errorf("%w: segment begins with a dot", ErrKey)
	}
	for i := range len(segment) {
		if !keyByte(segment[i]) {
			return fmt.Errorf("%w: byte %#02x", ErrKey, segment[i])
		}
	}
	return nil
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.'
}

// checkRange resolves a range against an object's size.
func checkRange(offset, length, size int64) (int64, error) {
	if offset < 0 || length == 0 || offset > 0 && offset >= size {
		return 0, fmt.Errorf("%w: offset %d, length %d, size %d", ErrRange, offset, length, size)
	}
	if length < 0 {
		return size - offset, nil
	}
	if length > size-offset {
		return 0, fmt.Errorf("%w: offset %d, length %d, size %d", ErrRange, offset, length, size)
	}
	return length, nil
}
