package accept_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"detour/engine/accept"
)

// idler is a connection that has been idle for a time; 0 = it is not.
type idler struct {
	accept.Idler
	idle  time.Duration
	stays bool // a request comes in the very moment
	ended func()
	told  bool
}

func (i *idler) IdleSince() time.Time {
	if i.idle == 0 || i.told {
		return time.Time{}
	}
	return time.Unix(1e9, 0).Add(-i.idle)
}

func (i *idler) EndIdle() bool {
	i.told = true
	if !i.stays && i.ended != nil {
		i.ended()
	}
	return !i.stays
}

// Those make room that have been idle longest, of all servers: an eighth, at least
// one and at most 32, besides those that then are not idle.
func TestLimiterEndsLongestIdle(t *testing.T) {
	for _, tt := range []struct{ idle, stay, busy, want int }{
		{idle: 0, busy: 5, want: 0}, {idle: 1, want: 1}, {idle: 15, busy: 3, want: 1}, {idle: 80, want: 10}, {idle: 1000, busy: 10, want: 32},
		{idle: 80, stay: 40, want: 50}, {idle: 1000, stay: 998, want: 1000}, {idle: 5, stay: 5, want: 5},
	} {
		var all []accept.Idler
		for i := range tt.idle {
			place := i * 7919 % tt.idle // each once, in disorder
			all = append(all, &idler{idle: time.Duration(tt.idle-place) * time.Second, stays: place < tt.stay})
		}
		for range tt.busy {
			all = append(all, &idler{})
		}
		limiter := new(accept.Limiter)
		limiter.Join(slices.Values(all[:len(all)/2]))
		limiter.Join(slices.Values(all[len(all)/2:]))
		full := &failing{Listener: listen(t), err: syscall.ENFILE}
		full.failures.Store(1)
		taken := make(chan net.Conn)
		var log syncBuffer
		go accept.Loop(t.Context(), full, limiter, log.logger(), func(c net.Conn) { taken <- c })
		dial(t, full)
		(<-taken).Close()
		slices.SortFunc(all, func(a, b accept.Idler) int { return -cmp.Compare(a.(*idler).idle, b.(*idler).idle) })
		for i, c := range all {
			if told := c.(*idler).told; told != (i < tt.want) {
				t.Errorf("%d idle, of which %d stay, %d busy: the one in place %d was told to end: %v; want the first %d", tt.idle, tt.stay, tt.busy, i, told, tt.want)
				break
			}
		}
	}
}

// limited is a Loop with a limit of one connection, which is taken.
func limited(t *testing.T) (l net.Listener, limiter *accept.Limiter, taken chan net.Conn, log *syncBuffer, stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	l, limiter, taken, log = listen(t), new(accept.Limiter), make(chan net.Conn, 10), new(syncBuffer)
	limiter.SetMax(1)
	ended := make(chan error)
	go func() { ended <- accept.Loop(ctx, l, limiter, log.logger(), func(c net.Conn) { taken <- c }) }()
	dial(t, l)
	return l, limiter, taken, log, func() error { cancel(); l.Close(); return <-ended }
}

// waits dials a connection that finds no room.
func waits(t *testing.T, l net.Listener, taken chan net.Conn) net.Conn {
	t.Helper()
	c := dial(t, l)
	select {
	case <-taken:
		t.Fatal("taken beyond the limit")
	case <-time.After(50 * time.Millisecond):
	}
	return c
}

func TestLimiterWaitsForRoom(t *testing.T) {
	l, limiter, taken, log, stop := limited(t)
	first := <-taken
	waits(t, l, taken)
	dial(t, l)
	first.Close()
	first.Close() // gives back one place, not two
	second := <-taken
	select {
	case <-taken:
		t.Fatal("taken beyond the limit")
	case <-time.After(50 * time.Millisecond):
	}
	limiter.SetMax(0)
	(<-taken).Close()
	limiter.SetMax(1)
	waiting := waits(t, l, taken)
	second.Close()
	(<-taken).Close()
	_ = waiting
	if n := strings.Count(log.String(), "max_connections"); n != 1 {
		t.Errorf("%d lines about the limit; want 1\n%s", n, log)
	}
	if err := stop(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Loop = %v; want %v", err, net.ErrClosed)
	}
}

// inMemory hands out what is put into it.
type inMemory struct {
	net.Listener
	arrivals chan net.Conn
}

func (l *inMemory) Accept() (net.Conn, error) {
	c, ok := <-l.arrivals
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Who is told to end takes a while to leave. Until then nobody else is told, or a
// visitor who opens six connections would cost everyone else theirs.
func TestLimiterAsksNoMoreThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places = 80
		l, limiter, taken, told, log := &inMemory{arrivals: make(chan net.Conn)}, new(accept.Limiter), make(chan net.Conn), 0, new(syncBuffer)
		limiter.SetMax(places)
		go accept.Loop(t.Context(), l, limiter, log.logger(), func(c net.Conn) { taken <- c })
		enter := func() net.Conn {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { theirs.Close() })
			l.arrivals <- ours
			return <-taken
		}
		var idlers []accept.Idler
		for i := range places {
			c := enter()
			idlers = append(idlers, &idler{idle: time.Duration(places-i) * time.Second, ended: func() {
				told++
				time.AfterFunc(time.Duration(told)*10*time.Millisecond, func() { c.Close() })
			}})
		}
		limiter.Join(slices.Values(idlers))
		begun := time.Now()
		for range places / 8 {
			enter()
		}
		if told != places/8 {
			t.Errorf("%d were told to end for %d newcomers; want as many", told, places/8)
		}
		enter()
		const want = 210 * time.Millisecond // the last of those 10 left after 100, and the 11th takes 110
		if took := time.Since(begun); took != want {
			t.Errorf("the next one entered after %v; want %v, as others are told as soon as those have left", took, want)
		}
		time.Sleep(time.Minute) // until the log says more
		before := told
		for told == before {
			enter()
		}
		for _, n := range []int{places / 8, told - places/8} {
			if line := fmt.Sprintf(" idle_ended=%d ", n); strings.Count(log.String(), line) != 1 {
				t.Errorf("not one line has%s\n%s", line, log)
			}
		}
		close(l.arrivals)
	})
}

// One that stays although it was to end is no reason to stop looking, and no more is
// one that does not leave although it was about to.
func TestLimiterAsksTheNext(t *testing.T) {
	l, limiter, taken, _, stop := limited(t)
	first := <-taken
	var asked atomic.Bool
	limiter.Join(slices.Values([]accept.Idler{
		&idler{idle: 2 * time.Hour},
		&idler{idle: time.Hour, stays: true},
		&idler{idle: time.Minute, ended: func() { asked.Store(true); first.Close() }},
	}))
	dial(t, l)
	(<-taken).Close()
	if !asked.Load() {
		t.Error("taken without room")
	}
	_ = stop()
}

// When nobody could be told to end, the next newcomer has all looked at again; and
// when the limit is raised, all who wait enter.
func TestLimiterLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter, log := new(accept.Limiter), new(syncBuffer).logger()
		limiter.SetMax(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var entered atomic.Int32
		enter := func() {
			go func() {
				if limiter.Enter(ctx, log) {
					entered.Add(1)
				}
			}()
			synctest.Wait() // and no time passes
		}
		enter()
		enter()
		late := &idler{idle: time.Hour, ended: limiter.Leave}
		limiter.Join(slices.Values([]accept.Idler{late}))
		enter()
		if !late.told {
			t.Error("it was not told to end")
		}
		limiter.SetMax(0)
		synctest.Wait()
		if n := entered.Load(); n != 3 {
			t.Errorf("%d have entered when there is no limit any more; want all 3", n)
		}
	})
}

// Who waits for room does not keep the end waiting, and is let go.
func TestLimiterEndsWithContext(t *testing.T) {
	l, _, taken, _, stop := limited(t)
	defer (<-taken).Close()
	c := waits(t, l, taken)
	if err := stop(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Loop = %v; want %v", err, net.ErrClosed)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %d, %v; want an end", n, err)
	}
}
