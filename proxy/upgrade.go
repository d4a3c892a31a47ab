package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"detour/engine/lifetime"
	"detour/engine/socket"
)

// websocketToken names the only protocol whose frames we follow, to end it politely, and
// the only one that HTTP/2 and HTTP/3 carry here.
const websocketToken = "websocket"

// upgradeProtocol is the protocol that r wants to change to: the Upgrade field of
// HTTP/1.1, or :protocol of an extended CONNECT (RFC 8441, RFC 9220). "" = r is an
// ordinary request. Every other CONNECT is an error.
func upgradeProtocol(r *http.Request) (string, error) {
	if r.Method == http.MethodConnect {
		protocol := ""
		switch {
		case r.ProtoMajor == 2:
			protocol = r.Header.Get(":protocol")
		case r.ProtoMajor == 3:
			protocol = r.Proto // quic-go puts it there; "HTTP/3.0" is a plain CONNECT
		}
		if protocol != websocketToken {
			return "", errPlainConnect
		}
		return websocketToken, nil
	}
	wanted := r.Header["Upgrade"]
	if wanted == nil || r.ProtoMajor != 1 || r.ProtoMinor == 0 || !hasToken(r.Header["Connection"], "upgrade") {
		return "", nil
	}
	if hasToken(wanted, "h2c") {
		// In an h2c tunnel a client would write its own X-Forwarded-For, past
		// us. A server may ignore an Upgrade (RFC 9110, 7.8), and RFC 9113
		// abolished this one.
		return "", nil
	}
	return strings.Join(wanted, ", "), nil
}

// upgrade forwards a request to change the protocol. If the upstream agrees, the
// connections are joined; if it refuses, its answer is passed on like any other.
func (f *forwarding) upgrade(protocol string) {
	if f.handler.tunnels.stopped() {
		f.fail(errStopping)
		return
	}
	f.header["Connection"] = []string{"Upgrade"}
	f.header["Upgrade"] = []string{protocol}
	out, err := f.request()
	if err != nil {
		f.fail(err)
		return
	}
	out.Close = false // its connection serves nobody else anyway
	key := ""
	if f.r.Method == http.MethodConnect {
		key = websocketKey()
		out.Method = http.MethodGet
		f.header["Sec-Websocket-Key"] = []string{key}
	}
	f.upgrading = true
	res, err := f.roundTrip(out)
	if err != nil {
		f.failHeld(err)
		return
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		defer res.Body.Close()
		f.switchProtocols(res, protocol, key)
		return
	}
	if err := acceptRefusal(res, protocol); err != nil {
		res.Body.Close()
		f.fail(err)
		return
	}
	f.answer(res)
}

// switchProtocols passes the upstream's 101 on and joins the connections until
// both are done. The key is ours; "" = the client's.
func (f *forwarding) switchProtocols(res *http.Response, protocol, key string) {
	upstream, err := switched(res, protocol, key)
	if err == nil {
		err = f.noTunnel()
	}
	if err != nil {
		f.fail(err)
		return
	}
	extended := f.r.Method == http.MethodConnect
	client, greeting, err := f.switchClient(res, extended)
	if err != nil {
		f.abort(fmt.Errorf("%w: %w", errClientGone, err))
	}
	if s, ok := client.(*streamEnd); ok {
		defer s.leave() // it is closed by the handler's return
	} else {
		defer client.Close()
	}
	t := newTunnel(client, upstream, hasToken([]string{protocol}, websocketToken))
	t.memory = f.handler.memory
	// It is registered before the client knows of it, so that every client that was
	// told of the tunnel is also told of its end.
	if !f.handler.tunnels.add(t) {
		f.refuseTunnel(errStopping)
	}
	defer f.handler.tunnels.remove(t)
	if !f.rt.Stats.exchanges.upgraded(f, t) {
		f.refuseTunnel(errCut)
	}
	if err := t.greet(greeting); err != nil {
		f.abort(fmt.Errorf("%w: %w", errClientGone, err))
	}
	if extended {
		// The stream is not read while the upstream takes nothing, so reading does
		// not tell that the client is gone.
		stop := lifetime.AfterFunc(f, t.lastWords)
		defer stop()
	}
	f.rt.Stats.Streams.Add(1)
	defer f.rt.Stats.Streams.Add(-1)
	if t.run() {
		return
	}
	f.rec.Err = f.whyBroken(t)
	if extended {
		panic(http.ErrAbortHandler) // resets the stream; a hijacked connection is just closed
	}
}

// whyBroken is why t did not end cleanly.
func (f *forwarding) whyBroken(t *tunnel) error {
	if err := f.brokenOff(); err != nil {
		return err
	}
	switch {
	case f.handler.tunnels.stopped():
		return errStopped // it had said goodbye
	case t.stuck.Load():
		return errStuck
	}
	return errBrokenOff
}

// noTunnel is why f gets no tunnel any more; nil = it does.
func (f *forwarding) noTunnel() error {
	switch {
	case f.handler.tunnels.stopped():
		return errStopping
	case !f.rt.Stats.exchanges.mayUpgrade(f):
		return errCut
	}
	return nil
}

// refuseTunnel ends an upgrade whose connection was taken from its server just when
// upgrades ended. It is closed without an answer.
func (f *forwarding) refuseTunnel(err error) {
	f.rec.Status, f.rec.Err = failureStatus(err), err
	panic(http.ErrAbortHandler)
}

// acceptRefusal says why an answer other than 101 must not be passed on; nil = it may
// be. A success is no answer to a WebSocket handshake: to an extended CONNECT it would
// even mean consent.
func acceptRefusal(res *http.Response, protocol string) error {
	if hasToken([]string{protocol}, websocketToken) && res.StatusCode >= 200 && res.StatusCode < 300 {
		return fmt.Errorf("upstream answered a WebSocket handshake with %s", res.Status)
	}
	return nil
}

// switched checks a 101: it must name a protocol that was asked for, and know
// our key when the handshake is ours.
func switched(res *http.Response, protocol, key string) (stream, error) {
	got := res.Header.Get("Upgrade")
	if got == "" || !hasToken([]string{protocol}, got) {
		return nil, fmt.Errorf("upstream switched to %q; asked for %q", got, protocol)
	}
	if key != "" && res.Header.Get("Sec-Websocket-Accept") != websocketAccept(key) {
		return nil, errors.New("upstream's Sec-WebSocket-Accept does not fit the key")
	}
	s, ok := res.Body.(stream)
	if !ok {
		return nil, errors.New("upstream's connection cannot be written to after its 101")
	}
	return s, nil
}

// websocketKey is a new key: 16 random bytes in base64 (RFC 6455, 4.1).
func websocketKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// websocketAccept answers a key (RFC 6455, 4.2.2).
func websocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// switchClient takes over the client's end of the connection. The function greeting
// tells the client that the protocol is switched, and notes that in the access log.
func (f *forwarding) switchClient(res *http.Response, extended bool) (client clientStream, greeting func() error, err error) {
	header := f.w.Header()
	responseHeader(header, res, f.rt)
	delete(header, "Content-Length")
	if extended {
		delete(header, "Sec-Websocket-Accept")
		return &streamEnd{body: f.r.Body, w: f.w, rc: f.rc}, func() error {
			f.w.WriteHeader(http.StatusOK)
			f.rec.Upgraded(http.StatusOK)
			return f.rc.Flush()
		}, nil
	}
	header["Connection"] = []string{"Upgrade"}
	header["Upgrade"] = res.Header["Upgrade"]
	conn, buffered, err := f.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	end := &hijackedEnd{Conn: conn, early: bytes.NewReader(bytes.Clone(early))}
	return end, func() error {
		var head strings.Builder
		head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
		header.Write(&head) // a strings.Builder does not fail
		head.WriteString("\r\n")
		if _, err := io.WriteString(conn, head.String()); err != nil {
			return err
		}
		f.rec.Upgraded(http.StatusSwitchingProtocols)
		return nil
	}, nil
}

// hijackedEnd is the client's end of an upgraded HTTP/1.1 connection.
type hijackedEnd struct {
	net.Conn
	early *bytes.Reader // what the client sent before the 101
}

func (e *hijackedEnd) Read(p []byte) (int, error) {
	if e.early.Len() > 0 {
		return e.early.Read(p)
	}
	return e.Conn.Read(p)
}

func (e *hijackedEnd) CloseRead() error { return e.SetReadDeadline(time.Unix(1, 0)) }

func (e *hijackedEnd) CloseWrite() error { return socket.CloseWrite(e.Conn) }

// streamEnd is the client's end of an extended CONNECT. Only the handler's
// return closes its sending side.
type streamEnd struct {
	body io.ReadCloser
	w    http.ResponseWriter
	rc   *http.ResponseController

	mu   sync.Mutex // guards over
	over bool       // the handler returns, so w must not be touched any more
}

func (e *streamEnd) Read(p []byte) (int, error) { return e.body.Read(p) }

func (e *streamEnd) Write(p []byte) (int, error) {
	n, err := e.w.Write(p)
	if err == nil {
		err = e.rc.Flush()
	}
	return n, err
}

func (e *streamEnd) CloseWrite() error { return errors.ErrUnsupported }

func (e *streamEnd) CloseRead() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return net.ErrClosed
	}
	return e.rc.SetReadDeadline(time.Unix(1, 0))
}

// Close makes whatever reads or writes return. A cut may come when the tunnel is just
// over.
func (e *streamEnd) Close() error {
	err := e.CloseRead()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return net.ErrClosed
	}
	return errors.Join(err, e.rc.SetWriteDeadline(time.Unix(1, 0)))
}

// leave is called before the handler returns.
func (e *streamEnd) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}
