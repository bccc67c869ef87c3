package blob

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Purged tells what [Purge] has done.
type Purged struct {
	// Objects, Versions and Bytes count what was there before and is gone now:
	// distinct keys, their versions with delete markers, and their sizes.
	Objects, Versions int
	Bytes             int64
	// Kept is what is still there, by the store's own listing, and why.
	Kept []Kept
}

const (
	deleteBatch   = 250 // four streams of 250 were the fastest against MinIO
	deleteStreams = 4
	listStreams   = 8
)

// Purge removes every version of every object below the prefixes, each of which
// must end in '/', and lists them again: what the second listing still shows is
// in Kept. It may be called again after an error or a crash at any point.
func Purge(ctx context.Context, s Store, prefixes ...string) (Purged, error) {
	for _, prefix := range prefixes {
		if !strings.HasSuffix(prefix, "/") {
			return Purged{}, fmt.Errorf("blob: purge: %w: prefix does not end in a slash", ErrKey)
		}
	}
	found, err := listAll(ctx, s, prefixes)
	if err != nil {
		return Purged{}, fmt.Errorf("blob: purge: %w", err)
	}
	kept, err := deleteAll(ctx, s, found)
	if err != nil {
		return Purged{}, fmt.Errorf("blob: purge: %w", err)
	}
	left, err := listAll(ctx, s, prefixes)
	if err != nil {
		return Purged{}, fmt.Errorf("blob: purge: list again: %w", err)
	}
	return account(found, left, kept), nil
}

// account trusts the second listing alone; the refusals only explain it.
func account(found, left []Info, refused []Kept) Purged {
	why := make(map[Ref]error, len(refused))
	for _, k := range refused {
		why[k.Ref] = k.Err
	}
	var done Purged
	remains := make(map[Ref]bool, len(left))
	for _, info := range left {
		remains[info.Ref] = true
		err, known := why[info.Ref]
		if !known {
			err = ErrUnconfirmed
		}
		done.Kept = append(done.Kept, Kept{info.Ref, err})
	}
	last := ""
	for _, info := range found {
		if remains[info.Ref] {
			continue
		}
		if info.Key != last {
			done.Objects++
			last = info.Key
		}
		done.Versions++
		done.Bytes += info.Size
	}
	return done
}

// listAll lists below each prefix, sorted by key, each version once even where
// prefixes overlap.
func listAll(ctx context.Context, s Store, prefixes []string) ([]Info, error) {
	var (
		mu    sync.Mutex
		found []Info
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listStreams)
	for _, prefix := range prefixes {
		group.Go(func() error {
			var below []Info
			for info, err := range s.List(ctx, prefix, "") {
				if err != nil {
					return err
				}
				below = append(below, info)
			}
			mu.Lock()
			defer mu.Unlock()
			found = append(found, below...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b Info) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Version, b.Version))
	})
	return slices.CompactFunc(found, func(a, b Info) bool { return a.Ref == b.Ref }), nil
}

func deleteAll(ctx context.Context, s Store, found []Info) ([]Kept, error) {
	var (
		mu   sync.Mutex
		kept []Kept
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deleteStreams)
	for batch := range slices.Chunk(found, deleteBatch) {
		group.Go(func() error {
			refs := make([]Ref, len(batch))
			for i, info := range batch {
				refs[i] = info.Ref
			}
			refused, err := s.Delete(ctx, refs...)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, refused...)
			return nil
		})
	}
	return kept, group.Wait()
}
