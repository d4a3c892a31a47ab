package proxy

import (
	"context"
	"sync"
)

// tunnels knows the upgraded connections, so that they can be ended.
type tunnels struct {
	mu    sync.Mutex // guards what follows
	open  map[*tunnel]struct{}
	grace context.Context // of Drain: how long what is open may last; nil = no Drain yet
	none  chan struct{}   // closed when Drain began and none is open
}

// stopped reports whether Drain began.
func (ts *tunnels) stopped() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.grace != nil
}

// over reports whether the time that Drain gives is over, so that whatever
// breaks off was cut by us.
func (ts *tunnels) over() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.grace != nil && ts.grace.Err() != nil
}

// add reports whether t may run; remove must follow.
func (ts *tunnels) add(t *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.grace != nil {
		return false
	}
	if ts.open == nil {
		ts.open = make(map[*tunnel]struct{})
	}
	ts.open[t] = struct{}{}
	return true
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, t)
	if ts.grace != nil && len(ts.open) == 0 {
		close(ts.none)
	}
}

// stop lets no more in and returns those that are open.
func (ts *tunnels) stop(grace context.Context) (open []*tunnel, none <-chan struct{}) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.open {
		open = append(open, t)
	}
	if ts.grace == nil {
		ts.grace = grace
		ts.none = make(chan struct{})
		if len(open) == 0 {
			close(ts.none)
		}
	}
	return open, ts.none
}

// Drain ends the upgraded connections; from now on there are no new ones.
// WebSockets get a close frame with code (RFC 6455, 7.4: 1001 going away, 1012
// service restart), both sides of them, between two frames, and five seconds to
// answer it. Drain returns when all have ended; when ctx ends first, the rest is
// cut. Event streams that were asked for with GET, which would last until they are
// cut, end where they are, also those that begin later. Requests of any kind that
// break off after the end of the first call's ctx are logged as cut by us, not as
// left by their clients. It may be called once the servers take no more
// connections, from several goroutines.
func (h *Handler) Drain(ctx context.Context, code int) {
	open, none := h.tunnels.stop(ctx)
	for _, rt := range h.table.Load().routes {
		rt.Stats.exchanges.endEvents()
	}
	var ending sync.WaitGroup // a peer that does not read blocks its goodbye, not the others'
	for _, t := range open {
		ending.Go(func() { t.goodbye(code) })
	}
	select {
	case <-none:
	case <-ctx.Done():
		for _, t := range open {
			t.cut()
		}
		<-none
	}
	ending.Wait()
}
