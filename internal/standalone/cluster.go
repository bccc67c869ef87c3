package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// oldest is the first PostgreSQL that the schema is written for.
const oldest = 15

// cluster is one PostgreSQL data directory and the user that it belongs to.
type cluster struct {
	home    string
	account account
	log     string
}

// data is the directory that PostgreSQL itself calls its data directory.
func (c cluster) data() string { return filepath.Join(c.home, "data") }

func (c cluster) exists() (bool, error) {
	_, err := os.Stat(c.data())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// create runs initdb beside the place and moves the result there, so that a
// start that was killed halfway leaves nothing that looks like a cluster.
func (c cluster) create(ctx context.Context) error {
	bin, err := findServer(ctx, "")
	if err != nil {
		return err
	}
	fresh := c.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"--pgdata="+fresh, "--username="+superuser, "--auth=peer",
		"--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums")
	c.confine(cmd)
	// As in run: the thread must outlive the child for the signal to mean death.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := os.Rename(fresh, c.data()); err != nil {
		return err
	}
	return syncDir(c.home)
}

// confine makes a child of the account's, with none of this process's secrets
// in its environment, and out of reach of the terminal's Ctrl-C: the service
// ends before its database does.
func (c cluster) confine(cmd *exec.Cmd) {
	cmd.Dir = c.home
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.account.drop, Setsid: true}
}

// binaries finds the server that can open the cluster.
func (c cluster) binaries(ctx context.Context) (string, error) {
	version, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if err != nil {
		return "", err
	}
	return findServer(ctx, strings.TrimSpace(string(version)))
}

// findServer returns the directory of PostgreSQL's programs: of that major
// version, or of the newest there is if major is empty.
func findServer(ctx context.Context, major string) (string, error) {
	found, newest := "", oldest-1
	for _, dir := range serverDirs() {
		version, err := serverVersion(ctx, filepath.Join(dir, "postgres"))
		if err != nil {
			continue
		}
		if strconv.Itoa(version) == major {
			return dir, nil
		}
		if version > newest {
			found, newest = dir, version
		}
	}
	if major != "" {
		return "", fmt.Errorf("the database was made by PostgreSQL %s, which is not installed", major)
	}
	if found == "" {
		return "", fmt.Errorf("PostgreSQL %d or newer is not installed: apt-get install postgresql", oldest)
	}
	return found, nil
}

// serverDirs lists where servers may be. Debian and Red Hat keep them out of
// PATH, each version in its own directory.
func serverDirs() []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		// The only error is a malformed pattern, and these are not.
		if found, err := filepath.Glob(pattern); err == nil {
			dirs = append(dirs, found...)
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return dirs
}

// serverVersion reads the major version from "postgres (PostgreSQL) 15.14 (…)".
func serverVersion(ctx context.Context, program string) (int, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return 0, err
	}
	_, version, _ := strings.Cut(string(out), ") ")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		return 0, fmt.Errorf("unknown version %q", out)
	}
	return strconv.Atoi(version[:digits])
}
