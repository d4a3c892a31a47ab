package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"detour/config"

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
