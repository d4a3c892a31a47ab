package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Of a tunnel that broke off the log says so, by whatever protocol.
func TestBrokenTunnelIsLogged(t *testing.T) {
	opened := make(chan struct{})
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: %s\r\n\r\n", websocketAccept(r.Header.Get("Sec-WebSocket-Key")))
		<-opened
		conn.(*net.TCPConn).SetLinger(0) // so that it is reset
	}), rigOptions{})
	lines := 0
	eachWebSocket(t, func(t *testing.T, protocol string) {
		openWebSocket(t, r.edge, protocol, "/")
		opened <- struct{}{}
		lines += 2
		if line := r.accessLog(t, lines)[lines-1]; line["connection"] != "closed" || line["error"] != errBrokenOff.Error() {
			t.Errorf("the last line is %v; want the error %q", line, errBrokenOff)
		}
	})
}

// inContext sends all requests in one context.
type inContext struct {
	http.RoundTripper
	ctx context.Context
}

func (c inContext) RoundTrip(r *http.Request) (*http.Response, error) {
	return c.RoundTripper.RoundTrip(r.WithContext(c.ctx))
}

// pipeEnd is an end of a tunnel without a network.
type pipeEnd struct{ net.Conn }

func (e pipeEnd) CloseRead() error  { return e.SetReadDeadline(time.Unix(1, 0)) }
func (e pipeEnd) CloseWrite() error { return errors.ErrUnsupported }

// Silence has no limit, but an end that takes nothing of what it is sent has
// one, whichever it is.
func TestStuckTunnelEnds(t *testing.T) {
	for _, upstreamIsStuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client, clientEnd := net.Pipe()
			upstream, upstreamEnd := net.Pipe()
			defer client.Close()
			defer upstream.Close()
			tn := newTunnel(pipeEnd{clientEnd}, pipeEnd{upstreamEnd}, false)
			tn.greet(func() error { return nil })
			clean := make(chan bool, 1)
			go func() { clean <- tn.run() }()
			talks, listens := upstream, client
			if upstreamIsStuck {
				talks, listens = client, upstream
			}
			go talks.Write([]byte("ab"))
			io.ReadFull(listens, make([]byte, 2))
			time.Sleep(10 * stuckWrite) // silence
			began := time.Now()
			go talks.Write([]byte("cd"))
			if <-clean || time.Since(began) != stuckWrite || !tn.stuck.Load() {
				t.Errorf("the tunnel ended after %v; want it cut after %v, with its reason", time.Since(began), stuckWrite)
			}
		})
	}
}

// pipeUpstream switches to WebSocket and hands out the other end.
type pipeUpstream chan net.Conn

func (u pipeUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	end, other := net.Pipe()
	u <- other
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Upgrade":                {"websocket"},
			"Sec-Websocket-Accept":   {websocketAccept(r.Header.Get("Sec-WebSocket-Key"))},
			"Sec-Websocket-Protocol": {"chat"},
		},
		Body: pipeEnd{end},
	}, nil
}

// A client that is gone is noticed also while the upstream takes nothing.
func TestClientLeavesStuckUpstream(t *testing.T) {
	upstreams := make(pipeUpstream, 1)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: "stuck"}, rt: func(UpstreamOptions) http.RoundTripper { return upstreams }})
	for _, protocol := range []string{"h2", "h3"} {
		t.Run(protocol, func(t *testing.T) {
			c := openWebSocket(t, r.edge, protocol, "/")
			upstream := <-upstreams
			defer upstream.Close()
			limited := func() bool {
				r.handler.tunnels.mu.Lock()
				defer r.handler.tunnels.mu.Unlock()
				for tn := range r.handler.tunnels.open {
					tn.mu.Lock()
					defer tn.mu.Unlock()
					return tn.timer != nil
				}
				return false
			}
			c.Write(wsFrame(1, []byte("hello")))
			if _, err := io.ReadFull(upstream, make([]byte, 1)); err != nil { // and no more
				t.Fatal(err)
			}
			if limited() {
				t.Error("the tunnel is limited although its client is there")
			}
			if s, ok := c.(*http3.RequestStream); ok {
				s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
				s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
			} else {
				c.Close()
			}
			eventually(t, "an end of the tunnel is set", limited)
			upstream.Close()
			eventually(t, "no tunnel", func() bool { return r.route.Stats.Streams.Load() == 0 })
		})
	}
}

// A peer that does not answer a close frame, or does not even read it, is not
// waited for longer than it takes to answer.
func TestGoodbyeIsLimited(t *testing.T) {
	for _, tt := range []struct{ reads, halfClosed bool }{{true, false}, {false, false}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			client, clientEnd := net.Pipe()
			upstream, upstreamEnd := net.Pipe()
			tn := newTunnel(pipeEnd{clientEnd}, pipeEnd{upstreamEnd}, true)
			if tt.reads {
				go io.Copy(io.Discard, client)
				go io.Copy(io.Discard, upstream)
			}
			if tt.halfClosed {
				tn.limit(halfClosed)
			}
			tn.greet(func() error { return nil })
			clean := make(chan bool, 1)
			go func() { clean <- tn.run() }()
			began := time.Now()
			tn.goodbye(1001)
			if <-clean || time.Since(began) != closeTimeout {
				t.Errorf("%+v: the tunnel ended after %v; want it cut after %v", tt, time.Since(began), closeTimeout)
			}
			tn.limit(time.Second) // nothing is left to be cut
			client.Close()
			upstream.Close()
			if tn.timer.Stop() {
				t.Errorf("%+v: a timer is left", tt)
			}
		})
	}
}

// Whoever ends tunnels may come at the moment in which the client is told that
// it has one. The close frame then follows the greeting at once.
func TestGoodbyeFollowsTheGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, clientEnd := net.Pipe()
		upstream, upstreamEnd := net.Pipe()
		go io.Copy(io.Discard, upstream)
		tn := newTunnel(pipeEnd{clientEnd}, pipeEnd{upstreamEnd}, true)
		var drain sync.WaitGroup
		drain.Go(func() { tn.goodbye(1001) })
		synctest.Wait()
		drain.Go(func() {
			if err := tn.greet(func() error { _, err := io.WriteString(clientEnd, "101"); return err }); err != nil {
				t.Error(err)
			}
			tn.run()
		})
		got := make([]byte, 7)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "101\x88\x02\x03\xe9" {
			t.Errorf("the client got %q, %v; want the greeting and a close frame", got, err)
		}
		client.Close()
		upstream.Close()
		drain.Wait()
	})
}

// A client that goes before it was greeted leaves nothing behind, whether
// somebody says goodbye just then or not.
func TestGreetingFails(t *testing.T) {
	for _, leaving := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, clientEnd := net.Pipe()
			_, upstreamEnd := net.Pipe()
			tn := newTunnel(pipeEnd{clientEnd}, pipeEnd{upstreamEnd}, true)
			var drain sync.WaitGroup
			if leaving {
				drain.Go(func() { tn.goodbye(1001) })
			}
			synctest.Wait()
			gone := errors.New("gone")
			if err := tn.greet(func() error { return gone }); err != gone {
				t.Errorf("greet() = %v; want %v", err, gone)
			}
			drain.Wait()
			if _, err := clientEnd.Write([]byte{0}); err != io.ErrClosedPipe {
				t.Errorf("the client's end = %v; want it closed", err)
			}
		})
	}
}

func TestTunnelsLeaveNoGoroutine(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	warm := openWebSocket(t, r.edge, "h1", "/")
	warm.Close()
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
	before := runtime.NumGoroutine()
	for range 20 {
		for _, p := range []string{"h1", "h2"} {
			c := openWebSocket(t, r.edge, p, "/")
			c.Write(wsFrame(2, []byte("x")))
			readFrame(t, c)
			c.Close() // without a goodbye
		}
	}
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
	// Up to 16 goroutines wait for the engine's next connection: another is
	// started when none is back from the one before, as on a busy machine. One
	// goroutine a tunnel would be 40.
	eventually(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before+18 })
}
