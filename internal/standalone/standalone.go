// Package standalone is what `earmark up` runs on when no servers are
// configured: a private PostgreSQL, a Redis within the process and a directory
// for objects, all below one data directory:
//
//	lock           held while a service runs here
//	service.json   how to reach that service, for the other commands
//	kek            the key that every interaction's key is wrapped by
//	objects/       sealed recordings
//	postgres       the database cluster, or a link to it
//	postgres.log   what the server said
//	run            a link to the sockets of the running service
package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

var (
	// ErrNotRunning says that no service runs on a data directory.
	ErrNotRunning = errors.New("no service is running here: start it with `earmark up`")
	// ErrInUse says that another process runs on a data directory.
	ErrInUse = errors.New("the data directory is in use")
	// ErrNoKEK says that a data directory has a database but not the key that
	// its recordings were sealed under. A new key could open none of them.
	ErrNoKEK = errors.New("the key-encryption key is missing: put it back from its backup")
)

// Settings are what a process needs to work on a running service's data.
type Settings struct {
	PID         int    `json:"pid"`
	DatabaseURL string `json:"database_url"`
	RedisURL    string `json:"redis_url"`
	ObjectDir   string `json:"object_dir"`
	KEKFile     string `json:"kek_file"`
}

// Standalone is the running PostgreSQL and Redis of one data directory. It is
// safe for concurrent use.
type Standalone struct {
	dir      string
	settings Settings
	postgres *postgres
	redis    *redis
	locks    []*os.File

	close    sync.Once
	closeErr error
}

// Start brings up what the service needs below dir, creating it on the first
// start, and returns when all of it answers. It puts right what a killed run
// left behind: a PostgreSQL without its parent, stale pid files and sockets.
// Another process on the same directory is ErrInUse. The context bounds the
// start alone; Close ends what was started.
func Start(ctx context.Context, dir string, log *slog.Logger) (_ *Standalone, err error) {
	dir, err = prepare(dir)
	if err != nil {
		return nil, fmt.Errorf("prepare the data directory: %w", err)
	}
	s := &Standalone{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.lock(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	// Whoever wrote it is gone, since the lock was free.
	if err := remove(s.path("service.json")); err != nil {
		return nil, err
	}
	if err := s.startPostgres(ctx, log); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if s.redis, err = startRedis(); err != nil {
		return nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	s.settings = Settings{
		PID:         os.Getpid(),
		DatabaseURL: s.postgres.url(service),
		RedisURL:    s.redis.url(),
		ObjectDir:   s.path("objects"),
		KEKFile:     s.path("kek"),
	}
	if err := s.publish(); err != nil {
		return nil, fmt.Errorf("write service.json: %w", err)
	}
	return s, nil
}

// DatabaseURL is the service's database, as the role that owns it. It admits
// only the user that runs the service (and root's own, when that is root).
func (s *Standalone) DatabaseURL() string { return s.settings.DatabaseURL }

// RedisURL is the in-process Redis, its password included.
func (s *Standalone) RedisURL() string { return s.settings.RedisURL }

// ObjectDir is an existing directory that nobody else may enter.
func (s *Standalone) ObjectDir() string { return s.settings.ObjectDir }

// KEKFile holds the key-encryption key as `id:base64(32 bytes)`.
func (s *Standalone) KEKFile() string { return s.settings.KEKFile }

// Done is closed when PostgreSQL has ended, by Close or by itself.
func (s *Standalone) Done() <-chan struct{} { return s.postgres.done }

// Err says why PostgreSQL ended by itself; nil while it runs and after Close.
func (s *Standalone) Err() error { return s.postgres.failure() }

// Close stops Redis and PostgreSQL and gives the data directory free. It takes
// seconds, half a minute at most. Closing again does nothing more.
func (s *Standalone) Close() error {
	s.close.Do(func() { s.closeErr = s.stop() })
	return s.closeErr
}

func (s *Standalone) stop() error {
	var errs []error
	if len(s.locks) > 0 {
		errs = append(errs, remove(s.path("service.json")))
	}
	if s.redis != nil {
		s.redis.stop()
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.stop())
		errs = append(errs, clearRuntime(s.path("run")))
	}
	for _, lock := range s.locks {
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}

// Find returns the settings of the service that runs on dir, ErrNotRunning if
// none does or if it is not up yet.
func Find(dir string) (Settings, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Settings{}, fmt.Errorf("find the service: %w", err)
	}
	running, err := locked(filepath.Join(dir, "lock"))
	if err != nil {
		return Settings{}, fmt.Errorf("find the service: %w", err)
	}
	if !running {
		return Settings{}, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	text, err := os.ReadFile(filepath.Join(dir, "service.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{}, fmt.Errorf("%s: %w, or wait until it is up", dir, ErrNotRunning)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("find the service: %w", err)
	}
	var found Settings
	if err := json.Unmarshal(text, &found); err != nil {
		return Settings{}, fmt.Errorf("find the service: service.json: %w", err)
	}
	return found, nil
}

func (s *Standalone) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Standalone) lock(path string) error {
	f, err := lock(path)
	if err != nil {
		return err
	}
	s.locks = append(s.locks, f)
	return nil
}

// startPostgres makes the key before the cluster, so that a cluster without a
// key always means that the key was lost.
func (s *Standalone) startPostgres(ctx context.Context, log *slog.Logger) error {
	server, err := findAccount()
	if err != nil {
		return err
	}
	home, err := server.home(ctx, s.path("postgres"))
	if err != nil {
		return err
	}
	// A copy of the data directory may link to the original's cluster.
	if err := s.lock(filepath.Join(home, "lock")); err != nil {
		return err
	}
	cluster := cluster{home: home, account: server, log: s.path("postgres.log")}
	exists, err := cluster.exists()
	if err != nil {
		return err
	}
	if err := ensureKEK(s.path("kek"), exists); err != nil {
		return err
	}
	if !exists {
		log.InfoContext(ctx, "creating the database, a few seconds")
		if err := cluster.create(ctx); err != nil {
			return err
		}
	}
	s.postgres, err = cluster.start(ctx, s.path("run"), log)
	return err
}

func (s *Standalone) publish() error {
	text, err := json.MarshalIndent(s.settings, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.path("service.json"), append(text, '\n'))
}

// prepare makes the data directory and what needs no server in it. Others may
// pass through it, as the database's user must, but not list it; what is in it
// is closed by itself.
func prepare(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // others may pass, not look
		return "", err
	}
	// Links would make one directory look like two.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "objects"), 0o700); err != nil {
		return "", err
	}
	return dir, writeNote(filepath.Join(dir, "README.txt"))
}
