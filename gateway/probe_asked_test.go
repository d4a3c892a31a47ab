package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"detour/config"
	"detour/proxy"
	"detour/state"

	"github.com/google/go-cmp/cmp"
)

// However often a probe is asked for, the upstream has a second between two.
func TestProbesThatAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &check{key: checkKey{health: config.Health{Interval: time.Minute}}, hurry: make(chan struct{}, 1)}
		ctx, stop := context.WithCancel(t.Context())
		var at []time.Duration
		began := time.Now()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.repeat(ctx, func() { at = append(at, time.Since(began)) })
		}()
		for range 25 { // two and a half seconds
			c.ask()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		stop()
		<-ended
		want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, time.Minute}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("probes at (-want +got):\n%s", diff)
		}
	})
}

// failing is a transport that connects to nothing, for a reason.
type failing struct{ errno atomic.Uintptr }

func (f *failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.Errno(f.errno.Load()))}
}

// A probe that failed for want of our own descriptors or memory says nothing
// about the upstream, which stays what it was.
func TestProbesThatWeLackSomethingFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := new(failing)
		why.errno.Store(uintptr(syscall.EMFILE))
		u, err := proxy.NewUpstream(proxy.UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, why)
		if err != nil {
			t.Fatal(err)
		}
		k := newKeeper(&Gateway{log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		c := k.startCheck(ctx, checkKey{"blog.example.test", proxy.NewPool([]*proxy.Upstream{u}, nil).Members()[0],
			config.Health{Path: "/", Interval: time.Minute, Timeout: time.Second, Fails: 1, Passes: 1}})
		for _, lacking := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
			why.errno.Store(uintptr(lacking))
			time.Sleep(5*time.Minute + time.Second)
			if h := c.health(); h != state.Unknown {
				t.Errorf("after %v: %v; want what it was, unknown", lacking, h)
			}
		}
		why.errno.Store(uintptr(syscall.EHOSTUNREACH))
		time.Sleep(time.Minute)
		if h := c.health(); h != state.Unhealthy {
			t.Errorf("without a route to it: %v; want unhealthy", h)
		}
		stop()
		k.work.Wait()
	})
}
