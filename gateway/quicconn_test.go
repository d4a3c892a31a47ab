package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"detour/gateway"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A connection is idle that has no request, whatever else it has; but not while
// one is under way, however long that takes.
func TestQUICServerIdle(t *testing.T) {
	const limit = time.Second // for a slow machine to begin its request in
	begun, release := make(chan struct{}), make(chan struct{})
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), func(o *gateway.ServerOptions) { o.Limits.IdleTimeout = limit })
	dial := func() *quic.Conn {
		c, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseWithError(0, "") })
		return c
	}
	ended := func(c *quic.Conn) {
		t.Helper()
		select {
		case <-c.Context().Done():
			var e *quic.ApplicationError
			if err := context.Cause(c.Context()); !errors.As(err, &e) || e.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
				t.Errorf("the connection ended with %v; want H3_NO_ERROR", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the connection goes on")
		}
	}

	half := dial()
	stream, err := half.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte("\x01\x40")); err != nil { // HEADERS, and half of its length
		t.Fatal(err)
	}
	ended(half)

	tr := s.transport(t)
	busy := dial()
	done := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
		res, err := tr.NewClientConn(busy).RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	select {
	case <-begun:
	case err := <-done: // so slow a machine that the connection was idle before
		t.Fatalf("the request did not begin: %v", err)
	}
	time.Sleep(2 * limit)
	close(release)
	if err := receive(t, "the answer", done); err != nil {
		t.Errorf("a request that took longer: %v", err)
	}
	ended(busy)
}

// Of a connection that has ended nothing stays, least of all what its client did
// not read.
func TestQUICServerKeepsNoUnreadAnswers(t *testing.T) {
	const visits, answers = 8, 200 // how streams and connection end is a matter of chance
	var begun, freed atomic.Int32
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 64<<10) // all together more than the client takes unread
		runtime.AddCleanup(&b[0], func(struct{}) { freed.Add(1) }, struct{}{})
		begun.Add(1)
		w.Write(b)
	}))
	for visit := range int32(visits) {
		c, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
		if err != nil {
			t.Fatal(err)
		}
		cc := s.transport(t).NewClientConn(c)
		for range answers {
			stream, err := cc.OpenRequestStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
			if err := stream.SendRequestHeader(req); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all answers to begin", func() bool { return begun.Load() == (visit+1)*answers })
		c.CloseWithError(0, "")
	}
	eventually(t, "all answers to be freed", func() bool {
		runtime.GC()
		return freed.Load() == visits*answers
	})
}

// Who takes back request after request makes work for nothing (CVE-2023-44487).
func TestQUICServerResets(t *testing.T) {
	const forgiven = 500 // a browser that leaves a page takes back 100
	begun := make(chan struct{})
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		select {
		case begun <- struct{}{}:
			<-r.Context().Done()
		case <-r.Context().Done():
		}
	}))
	c, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	cc := s.transport(t).NewClientConn(c)
	takeBack := func() error {
		stream, err := cc.OpenRequestStream(c.Context())
		if err != nil {
			return err
		}
		req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/wait", nil)
		if err := stream.SendRequestHeader(req); err != nil {
			return err
		}
		select {
		case <-begun:
		case <-c.Context().Done():
			return context.Cause(c.Context())
		}
		stream.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		stream.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		return nil
	}
	for range forgiven {
		if err := takeBack(); err != nil {
			t.Fatal(err)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+name+"/", nil)
	res, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatalf("after %d requests that were taken back: %v", forgiven, err)
	}
	res.Body.Close()

	until := time.Now().Add(30 * time.Second)
	for err = nil; err == nil && time.Now().Before(until); {
		err = takeBack()
	}
	var ended *quic.ApplicationError
	if !errors.As(context.Cause(c.Context()), &ended) || ended.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
		t.Errorf("taking back went on until %v; want H3_EXCESSIVE_LOAD", err)
	}
}
