package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/engine/accept"
	"detour/gateway"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// limitedTo has a server bound its connections.
func limitedTo(n int) func(o *gateway.ServerOptions) {
	return func(o *gateway.ServerOptions) {
		o.Limiter = new(accept.Limiter)
		o.Limiter.SetMax(n)
	}
}

// ask has c ask s, and says whether that took a new connection.
func ask(t *testing.T, c *http.Client, path string) (isNew bool) {
	t.Helper()
	req, _ := http.NewRequest("GET", "https://"+name+path, nil)
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { isNew = !i.Reused }}
	res, err := c.Do(req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || len(body) == 0 {
		t.Fatalf("answer %q, %v", body, err)
	}
	return isNew
}

// Idle connections make room for new ones, and their clients come back as if
// nothing had happened.
func TestLimitEndsIdleConnections(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), limitedTo(4))
	var clients []*http.Client
	for i := range 8 {
		clients = append(clients, s.client(t, protocols[i%2]))
	}
	for round := range 3 {
		connected := 0
		for _, c := range clients {
			if ask(t, c, "/") {
				connected++
			}
		}
		if connected < 4 {
			t.Errorf("round %d: %d of 8 clients had to connect; want all but those of 4 places", round, connected)
		}
	}
	if n := strings.Count(s.log.String(), `msg="all allowed connections are open" limit=4`); n != 1 {
		t.Errorf("%d lines about the limit; want 1\n%s", n, s.log)
	}
}

// While no connection is idle new ones wait, and then are served.
func TestLimitWaitsForBusyConnections(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		describe(w, r)
	}), limitedTo(3))
	answered := make(chan error, 10)
	get := func(c *http.Client, path string) {
		res, err := c.Get("https://" + name + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		answered <- err
	}
	for _, protocol := range []string{"h1", "h2"} {
		go get(s.client(t, protocol), "/slow")
		receive(t, "a slow request", arrived)
	}
	half := s.dial(t, "http/1.1") // and one that has begun to ask
	io.WriteString(half, "GET / HTTP/1.1\r\nHo")
	eventually(t, "the third", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return strings.Contains(s.log.String(), "all allowed connections are open")
	})
	const waiting = 5
	for i := range waiting {
		go get(s.client(t, protocols[i%2]), "/")
	}
	select {
	case err := <-answered:
		t.Errorf("a request beyond the limit got %v; want it to wait", err)
	case <-time.After(500 * time.Millisecond):
	}
	io.WriteString(half, "st: "+name+"\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(half), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the request that had begun got %v, %v", res, err)
	}
	for range waiting {
		if err := receive(t, "who waited", answered); err != nil {
			t.Errorf("who waited got %v", err)
		}
	}
	close(release)
	for range 2 {
		if err := receive(t, "a slow answer", answered); err != nil {
			t.Errorf("a slow request got %v", err)
		}
	}
}

// Connections over QUIC have their places, too: idle ones make room, busy ones are
// waited for.
func TestQUICServerLimit(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	log := &syncBuffer{}
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		describe(w, r)
	}), limitedTo(3), func(o *gateway.ServerOptions) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	answered := make(chan error, 10)
	get := func(tr *http3.Transport, path string) {
		defer tr.Close()
		res, err := (&http.Client{Transport: tr}).Get("https://" + name + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		answered <- err
	}
	dial := func() *quic.Conn {
		c, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseWithError(0, "") })
		return c
	}

	go get(s.transport(t), "/slow")
	receive(t, "a slow request", arrived)
	silent, half := dial(), dial()
	if stream, err := half.OpenStream(); err != nil {
		t.Fatal(err)
	} else if _, err := stream.Write([]byte("\x01\x40")); err != nil { // HEADERS, and half of its length
		t.Fatal(err)
	}
	for range 2 {
		go get(s.transport(t), "/slow")
		receive(t, "a newcomer's request", arrived)
	}
	for _, c := range []*quic.Conn{silent, half} {
		receive(t, "the end of an idle connection", c.Context().Done())
		var e *quic.ApplicationError
		if err := context.Cause(c.Context()); !errors.As(err, &e) || e.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
			t.Errorf("an idle connection ended with %v; want H3_NO_ERROR", err)
		}
	}
	if n := strings.Count(log.String(), `msg="all allowed connections are open" limit=3`); n != 1 {
		t.Errorf("%d lines about the limit; want 1\n%s", n, log)
	}

	go get(s.transport(t), "/")
	select {
	case err := <-answered:
		t.Errorf("a request got %v while all were busy; want it to wait", err)
	case <-time.After(500 * time.Millisecond):
	}
	dial().CloseWithError(0, "") // who leaves while waiting takes no place
	close(release)
	for range 4 {
		if err := receive(t, "an answer", answered); err != nil {
			t.Error(err)
		}
	}
}

// A connection is not idle while its client sends what was answered early: that
// answer is not over.
func TestQUICServerLimitSparesUploads(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(describe), limitedTo(1))
	body, upload := io.Pipe()
	req, _ := http.NewRequest(http.MethodPost, "https://"+name+"/", body)
	const pieces = 1000
	req.ContentLength = pieces
	tr := s.transport(t)
	sent := make(chan error, 1)
	hurry := make(chan struct{})
	go func() {
		for range pieces {
			if _, err := upload.Write([]byte("x")); err != nil {
				sent <- err
				return
			}
			select {
			case <-hurry:
			case <-time.After(100 * time.Millisecond):
			}
		}
		sent <- nil
	}()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answered := make(chan error, 1)
	go func() {
		res, err := s.client(t).Get("https://" + name + "/")
		if err == nil {
			res.Body.Close()
		}
		answered <- err
	}()
	time.Sleep(accept.Newcomer + accept.Newcomer/2) // in which the other one looks for a place
	close(hurry)
	if err := receive(t, "the end of the upload", sent); err != nil {
		t.Errorf("the upload: %v", err)
	}
	if got, err := io.ReadAll(res.Body); err != nil || len(got) == 0 {
		t.Errorf("the answer: %q, %v; want all of it", got, err)
	}
	tr.Close()
	if err := receive(t, "the answer of who waited", answered); err != nil {
		t.Error(err)
	}
}

// Who never answers, as its address is forged, gets none of the last places.
func TestQUICServerLimitIsForClientsThatAnswer(t *testing.T) {
	log := &syncBuffer{}
	var limiter *accept.Limiter
	s := serveQUIC(t, http.HandlerFunc(describe), limitedTo(2), func(o *gateway.ServerOptions) {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		limiter = o.Limiter
	})
	to, err := net.ResolveUDPAddr("udp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var forgers sync.WaitGroup
	defer forgers.Wait()
	defer cancel()
	for range 4 {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		forger := &deaf{PacketConn: c, heard: make(chan struct{}, 1)}
		forgers.Go(func() {
			defer c.Close()
			tr := &quic.Transport{Conn: forger}
			defer tr.Close()
			if _, err := tr.Dial(ctx, to, clientTLS(http3.NextProtoH3), nil); err == nil {
				t.Error("the handshake of a forger was done")
			}
		})
		receive(t, "the server's answer to a forger", forger.heard)
		eventually(t, "the first forger is counted", limiter.Scarce)
	}
	ask(t, s.client(t), "/")
	if strings.Contains(log.String(), "all allowed connections are open") {
		t.Errorf("forgers had all places\n%s", log)
	}
}

// deaf is a socket that takes nothing of what comes.
type deaf struct {
	net.PacketConn
	heard chan struct{}
}

func (d *deaf) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if _, _, err := d.PacketConn.ReadFrom(p); err != nil {
			return 0, nil, err
		}
		select {
		case d.heard <- struct{}{}:
		default:
		}
	}
}

// Whose connection over QUIC still waits for a place at the end is told of it.
func TestQUICServerLimitAtShutdown(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serveQUIC(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}), limitedTo(1))
	answered := make(chan error, 1)
	go func() {
		_, err := s.client(t).Get("https://" + name + "/")
		answered <- err
	}()
	receive(t, "a slow request", arrived)
	waiting, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.server.Shutdown(t.Context()) }()
	receive(t, "the end of the connection that waits", waiting.Context().Done())
	close(release)
	if err := receive(t, "the slow answer", answered); err != nil {
		t.Error(err)
	}
	if err := receive(t, "the end", stopped); err != nil {
		t.Error(err)
	}
}

// When there are no descriptors idle connections are ended, and others are not.
func TestExhaustionEndsIdleConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	full := &exhausted{Listener: l}
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serveOn(t, full, blockUntil(arrived, release, "done"), nil)
	go func() { receive(t, "the first request", arrived); release <- struct{}{} }()
	idle, busy := s.dial(t, "http/1.1"), s.client(t, "h1")
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
	br := bufio.NewReader(idle)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	answered := make(chan error, 1)
	go func() {
		res, err := busy.Get("https://" + name + "/")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		answered <- err
	}()
	receive(t, "the second request", arrived)
	full.fail.Store(true)
	waker, err := net.Dial("tcp", s.addr) // Accept fails from the one after it on
	if err != nil {
		t.Fatal(err)
	}
	defer waker.Close()
	if _, err := br.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("idle: %v; want its end", err)
	}
	full.fail.Store(false)
	close(release)
	if err := receive(t, "the answer", answered); err != nil {
		t.Errorf("busy: %v", err)
	}
	eventually(t, "a line about it", func() bool { return strings.Contains(s.log.String(), "too many open files") })
}
