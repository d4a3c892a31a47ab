package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"detour/engine/client"
	"detour/engine/memory"
	"detour/engine/socket"
)

const (
	// dialTimeout is enough for two lost SYNs on a local network, where an
	// upstream lives; a visitor should not wait longer for a dead one.
	dialTimeout = 3 * time.Second
	// handshakeTimeout bounds the TLS handshake, for which a program has to have a
	// moment. One that is busy with something else is waited for as long as by the
	// standard library's own client.
	handshakeTimeout = 10 * time.Second
	// idleTimeout keeps connections while a visitor reads. Application servers close
	// them after 5 s to 75 s. If they say when, in Keep-Alive, engine/client stops
	// using them before; otherwise a request that met the dying connection is
	// repeated, if it may be.
	idleTimeout = 2 * time.Minute
	// onceIdleTimeout is idleTimeout for requests that must not be sent twice, as no
	// upstream closes sooner by default. http.Transport does not look at Keep-Alive.
	onceIdleTimeout = time.Second
	// idleConnections is how many are kept for each upstream, so that a burst that
	// comes again opens none (with 64 clients and 32 kept, dialling was a sixth of a
	// small request's cost). An application that cannot spare so many closes them
	// itself, when its keep-alive is over.
	idleConnections = 256
	// continueTimeout is how long "Expect: 100-continue" waits for an upstream
	// that does not know it. curl waits as long.
	continueTimeout = time.Second
	// responseHeaderLimit bounds what an upstream can make us hold: far over
	// every application's header, far below the memory of a router.
	responseHeaderLimit = 1 << 20
	// streamWindow is how much of an answer an HTTP/2 upstream may send ahead of a
	// visitor who is slow to take it. All of it may be held, so http.Transport's
	// own 4 MiB would let a hundred of them fill a small machine; over 20 ms of way
	// there and back it still lets 200 Mbit/s through.
	streamWindow = 512 << 10
	// formAtMost is the longest body that shares an HTTP/2 connection with everything
	// else. Some servers have one window for all bodies on it, of 1 MiB in Go, and one
	// upload that its application is slow to take keeps all of that: a form would wait.
	formAtMost = 64 << 10
	// patience is how long an upstream may acknowledge nothing that it is sent.
	// Over a gap of 25 s TCP gets by, which tries again after 12 s and 25 s. PINGs
	// of HTTP/2 are no way to find that out: gRPC servers end a connection that
	// brings more than two in five minutes, with the calls on it, and a program
	// that is busy may need longer to answer one than its machine.
	patience = 30 * time.Second
)

// UpstreamOptions name an upstream and how to talk to it. They are comparable:
// routes with equal options are meant to share one Upstream, and with it its
// connections.
type UpstreamOptions struct {
	Scheme          string        // "http", "https", "h2c" or "unix"
	Address         string        // host:port, or the path of a unix socket; without a port the scheme's
	RootsPEM        string        // for https: whom to believe; "" = the system's roots
	ServerName      string        // for https: the name in the certificate, and in the Host field; "" = the address's
	Insecure        bool          // for https: do not verify
	ResponseTimeout time.Duration // to the response header, and for a piece of the request's body, never for upgrades; 0 = no limit
	Engine          bool          // engine/client for http and unix; for the others http.Transport, over engine/socket

	Memory *memory.Budget // of large buffers; nil = there is no limit
}

// Upstream is where requests are forwarded, with the connections to it. It may
// be used by several goroutines at once.
type Upstream struct {
	name    string // for logs
	scheme  string // of the URL: http or https
	address string // of the URL; host:port
	host    string // the Host field to send; "" = the client's

	transport http.RoundTripper // for requests
	uploads   http.RoundTripper // for bodies that may fill an HTTP/2 connection's window; nil = there is none
	http1     http.RoundTripper // for what HTTP/2 or transport's rested connections are not for; nil = nothing
	speaks1   atomic.Bool       // transport's last answer came over HTTP/1
	upgrades  http.RoundTripper // for HTTP/1.1 upgrades
	brief     bool              // after the end of an answer transport does not use the request and its context any more, unless it had to dial
	limit     time.Duration     // for a piece of a body, if transport has none of its own; 0 = it has, or none is wanted

	inFlight atomic.Int64 // requests of all hosts, upgraded connections included
}

// NewUpstream makes an Upstream; nothing is dialled yet. If rt is not nil it carries all
// requests, upgrades included. It must behave like http.Transport, which is the default.
// That includes httptrace's GetConn, called before each attempt to get a connection, and
// GotConn: what fails between the two was not sent, and goes to another member or waits.
func NewUpstream(o UpstreamOptions, rt http.RoundTripper) (*Upstream, error) {
	u := &Upstream{name: o.Address, scheme: "http", address: o.Address, transport: rt, upgrades: rt}
	switch o.Scheme {
	case "http", "h2c":
		u.address = withPort(o.Address, "80")
		u.name = u.address
	case "https":
		u.scheme = "https"
		u.address = withPort(o.Address, "443")
		u.name = u.address
		u.host = u.address
		if _, port, err := net.SplitHostPort(u.address); err == nil && o.ServerName != "" {
			// It goes by that name: Apache answers 421 when TLS and the Host field differ.
			u.host = net.JoinHostPort(o.ServerName, port)
		}
		u.host = strings.TrimSuffix(u.host, ":443") // the default port is left out (RFC 9110, 4.2.2)
	case "unix":
		u.address = "localhost" // only a key for the connection pool
	default:
		return nil, fmt.Errorf("upstream %s: scheme %q is none of http, https, h2c, unix", o.Address, o.Scheme)
	}
	if rt != nil {
		return u, nil
	}
	dial := o.dial(u.address)
	if o.Engine && (o.Scheme == "http" || o.Scheme == "unix") {
		u.transport, u.upgrades = o.engineTransports(dial)
		u.brief = true
		return u, nil
	}
	if err := u.useNetHTTP(&o, dial); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Address, err)
	}
	return u, nil
}

// useNetHTTP gives u the transports of net/http.
func (u *Upstream) useNetHTTP(o *UpstreamOptions, dial dialFunc) error {
	tlsConfig, err := o.tlsConfig()
	if err != nil {
		return err
	}
	transport := o.transport(dial, tlsConfig, patience)
	transport.ResponseHeaderTimeout = o.ResponseTimeout
	transport.Protocols = o.protocols()

	// An upgrade speaks HTTP/1.1 whatever the requests speak, and its
	// application may take its time before it switches. No connection is kept:
	// only an upgrade that was refused leaves one, which it may have
	// authenticated. And a tunnel waits for its upstream as TCP does.
	upgrades := o.transport(dial, tlsConfig.Clone(), 0)
	upgrades.Protocols = new(http.Protocols)
	upgrades.Protocols.SetHTTP1(true)
	upgrades.DisableKeepAlives = true

	if o.Scheme == "h2c" || o.Scheme == "https" {
		uploads := o.transport(dial, tlsConfig.Clone(), patience)
		uploads.ResponseHeaderTimeout = o.ResponseTimeout
		uploads.Protocols = transport.Protocols
		u.uploads = uploads
	}
	if o.Scheme != "h2c" {
		http1 := o.transport(dial, tlsConfig.Clone(), patience)
		http1.ResponseHeaderTimeout = o.ResponseTimeout
		http1.Protocols = upgrades.Protocols
		http1.IdleConnTimeout = onceIdleTimeout
		u.http1 = http1
	}

	u.transport, u.upgrades = transport, upgrades
	u.limit = o.ResponseTimeout
	return nil
}

// String is the upstream's address for logs: "10.1.1.4:80", or a socket's path.
func (u *Upstream) String() string { return u.name }

// InFlight is how many requests u is working on, upgraded connections included.
func (u *Upstream) InFlight() int64 { return u.inFlight.Load() }

// Retire closes the connections that are idle now; the others are closed when their
// request is done, or soon after. Requests still work, so that whoever loaded an older
// Table a moment ago is served.
func (u *Upstream) Retire() {
	for _, rt := range []http.RoundTripper{u.transport, u.uploads, u.http1, u.upgrades} {
		if t, ok := rt.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
}

// transport has what requests and upgrades have in common. Proxy stays nil:
// HTTP_PROXY is meant for the way out of the house, not for the way in.
func (o *UpstreamOptions) transport(dial dialFunc, tlsConfig *tls.Config, patience time.Duration) *http.Transport {
	t := &http.Transport{
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true, // Accept-Encoding is the client's
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: responseHeaderLimit,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow},
	}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		if o.Engine {
			conn = socket.Direct(conn)
		}
		return &upstreamConn{Conn: conn, patience: patience, dropIdle: t.CloseIdleConnections}, nil
	}
	return t
}

// engineTransports are the engine's counterparts of two transports, for requests
// and for upgrades.
func (o *UpstreamOptions) engineTransports(dial dialFunc) (requests, upgrades *client.Transport) {
	options := client.Options{
		Dial:            dial,
		ResponseTimeout: o.ResponseTimeout,
		Patience:        patience,
		ContinueTimeout: continueTimeout,
		IdleTimeout:     idleTimeout,
		MaxIdle:         idleConnections,
		HeadLimit:       responseHeaderLimit,
		Memory:          o.Memory,
	}
	requests = client.New(options)
	options.ResponseTimeout, options.Patience, options.MaxIdle = 0, 0, 0 // for the reasons that useNetHTTP names
	return requests, client.New(options)
}

func (o *UpstreamOptions) protocols() *http.Protocols {
	p := new(http.Protocols)
	switch o.Scheme {
	case "h2c":
		p.SetUnencryptedHTTP2(true)
	case "https":
		p.SetHTTP1(true)
		p.SetHTTP2(true)
	default:
		p.SetHTTP1(true)
	}
	return p
}

// dialFunc opens a connection to one upstream.
type dialFunc func(context.Context) (net.Conn, error)

// dial opens connections to address, or to the unix socket that o names.
func (o *UpstreamOptions) dial(address string) dialFunc {
	network := "tcp"
	if o.Scheme == "unix" {
		network, address = "unix", o.Address
	}
	d := &net.Dialer{Timeout: dialTimeout, Control: func(_, _ string, c syscall.RawConn) error {
		if socket.Scarce(c) {
			return syscall.EMFILE // a Shortage
		}
		if window := o.Memory.Socket(); window > 0 && network == "tcp" {
			_ = socket.Frugal(c, window/2) // it works without; what is near is fast with less
		}
		return nil
	}}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, address) }
}

// upstreamConn lets an upstream have the last word. When one refuses an upload and closes,
// our writes fail while its answer can still be read, and http.Transport reports whichever
// it meets first. So such a write succeeds here, and reading tells what happened: it
// brings the answer, or finds the connection dead.
//
// Dead is also one whose peer acknowledges nothing for patience; 0 = it may. TCP
// itself would try for a quarter of an hour, and all requests on an HTTP/2
// connection with it.
type upstreamConn struct {
	net.Conn
	patience time.Duration
	dropIdle func()      // called when it is dead, for then others are
	reset    atomic.Bool // a write met a reset, which the system tells only once
	watched  atomic.Bool // look will be called
	vanished atomic.Bool // look closed it

	// Of whoever set watched.
	since time.Time   // from when on no acknowledgment is a silence
	watch *time.Timer // calls look; nil = nothing was written yet
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case err == nil:
	case c.vanished.Load():
		err = client.ErrVanished
	case err == io.EOF && c.reset.Load():
		err = syscall.ECONNRESET // no end of a body
	}
	return n, err
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	if c.patience > 0 && !c.watched.Swap(true) {
		c.since = time.Now()
		c.lookLater()
	}
	n, err := c.Conn.Write(p)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		c.reset.Store(true)
		return len(p), nil
	case errors.Is(err, syscall.EPIPE):
		return len(p), nil
	}
	return n, err
}

func (c *upstreamConn) lookLater() {
	const looks = 6 // until patience is over
	if c.watch == nil {
		c.watch = time.AfterFunc(c.patience/looks, c.look)
	} else {
		c.watch.Reset(c.patience / looks)
	}
}

// look closes c if of what was written before since nothing was acknowledged.
func (c *upstreamConn) look() {
	waited := time.Since(c.since)
	switch silence := socket.Silence(c.Conn); {
	case silence == 0: // all was, or c is closed
		c.watched.Store(false)
		return
	case silence < waited:
		c.since = time.Now()
	case waited >= c.patience:
		c.vanished.Store(true)
		c.dropIdle()
		c.Conn.Close()
		return
	}
	c.lookLater()
}

// rawConn is the connection below conn, which http.Transport has.
func rawConn(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if c, ok := conn.(*upstreamConn); ok {
		conn = c.Conn
	}
	return conn
}

// CloseWrite passes a half-close on.
func (c *upstreamConn) CloseWrite() error { return socket.CloseWrite(c.Conn) }

func (o *UpstreamOptions) tlsConfig() (*tls.Config, error) {
	const sessions = 64 // one upstream needs a few; resumption saves it the handshakes after a quiet hour
	conf := &tls.Config{
		ServerName:         o.ServerName,
		InsecureSkipVerify: o.Insecure, // the operator's word for a machine in the same house
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
	}
	if o.RootsPEM != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(o.RootsPEM)) {
			return nil, errors.New("no certificate in the roots' PEM")
		}
	}
	return conf, nil
}

// withPort adds the default port to an address that has none.
func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}
