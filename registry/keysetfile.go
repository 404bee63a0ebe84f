package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// LoadOrCreateKeyset reads the keyset in the file at path. If there is no file, it
// creates one, for its owner only, with a fresh keyset; created tells. Processes that
// race for the same path agree on one keyset: the file appears whole or not at
// all, and the first one stays. The directory must exist.
func LoadOrCreateKeyset(path string) (k *Keyset, created bool, err error) {
	k, err = loadKeyset(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	if k, err = NewKeyset(); err != nil {
		return nil, false, err
	}
	data, err := k.Marshal()
	if err != nil {
		return nil, false, err
	}
	switch err := writeOnce(path, data); {
	case errors.Is(err, fs.ErrExist):
		k, err = loadKeyset(path) // another process was first
		return k, false, err
	case err != nil:
		return nil, false, fmt.Errorf("registry: create the keyset: %w", err)
	}
	return k, true, nil
}

func loadKeyset(path string) (*Keyset, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own choice of a file
	if err != nil {
		return nil, fmt.Errorf("registry: read the keyset: %w", err)
	}
	k, err := ParseKeyset(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// writeOnce creates the file at path, with data on disk. If there is a file, it
// leaves that and returns fs.ErrExist.
func writeOnce(path string, data []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil { // unlike a rename it never replaces
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// UpdateKeyset replaces the keyset in the file at path by what change makes of it. The file changes at once and whole, and keeps its mode
// and its owner. If calls race, each sees what the one before wrote. If change fails, the file stays as it is.
func UpdateKeyset(path string, change func(*Keyset) (*Keyset, error)) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("registry: read the keyset: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	defer func() { _ = dir.Close() }() // unlocks it
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("registry: lock the keyset's folder: %w", err)
	}
	k, err := loadKeyset(path)
	if err != nil {
		return err
	}
	next, err := change(k)
	if err != nil {
		return err
	}
	data, err := next.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	return nil
}

// replaceFile puts data, on disk, in the place of the file at path.
func replaceFile(path string, data []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(data)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && err == nil && int(owner.Uid) != os.Geteuid() {
		err = temp.Chown(int(owner.Uid), int(owner.Gid)) // root changes a file that a service reads
	}
	if err = errors.Join(err, temp.Chmod(info.Mode().Perm()), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
