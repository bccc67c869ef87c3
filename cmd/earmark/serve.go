package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"earmark/internal/access"
	"earmark/internal/api"
	"earmark/internal/console"
	"earmark/internal/db"
	"earmark/workers"
)

// limits are the numbers that an operator may want to change.
type limits struct {
	MaxBytes       int64         `env:"EARMARK_MAX_BYTES" default:"2147483648" help:"The largest recording taken in."`
	QuarantineTerm time.Duration `env:"EARMARK_QUARANTINE_TERM" default:"720h" help:"How long what has no lawful basis is kept."`
	ErasureTerm    time.Duration `env:"EARMARK_ERASURE_TERM" default:"72h" help:"How soon a request for erasure is to be done."`
	Connections    int32         `env:"EARMARK_DATABASE_CONNECTIONS" default:"16" help:"Connections to PostgreSQL at most."`
	Lease          time.Duration `env:"EARMARK_LEASE" default:"1m" help:"How long a job may be without a sign of life before another worker takes it."`
}

type upCommand struct {
	settings `embed:""`
	limits   `embed:""`
	Addr     string `env:"EARMARK_ADDR" default:"127.0.0.1:8080" help:"Where to listen."`
}

func (c *upCommand) Help() string {
	return `Without EARMARK_DATABASE_URL it brings its own: a private PostgreSQL, an in-process
queue and objects on disk, all below the data directory. The first start prints the
console's address and the administrator's one-time password.

  earmark up
  EARMARK_DATA=/var/lib/earmark EARMARK_ADDR=127.0.0.1:9000 earmark up`
}

// Run serves and works until a signal comes.
func (c *upCommand) Run(ctx context.Context, o *output) error {
	log := o.logger()
	run := func(ctx context.Context, s settings) error {
		if _, err := db.Migrate(ctx, s.DatabaseURL); err != nil {
			return err
		}
		return c.runOn(ctx, s, o, log)
	}
	if c.DatabaseURL == "" {
		return c.whileAlone(ctx, log, run)
	}
	if err := c.real(); err != nil {
		return err
	}
	return run(ctx, c.settings)
}

func (c *upCommand) runOn(ctx context.Context, s settings, o *output, log *slog.Logger) (err error) {
	v, err := openService(ctx, s, c.limits, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if err := writePublicKey(s.Data, v.audit.PublicKey()); err != nil {
		return err
	}
	oneTime, err := firstAdministrator(ctx, v.access)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return v.work(ctx, s.RedisURL, c.Lease, log) })
	group.Go(func() error {
		return v.serve(ctx, c.Addr, log, func(addr string) { greet(o, addr, oneTime) })
	})
	return group.Wait()
}

func greet(o *output, addr, oneTimePassword string) {
	fmt.Fprintf(o.out, "Earmark is up: http://%s\n", addr)
	if oneTimePassword != "" {
		fmt.Fprintf(o.out, "Sign in as admin with the one-time password %s\n", oneTimePassword)
	}
}

// firstAdministrator makes the first user of an empty installation.
func firstAdministrator(ctx context.Context, a *access.Access) (oneTimePassword string, err error) {
	system := access.System("setup")
	users, err := a.Users(ctx, system)
	if err != nil || len(users) > 0 {
		return "", err
	}
	_, oneTimePassword, err = a.CreateUser(ctx, system, access.NewUser{Login: "admin", Name: "Administrator", Role: access.Admin})
	return oneTimePassword, err
}

const publicKeyFile = "ledger.pub"

// writePublicKey leaves the key by which `earmark verify` checks documents.
func writePublicKey(data, key string) error {
	if err := os.MkdirAll(data, 0o750); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	//nolint:gosec // it is a public key
	if err := os.WriteFile(filepath.Join(data, publicKeyFile), []byte(key+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the ledger's public key: %w", err)
	}
	return nil
}

type serveCommand struct {
	settings `embed:""`
	limits   `embed:""`
	Addr     string `env:"EARMARK_ADDR" default:"127.0.0.1:8080" help:"Where to listen."`
}

// Run serves until a signal comes.
func (c *serveCommand) Run(ctx context.Context, o *output) error {
	return withService(ctx, c.settings, c.limits, o, func(v *service, log *slog.Logger) error {
		return v.serve(ctx, c.Addr, log, func(addr string) { greet(o, addr, "") })
	})
}

type workerCommand struct {
	settings `embed:""`
	limits   `embed:""`
}

// Run works until a signal comes.
func (c *workerCommand) Run(ctx context.Context, o *output) error {
	return withService(ctx, c.settings, c.limits, o, func(v *service, log *slog.Logger) error {
		return v.work(ctx, c.RedisURL, c.Lease, log)
	})
}

func withService(ctx context.Context, s settings, l limits, o *output, fn func(*service, *slog.Logger) error) (err error) {
	if err := s.real(); err != nil {
		return err
	}
	log := o.logger()
	v, err := openService(ctx, s, l, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	return fn(v, log)
}

const drain = 10 * time.Second

// serve answers HTTP until ctx ends, and lets what is under way finish.
func (v *service) serve(ctx context.Context, addr string, log *slog.Logger, listening func(addr string)) error {
	pages, err := console.New(console.Options{
		Access: v.access, Consent: v.consent, Archive: v.archive, Lifecycle: v.lifecycle, Quality: v.quality,
		Actor: api.ActorFrom, Log: log,
	})
	if err != nil {
		return err
	}
	handler := api.New(api.Options{
		Access: v.access, Consent: v.consent, Archive: v.archive, Lifecycle: v.lifecycle, Quality: v.quality, Audit: v.audit,
		Ready: v.ready, Log: log, Pages: pages.Mount,
	})
	server := api.Server(addr, handler, log)
	socket, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; set EARMARK_ADDR to another", addr, err)
	}
	listening(socket.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			return server.Close()
		}
		return nil
	})
	return group.Wait()
}

func (v *service) work(ctx context.Context, redisURL string, lease time.Duration, log *slog.Logger) error {
	w, err := workers.New(workers.Options{
		DB: v.db, RedisURL: redisURL, Access: v.access, Archive: v.archive, Lifecycle: v.lifecycle, Quality: v.quality,
		Audit: v.audit, Log: log, Lease: lease,
	})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

type migrateCommand struct {
	settings `embed:""`
}

// Run migrates the database.
func (c *migrateCommand) Run(ctx context.Context, o *output) error {
	s, err := c.found()
	if err != nil {
		return err
	}
	applied, err := db.Migrate(ctx, s.DatabaseURL)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%d migrations applied\n", applied)
	return nil
}

type healthcheckCommand struct {
	Addr string `env:"EARMARK_ADDR" default:"127.0.0.1:8080" help:"Where the service listens."`
}

// Run asks /readyz.
func (c *healthcheckCommand) Run(ctx context.Context, _ *output) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Addr+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New("not ready")
	}
	return nil
}
