package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that PostgreSQL runs as: the caller's own, except for
// root, as whom it refuses to run.
type account struct {
	uid, gid int
	// drop is what a child becomes; nil when it stays what its parent is.
	drop *syscall.Credential
	// client is the name of the caller, who may connect.
	client string
}

func findAccount() (account, error) {
	caller, err := user.Current()
	if err != nil {
		return account{}, fmt.Errorf("name the current user: %w", err)
	}
	own := account{uid: os.Geteuid(), gid: os.Getegid(), client: caller.Username}
	if own.uid != 0 {
		return own, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 31)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 31)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{
			uid: int(uid), gid: int(gid), client: own.client,
			drop: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

// home returns the directory at path that the cluster lives in, links resolved,
// and makes it on the first start. Where the account cannot reach it (root's
// home is closed to others), path becomes a link to a directory that it can.
func (a account) home(ctx context.Context, path string) (string, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = a.makeHome(ctx, path)
	}
	if err != nil {
		return "", err
	}
	home, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("the database that %s points to: %w", path, err)
	}
	if err := a.enter(ctx, home); err != nil {
		return "", err
	}
	return home, nil
}

func (a account) makeHome(ctx context.Context, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return err
	}
	err := a.enter(ctx, path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	elsewhere, err := os.MkdirTemp("/var/lib", "earmark-")
	if err != nil {
		return fmt.Errorf("place the database where its user can reach it: %w", err)
	}
	if err := errors.Join(os.Chown(elsewhere, a.uid, a.gid), a.enter(ctx, elsewhere)); err != nil {
		return errors.Join(err, os.Remove(elsewhere))
	}
	return os.Symlink(elsewhere, path)
}

// enter tries whether the account can reach dir, by going there: nothing short
// of it knows about every parent's mode, its access lists and its mount.
func (a account) enter(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.drop}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("reach %s as user %d: %w", dir, a.uid, err)
	}
	return nil
}
