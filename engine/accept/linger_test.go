package accept_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"detour/engine/accept"
)

func TestLinger(t *testing.T) {
	const limit = 30 * time.Second
	tests := []struct {
		name    string
		every   time.Duration // the client sends something so often; 0 = never
		closes  time.Duration // it ends its side then; 0 = never
		limit   time.Duration
		stopped time.Duration // the context ends then; 0 = never
		want    time.Duration
	}{
		{name: "the client closes", closes: time.Second, limit: limit, want: time.Second},
		{name: "silent", limit: limit, want: 5 * time.Second},
		{name: "silent, little time", limit: accept.Patience, want: accept.Patience},
		{name: "sends", every: 2 * time.Second, limit: limit, want: limit},
		{name: "sends rarely", every: 6 * time.Second, limit: limit, want: 5 * time.Second},
		{name: "sends, then stopped", every: 200 * time.Millisecond, limit: limit, stopped: 10 * time.Second, want: 10*time.Second + accept.Patience},
		{name: "silent, then stopped", limit: limit, stopped: time.Second, want: time.Second + accept.Patience},
		{name: "stopped at the end", every: time.Second, limit: limit, stopped: limit - accept.Patience/2, want: limit},
		{name: "stopped before", every: 200 * time.Millisecond, limit: limit, stopped: -1, want: accept.Patience},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.stopped < 0 {
					cancel()
				} else if tt.stopped > 0 {
					time.AfterFunc(tt.stopped, cancel)
				}
				if tt.closes > 0 {
					time.AfterFunc(tt.closes, func() { theirs.Close() })
				}
				if tt.every > 0 {
					var client sync.WaitGroup
					defer client.Wait()
					client.Go(func() {
						for err := error(nil); err == nil; {
							time.Sleep(tt.every)
							_, err = theirs.Write([]byte("x"))
						}
					})
				}
				start := time.Now()
				accept.Linger(ctx, ours, tt.limit)
				if took := time.Since(start); took != tt.want {
					t.Errorf("Linger took %v; want %v", took, tt.want)
				}
				ours.Close()
			})
		})
	}
}
