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

// listAll lists below the prefixes, sorted by key and version.
func listAll(ctx context.Context, s Store, prefixes []string) ([]Info, error) {
	l := lister{s: s}
	rest, err := l.walkAll(ctx, disjoint(prefixes))
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listStreams)
	for _, prefix := range rest {
		group.Go(func() error {
			_, err := l.walk(ctx, prefix, []string{prefix})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(l.found, func(a, b Info) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Version, b.Version))
	})
	return l.found, nil
}

// disjoint sorts prefixes and drops those that another one covers.
func disjoint(prefixes []string) []string {
	var apart []string
	for _, prefix := range slices.Sorted(slices.Values(prefixes)) {
		if len(apart) == 0 || !strings.HasPrefix(prefix, apart[len(apart)-1]) {
			apart = append(apart, prefix)
		}
	}
	return apart
}

// lister gathers what lies below prefixes. A request for each of them costs more
// than deleting what it finds, so where many share a parent (the calls of a day)
// the parent is listed instead, unless it turns out to hold mostly other things.
type lister struct {
	s     Store
	mu    sync.Mutex
	found []Info
}

const (
	walkFrom = 16 // so many prefixes make their parent worth a walk
	// A page of a thousand versions costs about as much as fifteen requests.
	foreignPerPrefix = 60
)

// walkAll walks the parents of many prefixes and returns the prefixes that are
// left to be listed one by one.
func (l *lister) walkAll(ctx context.Context, prefixes []string) ([]string, error) {
	var (
		mu   sync.Mutex
		rest []string
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listStreams)
	for parent, below := range byParent(prefixes) {
		if len(below) < walkFrom {
			mu.Lock()
			rest = append(rest, below...)
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			left, err := l.walk(ctx, parent, below)
			mu.Lock()
			defer mu.Unlock()
			rest = append(rest, left...)
			return err
		})
	}
	return rest, group.Wait()
}

// byParent groups sorted prefixes.
func byParent(prefixes []string) map[string][]string {
	groups := make(map[string][]string)
	for _, prefix := range prefixes {
		parent := prefix[:strings.LastIndexByte(strings.TrimSuffix(prefix, "/"), '/')+1]
		groups[parent] = append(groups[parent], prefix)
	}
	return groups
}

// walk gathers what lies below sorted, disjoint prefixes from one listing of
// their parent. It gives up when too much else is in the way, and returns the
// prefixes that it had not come to.
func (l *lister) walk(ctx context.Context, parent string, prefixes []string) ([]string, error) {
	var found []Info
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.found = append(l.found, found...)
	}()
	foreign, patience := 0, foreignPerPrefix*walkFrom
	for info, err := range l.s.List(ctx, parent, prefixes[0]) {
		if err != nil {
			return nil, err
		}
		for info.Key > prefixes[0] && !strings.HasPrefix(info.Key, prefixes[0]) {
			prefixes, patience = prefixes[1:], patience+foreignPerPrefix
			if len(prefixes) == 0 {
				return nil, nil
			}
		}
		if strings.HasPrefix(info.Key, prefixes[0]) {
			found = append(found, info)
			continue
		}
		if foreign++; foreign > patience {
			return prefixes, nil
		}
	}
	return nil, nil
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
