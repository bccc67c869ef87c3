package standalone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"earmark/internal/seal"
)

const note = `This directory is one Earmark archive.

kek            The key-encryption key. Every recording here is sealed under a
               key that only this one unwraps. Lose it and no recording can ever
               be opened again, by anybody; let somebody copy it and they can
               open them all. Back it up apart from the rest.
postgres       The database. Where it is a link, the database's own user could
               not reach this directory; what it points to is part of the archive.
objects/       The sealed recordings.
postgres.log   What the database server said.

A backup is kek, postgres and objects/, taken while the service is stopped.
`

func writeNote(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFile(path, []byte(note))
	}
	return err
}

// ensureKEK makes a key-encryption key unless there is one. Where a cluster is
// already, a new key would be no help and hide the loss: ErrNoKEK.
func ensureKEK(path string, clusterExists bool) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if clusterExists {
		return fmt.Errorf("%s: %w", path, ErrNoKEK)
	}
	return writeFile(path, []byte(seal.NewKEK()+"\n"))
}

// writeFile puts a whole file in place at once and for good, or none of it;
// only its owner may read it.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// remove is os.Remove for which absent is success.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
