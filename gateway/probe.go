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

// check finds the health of one upstream of one host from probes and from visitors'
// requests. It survives reloads that change neither the upstream nor its health keys.
type check struct {
	key   checkKey
	stop  context.CancelFunc
	hurry chan struct{} // asks for a probe before the interval is over; holds one

	mu     sync.Mutex // guards what follows
	streak state.Streak
	blamed bool      // a visitor's failed request counted, and none succeeded since
	good   time.Time // of the last good result
	tell   bool      // the keeper waits for the next good result
	ended  bool      // nothing is counted any more
}

// checkKey tells checks apart.
type checkKey struct {
	host   string // canonical
	member *proxy.Member
	health config.Health
}

// anyAnswer is how an upstream without health is asked whether it is there: any
// answer is good.
var anyAnswer = config.Health{
	Path: "/", Interval: 3 * time.Second, Timeout: 3 * time.Second,
	StatusMin: 100, StatusMax: 599, Fails: 1, Passes: 1,
}

// updateChecks starts and ends checks, so that there are those that snap needs at
// now. The caller is run, and holds reloading.
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
			key.member.SetHealthy(true) // nobody checks it any more
		}
	}
	for key, c := range wanted {
		if c.health() == state.Unhealthy {
			key.member.SetHealthy(false) // the check of its former settings has just said otherwise
		}
	}
}

// asksAnyAnswer reports whether a host without health has to be asked all the
// same: it is to return from a window, or may have been forgotten.
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

// hurryGap is the least time between a probe and one that is asked for: fails of
// these in a row leave an upstream that restarts a few seconds.
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

// ask asks for a probe soon. It may be called from any goroutine.
func (c *check) ask() {
	select {
	case c.hurry <- struct{}{}:
	default: // one has been asked for
	}
}

// wanted says that the keeper waits for a good result after since; zero = it does
// not wait.
func (c *check) wanted(since time.Time) {
	c.mu.Lock()
	first := !c.tell && !since.IsZero() && !c.good.After(since)
	c.tell = c.tell || first
	c.mu.Unlock()
	if first {
		c.ask()
	}
}

// probeOnce probes once; its error says why the upstream is not healthy.
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

// observe is the proxy.Observer: it is told how upstreams served visitors.
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

// heeds reports whether the outcome of a visitor's request counts by itself: that
// nobody listens there, a status that the operator wants to count, and the success
// that ends these. Anything else may be the fault of a single path, which strangers
// could ask for on purpose: then a probe decides.
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

// end stops c without waiting for a probe under way, whose result is ignored.
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

// health is the health of all upstreams of h together.
func (k *keeper) health(snap *snapshot, h *config.Host) state.Health {
	members := snap.pools[h.Name].Members()
	healths := make([]state.Health, len(members))
	for i, m := range members {
		healths[i] = k.memberHealth(h, m)
	}
	return state.Overall(healths)
}

// answered is when an upstream of h last gave a good result; zero = none did.
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

// memberHealth is the health of one upstream of h.
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
