package gateway

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"time"

	"detour/config"
	"detour/control"

	"github.com/fsnotify/fsnotify"
)

const (
	// savePause is how long a changed file must be left alone before it is read:
	// editors save in several steps, and half a file is a mistake nobody made.
	savePause = 100 * time.Millisecond
	// longestSave is how long that is waited for: in a directory where other
	// programs write all the time it is never quiet.
	longestSave = time.Second
)

// watch reloads when the configuration file changes, while the configuration
// in force says watch = true. The directories are watched, not the file:
// editors replace it, and a watch on the old file would hear nothing more.
func (g *Gateway) watch(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		g.log.Warn("cannot watch the configuration file, use detour reload", "error", err)
		return
	}
	defer watcher.Close()
	watchDirectories(watcher, g.options.Config)

	quiet := time.NewTimer(0) // what happened since the start counts too
	var since time.Time       // of the first change that was not looked at; zero = none
	changed := func() {
		if since.IsZero() {
			since = time.Now()
		}
		quiet.Reset(min(savePause, longestSave-time.Since(since)))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-watcher.Events:
			changed()
		case err := <-watcher.Errors:
			// Events may have been lost: look at the file.
			g.log.Warn("watching the configuration file", "error", err)
			changed()
		case <-quiet.C:
			since = time.Time{}
			g.untilEnd(func() {
				watchDirectories(watcher, g.options.Config) // a link may lead elsewhere now
				if g.current.Load().config.Watch && fingerprint(g.options.Config) != *g.seen.Load() {
					g.Reload(control.ReloadOptions{})
				}
			})
		}
	}
}

// watchDirectories watches the directory of path, and that of the file it
// links to. Adding one twice changes nothing.
func watchDirectories(w *fsnotify.Watcher, path string) {
	_ = w.Add(filepath.Dir(path)) // it was read a moment ago; if it is gone, its parent cannot help either
	if target, err := filepath.EvalSymlinks(path); err == nil {
		_ = w.Add(filepath.Dir(target))
	}
}

// digest tells one content of the configuration file from another.
type digest [sha256.Size]byte

// fingerprint is zero for a file that cannot be read, as between two steps of
// an editor, or that is too large for a configuration.
func fingerprint(path string) digest {
	data, err := config.Read(path)
	if err != nil {
		return digest{}
	}
	return sha256.Sum256(data)
}
