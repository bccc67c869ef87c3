package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
)

// service is what is measured: the program itself, as child processes on a
// database and a bucket of its own, or one that runs already.
type service struct {
	base     string
	uploader client
	reviewer client

	// What only a service of its own has.
	db          *db.DB
	access      *access.Access
	program     string
	adminURL    string
	database    string
	dir         string
	environment []string
	serve       *child
	worker      *child
}

func openService(ctx context.Context, o Options, d *direct) (s *service, err error) {
	if r := o.Running; r != nil {
		base, http := strings.TrimSuffix(r.URL, "/"), newHTTPClient()
		return &service{base: base, uploader: client{base, r.Key, http}, reviewer: client{base, r.ListenKey, http}}, nil
	}
	s = &service{program: o.Program, adminURL: o.Servers.DatabaseURL, database: "earmark_bench_" + strings.ToLower(rand.Text()[:10])}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	if s.dir, err = os.MkdirTemp("", "earmark-bench-"); err != nil {
		return s, err
	}
	databaseURL, err := s.createDatabase(ctx)
	if err != nil {
		return s, err
	}
	if s.db, err = db.Open(ctx, databaseURL, db.Options{MaxConns: 4}); err != nil {
		return s, err
	}
	s.access = access.New(s.db)
	s.environment = environment(o.Servers, databaseURL, d.serviceBucket, s.dir)
	if err := s.startServing(ctx); err != nil {
		return s, err
	}
	if s.uploader, err = s.key(ctx, access.NewKey{Name: "uploader", Role: access.Uploader, Source: benchSource, Basis: &access.Basis{
		Basis: "legitimate_interests", Reason: "benchmark", Purposes: []access.Purpose{access.QualityAssurance}}}); err != nil {
		return s, err
	}
	s.reviewer, err = s.key(ctx, access.NewKey{Name: "reviewer", Role: access.Reviewer})
	return s, err
}

// createDatabase makes and migrates a database and returns its URL.
func (s *service) createDatabase(ctx context.Context) (string, error) {
	if err := s.administer(ctx, `create database `+pgx.Identifier{s.database}.Sanitize()); err != nil {
		return "", err
	}
	address, err := url.Parse(s.adminURL)
	if err != nil {
		return "", fmt.Errorf("%w: the database's URL is none", ErrUsage)
	}
	address.Path = "/" + s.database
	if _, err := db.Migrate(ctx, address.String()); err != nil {
		return "", err
	}
	return address.String(), nil
}

func (s *service) administer(ctx context.Context, sql string) (err error) {
	conn, err := pgx.Connect(ctx, s.adminURL)
	if err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// environment is the set-up contract's, and nothing that leads elsewhere.
func environment(s Servers, databaseURL, bucket, dir string) []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "EARMARK_") {
			kept = append(kept, v)
		}
	}
	kek := make([]byte, 32)
	rand.Read(kek) // ends the program rather than fail
	return append(kept,
		"EARMARK_DATABASE_URL="+databaseURL, "EARMARK_REDIS_URL="+s.RedisURL,
		"EARMARK_S3_ENDPOINT="+s.S3Endpoint, "EARMARK_S3_BUCKET="+bucket,
		"EARMARK_S3_ACCESS_KEY="+s.S3AccessKey, "EARMARK_S3_SECRET_KEY="+s.S3SecretKey,
		"EARMARK_KEK=bench:"+base64.StdEncoding.EncodeToString(kek),
		"EARMARK_DATA="+filepath.Join(dir, "data"), "EARMARK_ADDR=127.0.0.1:0")
}

func (s *service) key(ctx context.Context, n access.NewKey) (client, error) {
	_, secret, err := s.access.CreateKey(ctx, access.System("bench"), n)
	return client{s.base, secret, newHTTPClient()}, err
}

func (s *service) keyOf(ctx context.Context, role access.Role, name string) (client, error) {
	return s.key(ctx, access.NewKey{Name: name, Role: role})
}

// greeting comes before the address, on the line that says that it listens.
const greeting = "Earmark is up: "

func (s *service) startServing(ctx context.Context) (err error) {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	s.serve, err = s.start("serve", in)
	if err := errors.Join(err, in.Close()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { out.SetDeadline(time.Now()) }) //nolint:errcheck // a pipe has deadlines
	defer stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if base, ok := strings.CutPrefix(lines.Text(), greeting); ok {
			s.base = base
			return nil
		}
	}
	return errors.Join(fmt.Errorf("the service does not start: %s", s.serve.said()), ctx.Err(), lines.Err())
}

// startWorker starts what works on what is due.
func (s *service) startWorker() (err error) {
	s.worker, err = s.start("worker", nil)
	return err
}

// child is a process of the program.
type child struct {
	cmd   *exec.Cmd
	log   string
	ended chan error
}

func (s *service) start(command string, out *os.File) (*child, error) {
	log, err := os.Create(filepath.Join(s.dir, command+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{cmd: exec.Command(s.program, command), log: log.Name(), ended: make(chan error, 1)} //nolint:noctx // it is stopped by a signal, in order
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = s.environment, log, log
	if out != nil {
		c.cmd.Stdout = out
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start earmark %s: %w", command, err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// said is the end of what the process wrote.
func (c *child) said() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2<<10):])
}

// explain adds to an error what the service's processes wrote at last.
func (s *service) explain(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range []*child{s.serve, s.worker} {
		if c == nil {
			continue
		}
		if said := c.said(); said != "" {
			err = fmt.Errorf("%w\nearmark %s: %s", err, c.cmd.Args[1], said)
		}
	}
	return err
}

const patience = 20 * time.Second

// stop ends the process and says what was wrong with its end.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-c.ended:
		if err != nil {
			return fmt.Errorf("earmark %s: %w: %s", c.cmd.Args[1], err, c.said())
		}
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("earmark %s did not end", c.cmd.Args[1]), c.cmd.Process.Kill(), <-c.ended)
	}
}

// close stops the processes and removes what was made for them.
func (s *service) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, c := range []*child{s.worker, s.serve} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	if s.db != nil {
		s.db.Close()
	}
	if s.database != "" {
		errs = append(errs, s.administer(ctx, `drop database if exists `+pgx.Identifier{s.database}.Sanitize()+` with (force)`))
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// exec runs SQL that fills the database, outside any transaction of the house.
func (s *service) exec(ctx context.Context, sql string, args ...any) error {
	return s.db.Conn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}
