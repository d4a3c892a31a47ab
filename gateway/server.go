package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"detour/engine/wire"
	_ "detour/gateway/xconnect" // extended CONNECT on HTTP/2; must not be left out
)

// Server is the shape of http.Server that the gateway needs. Serve blocks and
// returns http.ErrServerClosed after Shutdown or Close; it may be called for
// several listeners at once.
type Server interface {
	Serve(l net.Listener) error
	// Shutdown stops accepting, tells clients to go (GOAWAY), waits for the
	// requests in flight until ctx ends, and returns ctx's error if it had to
	// stop waiting; Close is the caller's next step then. Upgraded connections
	// are the handler's: they are not waited for.
	Shutdown(ctx context.Context) error
	// Close cuts everything at once, except upgraded connections.
	Close() error
}

// ServerOptions is what a server is made of.
type ServerOptions struct {
	Handler http.Handler
	TLS     *tls.Config  // from TLSConfig; nil = plaintext, HTTP/1 only
	Log     *slog.Logger // nil = silent
	Limits  Limits       // zero fields = those of DefaultLimits
}

// Limits bounds what a client may take of a server.
type Limits struct {
	HeaderBytes      int           // a request's head; more is answered 431
	HeaderTimeout    time.Duration // for a head to arrive
	IdleTimeout      time.Duration // of a connection between requests
	HandshakeTimeout time.Duration // for TLS
	Streams          int           // concurrent requests of one HTTP/2 or HTTP/3 connection
}

// DefaultLimits are the limits of a gateway on the open Internet.
func DefaultLimits() Limits {
	return Limits{
		HeaderBytes:      64 << 10,         // cookies of single sign-on come to 16 KiB; nobody honest sends four times that
		HeaderTimeout:    60 * time.Second, // a phone that loses its network in mid-request comes back within that
		IdleTimeout:      5 * time.Minute,  // Caddy's; longer than the 4 minutes that NATs and load balancers keep
		HandshakeTimeout: 10 * time.Second, // three retransmissions of a lost packet
		Streams:          250,              // Go's and Caddy's default; browsers use up to 100
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.HeaderBytes == 0 {
		l.HeaderBytes = d.HeaderBytes
	}
	if l.HeaderTimeout == 0 {
		l.HeaderTimeout = d.HeaderTimeout
	}
	if l.IdleTimeout == 0 {
		l.IdleTimeout = d.IdleTimeout
	}
	if l.HandshakeTimeout == 0 {
		l.HandshakeTimeout = d.HandshakeTimeout
	}
	if l.Streams == 0 {
		l.Streams = d.Streams
	}
	return l
}

// NewServer returns net/http's server behind detour's own accept loop, TLS
// handshakes and, for HTTP/1, wire.Guard.
func NewServer(o ServerOptions) Server {
	o.Limits = o.Limits.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{ServerOptions: o}
	s.http = &http.Server{
		Handler:           guarded(o.Handler),
		ReadHeaderTimeout: o.Limits.HeaderTimeout,
		IdleTimeout:       o.Limits.IdleTimeout,
		MaxHeaderBytes:    o.Limits.HeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: o.Limits.Streams},
		ErrorLog:          log.New(noise{o.Log}, "", 0),
		ConnContext:       withGuard,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" is a request like others: routed, logged
	}
	return s
}

type server struct {
	ServerOptions
	http *http.Server
}

func (s *server) Serve(l net.Listener) error {
	in := newIntake(l, s.TLS, s.Limits, s.Log)
	err := s.http.Serve(in)
	in.wait()
	return err
}

func (s *server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

func (s *server) Close() error { return s.http.Close() }

// noise takes the lines net/http writes about its clients' mistakes. They are
// the Internet's weather and go to debug; a handler's panic is ours.
type noise struct{ log *slog.Logger }

func (n noise) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.Contains(text, ": panic serving ") {
		n.log.Error("handler panicked", "detail", text)
	} else {
		n.log.Debug("http server", "detail", text)
	}
	return len(line), nil
}

// guardKey finds a connection's wire.Guard in the context of its requests.
type guardKey struct{}

func withGuard(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *wire.Guard:
		return context.WithValue(ctx, guardKey{}, c)
	case guardedTLS:
		return context.WithValue(ctx, guardKey{}, c.Guard)
	}
	return ctx
}

// guarded tells the connection's Guard when next takes the connection over:
// what follows an upgrade is not HTTP. Only requests that ask for one can.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.Method == http.MethodConnect || r.Header["Upgrade"] != nil) {
			if g, ok := r.Context().Value(guardKey{}).(*wire.Guard); ok {
				w = hijackable{ResponseWriter: w, guard: g}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// hijackable is net/http's response writer of an upgrade request.
type hijackable struct {
	http.ResponseWriter
	guard *wire.Guard
}

func (h hijackable) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h hijackable) Flush() { _ = http.NewResponseController(h.ResponseWriter).Flush() }

func (h hijackable) FlushError() error { return http.NewResponseController(h.ResponseWriter).Flush() }

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.guard.PassThrough() // net/http has stopped reading by now
	}
	return c, buffered, err
}
