package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/ledger"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
	"earmark/internal/seal"
)

// service is the house with its floors put together.
type service struct {
	db        *db.DB
	store     blob.Store
	signer    *ledger.Signer
	access    *access.Access
	consent   *consent.Consent
	archive   *archive.Archive
	lifecycle *lifecycle.Lifecycle
	quality   *quality.Quality
	audit     *audit.Audit
	close     func() error
}

// region is where phone numbers in their national form are at home.
const region = "VN"

// openService opens the database, the store and the operations on them.
func openService(ctx context.Context, s settings, limits limits, log *slog.Logger) (_ *service, err error) {
	if err := db.CheckSchema(ctx, s.DatabaseURL); err != nil {
		return nil, err
	}
	ring, err := seal.ParseRing(s.KEK)
	if err != nil {
		return nil, fmt.Errorf("EARMARK_KEK: %w", err)
	}
	d, err := db.Open(ctx, s.DatabaseURL, db.Options{MaxConns: limits.Connections})
	if err != nil {
		return nil, err
	}
	store, closeStore, err := s.store(ctx)
	if err != nil {
		d.Close()
		return nil, err
	}
	v := &service{db: d, store: store, close: func() error { d.Close(); return closeStore() }}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.signer, err = openSigner(ctx, d, ring); err != nil {
		return nil, err
	}
	v.access = access.New(d)
	v.consent = consent.New(d, region)
	v.archive, err = archive.New(ctx, archive.Options{
		DB: d, Blob: store, Keys: ring, Consent: v.consent, Region: region, Signer: v.signer, Retention: lifecycle.RetainUntil,
		SpoolDir: filepath.Join(s.Data, "spool"), MaxBytes: limits.MaxBytes, QuarantineTerm: limits.QuarantineTerm,
	})
	if err != nil {
		return nil, err
	}
	v.lifecycle = lifecycle.New(lifecycle.Options{
		DB: d, Archive: v.archive, Consent: v.consent, Blob: store, Signer: v.signer, ErasureTerm: limits.ErasureTerm,
	})
	v.quality = quality.New(quality.Options{DB: d, Archive: v.archive, Keys: ring, Signer: v.signer})
	v.audit, err = audit.New(audit.Options{DB: d, Store: store, Signer: v.signer, Log: log})
	return v, err
}

// openSigner is the installation's own signing key, made at the first start.
// Its name, and so the ledger's origin, is unlike that of any other.
func openSigner(ctx context.Context, d *db.DB, ring *seal.Ring) (*ledger.Signer, error) {
	secret, err := d.Secret(ctx, ring, "ledger.signer", func() ([]byte, error) {
		secret, _, err := ledger.NewSigner("earmark/" + uuid.NewString())
		return []byte(secret), err
	})
	if err != nil {
		return nil, fmt.Errorf("open the ledger's key: %w", err)
	}
	return ledger.ParseSigner(strings.TrimSpace(string(secret)))
}

// ready says why the service cannot work now.
func (v *service) ready(ctx context.Context) error {
	if err := v.db.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if err := v.store.Check(ctx); err != nil {
		return fmt.Errorf("object store: %w", err)
	}
	return nil
}
