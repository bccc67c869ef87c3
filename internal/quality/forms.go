package quality

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// NewForm is a form to be: its name and its first version.
type NewForm struct {
	Name string `json:"name"`
	Definition
}

// Form is one version of a form.
type Form struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	Version     int       `json:"version"`
	PublishedAt time.Time `json:"published_at"`
	Definition
}

// CreateForm keeps a form and publishes its first version. Needs
// access.ManageQuality; what is wrong is an *invalid.Error.
func (q *Quality) CreateForm(ctx context.Context, actor access.Actor, n NewForm) (Form, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Form{}, err
	}
	name := norm.NFC.String(strings.TrimSpace(n.Name))
	if err := withName(name, n.Definition.Validate()); err != nil {
		return Form{}, err
	}
	var form Form
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		form = Form{ID: tx.NewID(), Name: name}
		_, err := tx.Exec(ctx, `insert into forms (id, name, created_by, created_at) values ($1, $2, $3, $4)`,
			form.ID, name, actor.PersonString(), tx.Now)
		if err != nil {
			return err
		}
		return publish(ctx, tx, actor, &form, n.Definition)
	})
	if err != nil {
		return Form{}, fmt.Errorf("create form: %w", err)
	}
	return form, nil
}

// PublishVersion publishes the form's next version; those before stay as they
// are, and so does what was or is being evaluated with them. Needs
// access.ManageQuality; what is wrong is an *invalid.Error.
func (q *Quality) PublishVersion(ctx context.Context, actor access.Actor, formID uuid.UUID, d Definition) (Form, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Form{}, err
	}
	if err := d.Validate(); err != nil {
		return Form{}, err
	}
	form := Form{ID: formID}
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		// The lock gives two who publish at once versions of their own.
		err := tx.QueryRow(ctx, `select name from forms where id = $1 for update`, formID).Scan(&form.Name)
		if err != nil {
			return db.Found(err)
		}
		return publish(ctx, tx, actor, &form, d)
	})
	if err != nil {
		return Form{}, fmt.Errorf("publish form: %w", err)
	}
	return form, nil
}

func publish(ctx context.Context, tx *db.Tx, actor access.Actor, form *Form, d Definition) error {
	form.Definition, form.PublishedAt = d.normalised(), tx.Now
	definition, err := json.Marshal(form.Definition)
	if err != nil {
		return err
	}
	err = tx.QueryRow(ctx, `
		insert into form_versions (form_id, version, definition, published_by, published_at)
		select $1, coalesce(max(version), 0) + 1, $2, $3, $4 from form_versions where form_id = $1
		returning version`,
		form.ID, definition, actor.PersonString(), tx.Now).Scan(&form.Version)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(definition)
	tx.Record(ledger.Entry{
		Actor: actor.String(), Action: "form.published", Subject: "form:" + form.ID.String(),
		Details: map[string]any{"version": form.Version, "definition_sha256": hex.EncodeToString(sum[:])},
	})
	return nil
}

const selectForms = `
	select f.id, f.name, v.version, v.published_at, v.definition
	from forms f join form_versions v on v.form_id = f.id`

// Forms lists the latest version of every form, newest form first. Needs
// access.ReadQuality.
func (q *Quality) Forms(ctx context.Context, actor access.Actor, l List) (archive.Page[Form], error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return archive.Page[Form]{}, err
	}
	limit, before, err := l.bounds()
	if err != nil {
		return archive.Page[Form]{}, err
	}
	rows, err := q.db.Query(ctx, selectForms+`
		where f.id < $1 and v.version = (select max(version) from form_versions where form_id = f.id)
		order by f.id desc limit $2`, before, limit+1)
	forms, err := collect(rows, err, scanForm)
	if err != nil {
		return archive.Page[Form]{}, fmt.Errorf("list forms: %w", err)
	}
	return page(forms, limit, func(f Form) uuid.UUID { return f.ID }), nil
}

// Form reads one version of a form, the latest when version is 0. Needs
// access.ReadQuality, or access.ReadOwnEvaluations: whoever reads an
// evaluation needs its questions. db.ErrNotFound when there is none.
func (q *Quality) Form(ctx context.Context, actor access.Actor, id uuid.UUID, version int) (Form, error) {
	if actor.May(access.ReadOwnEvaluations) != nil {
		if err := actor.May(access.ReadQuality); err != nil {
			return Form{}, err
		}
	}
	return readForm(ctx, q.db, id, version)
}

func readForm(ctx context.Context, r db.Querier, id uuid.UUID, version int) (Form, error) {
	form, err := scanForm(r.QueryRow(ctx, selectForms+`
		where f.id = $1 and ($2 = 0 or v.version = $2) order by v.version desc limit 1`, id, version))
	if err != nil {
		return Form{}, fmt.Errorf("read form: %w", db.Found(err))
	}
	return form, nil
}

func scanForm(row pgx.Row) (f Form, err error) {
	err = row.Scan(&f.ID, &f.Name, &f.Version, &f.PublishedAt, &f.Definition)
	f.PublishedAt = f.PublishedAt.UTC()
	return f, err
}

// collect reads all rows of a query by scan.
func collect[T any](rows pgx.Rows, err error, scan func(pgx.Row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) { return scan(row) })
}

// withName adds to what is wrong otherwise what is wrong with a name.
func withName(name string, otherwise error) error {
	if name != "" && utf8.RuneCountInString(name) <= maxTitle && !strings.ContainsRune(name, 0) {
		return otherwise
	}
	all := &invalid.Error{}
	all.Add("body.name", "must be 1 to %d characters long", maxTitle)
	var rest *invalid.Error
	if errors.As(otherwise, &rest) {
		all.Fields = append(all.Fields, rest.Fields...)
	}
	return all
}
