package standalone_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"earmark/internal/seal"
	"earmark/internal/standalone"
)

// serveIn makes the test binary a service on that data directory, which a test
// can kill.
const serveIn = "EARMARK_TEST_SERVE_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveIn); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := standalone.Start(ctx, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fmt.Println("up")
	select {
	case <-ctx.Done():
	case <-s.Done():
	}
	return errors.Join(s.Err(), s.Close())
}

// child is a service in a process of its own.
type child struct {
	cmd *exec.Cmd
	dir string
}

// spawn starts a service on dir, as nobody where unprivileged is asked for and
// the tests run as root, and returns when it is up.
func spawn(t *testing.T, dir string, unprivileged bool) *child {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	if unprivileged && os.Geteuid() == 0 {
		// The test binary lies where only root may go.
		cmd.Path = filepath.Join(filepath.Dir(dir), "service")
		copyProgram(t, program, cmd.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := os.Chown(filepath.Dir(dir), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), serveIn+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, dir}
	t.Cleanup(func() { c.kill(t) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the service said %q (%v) and did not start", line, err)
	}
	return c
}

const nobody = 65534

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

// kill ends what a failed test has left running.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if c.cmd.ProcessState != nil {
		return
	}
	if err := c.end(t, syscall.SIGKILL); err == nil {
		t.Error("the service ended by itself")
	}
}

// end sends the signal and returns how the process ended, nil for exit code 0.
func (c *child) end(t *testing.T, signal syscall.Signal) error {
	t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return c.cmd.Wait()
}

// newDir returns a data directory that does not exist yet, below one that every
// user may pass through.
func newDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("/var/tmp", "earmark-test-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data")
	t.Cleanup(func() {
		removeRuntime(t, dir)
		if err := os.RemoveAll(parent); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// removeRuntime removes what a killed service leaves for the next start.
func removeRuntime(t *testing.T, dir string) {
	t.Helper()
	if target, err := os.Readlink(filepath.Join(dir, "run")); err == nil {
		if err := os.RemoveAll(target); err != nil {
			t.Error(err)
		}
	}
}

func start(t *testing.T, dir string) *standalone.Standalone {
	t.Helper()
	s, err := standalone.Start(t.Context(), dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query runs SQL and returns its one value; empty for a command.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(got, ",")
}

// postmaster returns the pid of the server on dir as its pid file has it.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(text) > 0
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestFirstStart(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)

	got := query(t, s.DatabaseURL(), `select format('%s %s %s %s %s', current_database(), current_user,
		current_setting('fsync'), current_setting('listen_addresses'), current_setting('data_checksums'))`)
	if want := "earmark earmark on  on"; got != want {
		t.Errorf("database: got %q, want %q", got, want)
	}
	if got := query(t, s.DatabaseURL(), `select rolsuper::text from pg_roles where rolname = current_user`); got != "false" {
		t.Error("the service's role is a superuser")
	}
	query(t, s.DatabaseURL(), `create extension unaccent`)
	if got := query(t, s.DatabaseURL(), `select lower('ĐẶNG')`); got != "đặng" {
		t.Errorf("lower of Vietnamese text: got %q", got)
	}

	kek, err := os.ReadFile(s.KEKFile())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ParseRing(string(kek)); err != nil {
		t.Errorf("the key-encryption key: %v", err)
	}
	for _, name := range []string{"kek", "service.json", "objects", "lock", "postgres.log"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", name, info.Mode())
		}
	}
}

func TestNoValueReachesTheLog(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `select '+84901234567'::uuid`); err == nil {
		t.Fatal("a number passed for a UUID")
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "901234567") {
		t.Errorf("the log holds a customer's number:\n%s", log)
	}
	if !strings.Contains(string(log), "ready to accept connections") {
		t.Errorf("the log says nothing at all:\n%s", log)
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	start(t, dir)
	_, err := standalone.Start(t.Context(), dir, slog.New(slog.DiscardHandler))
	if !errors.Is(err, standalone.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	if !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the refusal does not name the process: %v", err)
	}
	if _, err := standalone.Find(dir); err != nil {
		t.Errorf("the refused start disturbed the running service: %v", err)
	}
}

func TestCopiedDirectoryCannotStealTheCluster(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	first := start(t, dir)
	other := newDir(t)
	if err := os.Mkdir(other, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "postgres"), filepath.Join(other, "postgres")); err != nil {
		t.Fatal(err)
	}
	_, err := standalone.Start(t.Context(), other, slog.New(slog.DiscardHandler))
	if !errors.Is(err, standalone.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	query(t, first.DatabaseURL(), `select 'still there'`)
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if _, err := standalone.Find(dir); !errors.Is(err, standalone.ErrNotRunning) {
		t.Errorf("before the first start: got %v, want ErrNotRunning", err)
	}
	s := start(t, dir)
	got, err := standalone.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := standalone.Settings{
		PID: os.Getpid(), DatabaseURL: s.DatabaseURL(), RedisURL: s.RedisURL(),
		ObjectDir: s.ObjectDir(), KEKFile: s.KEKFile(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := standalone.Find(dir); !errors.Is(err, standalone.ErrNotRunning) {
		t.Errorf("after the stop: got %v, want ErrNotRunning", err)
	}
}

func TestRestartKeepsTheData(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	query(t, s.DatabaseURL(), `create table kept as select 'this' as what`)
	kek, err := os.ReadFile(s.KEKFile())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if _, err := os.Lstat(filepath.Join(dir, "run")); !os.IsNotExist(err) {
		t.Errorf("the sockets are left: %v", err)
	}
	s = start(t, dir)
	if got := query(t, s.DatabaseURL(), `select what from kept`); got != "this" {
		t.Errorf("got %q", got)
	}
	again, err := os.ReadFile(s.KEKFile())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kek, again) {
		t.Error("the key-encryption key has changed")
	}
}

// Invariant 1: what was acknowledged survives a kill -9.
func TestKilledServiceTakesItsServerAlongAndComesBack(t *testing.T) {
	t.Parallel()
	for name, unprivileged := range map[string]bool{"as the caller": false, "as nobody": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			killed := spawn(t, dir, unprivileged)
			if !unprivileged {
				found, err := standalone.Find(dir)
				if err != nil {
					t.Fatal(err)
				}
				query(t, found.DatabaseURL, `create table kept as select 'this' as what`)
			}
			server := postmaster(t, dir)
			if err := killed.end(t, syscall.SIGKILL); err == nil {
				t.Fatal("the service ended well of a kill -9")
			}
			if _, err := standalone.Find(dir); !errors.Is(err, standalone.ErrNotRunning) {
				t.Errorf("a killed service is found: %v", err)
			}
			eventually(t, "the server ends with its parent", func() bool { return !alive(server) })

			again := spawn(t, dir, unprivileged)
			if !unprivileged {
				found, err := standalone.Find(dir)
				if err != nil {
					t.Fatal(err)
				}
				if got := query(t, found.DatabaseURL, `select what from kept`); got != "this" {
					t.Errorf("got %q", got)
				}
			}
			server = postmaster(t, dir)
			if err := again.end(t, syscall.SIGTERM); err != nil {
				t.Errorf("a clean stop: %v", err)
			}
			if alive(server) {
				t.Errorf("the server, process %d, is left running", server)
			}
		})
	}
}

func TestOrphanedServerIsEvicted(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	query(t, s.DatabaseURL(), `create table kept as select 'this' as what`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	orphan := orphan(t, dir)
	s = start(t, dir)
	if alive(orphan) {
		t.Errorf("the orphan, process %d, still runs", orphan)
	}
	if got := query(t, s.DatabaseURL(), `select what from kept`); got != "this" {
		t.Errorf("got %q", got)
	}
}

// orphan runs a server on dir's cluster that no service started, and returns its
// pid. It is stopped only by what the test does to it, or at the end.
func orphan(t *testing.T, dir string) int {
	t.Helper()
	home, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := os.ReadFile(filepath.Join(home, "data", "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(home)
	if err != nil {
		t.Fatal(err)
	}
	program := fmt.Sprintf("/usr/lib/postgresql/%s/bin/postgres", strings.TrimSpace(string(version)))
	cmd := exec.Command(program, "-D", filepath.Join(home, "data"),
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+home)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	cmd.Dir = home
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the orphan was not shut down cleanly: %v", err)
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	})
	eventually(t, "the orphan writes its pid file", func() bool {
		text, err := os.ReadFile(filepath.Join(home, "data", "postmaster.pid"))
		return err == nil && strings.Contains(string(text), "ready")
	})
	return cmd.Process.Pid
}

func TestPIDFileOfAnotherProgramIsNoObstacle(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	path := filepath.Join(dir, "postgres", "data", "postmaster.pid")
	left, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The pid has passed to a process of the same user, as in a container.
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	bystander := exec.Command("/bin/sleep", "1000")
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		bystander.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bystander.Process.Kill(); err != nil {
			t.Errorf("the bystander was not left alone: %v", err)
		}
		if err := bystander.Wait(); err == nil {
			t.Error("the bystander ended by itself")
		}
	})
	_, rest, _ := strings.Cut(string(left), "\n")
	if err := os.WriteFile(path, []byte(strconv.Itoa(bystander.Process.Pid)+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	query(t, start(t, dir).DatabaseURL(), `select 'up'`)
}

func TestHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "postgres", "data")
	if err := os.Rename(data, data+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data+".new", "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, dir).DatabaseURL(), `select 'up'`)
	if _, err := os.Stat(data + ".new"); !os.IsNotExist(err) {
		t.Errorf("the half-made cluster is left: %v", err)
	}
}

func TestLostKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "kek")); err != nil {
		t.Fatal(err)
	}
	_, err := standalone.Start(t.Context(), dir, slog.New(slog.DiscardHandler))
	if !errors.Is(err, standalone.ErrNoKEK) {
		t.Errorf("got %v, want ErrNoKEK", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kek")); !os.IsNotExist(err) {
		t.Errorf("a new key was made: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), strings.Repeat("a-long-name/", 12))
	query(t, start(t, dir).DatabaseURL(), `select 'up'`)
}

// The database's user cannot pass through a closed parent, such as root's home.
func TestClosedParent(t *testing.T) {
	t.Parallel()
	closed := newDir(t)
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "data")
	t.Cleanup(func() {
		removeRuntime(t, dir)
		if home, err := os.Readlink(filepath.Join(dir, "postgres")); err == nil {
			if err := os.RemoveAll(home); err != nil {
				t.Error(err)
			}
		}
	})
	s := start(t, dir)
	query(t, s.DatabaseURL(), `create table kept as select 'this' as what`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, start(t, dir).DatabaseURL(), `select what from kept`); got != "this" {
		t.Errorf("got %q", got)
	}
}

func TestServerThatDiesIsReported(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, dir)
	if err := s.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is reported within 20 s")
	}
	if s.Err() == nil {
		t.Error("no reason is given")
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing after it: %v", err)
	}
	// What its backends still hold is waited for.
	query(t, start(t, dir).DatabaseURL(), `select 'up'`)
}

func TestStartThatIsCancelledLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := standalone.Start(ctx, dir, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	query(t, start(t, dir).DatabaseURL(), `select 'up'`)
}

func TestRedisNeedsThePasswordAndLetsKeysExpire(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t))
	options, err := redis.ParseURL(s.RedisURL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	if err := client.Set(t.Context(), "lock", "held", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if got := client.Get(t.Context(), "lock").Val(); got != "held" {
		t.Errorf("got %q", got)
	}
	eventually(t, "the key expires", func() bool {
		return errors.Is(client.Get(t.Context(), "lock").Err(), redis.Nil)
	})
	if err := client.Close(); err != nil {
		t.Error(err)
	}

	options.Password = ""
	stranger := redis.NewClient(options)
	if err := stranger.Get(t.Context(), "lock").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("without the password: got %v, want a refusal", err)
	}
	if err := stranger.Close(); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreStable(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(standalone.Settings{PID: 1, DatabaseURL: "d", RedisURL: "r", ObjectDir: "o", KEKFile: "k"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"pid":1,"database_url":"d","redis_url":"r","object_dir":"o","kek_file":"k"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("service.json (-want +got):\n%s", diff)
	}
}
