package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// evict ends a server that outlived its parent on this cluster, and removes a
// pid file that would keep a new one from starting. The caller holds the
// cluster's lock, so no living service is behind such a server.
func (c cluster) evict(ctx context.Context, log *slog.Logger) error {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		orphans, err := c.orphans()
		if err != nil {
			return fmt.Errorf("look for an orphaned server: %w", err)
		}
		if len(orphans) == 0 {
			return c.clearPIDFile()
		}
		for _, pid := range orphans {
			log.InfoContext(ctx, "stopping the PostgreSQL that a killed service left behind", "pid", pid)
			if err := c.signal(pid, signal); err != nil {
				return fmt.Errorf("stop the orphaned server %d: %w", pid, err)
			}
		}
		if err := c.await(ctx, orphans); err != nil {
			return err
		}
	}
	left, err := c.orphans()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("an earlier server, process %v, still has the database and does not end", left)
	}
	if err != nil {
		return err
	}
	return c.clearPIDFile()
}

// orphans lists the postmasters that run on the cluster.
func (c cluster) orphans() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && c.runs(pid) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// runs says whether the process is a postmaster of this cluster: it belongs to
// the account, is called postgres and was given the data directory. A process
// that is gone, or a zombie, has no command line.
func (c cluster) runs(pid int) bool {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != c.account.uid {
		return false
	}
	args := commandLine(pid)
	return len(args) >= 3 && isPostgres(args) && args[1] == "-D" && args[2] == c.data()
}

// commandLine is empty for a process that is gone or a zombie.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
}

func isPostgres(args []string) bool {
	return len(args) > 0 && filepath.Base(args[0]) == "postgres"
}

// signal sends the signal to the process if it still is what it was: the handle
// is taken first, so that the pid cannot pass to another one in between.
func (c cluster) signal(pid int, signal syscall.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if !c.runs(pid) {
		return process.Release()
	}
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return process.Release()
}

// await waits until the processes are gone, or for as long as they are given.
func (c cluster) await(ctx context.Context, pids []int) error {
	deadline := time.Now().Add(leaving)
	for _, pid := range pids {
		for c.runs(pid) && time.Now().Before(deadline) {
			if err := pause(ctx, poll); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearPIDFile removes a pid file whose pid has passed to another program,
// which PostgreSQL would take for its own, and waits for nobody. A pid that is
// free, or a server that was started by other means, it judges itself.
func (c cluster) clearPIDFile() error {
	path := filepath.Join(c.data(), "postmaster.pid")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		// A pid file that a full disk or a power cut left empty names nobody.
		return remove(path)
	}
	if isPostgres(commandLine(pid)) {
		return nil
	}
	return remove(path)
}
