package db_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"earmark/internal/db"
	"earmark/internal/db/dbtest"
)

func TestUnavailable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"none":             {nil, false},
		"shutting down":    {fmt.Errorf("read: %w", &pgconn.PgError{Code: "57P01"}), true},
		"connection lost":  {&pgconn.PgError{Code: "08006"}, true},
		"a duplicate":      {&pgconn.PgError{Code: "23505"}, false},
		"broken off":       {fmt.Errorf("authenticate: %w", io.ErrUnexpectedEOF), true},
		"a lost commit":    {fmt.Errorf("%w: %w", db.ErrCommitUnknown, io.ErrUnexpectedEOF), false},
		"the asker's time": {context.DeadlineExceeded, false},
		"something else":   {errors.New("something else"), false},
	} {
		if got := db.Unavailable(test.err); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestTerminatedConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), `select pg_terminate_backend(pg_backend_pid())`)
		return err
	})
	if !db.Unavailable(err) {
		t.Errorf("got %v, which does not count as unavailable", err)
	}
	if _, err := db.Open(t.Context(), "postgres://nobody@127.0.0.1:1/none", db.Options{}); !db.Unavailable(err) {
		t.Errorf("got %v, which does not count as unavailable", err)
	}
}
