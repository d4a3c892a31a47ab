package server_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"detour/engine/server"
)

// eachTransport tests h with that limit, over our TLS, over TLS of the
// listener's, and without: in memory, in a bubble of synctest, where time passes
// only when all have done what they can, however busy the machine is.
func eachTransport(t *testing.T, h handler, test client) {
	certificate() // lives for an hour from now, and in a bubble it is the year 2000
	each(t, h, test, func(t *testing.T, over func(t *testing.T, l dialListener)) {
		synctest.Test(t, func(t *testing.T) { over(t, newMemory()) })
	})
}

// eachSocket is eachTransport over TCP, for what depends on the kernel's buffers.
func eachSocket(t *testing.T, h handler, test client) {
	each(t, h, test, func(t *testing.T, over func(t *testing.T, l dialListener)) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		over(t, sockets{l})
	})
}

type (
	handler func(w http.ResponseWriter, r *http.Request) error
	client  func(t *testing.T, dial func() net.Conn, ended verdict)
)

func each(t *testing.T, h handler, test client, run func(t *testing.T, over func(t *testing.T, l dialListener))) {
	for _, transport := range []string{"plaintext", "TLS", "listener TLS"} {
		over := func(t *testing.T, l dialListener) {
			ended := make(verdict, 1)
			accepts := net.Listener(l)
			if transport == "listener TLS" {
				conf := serverTLS()
				conf.NextProtos = []string{"http/1.1"}
				accepts = tls.NewListener(l, conf)
			}
			serveOn(t, accepts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := h(w, r); err != nil {
					ended <- err
				}
			}), func(o *server.Options) {
				o.Limits.ProgressTimeout = stall
				if transport == "TLS" {
					secure(o)
				}
			})
			test(t, func() net.Conn {
				c, err := l.dial()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if transport == "plaintext" {
					return c
				}
				return tls.Client(c, clientTLS())
			}, ended)
		}
		t.Run(transport, func(t *testing.T) { run(t, over) })
	}
}

// dialListener is a listener with a way to it.
type dialListener interface {
	net.Listener
	dial() (net.Conn, error)
}

type sockets struct{ net.Listener }

func (l sockets) dial() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }

// memory has connections without a kernel between their ends, and no buffers.
type memory struct {
	dialed chan net.Conn
	closed chan struct{}
}

func newMemory() memory { return memory{make(chan net.Conn), make(chan struct{})} }

func (l memory) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	l.dialed <- ours
	return theirs, nil
}

func (l memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l memory) Close() error { close(l.closed); return nil } // the server does it once

func (l memory) Addr() net.Addr { return new(net.UnixAddr) }
