package quality

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/db"
	"earmark/internal/ledger"
)

// Verify recomputes what quality keeps and reports what does not hold: every
// draw again from its manifest, and beside the ledger; every score from its
// answers; and that what is still to be reviewed is held and there. An error
// says that it could not look.
func (q *Quality) Verify(ctx context.Context, report func(problem string)) error {
	verifier, err := ledger.ParseVerifier(q.signer.Verifier())
	if err != nil {
		return fmt.Errorf("verify quality: %w", err)
	}
	err = q.db.Snapshot(ctx, func(r db.Querier) error {
		rows, err := r.Query(ctx, selectDraws+` where state = 'drawn' order by id`)
		draws, err := collect(rows, err, scanDraw)
		if err != nil {
			return err
		}
		for _, d := range draws {
			if err := d.verify(ctx, r, verifier, report); err != nil {
				return fmt.Errorf("draw %s: %w", d.ID, err)
			}
		}
		if err := verifyOpen(ctx, r, report); err != nil {
			return err
		}
		return verifyScores(ctx, r, report)
	})
	if err != nil {
		return fmt.Errorf("verify quality: %w", err)
	}
	return nil
}

func (d Draw) verify(ctx context.Context, r db.Querier, verifier note.Verifier, report func(problem string)) error {
	problem := func(format string, args ...any) {
		report(fmt.Sprintf("draw %s: ", d.ID) + fmt.Sprintf(format, args...))
	}
	signed, err := readSigned(ctx, r, d.ID)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(signed); hex.EncodeToString(sum[:]) != d.ManifestSHA256 {
		problem("the manifest does not have the SHA-256 that is kept of it")
	}
	m, err := VerifyManifest(signed, verifier)
	if err != nil {
		problem("%v", err)
		return nil
	}
	if m.DrawID != d.ID || m.SeedCommitment != d.SeedCommitment {
		problem("the manifest is another draw's")
	}
	if err := d.verifyLedger(ctx, r, problem); err != nil {
		return err
	}
	rows, err := r.Query(ctx, `select interaction_id from assignments where draw_id = $1 and replaces is null`, d.ID)
	assigned, err := collect(rows, err, func(row pgx.Row) (id uuid.UUID, err error) { return id, row.Scan(&id) })
	if err != nil {
		return err
	}
	picks := slices.SortedFunc(slices.Values(m.Picks), compareIDs)
	if slices.SortFunc(assigned, compareIDs); !slices.Equal(assigned, picks) {
		problem("what is assigned is not what was picked")
	}
	return nil
}

// verifyLedger compares a draw with what the ledger says of it.
func (d Draw) verifyLedger(ctx context.Context, r db.Querier, problem func(string, ...any)) error {
	for _, said := range []struct{ action, detail, kept string }{
		{"draw.committed", "seed_commitment", d.SeedCommitment},
		{"draw.done", "seed", d.Seed},
		{"draw.done", "manifest_sha256", d.ManifestSHA256},
	} {
		rows, err := r.Query(ctx, `
			select coalesce(entry::jsonb -> 'details' ->> $3, '') from (
				select entry from ledger_entries where subject = $1 and action = $2
				union all
				select entry from ledger_pending where entry::jsonb ->> 'subject' = $1 and entry::jsonb ->> 'action' = $2
			) said`, "draw:"+d.ID.String(), said.action, said.detail)
		values, err := collect(rows, err, func(row pgx.Row) (v string, err error) { return v, row.Scan(&v) })
		if err != nil {
			return err
		}
		if !slices.Equal(values, []string{said.kept}) {
			problem("the ledger does not say the same in %s of %s", said.detail, said.action)
		}
	}
	return nil
}

func verifyOpen(ctx context.Context, r db.Querier, report func(problem string)) error {
	rows, err := r.Query(ctx, `
		select a.id from assignments a join interactions i on i.id = a.interaction_id
		where a.state in ('assigned', 'unassignable', 'submitted') and (
			i.state in ('purging', 'erased')
			or not exists (select from holds h where h.interaction_id = i.id and h.kind = 'review' and h.ref = a.draw_id))
		order by a.id`)
	if err != nil {
		return err
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		report(fmt.Sprintf("assignment %s: its interaction is not held, or is gone", id))
		return nil
	})
	return err
}

func verifyScores(ctx context.Context, r db.Querier, report func(problem string)) error {
	type version struct {
		form   uuid.UUID
		number int
	}
	forms := map[version]Definition{}
	rows, err := r.Query(ctx, `select form_id, version, definition from form_versions`)
	if err != nil {
		return err
	}
	var v version
	var definition Definition
	_, err = pgx.ForEachRow(rows, []any{&v.form, &v.number, &definition}, func() error {
		forms[v], definition = definition, Definition{}
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = r.Query(ctx, selectEvaluations)
	if err != nil {
		return err
	}
	for rows.Next() {
		e, err := scanEvaluation(rows)
		if err != nil {
			rows.Close()
			return err
		}
		given := map[string]Answer{}
		for _, a := range e.Answers {
			given[a.Question] = a
		}
		if again := score(forms[version{e.FormID, e.FormVersion}], given); !again.same(e.Result) {
			report(fmt.Sprintf("evaluation %s: its answers give another score", e.ID))
		}
	}
	return rows.Err()
}

func (r Result) same(other Result) bool {
	return r.Failed == other.Failed && sameScore(r.Score, other.Score) &&
		sameScore(r.RawScore, other.RawScore) && sameScore(r.CriticalScore, other.CriticalScore)
}

func sameScore(a, b *float64) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}
