package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"earmark/migrations"
)

// ErrSchema says that the database's schema is not the one this program was
// built with.
var ErrSchema = errors.New("the database's schema is not this program's: run `earmark migrate`")

// Migrate brings the schema of the database at url up to date and returns how
// many migrations it ran. Several processes may call it at once: one works,
// the others wait.
func Migrate(ctx context.Context, url string) (applied int, err error) {
	err = withGoose(url, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		applied = len(results)
		return err
	})
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// CheckSchema returns ErrSchema when a migration is still to be run.
func CheckSchema(ctx context.Context, url string) error {
	return withGoose(url, func(p *goose.Provider) error {
		pending, err := p.HasPending(ctx)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if pending {
			return ErrSchema
		}
		return nil
	})
}

func withGoose(url string, fn func(*goose.Provider) error) (err error) {
	conn, err := sql.Open("pgx", url)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.Files,
		goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return fn(provider)
}
