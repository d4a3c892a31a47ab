package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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
