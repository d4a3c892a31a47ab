package logging_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"detour/logging"
)

// An upgrade whose client sends bytes together with the handshake: all are
// counted, none is lost, and the half-close arrives.
func TestAccessLogUpgrade(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		rec := logging.RecordFrom(w)
		rec.Action = "proxy"
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Errorf("Hijack() = %v", err)
			return
		}
		defer conn.Close()
		rec.Upgraded(http.StatusSwitchingProtocols)
		rec.Upgraded(http.StatusSwitchingProtocols) // once is enough
		early := make([]byte, rw.Reader.Buffered())
		io.ReadFull(rw, early)
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Errorf("read: %v", err)
		}
		rw.WriteString("echo " + string(early) + line)
		rw.Flush()
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Errorf("CloseWrite() = %v", err)
		}
		io.Copy(io.Discard, conn)
	})
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	conn, err := tls.Dial("tcp", s.tcp.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("ReadResponse() = %v, %v", res, err)
	}
	opened := s.lines(1)[0]
	if opened.Status != 101 || opened.Connection != "opened" || opened.Size != 0 {
		t.Errorf("opening line: %+v", opened)
	}
	io.WriteString(conn, "late\n")
	answer, err := io.ReadAll(br)
	if want := "echo early late\n"; string(answer) != want || err != nil {
		t.Errorf("answer = %q, %v; want %q", answer, err, want)
	}
	conn.CloseWrite()
	closed := s.lines(2)[1]
	if closed.Status != 101 || closed.Connection != "closed" || closed.Size != int64(len("echo early late\n")) || closed.BytesRead != int64(len("early late\n")) {
		t.Errorf("closing line: %+v", closed)
	}
	if closed.Duration <= opened.Duration {
		t.Errorf("duration = %v; want more than %v", closed.Duration, opened.Duration)
	}
}

// A WebSocket over HTTP/3 (RFC 9220).
func TestAccessLogExtendedConnect(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush() = %v", err)
		}
		logging.RecordFrom(w).Upgraded(http.StatusOK)
		io.CopyN(w, r.Body, 5)
	})
	client, url := s.client("h3")
	conf := client.Transport.(*http3.Transport).TLSClientConfig.Clone()
	conf.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), strings.TrimPrefix(url, "https://"), conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	stream, err := new(http3.Transport).NewClientConn(conn).OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodConnect, url+"/ws", nil)
	req.Proto = "websocket"
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.ReadResponse(); err != nil || res.StatusCode != 200 {
		t.Fatalf("ReadResponse() = %v, %v", res, err)
	}
	opened := s.lines(1)[0]
	io.WriteString(stream, "hello")
	if answer, err := io.ReadAll(stream); string(answer) != "hello" || err != nil {
		t.Errorf("answer = %q, %v; want hello", answer, err)
	}
	closed := s.lines(2)[1]
	for _, e := range []entry{opened, closed} {
		if e.Status != 200 || e.Request.Method != "CONNECT" || e.Request.Proto != "HTTP/3.0" || e.Request.URI != "/ws" {
			t.Errorf("line: %+v", e)
		}
	}
	if opened.Connection != "opened" || closed.Connection != "closed" || closed.Size != 5 || closed.BytesRead != 5 {
		t.Errorf("opened: %+v\nclosed: %+v", opened, closed)
	}
}

func TestAccessLogHijackIsNotOfferedOverHTTP2(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack() = %v; want ErrNotSupported", err)
		}
		if _, ok := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http3.HTTPStreamer); ok != (r.ProtoMajor == 3) {
			t.Errorf("Unwrap leads to an HTTPStreamer = %v on %s", ok, r.Proto)
		}
	})
	for i, proto := range []string{"h2", "h3"} {
		client, url := s.client(proto)
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if e := s.lines(i + 1)[i]; e.Status != 200 {
			t.Errorf("%s: status = %d; want 200", proto, e.Status)
		}
	}
}
