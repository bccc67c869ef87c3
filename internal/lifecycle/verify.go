package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/blob"
	"earmark/internal/ledger"
)

// VerifyAll checks every certificate against its signature, the database and
// the object store, and reports what does not hold, each problem once, by ids.
// An error is that it could not be checked.
func (l *Lifecycle) VerifyAll(ctx context.Context, report func(problem string)) error {
	verifier, err := ledger.ParseVerifier(l.Signer.Verifier())
	if err != nil {
		return fmt.Errorf("verify purges: %w", err)
	}
	if err := l.verifyCertificates(ctx, verifier, report); err != nil {
		return fmt.Errorf("verify certificates: %w", err)
	}
	if err := l.verifyTombstones(ctx, report); err != nil {
		return fmt.Errorf("verify tombstones: %w", err)
	}
	if err := l.verifyStore(ctx, report); err != nil {
		return fmt.Errorf("verify object store: %w", err)
	}
	return nil
}

func (l *Lifecycle) verifyCertificates(ctx context.Context, verifier note.Verifier, report func(string)) error {
	done, err := idsOf(ctx, l.DB, `select id from purges where state = 'done' order by requested_at, id`)
	if err != nil {
		return err
	}
	for _, id := range done {
		if err := l.verifyPurge(ctx, verifier, id, report); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lifecycle) verifyPurge(ctx context.Context, verifier note.Verifier, id uuid.UUID, report func(string)) error {
	found, err := purges(ctx, l.DB, `where id = $1`, id)
	p, err := only(found, err, "read purge")
	if err != nil {
		return err
	}
	all, err := items(ctx, l.DB, `where purge_id = $1 order by interaction_id`, id)
	if err != nil {
		return err
	}
	var (
		data   []byte
		stored bool
	)
	err = l.DB.QueryRow(ctx, `select certificate, certificate_stored_at is not null from purges where id = $1`, id).Scan(&data, &stored)
	if err != nil {
		return err
	}
	signed, err := VerifyCertificate(data, verifier)
	if err != nil {
		report(fmt.Sprintf("purge %s: its certificate does not verify: %v", id, err))
		return nil
	}
	problem, err := compareCertificate(*signed, p, all)
	if err != nil {
		return err
	}
	if problem != "" {
		report(fmt.Sprintf("purge %s: %s", id, problem))
	}
	if !stored {
		return nil
	}
	err = l.compareCopy(ctx, id, data)
	if errors.Is(err, errCopyDiffers) || errors.Is(err, blob.ErrNotFound) {
		report(fmt.Sprintf("purge %s: the certificate's copy in the object store: %v", id, err))
		return nil
	}
	return err
}

// compareCertificate says how a certificate differs from what is on record.
// Locks that ended since, and the versions that went with them, do not count.
func compareCertificate(signed Certificate, p Purge, all []Item) (problem string, err error) {
	recorded, err := certify(p, all)
	if errors.Is(err, ErrIncomplete) {
		return "it is certified, and not at its end", nil
	}
	if err != nil {
		return "", err
	}
	var texts [2][]byte
	for i, c := range []*Certificate{&signed, &recorded} {
		c.Remaining, c.Statement = nil, ""
		for j := range c.Items {
			c.Items[j].VersionsRemoved = 0
		}
		if texts[i], err = ledger.Canonical(c); err != nil {
			return "", err
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		return "its record is not what was certified", nil
	}
	return "", nil
}

// verifyTombstones looks for certified interactions that still have a key or
// more than a tombstone, and for tombstones that no purge accounts for.
func (l *Lifecycle) verifyTombstones(ctx context.Context, report func(string)) error {
	alive, err := idsOf(ctx, l.DB, `
		select distinct i.id from purge_items p join interactions i on i.id = p.interaction_id
		where p.state = 'gone' and (i.state <> 'erased' or i.wrapped_key is not null or i.key_destroyed_at is null)`)
	if err != nil {
		return err
	}
	for _, id := range alive {
		report(fmt.Sprintf("interaction %s: certified as gone, but its record is not a tombstone", id))
	}
	unknown, err := idsOf(ctx, l.DB, `
		select id from interactions i where state = 'erased'
			and not exists (select from purge_items where interaction_id = i.id and state = 'gone')`)
	if err != nil {
		return err
	}
	for _, id := range unknown {
		report(fmt.Sprintf("interaction %s: erased, but no purge accounts for it", id))
	}
	return nil
}

const verifyBatch = 1000

// verifyStore lists the whole object store once and looks for objects of
// interactions that are certified as gone.
func (l *Lifecycle) verifyStore(ctx context.Context, report func(string)) error {
	seen := map[uuid.UUID]bool{}
	for info, err := range l.Blob.List(ctx, "", "") {
		if err != nil {
			return err
		}
		if id, ok := interactionIn(info.Key); ok {
			seen[id] = true
		}
		if len(seen) < verifyBatch {
			continue
		}
		if err := l.reportRisen(ctx, seen, report); err != nil {
			return err
		}
		clear(seen)
	}
	return l.reportRisen(ctx, seen, report)
}

// interactionIn reads YYYY/MM/DD/<interaction>/<object>.
func interactionIn(key string) (uuid.UUID, bool) {
	segments := strings.Split(key, "/")
	if len(segments) != 5 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(segments[3])
	return id, err == nil
}

func (l *Lifecycle) reportRisen(ctx context.Context, seen map[uuid.UUID]bool, report func(string)) error {
	ids := make([]uuid.UUID, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	risen, err := idsOf(ctx, l.DB, `
		select distinct interaction_id from purge_items
		where interaction_id = any($1) and state = 'gone' and remaining is null order by 1`, ids)
	if err != nil {
		return err
	}
	for _, id := range risen {
		report(fmt.Sprintf("interaction %s: certified as gone, but the object store has objects of it", id))
	}
	return nil
}
