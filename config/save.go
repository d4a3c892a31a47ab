package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// SetOnlineFile is SetOnline on the file at path, or, if that is a symbolic
// link, on the file it points to. The file is replaced atomically, with mode and
// owner kept: whatever happens, it is the old or the new one, whole. Two edits
// at once are done one after the other.
func SetOnlineFile(path string, hosts []string, online bool) ([]Change, error) {
	return editHosts(path, func(data []byte) ([]byte, []Change, error) { return SetOnline(path, data, hosts, online) })
}

// BringOnlineFile is BringOnline on the file at path, replaced as by
// SetOnlineFile.
func BringOnlineFile(path string, hosts []string, now time.Time) ([]Change, error) {
	return editHosts(path, func(data []byte) ([]byte, []Change, error) { return BringOnline(path, data, hosts, now) })
}

func editHosts(path string, edit func([]byte) ([]byte, []Change, error)) (changes []Change, err error) {
	err = EditFile(path, func(data []byte) (edited []byte, err error) {
		edited, changes, err = edit(data)
		return edited, err
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// SetAllFile is SetAll on the file at path, replaced as by SetOnlineFile.
// SetAllFile(path, false, nil) restores what was before SetAllFile(path, true, …).
func SetAllFile(path string, all bool, except []string) error {
	return EditFile(path, func(data []byte) ([]byte, error) { return SetAll(path, data, all, except) })
}

// EditFile replaces the file at path, or, if that is a symbolic link, the file it
// points to, with what change returns: readers see all of its edits or none. If
// change returns an error, the file stays as it is. change is called again if
// somebody else wrote the file meanwhile.
func EditFile(path string, change func(data []byte) ([]byte, error)) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("edit configuration: %w", err)
	}
	for {
		err := editOnce(target, change)
		if !errors.Is(err, errChanged) {
			return err
		}
	}
}

// errChanged says that someone else replaced or wrote the file meanwhile.
var errChanged = errors.New("file changed during the edit")

func editOnce(target string, change func(data []byte) ([]byte, error)) error {
	f, err := lock(target)
	if err != nil {
		return err
	}
	defer f.Close() // which unlocks
	before, err := f.Stat()
	if err != nil {
		return fmt.Errorf("edit configuration: %w", err)
	}
	data, err := readFrom(f)
	if err != nil {
		return err
	}
	edited, err := change(data)
	if err != nil || bytes.Equal(edited, data) {
		return err
	}
	unchanged := func() error {
		now, err := os.Stat(target)
		if err != nil || !os.SameFile(before, now) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
			return errChanged
		}
		return nil
	}
	return replace(target, before, edited, unchanged)
}

// lock opens a file for writing and waits until no other edit holds it. The lock
// is on the file itself, so nothing is left behind; since an edit replaces the
// file, the one that is locked may be gone, and then it is tried again.
func lock(target string) (*os.File, error) {
	for {
		f, err := os.OpenFile(target, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("edit configuration: %w%s", err, remedy(err))
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", target, err)
		}
		locked, err := f.Stat()
		if err == nil {
			var now fs.FileInfo
			if now, err = os.Stat(target); err == nil && os.SameFile(locked, now) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lock %s: %w", target, err)
		}
	}
}

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

// replace puts data in the place of target, with the mode and owner in before,
// if unchanged still says nil when all is ready.
func replace(target string, before fs.FileInfo, data []byte, unchanged func() error) error {
	dir := filepath.Dir(target)
	unmade := func(err error) error {
		return fmt.Errorf("edit configuration: the new file is made in %s: %w%s", dir, cause(err), remedy(err))
	}
	f, err := renameio.NewPendingFile(target, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return unmade(err)
	}
	defer f.Cleanup()
	if err := keepOwner(f.File, before); err != nil {
		return fmt.Errorf("edit configuration: keep the owner of %s: %w; run this as that owner or as root", target, err)
	}
	if err := f.Chmod(before.Mode().Perm()); err != nil {
		return fmt.Errorf("edit configuration: %w", err)
	}
	if _, err := f.Write(data); err != nil {
		return unmade(err)
	}
	if err := f.Sync(); err != nil { // before the check, so that little time passes after it
		return unmade(err)
	}
	if err := unchanged(); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("edit configuration: %w%s", err, remedy(err))
	}
	return syncDir(dir)
}

func keepOwner(f *os.File, before fs.FileInfo) error {
	want, ok := before.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// syncDir makes the renaming itself last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("edit configuration: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot
		return fmt.Errorf("edit configuration: sync %s: %w", dir, err)
	}
	return nil
}

// cause is err without the name of the temporary file, which means nothing to an
// operator.
func cause(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// remedy is what to do about an error that operators meet.
func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "; run this as the file's owner or as root"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "; nothing was changed, make room on the disk"
	case errors.Is(err, syscall.EROFS):
		return "; it is on a read-only file system"
	case errors.Is(err, syscall.EBUSY):
		return "; it is mounted by itself, mount its directory instead"
	}
	return ""
}
