package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/accept"
	"detour/engine/h2"
	"detour/engine/memory"
	"detour/engine/socket"
	"detour/engine/workers"
)

// Options is what a Server is made of.
type Options struct {
	// Handler is called for each request, "OPTIONS *" included. It must keep to
	// the rules of http.Handler and those of package lifetime, and may rely on
	// what net/http's server offers; http.ServerContextKey leads to an
	// *http.Server that merely stands for this one.
	Handler http.Handler
	// TLS is for connections that the listener returns without TLS; nil = they are
	// plaintext. A listener may also return *tls.Conn, with or without the
	// handshake done. Connections that agree on "h2" are served by engine/h2.
	TLS      *tls.Config
	Limits   Limits
	Limiter  *accept.Limiter // of open connections; nil = there is no limit
	Memory   *memory.Budget  // of large buffers and windows; nil = there is no limit
	ErrorLog *slog.Logger    // nil = silent
}

// Limits bounds what a client may take of a server. Zero fields stand for those of
// DefaultLimits, except for ProgressTimeout.
type Limits struct {
	HeaderBytes      int           // a request's head; more is answered 431
	HeaderTimeout    time.Duration // for a head to arrive
	IdleTimeout      time.Duration // of a connection between requests
	HandshakeTimeout time.Duration // for TLS
	Streams          int           // concurrent requests of one HTTP/2 or HTTP/3 connection

	// ProgressTimeout cuts a request whose client makes no progress for so long:
	// sends nothing of a body that is being read, or takes nothing of an answer
	// that is being written. The Read or Write fails with
	// os.ErrDeadlineExceeded. Time in which the handler waits for something else
	// does not count, and as long as something moves nothing limits its length or
	// duration. Streams that may be silent by design are left alone: answers of
	// type text/event-stream, hijacked connections, extended CONNECTs and gRPC
	// calls. With TLS only whole records, of 16 KiB at most, count as received,
	// and also as taken if TLS is the listener's. 0 = no limit.
	ProgressTimeout time.Duration
}

// DefaultLimits are the limits of a server on the open Internet. Those that HTTP/2
// has too are h2's, where the reasons stand.
func DefaultLimits() Limits {
	common := h2.DefaultLimits()
	return Limits{
		HeaderBytes:      common.HeaderBytes,
		HeaderTimeout:    common.HeaderTimeout,
		ProgressTimeout:  common.HeaderTimeout, // for the same phone
		IdleTimeout:      common.IdleTimeout,
		HandshakeTimeout: 10 * time.Second, // three retransmissions of a lost packet
		Streams:          common.Streams,
	}
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	l.HeaderBytes = cmp.Or(l.HeaderBytes, d.HeaderBytes)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, d.HeaderTimeout)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, d.IdleTimeout)
	l.HandshakeTimeout = cmp.Or(l.HandshakeTimeout, d.HandshakeTimeout)
	l.Streams = cmp.Or(l.Streams, d.Streams)
	return l
}

// Server serves HTTP/1.1, and HTTP/2 where Options say how. Make one with New.
// Its methods may be called from several goroutines.
type Server struct {
	Options
	identity *http.Server // what handlers find under http.ServerContextKey
	clock    clock
	refusals tally

	stopping atomic.Bool // Shutdown or Close was called

	// stop ends ctx, and with it what no request waits for: handshakes, pauses of
	// accept loops, lingering closes.
	ctx  context.Context
	stop context.CancelFunc

	loops   sync.WaitGroup // accept loops
	workers workers.Pool   // start connections, and do HTTP/2's work; all of it belongs to one of conns

	mu        sync.Mutex // guards the rest; not held during I/O
	listeners map[*listener]struct{}
	conns     map[*conn]struct{}
	drained   chan struct{} // closed when conns is empty; nil = nobody waits
}

// New returns a server that is ready for Serve.
func New(o Options) *Server {
	o.Limits = o.Limits.WithDefaults()
	if o.ErrorLog == nil {
		o.ErrorLog = slog.New(slog.DiscardHandler)
	}
	if o.Limiter == nil {
		o.Limiter = new(accept.Limiter)
	}
	s := &Server{
		Options:   o,
		identity:  &http.Server{Handler: o.Handler, TLSConfig: o.TLS, MaxHeaderBytes: o.Limits.HeaderBytes, IdleTimeout: o.Limits.IdleTimeout},
		refusals:  tally{log: o.ErrorLog},
		listeners: make(map[*listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	o.Limiter.Join(s.idlers)
	return s
}

// Serve accepts connections from l and serves them, each in a goroutine of its
// own, until l is closed or the server is stopped. It closes l, and returns
// http.ErrServerClosed after Shutdown or Close. Failures of Accept do not end it as
// long as l is open. It may be called for several listeners at once.
func (s *Server) Serve(l net.Listener) error {
	in := &listener{Listener: l}
	defer in.Close()
	if !s.opened(in) {
		return http.ErrServerClosed
	}
	defer s.loops.Done()
	defer s.closed(in)
	err := accept.Loop(s.ctx, in, s.Limiter, s.ErrorLog, s.greet)
	if s.stopping.Load() {
		return http.ErrServerClosed
	}
	return err
}

// Shutdown stops accepting, cuts connections that are idle or in their handshake,
// and waits until the others have finished their request. A client whose request's
// head has not arrived gets 1 s for it; one that is still sending when it was
// answered gets 500 ms to read the answer. If ctx ends first Shutdown returns its
// error; the rest goes on until Close ends it. Hijacked connections are not waited
// for.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.quit()
	s.mu.Lock()
	if s.drained == nil {
		s.drained = make(chan struct{})
		if len(s.conns) == 0 {
			close(s.drained)
		}
	}
	drained := s.drained
	s.mu.Unlock()
	for _, c := range s.open() {
		c.retire()
	}
	select {
	case <-drained: // also if ctx has ended
	default:
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.workers.Wait() // with no connection left, all of them just end
	return err
}

// Close cuts everything at once, except hijacked connections. The contexts of
// handlers end; Close waits neither for the handlers nor for what a handshake calls
// in the tls.Config.
func (s *Server) Close() error {
	err := s.quit()
	for _, c := range s.open() {
		c.cut()
	}
	return err
}

// quit ends the accept loops.
func (s *Server) quit() error {
	s.stopping.Store(true)
	s.stop()
	s.workers.Stop()
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.listeners))
	s.mu.Unlock()
	var errs []error
	for _, l := range open {
		errs = append(errs, l.Close())
	}
	s.loops.Wait()
	return errors.Join(errs...)
}

// opened registers l; false means that the server is stopping.
func (s *Server) opened(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.listeners[l] = struct{}{}
	s.loops.Add(1)
	return true
}

func (s *Server) closed(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// began registers c.
func (s *Server) began(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

// ended forgets c: it is closed, or belongs to the handler.
func (s *Server) ended(c *conn) {
	if c.batch != nil {
		c.batch.forget()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.drained != nil {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// open returns the connections.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// idlers yields the connections, for the Limiter.
func (s *Server) idlers(yield func(accept.Idler) bool) {
	for _, c := range s.open() {
		if !yield(c) {
			return
		}
	}
}

// listener is a net.Listener that closes once, and whose connections are direct.
type listener struct {
	net.Listener
	once sync.Once
	err  error
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return socket.Direct(nc), nil
}

func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// clock is the time of the Date field, formatted once a second.
type clock struct {
	now atomic.Pointer[date]
}

type date struct {
	second int64
	text   string
}

func (c *clock) date(now time.Time) string {
	second := now.Unix()
	d := c.now.Load()
	if d == nil || d.second != second {
		d = &date{second, now.UTC().Format(http.TimeFormat)}
		c.now.Store(d)
	}
	return d.text
}
