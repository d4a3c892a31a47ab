package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/accept"
	"detour/proxy"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// quicKeepAlive keeps the path open for streams that are silent for long, such
	// as WebSockets: many NATs forget UDP after 30 s.
	quicKeepAlive = 15 * time.Second

	// quicLinger is how long clients have to fetch the last answers before the
	// connection is closed; net/http gives HTTP/2 the same.
	quicLinger = time.Second

	// quicStreamWindow and quicConnectionWindow limit how much a client can make
	// us hold of uploads that the upstream does not take. With a round trip of
	// 50 ms they still allow 300 Mbit/s per stream.
	quicStreamWindow     = 2 << 20
	quicConnectionWindow = 4 << 20

	// quicFirstPackets is the size of packets until larger ones are known to
	// arrive. quic-go's own, 1280, is more than IPv6 guarantees (RFC 9000, 14): on
	// a tunnel with the smallest MTU no handshake would end.
	quicFirstPackets = 1200

	// quicTrustedRate is how many handshakes a second begin without proof of the
	// client's address: far more than a small site ever sees, far fewer than a
	// flood from forged addresses has.
	quicTrustedRate = 100
)

// QUICServer is Server for HTTP/3. It owns the socket it serves, one in its
// life, and closes it at the end of Shutdown or Close.
type QUICServer struct {
	ServerOptions
	h3       *http3.Server
	inFlight atomic.Int64
	finished chan struct{} // takes a token when inFlight falls to zero

	mu        sync.Mutex // guards the rest; never held while waiting
	closed    bool
	listener  *quic.EarlyListener
	transport *quic.Transport
	conns     map[*quicConn]struct{}
}

// NewQUICServer returns an HTTP/3 server on quic-go. o.TLS must be set.
//
// Two things about its requests differ from net/http's: an extended CONNECT
// (RFC 9220) has its protocol in Request.Proto, not in Header[":protocol"], and
// a request without Content-Length has a length of -1 and a Body even when the
// stream ended with its header.
func NewQUICServer(o ServerOptions) *QUICServer {
	o.Limits = o.Limits.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Limiter == nil {
		o.Limiter = new(accept.Limiter)
	}
	s := &QUICServer{ServerOptions: o, finished: make(chan struct{}, 1), conns: make(map[*quicConn]struct{})}
	o.Limiter.Join(s.idlers)
	s.h3 = &http3.Server{
		Handler:        s.counted(likeNetHTTP(proxy.LimitProgress(o.Handler, o.Limits.ProgressTimeout))),
		MaxHeaderBytes: o.Limits.HeaderBytes,
		ConnContext:    s.connContext,
		// Its debug lines hold whole request URIs, secrets included.
		Logger: slog.New(onlyWarnings{o.Log.Handler()}),
	}
	return s
}

// recovering is conf with a GetCertificate that survives a panic: crypto/tls does
// QUIC's handshakes in goroutines of its own, where nobody else could recover.
func (s *QUICServer) recovering(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	certificate := conf.GetCertificate
	if certificate == nil {
		return conf
	}
	conf.GetCertificate = func(hello *tls.ClientHelloInfo) (c *tls.Certificate, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.Log.Error("TLS handshake panicked", "client", hello.Conn.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return certificate(hello)
	}
	return conf
}

// Serve is Server's, on a socket for UDP.
func (s *QUICServer) Serve(c net.PacketConn) error {
	l, err := s.listen(c)
	if err != nil {
		return err
	}
	return s.h3.ServeListener(limited{l, s})
}

// limited is a listener whose connections wait for a place. While one waits, quic-go
// keeps 32 more; it refuses others, and browsers then come over TCP.
type limited struct {
	*quic.EarlyListener
	server *QUICServer
}

// Accept is called by one goroutine.
func (l limited) Accept(ctx context.Context) (*quic.Conn, error) {
	c, err := l.EarlyListener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	if !l.server.Limiter.Enter(ctx, l.server.Log) {
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		return nil, context.Cause(ctx)
	}
	context.AfterFunc(c.Context(), l.server.Limiter.Leave)
	return c, nil
}

func (s *QUICServer) listen(c net.PacketConn) (*quic.EarlyListener, error) {
	// quic-go asks for larger UDP buffers in the standard logger, past ours, and
	// this is the only way to stop it.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, http.ErrServerClosed
	}
	if s.transport != nil {
		return nil, errors.New("serve QUIC: already serving another socket")
	}
	rate := new(handshakeRate)
	s.transport = &quic.Transport{Conn: lossy(c), VerifySourceAddress: func(net.Addr) bool {
		return rate.high() || s.Limiter.Scarce() // a forged address must not take one of the last places
	}}
	if s.QUICResetKey != nil {
		s.transport.StatelessResetKey = new(quic.StatelessResetKey(s.QUICResetKey))
	}
	l, err := s.transport.ListenEarly(http3.ConfigureTLSConfig(s.recovering(s.TLS)), &quic.Config{
		HandshakeIdleTimeout: s.Limits.HandshakeTimeout / 2, // quic-go gives the whole handshake twice this
		MaxIdleTimeout:       s.Limits.IdleTimeout,
		KeepAlivePeriod:      quicKeepAlive,
		MaxIncomingStreams:   int64(s.Limits.Streams),
		InitialPacketSize:    quicFirstPackets,

		InitialStreamReceiveWindow:     uint64(s.Memory.Socket()), // 0 = quic-go's, 512 and 768 KiB
		InitialConnectionReceiveWindow: uint64(s.Memory.Socket()),
		MaxStreamReceiveWindow:         quicStreamWindow,
		MaxConnectionReceiveWindow:     quicConnectionWindow,
		AllowConnectionWindowIncrease: func(c *quic.Conn, n uint64) bool {
			if !s.Memory.Take(int(n)) {
				return false
			}
			context.AfterFunc(c.Context(), func() { s.Memory.Give(int(n)) })
			return true
		},
		Allow0RTT: false, // early data can be replayed
	})
	s.listener = l
	return l, err
}

// Shutdown stops accepting, sends GOAWAY and waits for the requests in flight.
func (s *QUICServer) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return s.Close()
	}
	_ = l.Close()

	// http3 waits until clients leave, which those with nothing in flight need not
	// do soon. We wait for requests.
	graceful, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = s.h3.Shutdown(graceful)
	}()
	s.awaitIdle(ctx, gone)
	stop()
	<-gone
	return errors.Join(ctx.Err(), s.Close())
}

// awaitIdle returns when all clients have left, when no request has been in
// flight for quicLinger, or when ctx ends.
func (s *QUICServer) awaitIdle(ctx context.Context, gone <-chan struct{}) {
	for {
		var linger <-chan time.Time
		if s.inFlight.Load() == 0 {
			linger = time.After(quicLinger)
		}
		select {
		case <-gone:
			return
		case <-ctx.Done():
			return
		case <-s.finished:
		case <-linger:
			if s.inFlight.Load() == 0 {
				return
			}
		}
	}
}

// Close cuts everything at once.
func (s *QUICServer) Close() error {
	s.mu.Lock()
	s.closed = true
	l, t := s.listener, s.transport
	s.mu.Unlock()
	if t == nil {
		return nil
	}
	if l != nil {
		_ = l.Close()
	}
	// The connections first, so that each client is told.
	err := s.h3.Close()
	_ = t.Close()
	_ = t.Conn.Close()
	return err
}

// counted keeps inFlight, and the connection's count. A request is in flight until
// its answer is over, also while likeNetHTTP reads what nobody wants.
func (s *QUICServer) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := quicConnOf(r)
		c.requestBegins()
		s.inFlight.Add(1)
		defer func() {
			c.requestEnds(r.Context().Err() != nil)
			if s.inFlight.Add(-1) == 0 {
				select {
				case s.finished <- struct{}{}:
				default:
				}
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// handshakeRate counts the handshakes that begin in each second.
type handshakeRate struct {
	mu     sync.Mutex
	second int64 // unix time
	count  int   // handshakes in that second
}

// high counts one handshake and reports whether this second has seen too many
// to take the client's address on trust.
func (h *handshakeRate) high() bool { return h.highAt(time.Now().Unix()) }

func (h *handshakeRate) highAt(now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now != h.second {
		h.second, h.count = now, 0
	}
	h.count++
	return h.count > quicTrustedRate
}

// onlyWarnings passes on what matters to an operator.
type onlyWarnings struct{ slog.Handler }

func (h onlyWarnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h onlyWarnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyWarnings{h.Handler.WithAttrs(attrs)}
}

func (h onlyWarnings) WithGroup(name string) slog.Handler {
	return onlyWarnings{h.Handler.WithGroup(name)}
}
