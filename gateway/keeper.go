package gateway

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"detour/control"
	"detour/notify"
)

// keeper keeps the hosts in the state that state.Decide finds for them. It
// knows what is not in the file: drains under way, windows that overran,
// health. When something has changed or a moment has come, it looks at all hosts,
// and if the state of one differs it swaps in a table of the same configuration.
//
// A reload decides by the same code. Both hold Gateway.reloading, so they
// never race.
type keeper struct {
	g    *Gateway
	wake chan struct{} // asks run to look again; holds one

	// checks count what probes and visitors' requests say of the upstreams.
	// Only run replaces them; a request that failed loads them.
	checks atomic.Pointer[map[checkKey]*check]

	// Guarded by Gateway.reloading.
	hosts map[string]*kept // by canonical name
	board noticeBoard

	work sync.WaitGroup // probers, and cuts of hosts whose drain is over; added to by run alone
}

// clockCheck is how often the keeper looks at the wall clock while something is due
// later: timers do not notice that the clock was set, or that the machine slept.
const clockCheck = time.Minute

func newKeeper(g *Gateway) *keeper {
	k := &keeper{g: g, wake: make(chan struct{}, 1), hosts: make(map[string]*kept)}
	k.checks.Store(&map[checkKey]*check{})
	k.board = newNoticeBoard(notify.New(notify.Options{Log: g.log}))
	return k
}

// nudge makes run look again soon. It may be called from any goroutine.
func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default: // it will
	}
}

// run looks until ctx ends. While nothing can change by itself it only waits
// to be nudged. It returns when everything it began has ended.
func (k *keeper) run(ctx context.Context) {
	defer k.work.Wait()
	defer k.stopChecks()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
		if next := k.look(ctx); !next.IsZero() {
			timer.Reset(min(max(time.Until(next), 0), clockCheck))
		}
	}
}

// look brings every host into the state it should have now, and returns when
// to look again; zero = when nudged.
func (k *keeper) look(ctx context.Context) time.Time {
	k.g.reloading.Lock()
	defer k.g.reloading.Unlock()
	now := time.Now() // not before a reload that was waited for
	old := k.g.current.Load()
	next, again := k.settle(old, now)
	if next != old {
		k.g.install(next)
		k.tell(old, next)
		k.g.notifyState()
	}
	k.updateChecks(ctx, next, now)
	k.cutDrained(ctx, next)
	return earliest(again, k.remind(next, now))
}

// settle decides how the hosts of snap are served at now: it returns snap itself if
// that is as it should be, else one that differs in that alone. again is when that
// may change; zero = when something happens. The caller holds reloading, and
// snap is the one that was followed last.
func (k *keeper) settle(snap *snapshot, now time.Time) (_ *snapshot, again time.Time) {
	conditions := make(map[string]condition, len(snap.config.Hosts))
	for i := range snap.config.Hosts {
		h := &snap.config.Hosts[i]
		c := k.hosts[h.Name].decide(hostFacts{
			host:   h,
			all:    snap.config.TakenByAll(h),
			plans:  snap.plans[h.Name],
			pool:   snap.pools[h.Name],
			stats:  snap.stats[h.Name],
			health: k.health(snap, h),
			good:   k.answered(snap, h),
		}, now)
		again = earliest(again, c.Next)
		c.Next = time.Time{} // it changes while the host is served as before
		conditions[h.Name] = c
	}
	if snap.table != nil && maps.Equal(snap.conditions, conditions) {
		return snap, again
	}
	return snap.in(conditions), again
}

// follow notes what the operator wants with next. old is nil at the start. The
// caller holds reloading and settles next afterwards.
func (k *keeper) follow(old, next *snapshot, o control.ReloadOptions, now time.Time) {
	wasOnline := make(map[string]bool)
	if old != nil {
		for i := range old.config.Hosts {
			h := &old.config.Hosts[i]
			wasOnline[h.Name] = old.config.WantsOnline(h)
		}
	}
	hosts := make(map[string]*kept, len(next.config.Hosts))
	for i := range next.config.Hosts {
		h := &next.config.Hosts[i]
		host := k.hosts[h.Name]
		if host == nil {
			host = new(kept)
			if old == nil {
				host.starting, host.edited = true, lastEdit(k.g.options.Config)
				host.window = justOver(next.plans[h.Name], now)
			}
		}
		was, known := wasOnline[h.Name]
		host.heed(h, wish{online: next.config.WantsOnline(h), was: was, known: known}, o, now)
		hosts[h.Name] = host
	}
	k.hosts = hosts
}

// cutDrained ends what is left of hosts whose drain is over: requests have up to
// grace to finish, WebSockets and event streams are told goodbye. The caller is run,
// and holds reloading.
func (k *keeper) cutDrained(ctx context.Context, snap *snapshot) {
	for name, host := range k.hosts {
		if !host.drain.cut {
			continue
		}
		host.drain.cut = false
		// The end of the gateway does not shorten this: it waits for the same grace.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), snap.config.Listen.Grace)
		host.callOff = cancel
		k.work.Go(func() {
			defer cancel()
			k.g.handler.Cut(ctx, name, closeGoingAway)
		})
	}
}

// earliest is the first of the times that are not zero.
func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
