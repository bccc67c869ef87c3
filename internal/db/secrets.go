package db

import (
	"context"
	"errors"
	"fmt"

	"earmark/internal/seal"
)

// Secret returns the installation's secret of that name. The first who asks
// makes it, with create, and it stays the same ever after. It is stored
// wrapped under the ring's key-encryption key in force.
func (d *DB) Secret(ctx context.Context, ring *seal.Ring, name string, create func() ([]byte, error)) ([]byte, error) {
	secret, err := d.readSecret(ctx, ring, name)
	if !errors.Is(err, ErrNotFound) {
		return secret, err
	}
	fresh, err := create()
	if err != nil {
		return nil, fmt.Errorf("make secret %s: %w", name, err)
	}
	wrapped := ring.Wrap(fresh, "secret:"+name)
	err = d.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			insert into instance_secrets (name, kek_id, wrapped, created_at)
			values ($1, $2, $3, $4) on conflict (name) do nothing`,
			name, wrapped.KEK, wrapped.Bytes, tx.Now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keep secret %s: %w", name, err)
	}
	return d.readSecret(ctx, ring, name)
}

func (d *DB) readSecret(ctx context.Context, ring *seal.Ring, name string) ([]byte, error) {
	var w seal.Wrapped
	err := d.QueryRow(ctx, `select kek_id, wrapped from instance_secrets where name = $1`, name).
		Scan(&w.KEK, &w.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, Found(err))
	}
	secret, err := ring.Unwrap(w, "secret:"+name)
	if err != nil {
		return nil, fmt.Errorf("unwrap secret %s: %w", name, err)
	}
	return secret, nil
}
