package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// echo is a WebSocket server that sends every message back.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// wsClient is the client's end of an open WebSocket, whatever carries it.
type wsClient interface {
	io.ReadWriteCloser
}

// openWebSocket opens a WebSocket to path by protocol and returns the stream of
// frames behind the handshake.
func openWebSocket(t testing.TB, e *edge, protocol, path string) wsClient {
	t.Helper()
	switch protocol {
	case "h1":
		return openH1(t, e, path)
	case "h2":
		return openH2(t, e, path)
	}
	return openH3(t, e, path)
}

func openH1(t testing.TB, e *edge, path string) wsClient {
	conn := e.dial(t, "http/1.1")
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\r\n", path, host)
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake = %d %v; want 101 with the accept of RFC 6455", res.StatusCode, res.Header)
	}
	if got := res.Header.Get("Sec-WebSocket-Protocol"); got != "chat" {
		t.Errorf("Sec-WebSocket-Protocol = %q; want chat", got)
	}
	return &struct {
		io.Reader
		io.WriteCloser
	}{br, conn}
}

// h2Stream is one extended CONNECT on a connection of its own, frame by frame.
type h2Stream struct {
	conn   net.Conn
	mu     sync.Mutex // guards framer's writing side
	framer *http2.Framer
	buf    bytes.Buffer
	reset  bool
}

// h2Connect sends an extended CONNECT and returns the stream and the answer's
// header fields.
func h2Connect(t testing.TB, e *edge, path, protocol string) (*h2Stream, map[string]string) {
	t.Helper()
	conn := e.dial(t, "h2")
	io.WriteString(conn, http2.ClientPreface)
	s := &h2Stream{conn: conn, framer: http2.NewFramer(conn, conn)}
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	s.framer.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := [][2]string{{":method", "CONNECT"}, {":scheme", "https"}, {":authority", host}, {":path", path}}
	if protocol == "" {
		fields = [][2]string{{":method", "CONNECT"}, {":authority", host}}
	} else {
		fields = append(fields, [2]string{":protocol", protocol})
	}
	fields = append(fields, [2]string{"sec-websocket-version", "13"}, [2]string{"sec-websocket-protocol", "chat"})
	for _, f := range fields {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: protocol == ""})
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				s.framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			answer := map[string]string{}
			for _, hf := range f.Fields {
				answer[hf.Name] = hf.Value
			}
			return s, answer
		case *http2.RSTStreamFrame:
			t.Fatalf("extended CONNECT was reset: %v", f.ErrCode)
		}
	}
}

func openH2(t testing.TB, e *edge, path string) wsClient {
	t.Helper()
	s, answer := h2Connect(t, e, path, "websocket")
	if answer[":status"] != "200" || answer["sec-websocket-protocol"] != "chat" || answer["sec-websocket-accept"] != "" {
		t.Fatalf("extended CONNECT = %v; want 200, the subprotocol and no accept", answer)
	}
	return s
}

func (s *h2Stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 16<<10)
		s.mu.Lock()
		err := s.framer.WriteData(1, false, rest[:n])
		s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (s *h2Stream) Read(p []byte) (int, error) {
	for s.buf.Len() == 0 {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			s.buf.Write(f.Data())
			if n := uint32(len(f.Data())); n > 0 {
				s.mu.Lock()
				s.framer.WriteWindowUpdate(0, n)
				s.framer.WriteWindowUpdate(1, n)
				s.mu.Unlock()
			}
			if f.StreamEnded() && s.buf.Len() == 0 {
				return 0, io.EOF
			}
		case *http2.RSTStreamFrame:
			s.reset = true
			return 0, errors.New("reset: " + f.ErrCode.String())
		}
	}
	return s.buf.Read(p)
}

func (s *h2Stream) Close() error { return s.conn.Close() }

func openH3(t testing.TB, e *edge, path string) wsClient {
	t.Helper()
	ctx := t.Context()
	tr := e.client(t, "h3").Transport.(*http3.Transport)
	conf := tr.TLSClientConfig.Clone()
	conf.NextProtos = []string{http3.NextProtoH3}
	conf.ServerName = host
	conn, err := quic.DialAddr(ctx, e.addr, conf, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	cc := tr.NewClientConn(conn)
	select {
	case <-cc.ReceivedSettings():
	case <-time.After(5 * time.Second):
		t.Fatal("no SETTINGS")
	}
	if !cc.Settings().EnableExtendedConnect {
		t.Fatal("the server does not offer extended CONNECT")
	}
	str, err := cc.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := newRequest(t, http.MethodConnect, "https://"+host+path, nil)
	req.Proto = "websocket"
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Protocol", "chat")
	if err := str.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	res, err := str.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Sec-WebSocket-Protocol") != "chat" {
		t.Fatalf("extended CONNECT = %d %v; want 200 and the subprotocol", res.StatusCode, res.Header)
	}
	return str
}

// wsFrame is one masked frame of a client.
func wsFrame(opcode byte, payload []byte) []byte {
	key := [4]byte{1, 2, 3, 4}
	b := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// readFrame reads one unmasked frame of a server.
func readFrame(t testing.TB, r io.Reader) (opcode byte, payload []byte) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("frame header: %v", err)
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		io.ReadFull(r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		io.ReadFull(r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		t.Fatalf("frame payload: %v", err)
	}
	return head[0] & 0x0f, payload
}

func eachWebSocket(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

func TestWebSocketEchoes(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	opened := 0
	eachWebSocket(t, func(t *testing.T, protocol string) {
		c := openWebSocket(t, r.edge, protocol, "/chat?room=1")
		for _, size := range []int{5, 200, 70_000} {
			message := bytes.Repeat([]byte("x"), size)
			var writing sync.WaitGroup // a long echo comes back while it is sent
			writing.Go(func() { c.Write(wsFrame(2, message)) })
			if op, got := readFrame(t, c); op != 2 || !bytes.Equal(got, message) {
				t.Fatalf("echo of %d bytes = opcode %d, %d bytes; want the same", size, op, len(got))
			}
			writing.Wait()
		}
		c.Write(wsFrame(8, []byte{3, 232}))
		if op, got := readFrame(t, c); op != 8 || !bytes.HasPrefix(got, []byte{3, 232}) {
			t.Errorf("answer to close = opcode %d, % x; want close 1000", op, got)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the close: %v; want EOF", err)
		}
		opened++
		lines := r.accessLog(t, 2*opened)
		last := lines[len(lines)-1]
		want := 101.0
		if protocol != "h1" {
			want = 200
		}
		if last["status"] != want || last["action"] != "proxy" {
			t.Errorf("access log = %v; want status %v, action proxy", last, want)
		}
	})
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
}

func TestWebSocketByALibrary(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	c, res, err := websocket.Dial(t.Context(), "wss://"+host+"/", &websocket.DialOptions{HTTPClient: r.client(t, "h1"), CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatalf("Dial: %v (%v)", err, res)
	}
	defer c.CloseNow()
	for i := range 100 {
		want := strings.Repeat("message ", i)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != want {
			t.Fatalf("Read = %q, %v; want %q", got, err, want)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestDrainClosesWebSockets(t *testing.T) {
	codes := make(chan websocket.StatusCode, 1)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		_, _, err = c.Read(r.Context())
		codes <- websocket.CloseStatus(err)
	}), rigOptions{})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			h := NewHandler(HandlerOptions{Table: r.handler.table.Load()})
			e := serve(t, serverKinds[0], h)
			c := openWebSocket(t, e, protocol, "/")
			drained := make(chan struct{})
			go func() { defer close(drained); h.Drain(t.Context(), 1012) }()
			if op, got := readFrame(t, c); op != 8 || binary.BigEndian.Uint16(got) != 1012 {
				t.Errorf("at the drain = opcode %d, % x; want close 1012", op, got)
			}
			if code := <-codes; code != websocket.StatusServiceRestart {
				t.Errorf("the upstream saw %v; want 1012", code)
			}
			c.Write(wsFrame(8, []byte{3, 0xf4}))
			select {
			case <-drained:
			case <-time.After(5 * time.Second):
				t.Fatal("Drain waits although both sides closed")
			}
		})
	}
}

// What breaks off at the end of the grace was cut by us: its client did not
// leave. Earlier it did.
func TestDrainDoesNotBlameTheClient(t *testing.T) {
	for _, path := range []string{"/download", "/silent"} {
		eachWebSocket(t, func(t *testing.T, protocol string) {
			r := newRig(t, busy(nil), rigOptions{})
			grace := &deadline{t.Context(), make(chan struct{})}
			r.handler.Drain(grace, 1001) // no WebSocket is open
			for i, want := range []error{errClientGone, errStopped} {
				c := r.client(t, protocol)
				ctx, cut := context.WithCancel(t.Context()) // to the handler it is the same as the server's Close
				c.Transport = inContext{c.Transport, ctx}
				broken := ask(c, "https://"+host+path)
				atUpstream(t, r, path)
				if want == errStopped {
					close(grace.passed)
				}
				cut()
				<-broken
				if line := r.accessLog(t, i+1)[i]; line["error"] != want.Error() || (line["status"] == 499.0) != (want == errClientGone) {
					t.Errorf("access log of %s = %v %v; want %q", path, line["status"], line["error"], want)
				}
			}
		})
	}
}

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

// An upgrade that its upstream agrees to when tunnels are being ended is
// refused: there would be nobody to say goodbye to it.
func TestNoUpgradeAtTheEnd(t *testing.T) {
	for _, way := range []string{"drain", "cut"} {
		for _, protocol := range []string{"h1", "h2"} {
			t.Run(way+"/"+protocol, func(t *testing.T) {
				var r *rig
				var ending sync.WaitGroup
				r = newRig(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if way == "drain" {
						r.handler.Drain(t.Context(), 1001)
					} else {
						r.reroute(t, func(rt *Route) { rt.Online = false })
						ending.Go(func() { r.handler.Cut(t.Context(), host, 1001) })
						eventually(t, "Cut waiting", func() bool { return !r.route.Stats.exchanges.mayUpgrade(onlyForwarding(r)) })
					}
					if c, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
						c.CloseNow()
					}
				}), rigOptions{})
				status := ""
				if protocol == "h2" {
					_, answer := h2Connect(t, r.edge, "/", "websocket")
					status = answer[":status"]
				} else {
					c := r.edge.dial(t, "http/1.1")
					fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Fatal(err)
					}
					status = res.Status[:3]
				}
				if status != "503" {
					t.Errorf("the handshake was answered with %s; want 503", status)
				}
				ending.Wait()
			})
		}
	}
}

// onlyForwarding is the one that is under way.
func onlyForwarding(r *rig) *forwarding {
	x := &r.route.Stats.exchanges
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.first
}

// A close frame may not tear a message apart that is on its way.
func TestDrainWaitsForTheEndOfAFrame(t *testing.T) {
	half, whole := make(chan struct{}), make(chan struct{})
	upstream := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: %s\r\n\r\n", websocketAccept(req.Header.Get("Sec-WebSocket-Key")))
		conn.Write([]byte{0x81, 6, 'a', 'b', 'c'})
		close(half)
		<-whole
		conn.Write([]byte{'d', 'e', 'f', 0x81, 1, 'x'}) // and one more message
		io.Copy(io.Discard, br)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: upstream}})
	c := openWebSocket(t, r.edge, "h1", "/")
	<-half
	first := make([]byte, 5)
	if _, err := io.ReadFull(c, first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { defer close(drained); r.handler.Drain(ctx, 1001) }()
	eventually(t, "goodbye due", func() bool { return r.handler.tunnels.stopped() })
	time.Sleep(20 * time.Millisecond) // a goodbye that is sent too early would be there now
	close(whole)
	rest := make([]byte, 7)
	if _, err := io.ReadFull(c, rest); err != nil || !bytes.Equal(rest, []byte{'d', 'e', 'f', 0x88, 2, 3, 0xe9}) {
		t.Errorf("behind half a frame: % x, %v; want its other half and a close frame", rest, err)
	}
	cancel() // neither side answers: they are cut
	select {
	case <-drained:
	case <-time.After(5 * time.Second):
		t.Fatal("Drain did not cut")
	}
}

func TestUpgradeOfAnyProtocol(t *testing.T) {
	upstream := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+req.Header.Get("X-Answer")+"\r\n\r\nhello ")
		data, _ := io.ReadAll(br) // until the client closes its half
		conn.Write(bytes.ToUpper(data))
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: upstream}})
	for _, tc := range []struct{ name, wish, answer, want string }{
		{"as wished", "raw/1", "raw/1", "101"},
		{"another case", "Raw", "raw", "101"},
		{"one of two", "raw/2, raw/1", "raw/1", "101"},
		{"mismatched", "raw", "cooked", "502"},
		{"unnamed", "raw", "", "502"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := e2e(t, r.edge, tc.wish, tc.answer)
			br := bufio.NewReader(conn)
			status, err := br.ReadString('\n')
			if err != nil || !strings.Contains(status, tc.want) {
				t.Fatalf("status line %q, %v; want %s", status, err, tc.want)
			}
			if tc.want != "101" {
				return
			}
			for line := status; line != "\r\n"; {
				if line, err = br.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			conn.CloseWrite()
			got, err := io.ReadAll(br)
			if want := "hello EARLY"; err != nil || string(got) != want {
				t.Errorf("behind the 101: %q, %v; want %q", got, err, want)
			}
		})
	}
}

// e2e sends an upgrade with bytes behind it that do not wait for the 101.
func e2e(t *testing.T, e *edge, wish, answer string) interface {
	net.Conn
	CloseWrite() error
} {
	conn := e.dial(t, "http/1.1")
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: %s\r\nX-Answer: %s\r\n\r\nearly", host, wish, answer)
	return conn
}

func TestUpgradeRefused(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/401":
			w.WriteHeader(http.StatusUnauthorized)
		case "/upgraded":
			fmt.Fprint(w, r.Header["Upgrade"] != nil)
		}
	}), rigOptions{})
	for _, tc := range []struct {
		name, path, upgrade string
		want                int
	}{
		{"the upstream's refusal passes", "/401", "websocket", 401},
		{"a WebSocket that was not switched", "/200", "websocket", 502},
		{"another protocol may be ignored", "/200", "raw", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, _ := r.raw(t, "GET "+tc.path+" HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: "+tc.upgrade+"\n\n")
			if res.StatusCode != tc.want {
				t.Errorf("status = %d; want %d", res.StatusCode, tc.want)
			}
		})
	}
	t.Run("h2c is not passed on", func(t *testing.T) {
		res, body := r.raw(t, "GET /upgraded HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: h2c\n\n")
		if res.StatusCode != 200 || body != "false" {
			t.Errorf("= %d %q; want an ordinary request", res.StatusCode, body)
		}
	})
	for path, want := range map[string]string{"/401": "401", "/200": "502"} {
		t.Run("extended CONNECT "+path, func(t *testing.T) {
			if _, answer := h2Connect(t, r.edge, path, "websocket"); answer[":status"] != want {
				t.Errorf("status = %s; want %s", answer[":status"], want)
			}
		})
	}
}

func TestPlainConnect(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	connect := func(host string, want int) {
		t.Helper()
		// Behind it the client may already send what is meant for the tunnel.
		res, _ := r.raw(t, "CONNECT "+host+":443 HTTP/1.1\nHost: "+host+":443\n\n")
		if res.StatusCode != want || !res.Close {
			t.Errorf("CONNECT %s on h1 = %d, close %v; want %d and a closed connection", host, res.StatusCode, res.Close, want)
		}
	}
	connect(host, http.StatusNotImplemented)
	connect("elsewhere.test", http.StatusMisdirectedRequest)
	r.reroute(t, func(rt *Route) { rt.Online = false })
	connect(host, http.StatusServiceUnavailable)
	r.reroute(t, func(rt *Route) { rt.Online = true })
	for _, protocol := range []string{"", "connect-udp"} {
		if _, answer := h2Connect(t, r.edge, "/", protocol); answer[":status"] != "501" {
			t.Errorf("CONNECT with :protocol %q on h2 = %s; want 501", protocol, answer[":status"])
		}
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

func TestFrames(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 1, 125, 126, 65_535, 65_536} {
		stream = append(stream, wsFrame(2, make([]byte, n))...)
	}
	stream = append(stream, closeFrame(1001, true)...)
	for _, step := range []int{1, 2, 3, 7, 1000, len(stream)} {
		f, ends := new(frames), 0
		for rest := stream; len(rest) > 0; {
			n := f.advance(rest[:min(step, len(rest))], false)
			if rest = rest[n:]; f.between() {
				ends++
			}
		}
		if ends != 7 || !f.closing {
			t.Errorf("in steps of %d: %d ends of frames, closing %v; want 7, true", step, ends, f.closing)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(wsFrame(1, []byte("hello")), 3)
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		cut = min(max(cut, 0), len(data))
		var whole, parts frames
		whole.advance(data, true)
		parts.advance(data[:cut], true)
		for rest := data[cut:]; len(rest) > 0; {
			n := parts.advance(rest, false)
			if n <= 0 {
				t.Fatalf("advance(% x) = %d; want progress", rest, n)
			}
			rest = rest[n:]
		}
		if whole != parts {
			t.Errorf("% x cut at %d: %+v; whole: %+v", data, cut, parts, whole)
		}
	})
}

// A peer that takes nothing holds a tunnel no longer than Drain allows, whatever
// carries it, and whichever end it is.
func TestDrainCutsPeersThatDoNotRead(t *testing.T) {
	for _, tt := range []struct {
		name     string
		upstream func(c *websocket.Conn) // until the test ends
		client   func(c wsClient)
	}{
		{"client", func(c *websocket.Conn) {
			for c.Write(context.Background(), websocket.MessageBinary, make([]byte, 32<<10)) == nil {
			}
		}, func(wsClient) {}},
		{"upstream", nil, func(c wsClient) {
			for frame := wsFrame(2, make([]byte, 32<<10)); ; {
				if _, err := c.Write(frame); err != nil {
					return
				}
			}
		}},
	} {
		for _, p := range protocols {
			if tt.upstream == nil && p == "h2" {
				continue // our client of HTTP/2 sends no more than fits the buffers
			}
			t.Run(tt.name+", "+p, func(t *testing.T) {
				over := make(chan struct{})
				r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
					if err != nil {
						return
					}
					defer c.CloseNow()
					if tt.upstream != nil {
						tt.upstream(c)
					} else {
						<-over
					}
				}), rigOptions{})
				defer close(over)
				c := openWebSocket(t, r.edge, p, "/")
				defer c.Close()
				go tt.client(c)
				r.handler.tunnels.mu.Lock()
				var tn *tunnel
				for tn = range r.handler.tunnels.open {
				}
				r.handler.tunnels.mu.Unlock()
				d := &tn.down
				if tt.upstream == nil {
					d = &tn.up
				}
				last, same := uint64(0), 0
				eventually(t, "write that blocks", func() bool {
					d.mu.Lock()
					defer d.mu.Unlock()
					if same++; !d.busy || d.writes != last {
						last, same = d.writes, 0
					}
					return same > 50 // for a tenth of a second
				})
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				drained := make(chan struct{})
				go func() { r.handler.Drain(ctx, 1001); close(drained) }()
				select {
				case <-drained:
				case <-time.After(5 * time.Second):
					t.Fatal("Drain hangs")
				}
			})
		}
	}
}
