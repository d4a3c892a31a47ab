package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"strings"

	"detour/engine/accept"
	"detour/engine/memory"
	engine "detour/engine/server"
	"detour/engine/wire"
	_ "detour/gateway/xconnect" // extended CONNECT on HTTP/2; must not be left out
	"detour/proxy"
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
	Limits  engine.Limits
	Limiter *accept.Limiter // of open connections; nil = there is no limit
	Memory  *memory.Budget  // of large buffers and windows; nil = there is no limit

	// QUICResetKey lets HTTP/3 clients whose connection ended with an earlier
	// process, and who were not told, know that at once (RFC 9000, 10.3). 32 random
	// bytes, the same in each run; nil = they wait for a timeout.
	QUICResetKey []byte
}

// NewServer returns net/http's server behind detour's own accept loop, TLS
// handshakes and, for HTTP/1, wire.Guard.
func NewServer(o ServerOptions) Server {
	o.Limits = o.Limits.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Limiter == nil {
		o.Limiter = new(accept.Limiter)
	}
	s := &server{ServerOptions: o, idle: &idleConns{conns: make(map[net.Conn]*idleConn)}}
	o.Limiter.Join(s.idle.all)
	s.http = &http.Server{
		Handler:           guarded(proxy.LimitProgress(o.Handler, o.Limits.ProgressTimeout)),
		ReadHeaderTimeout: o.Limits.HeaderTimeout,
		IdleTimeout:       o.Limits.IdleTimeout,
		MaxHeaderBytes:    o.Limits.HeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: o.Limits.Streams},
		ErrorLog:          log.New(noise{o.Log}, "", 0),
		ConnContext:       withGuard,
		ConnState:         s.idle.note,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" is a request like others: routed, logged
	}
	return s
}

type server struct {
	ServerOptions
	http *http.Server
	idle *idleConns
}

func (s *server) Serve(l net.Listener) error {
	in := newIntake(l, s)
	err := s.http.Serve(in)
	in.wait()
	return err
}

func (s *server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

func (s *server) Close() error { return s.http.Close() }

// noise takes the lines net/http logs about its clients' mistakes. These are the
// internet's background noise and go to debug; a handler's panic is our mistake.
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

// guarded tells the connection's Guard when next takes the connection over: what
// follows an upgrade is not HTTP. HTTP/2 has no Guard, and no parser that strips the
// white space around values.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor > 1 {
			trimValues(r.Header)
		}
		if r.ProtoMajor == 1 && (r.Method == http.MethodConnect || r.Header["Upgrade"] != nil) {
			if g, ok := r.Context().Value(guardKey{}).(*wire.Guard); ok {
				w = hijackable{ResponseWriter: w, guard: g}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// trimValues removes the white space around values, which is not part of them (RFC
// 9110, 5.5). HTTP/1 upstreams strip it, so it must not make us see another value.
func trimValues(h http.Header) {
	for _, values := range h {
		for i, v := range values {
			values[i] = textproto.TrimString(v)
		}
	}
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
