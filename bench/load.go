//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// request is what every connection of a load asks, and what it must get: any
// other answer fails the scenario.
type request struct {
	method   string
	path     string
	accept   string // Accept-Encoding
	body     int64  // bytes sent
	status   int
	encoding string // Content-Encoding of the answer
	size     int64  // bytes of the answer's body; 0 = whatever compression makes of it
}

var (
	getSmall     = request{method: "GET", path: "/small", accept: "gzip, deflate, br, zstd", status: 200, size: smallSize}
	getPageGzip  = request{method: "GET", path: "/page", accept: "gzip", status: 200, encoding: "gzip"}
	getPageZstd  = request{method: "GET", path: "/page", accept: "zstd", status: 200, encoding: "zstd"}
	getRedirect  = request{method: "GET", path: "/wiki/Page?lang=en", accept: "gzip, deflate, br, zstd", status: 302}
	getFile      = request{method: "GET", path: "/file", accept: "gzip, deflate, br, zstd", status: 200, size: fileSize}
	getDownload  = request{method: "GET", path: "/download", accept: "gzip, deflate, br, zstd", status: 200, size: downloadSize}
	postUpload   = request{method: "POST", path: "/upload", accept: "gzip, deflate, br, zstd", body: uploadSize, status: 200}
	openWSEcho   = request{method: "GET", path: "/echo", status: 101}
	browserLines = [][2]string{ // what browsers send besides; every contestant parses and forwards it
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
		{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		{"accept-language", "en-GB,en;q=0.7,de;q=0.3"},
		{"referer", "https://www.bench.test/articles/4711"},
		{"cookie", "session=0f9d8c7b6a5948372615; theme=dark"},
		{"sec-fetch-dest", "document"},
		{"sec-fetch-mode", "navigate"},
		{"sec-fetch-site", "same-origin"},
		{"priority", "u=0, i"},
	}
)

// tally counts what was answered. Each connection has its own.
type tally struct {
	requests int64
	bytes    int64 // of bodies as they came over the wire: answers, or the upload
}

// conn is one client.
type conn interface {
	// run asks again as long as more says so, waits for what is in flight and
	// counts in t. An answer that is not as wanted is an error.
	run(more func() bool, t *tally) error
	Close() error
}

// target is a contestant as clients see it.
type target struct {
	addr     string
	roots    *x509.CertPool
	curves   []tls.CurveID          // nil = Go's own
	sessions tls.ClientSessionCache // to be resumed; nil = none
}

func (t target) tlsConfig(host, alpn string) *tls.Config {
	return &tls.Config{
		RootCAs:            t.roots,
		ServerName:         host,
		NextProtos:         []string{alpn},
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   t.curves,
		ClientSessionCache: t.sessions,
	}
}

// handshake opens a TLS connection and makes sure that it is what all
// contestants are compared on.
func (t target) handshake(ctx context.Context, host, alpn string) (*tls.Conn, error) {
	d := tls.Dialer{Config: t.tlsConfig(host, alpn)}
	c, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	state := conn.ConnectionState()
	switch {
	case state.NegotiatedProtocol != alpn:
		err = fmt.Errorf("speaks %q; want %q", state.NegotiatedProtocol, alpn)
	case state.CipherSuite != tls.TLS_AES_128_GCM_SHA256:
		err = fmt.Errorf("took cipher %s; the others take TLS_AES_128_GCM_SHA256", tls.CipherSuiteName(state.CipherSuite))
	case t.curves != nil && state.CurveID != t.curves[0]:
		err = errNoCurve
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// errNoCurve is no failure: the contestant cannot do this key exchange.
var errNoCurve = errors.New("does not offer this key exchange")

// load is a set of open connections.
type load struct {
	conns []conn
	stop  func() bool // ends the watch on ctx
}

// openLoad opens n connections. The end of ctx closes them, so that nothing
// waits for a proxy that hangs.
func openLoad(ctx context.Context, n int, dial func(ctx context.Context, i int) (conn, error)) (*load, error) {
	l := &load{conns: make([]conn, n)}
	var g errgroup.Group
	g.SetLimit(16) // well below every contestant's listen queue
	for i := range n {
		g.Go(func() (err error) {
			l.conns[i], err = dial(ctx, i)
			return err
		})
	}
	err := g.Wait()
	l.stop = context.AfterFunc(ctx, l.closeConns)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *load) close() {
	l.stop()
	l.closeConns()
}

func (l *load) closeConns() {
	for _, c := range l.conns {
		if c != nil {
			_ = c.Close() // its work is done or given up
		}
	}
}

// run lets all connections ask until their pace ends, and sums up.
func (l *load) run(pace pace) (tally, error) {
	var (
		g     errgroup.Group
		mu    sync.Mutex
		total tally
	)
	for i, c := range l.conns {
		g.Go(func() error {
			var t tally
			err := c.run(pace(i), &t)
			mu.Lock()
			defer mu.Unlock()
			total.requests += t.requests
			total.bytes += t.bytes
			return err
		})
	}
	err := g.Wait()
	return total, err
}

// pace makes the more function of connection i.
type pace func(i int) func() bool

// closedLoop asks the next as soon as the last is answered, for d; each
// connection at least once.
func closedLoop(d time.Duration) pace {
	end := time.Now().Add(d)
	return func(int) func() bool {
		first := true
		return func() bool {
			again := first || time.Now().Before(end)
			first = false
			return again
		}
	}
}

// once asks one request a connection.
func once() pace { return closedLoop(0) }

// openLoop asks rate requests a second over n connections, evenly, for d.
func openLoop(rate, n int, d time.Duration) pace {
	start := time.Now()
	end := start.Add(d)
	step := time.Second * time.Duration(n) / time.Duration(rate)
	return func(i int) func() bool {
		next := start.Add(step * time.Duration(i) / time.Duration(n))
		return func() bool {
			if !next.Before(end) {
				return false
			}
			time.Sleep(time.Until(next))
			next = next.Add(step)
			return true
		}
	}
}
