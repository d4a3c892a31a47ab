package gateway

import (
	"errors"
	"maps"
	"reflect"
	"time"

	"detour/config"
	"detour/control"
)

// Reload reads the configuration again and puts it in force, or says why it
// does not. It returns when the new state serves. SIGHUP, `detour reload`,
// `online`, `offline` and the watcher all come here, one at a time.
//
//  1. load and validate; a problem is reported and nothing changes
//  2. compare; equal means only the log files are opened again
//  3. prepare whatever can fail
//  4. have the keeper decide which hosts are online
//  5. swap one pointer
//  6. afterwards: certificates for new names, retire what is not used any more
//
// Nothing below the swap can fail, and nothing of a host that did not change
// is touched.
//
// It is over, and its report says so, when the gateway's end begins.
func (g *Gateway) Reload(o control.ReloadOptions) control.Report {
	reports := make(chan control.Report, 1)
	g.untilEnd(func() { reports <- g.reload(o) })
	select {
	case report := <-reports:
		return report
	default:
		return g.tooLate()
	}
}

// untilEnd runs f, which reads files, and returns when f has or when the end
// begins: then nobody waits for a disk that hangs.
func (g *Gateway) untilEnd(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-g.running.Done():
	}
}

func (g *Gateway) reload(o control.ReloadOptions) control.Report {
	g.reading.Lock()
	defer g.reading.Unlock()
	if g.running.Err() != nil {
		return g.tooLate()
	}
	old := g.current.Load() // until the swap the keeper may change how its hosts are served, and nothing else
	g.notifyReloading()
	defer g.notifyReady()

	cfg, err := g.load()
	if err != nil {
		return g.refuse(old, err)
	}
	next, err := g.prepare(cfg, old)
	if err != nil {
		return g.refuse(old, err)
	}
	g.refused.Store(nil)
	defer g.files.Reopen() // last: a disk that hangs must not delay a flip
	if config.Equal(old.config, cfg) && maps.Equal(old.upstreams, next.upstreams) {
		same := *old
		same.config = cfg // its lines may have moved
		if !g.swap(&same, o) {
			return g.tooLate()
		}
		g.manage(cfg) // files it refers to may have changed
		g.log.Info("configuration unchanged, logs reopened", "generation", old.table.Generation())
		return control.Report{Generation: old.table.Generation(), Unchanged: true, Restart: needRestart(g.boot, cfg)}
	}

	if !g.swap(next, o) {
		return g.tooLate()
	}
	g.manage(cfg)

	report := compare(old.config, cfg)
	report.Restart = needRestart(g.boot, cfg)
	report.Generation = next.options.Generation
	g.log.Info("configuration reloaded", attributes(report)...)
	if len(report.Restart) > 0 {
		g.log.Warn("changed settings need a restart to take effect", "keys", report.Restart)
	}
	return report
}

// tooLate is the report of a reload that the end has overtaken.
func (g *Gateway) tooLate() control.Report {
	return control.Report{
		Generation: g.current.Load().table.Generation(),
		Problems:   []string{"the gateway is stopping; what was changed counts from its next start"},
	}
}

// swap has the keeper decide which hosts of next are online, puts it in force,
// tells who should know, and retires what is used no longer. It reports
// false, and changes nothing, when the end has begun. The caller holds reading.
func (g *Gateway) swap(next *snapshot, o control.ReloadOptions) bool {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.running.Err() != nil {
		return false
	}
	old := g.current.Load()
	now := time.Now()
	g.keeper.follow(old, next, o, now)
	next, _ = g.keeper.settle(next, now) // the keeper looks again when it is nudged
	g.install(next)
	g.limiter.SetMax(maxConnections(next.config))
	g.keeper.tell(old, next)
	g.keeper.nudge()
	for options, u := range old.upstreams {
		if next.upstreams[options] == nil {
			u.Retire()
		}
	}
	g.retainLogs(next.config)
	return true
}

// install puts next in force. The caller holds reloading.
func (g *Gateway) install(next *snapshot) {
	g.handler.Swap(next.table)
	g.current.Store(next)
}

// retainLogs lets go of the log files of hosts that are gone.
func (g *Gateway) retainLogs(cfg *config.Config) {
	paths := map[string]bool{unownedSink(cfg).Path: true}
	for i := range cfg.Hosts {
		if h := &cfg.Hosts[i]; h.Log {
			paths[hostSink(cfg, h).Path] = true
		}
	}
	g.files.Retain(paths)
}

// refuse keeps old in force and remembers why.
func (g *Gateway) refuse(old *snapshot, err error) control.Report {
	problems := problemLines(err)
	g.refused.Store(&problems)
	g.log.Error("configuration refused, the old one stays in force", "problems", problems)
	return control.Report{Generation: old.table.Generation(), Problems: problems}
}

func problemLines(err error) []string {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return []string{err.Error()}
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.Error()
	}
	return lines
}

// compare says what changes from old to next.
func compare(old, next *config.Config) control.Report {
	var r control.Report
	before := make(map[string]*config.Host, len(old.Hosts))
	for i := range old.Hosts {
		before[old.Hosts[i].Name] = &old.Hosts[i]
	}
	for i := range next.Hosts {
		now := &next.Hosts[i]
		was := before[now.Name]
		delete(before, now.Name)
		if was == nil {
			r.Added = append(r.Added, now.Name)
			continue
		}
		switch {
		case old.WantsOnline(was) && !next.WantsOnline(now):
			r.Offline = append(r.Offline, now.Name)
		case !old.WantsOnline(was) && next.WantsOnline(now):
			r.Online = append(r.Online, now.Name)
		}
		if !sameEntry(was, now) {
			r.Changed = append(r.Changed, now.Name)
		}
	}
	for i := range old.Hosts {
		if name := old.Hosts[i].Name; before[name] != nil {
			r.Removed = append(r.Removed, name)
		}
	}
	return r
}

// attributes are what a report has to tell the log; the keeper tells of hosts
// that went online or offline.
func attributes(r control.Report) []any {
	list := []any{"generation", r.Generation}
	for _, a := range []struct {
		key   string
		hosts []string
	}{{"added", r.Added}, {"removed", r.Removed}, {"changed", r.Changed}} {
		if len(a.hosts) > 0 {
			list = append(list, a.key, a.hosts)
		}
	}
	return list
}

// sameEntry compares two entries apart from their flag and place.
func sameEntry(a, b *config.Host) bool {
	x, y := *a, *b
	x.Online, x.Line = y.Online, y.Line
	return reflect.DeepEqual(x, y)
}

// needRestart names the keys that differ from what runs and that a running
// gateway cannot take over: its sockets and the directory its certificates
// live in.
func needRestart(boot, next *config.Config) []string {
	var keys []string
	for _, k := range []struct {
		name    string
		changed bool
	}{
		{"listen.http", boot.Listen.HTTP != next.Listen.HTTP},
		{"listen.https", boot.Listen.HTTPS != next.Listen.HTTPS},
		{"listen.engine", boot.Listen.Engine != next.Listen.Engine},
		{"listen.http3", boot.Listen.HTTP3 != next.Listen.HTTP3},
		{"acme.storage", boot.ACME.Storage != next.ACME.Storage},
		{"control.socket", boot.Control.Socket != next.Control.Socket},
	} {
		if k.changed {
			keys = append(keys, k.name)
		}
	}
	return keys
}
