package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"detour/config"
)

// plan writes a window for hosts, or moves the one they are in.
func (p *program) plan(ctx context.Context, path string, hosts []string, o *outage) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	c := clock{time.Now().Truncate(time.Second), cfg.TimeZone} // the file has whole seconds
	chosen, err := cfg.Choose(hosts)
	if err != nil {
		return usageError(err, "")
	}
	from, until, err := o.times(c)
	if err != nil {
		return usageError(err, "detour offline --help")
	}
	f := &flip{path: path, clock: c, wait: o.wait, asJSON: o.asJSON}
	if f.gateway, err = meet(ctx, path, cfg); err != nil {
		return err
	}
	w := planner{outage: o, clock: c, config: cfg, gateway: f.gateway, path: path, hosts: chosen}
	now := !from.After(c.now)
	edit := func(data []byte) ([]byte, error) { return w.later(data, from, until) }
	if now {
		if err := w.fits(until); err != nil {
			return usageError(err, "detour offline --help")
		}
		edit = func(data []byte) ([]byte, error) { return w.now(data, until) }
	}
	if _, err := edit(data); err != nil {
		return refusedEdit(err)
	}
	if err := config.EditFile(path, edit); err != nil {
		return err
	}
	for _, h := range w.hosts {
		if now {
			if o.drain.given && o.drain.Duration == 0 {
				f.drain(o, h, cfg) // of a host that is offline it ends what is open
			}
			f.hosts = append(f.hosts, flipped{host: h.Name, changed: true, want: "offline", pending: "is now offline until " + c.show(until)})
			continue
		}
		pending := fmt.Sprintf("goes offline at %s until %s", c.show(from), c.show(until))
		if drain := w.drain(); drain > 0 {
			pending += ", draining from " + c.show(from.Add(-drain))
		}
		f.hosts = append(f.hosts, flipped{host: h.Name, changed: true, pending: pending})
		if !cfg.WantsOnline(h) {
			p.warn("%s is offline without an end, so the window changes nothing before: detour online %s", h.Name, h.Key)
		}
	}
	p.warnSignless(f, o, cfg)
	return p.follow(ctx, f)
}

// times are when the window begins, which is now unless it is told, and ends.
func (o *outage) times(c clock) (from, until time.Time, err error) {
	from = c.now
	if o.from != "" {
		if from, err = c.moment(o.from, c.now, false); err != nil {
			return from, until, fmt.Errorf("--from: %w", err)
		}
	}
	until = from.Add(o.length.Duration)
	if o.until != "" {
		if until, err = c.moment(o.until, latest(from, c.now), true); err != nil {
			return from, until, fmt.Errorf("--until: %w", err)
		}
	}
	switch {
	case !until.After(c.now):
		err = fmt.Errorf("the end, %s, is in the past: it is %s now", c.show(until), c.show(c.now))
	case !until.After(from):
		err = fmt.Errorf("the end, %s, is not after the beginning, %s", c.show(until), c.show(from))
	case from.After(c.now) && o.wait:
		err = errors.New("--wait is for what begins now")
	}
	return from, until, err
}

// planner makes the edits of a call of offline with a time.
type planner struct {
	*outage
	clock   clock
	config  *config.Config
	gateway *peer
	path    string
	hosts   []*config.Host
}

// drain is how long the hosts that are online drain: the longest of theirs, unless
// the call gives one.
func (w *planner) drain() time.Duration {
	drain := w.outage.drain.Duration
	for _, h := range w.hosts {
		if !w.outage.drain.given && w.gateway.stateOf(h, w.config) == "online" {
			drain = max(drain, h.Drain)
		}
	}
	return drain
}

// begins is when a host that is to go offline now no longer serves sessions: after
// its drain, or at the end of the one that is under way. A host that is offline
// lets nobody in again.
func (w *planner) begins(h *config.Host) time.Time {
	switch state := w.gateway.stateOf(h, w.config); {
	case state == "offline":
		return w.clock.now
	case state == "draining" && !w.outage.drain.given:
		end := hostOf(w.gateway.status, h.Name).DrainUntil
		return latest(w.clock.now, end.Add(time.Second-1).Truncate(time.Second)) // the file has whole seconds
	}
	return w.clock.now.Add(w.drain())
}

// fits returns an error if a drain is longer than the window that begins now.
func (w *planner) fits(until time.Time) error {
	for _, h := range w.hosts {
		if begins := w.begins(h); !until.After(begins) {
			return fmt.Errorf("the drain of %s, until %s, is not over before the end, %s; give a shorter --drain", h.Name, w.clock.show(begins), w.clock.show(until))
		}
	}
	return nil
}

// later writes one window, with a drain before it.
func (w *planner) later(data []byte, from, until time.Time) ([]byte, error) {
	m := config.Maintenance{From: from, Until: until, Drain: w.drain(), Reason: w.reason}
	for _, h := range w.hosts {
		m.Hosts = append(m.Hosts, h.Name)
	}
	return config.AddMaintenance(w.path, data, m)
}

// now moves the end of the windows that hosts are in. For the others a new window
// replaces what keeps them offline now, in the same edit, so that nobody gets in
// between.
func (w *planner) now(data []byte, until time.Time) ([]byte, error) {
	move := config.Maintenance{Until: until, Reason: w.reason}
	if w.outage.drain.given {
		move.From, move.Drain = w.clock.now.Add(w.drain()), w.drain()
	}
	for _, h := range w.hosts {
		move.Hosts = append(move.Hosts, h.Name)
	}
	data, changes, err := config.MoveMaintenance(w.path, data, move, w.clock.now)
	if err != nil {
		return nil, err
	}
	var windows []config.Maintenance
	for i, ch := range changes {
		if ch.Moved {
			continue
		}
		m := config.Maintenance{Hosts: []string{ch.Host}, From: w.begins(w.hosts[i]), Until: until, Reason: w.reason}
		m.Drain = m.From.Sub(w.clock.now)
		if n := len(ch.Ended); n > 0 && m.Reason == "" {
			m.Reason = ch.Ended[n-1].Reason // the same maintenance, for fewer hosts
		}
		at := slices.IndexFunc(windows, func(o config.Maintenance) bool { return o.From.Equal(m.From) && o.Reason == m.Reason })
		if at < 0 {
			windows = append(windows, m)
		} else {
			windows[at].Hosts = append(windows[at].Hosts, ch.Host)
		}
	}
	for _, m := range windows {
		if data, err = config.AddMaintenance(w.path, data, m); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// latest is the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
