package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"detour/config"
	"detour/proxy"
	"detour/state"
)

// check counts what is heard of one upstream of one host: probes, and the
// requests of visitors. Its health survives every reload that changes neither.
type check struct {
	key   checkKey
	stop  context.CancelFunc
	hurry chan struct{} // asks for a probe before the interval is over; holds one

	mu     sync.Mutex // guards what follows
	streak state.Streak
	blamed bool      // for a visitor's request that counted; none succeeded since
	good   time.Time // the last good result
	tell   bool      // the keeper waits for the next good one
	ended  bool      // nothing is counted any more
}

// checkKey tells checks apart.
type checkKey struct {
	host   string // canonical
	member *proxy.Member
	health config.Health
}

// anyAnswer is how an upstream without health is asked whether it is there at
// all: whatever it answers is good.
var anyAnswer = config.Health{
	Path: "/", Interval: 3 * time.Second, Timeout: 3 * time.Second,
	StatusMin: 100, StatusMax: 599, Fails: 1, Passes: 1,
}

// updateChecks starts and ends checks so that they are what snap asks for at now. The
// caller is run, and holds reloading.
func (k *keeper) updateChecks(ctx context.Context, snap *snapshot, now time.Time) {
	before := *k.checks.Load()
	wanted := make(map[checkKey]*check)
	changed := false
	for i := range snap.config.Hosts {
		h := &snap.config.Hosts[i]
		health := h.Health
		if health == nil {
			if !k.asksAnyAnswer(snap, h, now) {
				continue
			}
			health = &anyAnswer
		}
		for _, m := range snap.pools[h.Name].Members() {
			key := checkKey{h.Name, m, *health}
			if c := before[key]; c != nil {
				wanted[key] = c
				c.wanted(k.hosts[h.Name].returning)
				continue
			}
			wanted[key] = k.startCheck(ctx, key)
			changed = true
		}
	}
	if !changed && len(wanted) == len(before) {
		return
	}
	k.checks.Store(&wanted)
	for key, c := range before {
		if wanted[key] == nil {
			c.end()
			key.member.SetHealthy(true) // nobody says otherwise any more
		}
	}
	for key, c := range wanted {
		if c.health() == state.Unhealthy {
			key.member.SetHealthy(false) // the check before it, of other settings, took its word back
		}
	}
}

// asksAnyAnswer reports whether a host without health has to be asked all the
// same: it wants to return from a window, or it may be forgotten.
func (k *keeper) asksAnyAnswer(snap *snapshot, h *config.Host, now time.Time) bool {
	host := k.hosts[h.Name]
	forgotten := k.forgottenAt(snap, h.Name)
	return !host.returning.IsZero() || !forgotten.IsZero() && !now.Before(forgotten)
}

func (k *keeper) startCheck(ctx context.Context, key checkKey) *check {
	ctx, cancel := context.WithCancel(ctx)
	c := &check{key: key, stop: cancel, hurry: make(chan struct{}, 1)}
	k.work.Go(func() {
		c.repeat(ctx, func() {
			if err := probeOnce(ctx, key); ctx.Err() == nil && !proxy.Shortage(err) {
				k.count(c, err)
			}
		})
	})
	return c
}

// stopChecks ends all checks.
func (k *keeper) stopChecks() {
	for _, c := range *k.checks.Load() {
		c.end()
	}
}

// hurryGap is the time between a probe and one that is asked for. It leaves an
// upstream that restarts a few seconds, as fails times the interval does.
const hurryGap = time.Second

// repeat probes at once, then every interval and when asked to, until ctx ends.
func (c *check) repeat(ctx context.Context, probe func()) {
	tick := time.NewTicker(c.key.health.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-c.hurry: // by this one
		default:
		}
		probe()
		gap := time.After(hurryGap)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-c.hurry:
			select {
			case <-ctx.Done():
			case <-tick.C:
			case <-gap:
			}
		}
	}
}

// ask asks for a probe soon. It may be called by anybody at any time.
func (c *check) ask() {
	select {
	case c.hurry <- struct{}{}:
	default: // it is asked for
	}
}

// wanted says that a good result after since is waited for; zero = none is.
func (c *check) wanted(since time.Time) {
	c.mu.Lock()
	first := !c.tell && !since.IsZero() && !c.good.After(since)
	c.tell = c.tell || first
	c.mu.Unlock()
	if first {
		c.ask()
	}
}

// probeOnce reports why the upstream is not well.
func probeOnce(ctx context.Context, key checkKey) error {
	ctx, cancel := context.WithTimeout(ctx, key.health.Timeout)
	defer cancel()
	status, err := key.member.Probe(ctx, key.host, key.health.Path)
	if err != nil {
		return err
	}
	if status < key.health.StatusMin || status > key.health.StatusMax {
		return fmt.Errorf("%s answered %d", key.health.Path, status)
	}
	return nil
}

// observe is the proxy.Observer: it hears what visitors' requests met.
func (k *keeper) observe(host string, u *proxy.Upstream, err error) {
	for key, c := range *k.checks.Load() {
		switch {
		case key.host != host || key.member.Upstream != u:
		case c.heeds(err):
			k.count(c, err)
		case err != nil:
			c.ask()
		}
	}
}

// heeds reports whether what a visitor's request met counts by itself: that
// nobody listens there, a status that the operator wants to count, and the
// success that takes these back. Anything else may be a single path's fault,
// which a stranger knows how to ask for: then a probe decides.
func (c *check) heeds(err error) bool {
	_, status := errors.AsType[*proxy.StatusError](err)
	counts := status || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, fs.ErrNotExist) // no unix socket
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		counts = c.blamed
	}
	c.blamed = err != nil && (counts || c.blamed)
	return counts
}

// count adds one result to c, nil = passed.
func (k *keeper) count(c *check, err error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	before := c.streak.Health()
	changed := c.streak.Add(err == nil, c.key.health.Fails, c.key.health.Passes)
	health := c.streak.Health()
	waited := false
	if err == nil {
		c.good = time.Now()
		waited, c.tell = c.tell, false
	}
	if changed {
		c.key.member.SetHealthy(health != state.Unhealthy) // under mu: the last word is the last change
	}
	c.mu.Unlock()
	if waited {
		k.nudge()
	}
	if !changed {
		return
	}
	if health == state.Unhealthy {
		k.g.log.Warn("upstream is unhealthy", "host", c.key.host, "upstream", c.key.member.String(), "error", err)
	} else if before == state.Unhealthy {
		k.g.log.Info("upstream is healthy", "host", c.key.host, "upstream", c.key.member.String())
	}
	k.nudge()
}

// end stops the prober without waiting for it.
func (c *check) end() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

func (c *check) health() state.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streak.Health()
}

// health is that of all of h's upstreams together.
func (k *keeper) health(snap *snapshot, h *config.Host) state.Health {
	members := snap.pools[h.Name].Members()
	healths := make([]state.Health, len(members))
	for i, m := range members {
		healths[i] = k.memberHealth(h, m)
	}
	return state.Overall(healths)
}

// answered is when h's upstreams gave the last good result; zero = none did.
func (k *keeper) answered(snap *snapshot, h *config.Host) time.Time {
	var last time.Time
	for _, m := range snap.pools[h.Name].Members() {
		if c := k.checkOf(h, m); c != nil {
			c.mu.Lock()
			if c.good.After(last) {
				last = c.good
			}
			c.mu.Unlock()
		}
	}
	return last
}

// memberHealth is what is known of one upstream of h.
func (k *keeper) memberHealth(h *config.Host, m *proxy.Member) state.Health {
	if c := k.checkOf(h, m); c != nil {
		return c.health()
	}
	return state.Unknown
}

// checkOf is the check of one upstream of h; nil = there is none.
func (k *keeper) checkOf(h *config.Host, m *proxy.Member) *check {
	health := &anyAnswer
	if h.Health != nil {
		health = h.Health
	}
	return (*k.checks.Load())[checkKey{h.Name, m, *health}]
}
