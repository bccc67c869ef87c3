package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// superuser makes the service's role and database and is not used again.
	superuser = "postgres"
	// service is the service's role and the database that it owns.
	service = "earmark"

	// poll is how often a condition of another process is looked at.
	poll = 20 * time.Millisecond
	// slow is when a start is worth a word: a big recovery after a crash.
	slow = 5 * time.Second
	// leaving is how long what is left of a killed server may take to go.
	leaving = 15 * time.Second
)

// options configure the server. Commits reach the disk before they are
// acknowledged, which PostgreSQL's defaults see to. No statement, value or row
// is ever logged, since those hold personal data.
var options = []string{
	"listen_addresses=",
	"fsync=on",
	"synchronous_commit=on",
	"full_page_writes=on",
	"max_connections=200",
	"shared_buffers=256MB",
	"max_wal_size=2GB",
	"wal_compression=on",
	"random_page_cost=1.1",
	"jit=off",
	"timezone=UTC",
	"log_timezone=UTC",
	"lc_messages=C",
	"logging_collector=off",
	"log_destination=stderr",
	"log_min_messages=log",
	"log_min_error_statement=panic",
	"log_error_verbosity=terse",
	"log_statement=none",
	"log_checkpoints=off",
}

// errShared is the server's refusal while a process of a killed one is left.
var errShared = errors.New("the shared memory of an earlier server is still in use")

// postgres is a running server, a child of this process.
type postgres struct {
	cmd     *exec.Cmd
	sockets string
	// done is closed when the child has ended, with its failure in ended.
	done     chan struct{}
	ended    error
	stopping atomic.Bool
}

// start runs the server and returns when it takes connections and the service's
// database is there. The link run leads to its sockets.
func (c cluster) start(ctx context.Context, run string, log *slog.Logger) (*postgres, error) {
	bin, err := c.binaries(ctx)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(bin, "postgres")
	if err := c.evict(ctx, log); err != nil {
		return nil, err
	}
	runtimeDir, err := c.makeRuntime(run)
	if err != nil {
		return nil, fmt.Errorf("make the socket directory: %w", err)
	}
	deadline := time.Now().Add(leaving)
	p, err := c.try(ctx, program, runtimeDir, log)
	for errors.Is(err, errShared) && time.Now().Before(deadline) {
		if err := pause(ctx, 10*poll); err != nil {
			return nil, err
		}
		p, err = c.try(ctx, program, runtimeDir, log)
	}
	if err != nil {
		return nil, errors.Join(err, clearRuntime(run))
	}
	return p, nil
}

// try starts the server once.
func (c cluster) try(ctx context.Context, program, runtimeDir string, log *slog.Logger) (*postgres, error) {
	p, err := c.launch(program, runtimeDir)
	if err != nil {
		return nil, err
	}
	if err = p.ready(ctx, log); err == nil {
		err = p.createDatabase(ctx)
	}
	if err == nil {
		return p, nil
	}
	select {
	case <-p.done:
		said := lastLines(c.log)
		if strings.Contains(said, "pre-existing shared memory block") {
			err = errShared
		}
		return nil, fmt.Errorf("%w: %s, having said:\n%s", err, p.cmd.ProcessState, said)
	default:
		return nil, errors.Join(err, p.stop())
	}
}

func (c cluster) launch(program, runtimeDir string) (*postgres, error) {
	out, err := openLog(c.log)
	if err != nil {
		return nil, err
	}
	p := &postgres{sockets: runtimeDir, done: make(chan struct{})}
	args := []string{"-D", c.data()}
	for _, option := range append(options[:len(options):len(options)],
		"unix_socket_directories="+runtimeDir,
		"hba_file="+filepath.Join(runtimeDir, "hba.conf"),
		"ident_file="+filepath.Join(runtimeDir, "ident.conf"),
	) {
		args = append(args, "-c", option)
	}
	p.cmd = exec.Command(program, args...) //nolint:noctx // it outlives the start; stop ends it
	p.cmd.Stderr = out
	c.confine(p.cmd)
	// Killed itself, this process takes the server along: SIGINT is its fast
	// and clean shutdown.
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
	return p, errors.Join(p.run(), out.Close())
}

// run starts the child and watches it from one and the same thread: the kernel
// counts the end of the thread that forked as the death of the parent.
func (p *postgres) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.ended = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

// ready waits until the server takes connections, however long its recovery.
func (p *postgres) ready(ctx context.Context, log *slog.Logger) error {
	began, told := time.Now(), false
	for {
		conn, err := pgx.Connect(ctx, p.url(superuser))
		if err == nil {
			return conn.Close(ctx)
		}
		if !starting(err) {
			return err
		}
		if !told && time.Since(began) > slow {
			log.InfoContext(ctx, "PostgreSQL is recovering what a crash left")
			told = true
		}
		select {
		case <-p.done:
			return errors.New("the server did not start")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// starting says whether a refused connection only means "not yet".
func starting(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code == "57P03" // cannot_connect_now
	}
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// createDatabase makes the service's role and database where they are missing:
// on the first start, or on the one after a first start that was killed.
func (p *postgres) createDatabase(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, p.url(superuser))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, step := range []struct{ missing, make string }{
		{`select not exists (select from pg_roles where rolname = $1)`, `create role ` + service + ` login`},
		{`select not exists (select from pg_database where datname = $1)`, `create database ` + service + ` owner ` + service},
	} {
		var missing bool
		if err := conn.QueryRow(ctx, step.missing, service).Scan(&missing); err != nil {
			return err
		}
		if !missing {
			continue
		}
		if _, err := conn.Exec(ctx, step.make); err != nil {
			return err
		}
	}
	return nil
}

// url addresses the database that has the role's name, as that role.
func (p *postgres) url(role string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(role),
		Path:     "/" + role,
		RawQuery: url.Values{"host": {p.sockets}}.Encode(),
	}
	return u.String()
}

// failure says why the child ended without having been told to.
func (p *postgres) failure() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.stopping.Load() {
		return nil
	}
	return errors.Join(errors.New("PostgreSQL ended by itself"), p.ended)
}

// stop shuts the server down: fast, which finishes what is being written; if
// that takes long, at once, which leaves a recovery to the next start; and at
// last by force.
func (p *postgres) stop() error {
	p.stopping.Store(true)
	for _, step := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{
		{syscall.SIGINT, 20 * time.Second},
		{syscall.SIGQUIT, 5 * time.Second},
		{syscall.SIGKILL, 5 * time.Second},
	} {
		err := p.cmd.Process.Signal(step.signal)
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(step.patience):
		}
	}
	return fmt.Errorf("PostgreSQL, process %d, does not end", p.cmd.Process.Pid)
}

// makeRuntime makes a directory for the sockets and what says who may use them,
// and the link to it. It is not below the data directory, since a socket's path
// may have 107 bytes and a data directory's is as long as it is.
func (c cluster) makeRuntime(link string) (string, error) {
	if err := clearRuntime(link); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("/run", runtimePrefix)
	if err != nil {
		dir, err = os.MkdirTemp("/tmp", runtimePrefix)
	}
	if err != nil {
		return "", err
	}
	if err := os.Symlink(dir, link); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	// The server knows the caller by the kernel's word, not by a password.
	hba := "local all all peer map=earmark\n"
	ident := fmt.Sprintf("earmark %q %s\nearmark %q %s\n", c.account.client, superuser, c.account.client, service)
	for name, text := range map[string]string{"hba.conf": hba, "ident.conf": ident} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, c.account.uid, c.account.gid)); err != nil {
			return "", err
		}
	}
	return dir, os.Chown(dir, c.account.uid, c.account.gid)
}

const runtimePrefix = "earmark-"

// clearRuntime removes the runtime directory that link leads to, and the link.
func clearRuntime(link string) error {
	dir, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.HasPrefix(filepath.Base(dir), runtimePrefix) {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return remove(link)
}

// openLog appends, after a log that has grown too long was put aside.
func openLog(path string) (*os.File, error) {
	const long = 8 << 20
	if info, err := os.Stat(path); err == nil && info.Size() > long {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// lastLines is the end of a log, to explain a failure by.
func lastLines(path string) string {
	const lines = 8
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
