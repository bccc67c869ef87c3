// Package dbtest gives each test a migrated PostgreSQL database of its own,
// cloned from a template in a fraction of a second.
package dbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
	"earmark/migrations"
)

const serverVariable = "EARMARK_TEST_DATABASE_URL"

// New returns a migrated, empty database that is the test's alone and goes
// with it.
func New(t testing.TB) *db.DB {
	t.Helper()
	return Open(t, URL(t), db.Options{})
}

// Open opens the database at url and closes it with the test.
func Open(t testing.TB, url string, o db.Options) *db.DB {
	t.Helper()
	d, err := db.Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// URL is for tests that open the database themselves, or let another process
// open it.
func URL(t testing.TB) string {
	t.Helper()
	server := os.Getenv(serverVariable)
	if server == "" {
		t.Fatalf("%s is not set: run `make test`, which starts the servers that tests need", serverVariable)
	}
	template := sharedTemplate(t, server)
	name := "test_" + rand.Text()[:12]
	admin := connect(t, server)
	defer closeConn(t, admin)
	execute(t, admin, `create database `+pgx.Identifier{name}.Sanitize()+` template `+pgx.Identifier{template}.Sanitize())
	t.Cleanup(func() {
		admin := connect(t, server)
		defer closeConn(t, admin)
		execute(t, admin, `drop database if exists `+pgx.Identifier{name}.Sanitize()+` with (force)`)
	})
	return onDatabase(t, server, name)
}

var template struct {
	sync.Mutex
	name string
}

// sharedTemplate makes the template once for all processes that test these
// very migrations.
func sharedTemplate(t testing.TB, server string) string {
	t.Helper()
	template.Lock()
	defer template.Unlock()
	if template.name != "" {
		return template.name
	}
	name := "earmark_template_" + migrationsHash(t)
	ctx := context.Background()
	admin := connect(t, server)
	defer closeConn(t, admin)
	const templateLock = 0x6561726d
	execute(t, admin, `select pg_advisory_lock($1)`, templateLock)
	var ready bool
	err := admin.QueryRow(ctx, `select exists (select from pg_database where datname = $1 and datistemplate)`, name).Scan(&ready)
	if err != nil {
		t.Fatal(err)
	}
	if !ready {
		quoted := pgx.Identifier{name}.Sanitize()
		execute(t, admin, `drop database if exists `+quoted)
		execute(t, admin, `create database `+quoted)
		if _, err := db.Migrate(ctx, onDatabase(t, server, name)); err != nil {
			t.Fatal(err)
		}
		execute(t, admin, `alter database `+quoted+` is_template true`)
	}
	execute(t, admin, `select pg_advisory_unlock($1)`, templateLock)
	template.name = name
	return name
}

func migrationsHash(t testing.TB) string {
	t.Helper()
	hash := sha256.New()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := migrations.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(content)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16]
}

func onDatabase(t testing.TB, server, name string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func closeConn(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	if err := conn.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func execute(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
