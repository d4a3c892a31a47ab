package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
)

// storage is certmagic's file storage, which can be closed: certmagic has jobs
// that nobody can wait for. An order holds a lock from its first try until it
// ends, so close waits for the locks, and refuses what comes later.
type storage struct {
	certmagic.FileStorage

	mu       sync.Mutex // guards all below
	held     map[string]bool
	closing  bool              // no more locks
	closed   bool              // no more writes
	replaced map[string][]byte // what certificates and their keys were before a renewal that is being stored
	writing  sync.WaitGroup    // grows only while not closed
	released chan struct{}     // one token: a lock was given back
}

// ownLockPoll is how soon an order learns that the one before it, which takes back
// what it has begun, is over.
const ownLockPoll = 100 * time.Millisecond

var errClosed = errors.New("certificate storage is closed")

func newStorage(dir string) *storage {
	return &storage{
		FileStorage: certmagic.FileStorage{Path: dir},
		held:        map[string]bool{},
		replaced:    map[string][]byte{},
		released:    make(chan struct{}, 1),
	}
}

// enter begins a write, or the taking of a lock; with nil it ends with
// writing.Done.
func (s *storage) enter(lock bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || lock && s.closing {
		return errClosed
	}
	s.writing.Add(1)
	return nil
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.enter(false); err != nil {
		return err
	}
	defer s.writing.Done()
	if !strings.HasPrefix(key, "certificates/") {
		return s.FileStorage.Store(ctx, key, value)
	}
	old, absent := s.FileStorage.Load(ctx, key)
	if err := s.FileStorage.Store(ctx, key, value); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if absent == nil {
		s.replaced[key] = old
	}
	if site, last := strings.CutSuffix(key, ".json"); last {
		for _, ext := range []string{".key", ".crt", ".json"} {
			delete(s.replaced, site+ext)
		}
	}
	return nil
}

// Delete implements certmagic.Storage. Certmagic stores a renewed certificate in
// several files, and deletes the first ones when the disk refuses the next. What
// they have replaced is put back then: visitors need it after a restart.
func (s *storage) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	old, undo := s.replaced[key]
	delete(s.replaced, key)
	s.mu.Unlock()
	if undo && s.enter(false) == nil {
		defer s.writing.Done()
		if s.FileStorage.Store(ctx, key, old) == nil {
			return nil
		}
	}
	return s.FileStorage.Delete(ctx, key)
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	if err := s.enter(true); err != nil {
		return err
	}
	defer s.writing.Done()
	for s.holds(name) {
		select {
		case <-time.After(ownLockPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.dropLostLock(name)
	err := s.FileStorage.Lock(ctx, name)
	if err == nil {
		s.hold(name)
	}
	return err
}

// TryLock implements certmagic.TryLocker.
func (s *storage) TryLock(ctx context.Context, name string) (bool, error) {
	if err := s.enter(true); err != nil {
		return false, err
	}
	defer s.writing.Done()
	if s.holds(name) {
		return false, nil
	}
	s.dropLostLock(name)
	ok, err := s.FileStorage.TryLock(ctx, name)
	if ok && err == nil {
		s.hold(name)
	}
	return ok, err
}

// dropLostLock removes a lock that nobody can hold and that certmagic would wait
// for: a crash or a bad disk damaged it, or it was made when the clock was ahead.
// An empty one is being written, or certmagic finds that it is not.
func (s *storage) dropLostLock(name string) {
	file := filepath.Join(s.Path, "locks", certmagic.StorageKeys.Safe(name)+".lock")
	data, err := os.ReadFile(file)
	if err != nil || len(data) == 0 {
		return
	}
	var lock struct{ Updated time.Time } // renewed every five seconds
	if json.Unmarshal(data, &lock) != nil || time.Until(lock.Updated) > time.Minute {
		os.Remove(file)
	}
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(ctx context.Context, name string) error {
	err := s.FileStorage.Unlock(ctx, name)
	s.mu.Lock()
	delete(s.held, name)
	s.mu.Unlock()
	select {
	case s.released <- struct{}{}:
	default:
	}
	return err
}

// holds reports whether a job of this process has the lock. Its file does not tell
// in the seconds after the clock was set: the lock looks lost or stale then.
func (s *storage) holds(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[name]
}

func (s *storage) hold(name string) {
	s.mu.Lock()
	s.held[name] = true
	s.mu.Unlock()
}

// close waits until no lock is held and nothing is being written. When ctx ends
// first it gives the locks back that are left, so that another process need not
// wait until they look stale. It waits for no disk that hangs.
func (s *storage) close(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.closing = true
		left := slices.Collect(maps.Keys(s.held))
		s.closed = len(left) == 0
		s.mu.Unlock()
		if len(left) == 0 {
			return patiently(ctx, func() error { s.writing.Wait(); return nil })
		}
		select {
		case <-s.released:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // for a few small files
			defer cancel()
			return errors.Join(ctx.Err(), patiently(last, func() (err error) {
				for _, name := range left {
					err = errors.Join(err, s.Unlock(last, name))
				}
				return err
			}))
		}
	}
}

// patiently returns what the disk says to f, or that it says nothing until ctx
// ends.
func patiently(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the disk does not answer")
	}
}

// probe reports whether the storage can be written, in words that help.
func (s *storage) probe(ctx context.Context) error {
	const key = "detour_probe"
	err := s.Store(ctx, key, []byte("written to see whether it can be\n"))
	if err == nil {
		err = s.Delete(ctx, key)
	}
	if err == nil {
		return nil
	}
	remedy := "check the directory"
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = "give the directory to the user that detour runs as"
	case errors.Is(err, syscall.EROFS):
		remedy = "the file system is mounted read-only; choose another acme.storage"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = "the disk is full; make room"
	case errors.Is(err, syscall.ENOTDIR):
		remedy = "a part of its path is a file"
	}
	// The bare cause: the full error names a temporary file, another one each time,
	// and would look like news in the log.
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	}
	return &storageError{dir: s.Path, remedy: remedy, err: err}
}

// storageError says that certificates cannot be stored.
type storageError struct {
	dir, remedy string
	err         error
}

func (e *storageError) Error() string {
	return fmt.Sprintf("storage %s cannot be written: %s: %v", e.dir, e.remedy, e.err)
}

func (e *storageError) Unwrap() error { return e.err }
