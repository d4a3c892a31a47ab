package proxy

//lint:file-ignore SA1019 x/net's http2.Transport, because net/http's refuses :protocol

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// stall is the limit of these tests.
const stall = 500 * time.Millisecond

// verdict is where a handler says how its reading or writing ended.
type verdict chan error

func (v verdict) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-v:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the handler was not cut within 10 s")
		return nil
	}
}

func TestProgressCutsSilentUpload(t *testing.T) {
	t.Parallel()
	ended := make(verdict, 1)
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		body, feed := io.Pipe()
		defer feed.Close()
		start := time.Now()
		go c.Do(newRequest(t, http.MethodPost, url+"/", body))
		io.WriteString(feed, "begun")
		if err := ended.wait(t); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading the body ended with %v; want %v", err, os.ErrDeadlineExceeded)
		}
		if took := time.Since(start); took < stall/2 {
			t.Errorf("cut after %v; want about %v", took, stall)
		}
	})
}

// Whoever says application/grpc is cut like everybody else, unless the answer
// says it too.
func TestProgressCutsWhoOnlySaysGRPC(t *testing.T) {
	t.Parallel()
	ended := make(verdict, 1)
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		body, feed := io.Pipe()
		defer feed.Close()
		req := newRequest(t, http.MethodPost, url+"/", body)
		req.Header.Set("Content-Type", "application/grpc")
		go c.Do(req)
		io.WriteString(feed, "begun")
		if err := ended.wait(t); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading the body ended with %v; want %v", err, os.ErrDeadlineExceeded)
		}
	})
}

func TestProgressCutsSilentReader(t *testing.T) {
	t.Parallel()
	ended := make(verdict, 1)
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1<<20)
		for {
			if _, err := w.Write(b); err != nil {
				ended <- err
				panic(http.ErrAbortHandler)
			}
		}
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		res, err := c.Get(url + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := ended.wait(t); err == nil {
			t.Error("writing ended without an error")
		}
	})
}

// A client that moves may take as long as it likes, and so may an upstream.
func TestProgressLeavesWhatMoves(t *testing.T) {
	t.Parallel()
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a body that moves: %v", err)
		}
		<-time.After(stall * 3 / 2) // an upstream thinks
		w.Write(b)
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		t.Parallel()
		for range 2 { // the second time on the same connection
			body, feed := io.Pipe()
			go func() {
				for range 10 { // longer than the limit in all
					io.WriteString(feed, "x")
					<-time.After(stall / 8)
				}
				feed.Close()
			}()
			if _, got := do(t, c, newRequest(t, http.MethodPost, url+"/", body)); got != strings.Repeat("x", 10) {
				t.Errorf("answer %q; want what was sent", got)
			}
		}
	})
}

// The limit is about the client: a body that nobody reads for a while is not
// its fault.
func TestProgressLeavesSlowHandler(t *testing.T) {
	t.Parallel()
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(r.Body, first); err != nil {
			t.Error(err)
		}
		<-time.After(2 * stall)
		rest, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the rest: %v", err)
		}
		w.Write(append(first, rest...))
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		t.Parallel()
		want := strings.Repeat("abc", 1<<16)
		if _, got := do(t, c, newRequest(t, http.MethodPost, url+"/", strings.NewReader(want))); got != want {
			t.Errorf("answer of %d bytes; want %d", len(got), len(want))
		}
	})
}

func TestProgressLeavesEventStream(t *testing.T) {
	t.Parallel()
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		io.WriteString(w, "data: x\n\n")
		http.NewResponseController(w).Flush()
		<-time.After(2 * stall)
		io.WriteString(w, "data: x\n\n")
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		t.Parallel()
		if _, got := get(t, c, url+"/"); got != strings.Repeat("data: x\n\n", 2) {
			t.Errorf("stream %q; want two events", got)
		}
	})
}

// Whoever reads an event stream may stop for as long as it likes.
func TestProgressLeavesSilentReaderOfEvents(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // more than the buffers on the way hold
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(make([]byte, size))
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		t.Parallel()
		res, err := c.Get(url + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		<-time.After(2 * stall)
		if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
			t.Errorf("read %d bytes, %v; want %d", n, err, size)
		}
	})
}

// An idle connection must not inherit a deadline of its last request.
func TestProgressLeavesIdleConnection(t *testing.T) {
	t.Parallel()
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}), stall))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		t.Parallel()
		_, first := get(t, c, url+"/")
		<-time.After(2 * stall)
		if _, second := get(t, c, url+"/"); second != first {
			t.Errorf("after a pause the client came from %s; want the old connection from %s", second, first)
		}
	})
}

// echoUpgraded is a handler that answers an upgrade and then sends back what
// comes, as a WebSocket might.
func echoUpgraded(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if r.Method == http.MethodConnect {
		w.WriteHeader(http.StatusOK)
		rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	}
	conn, buffered, err := rc.Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	io.Copy(conn, buffered)
}

// openUpgraded opens such a connection with each protocol's own means.
func openUpgraded(t *testing.T, e *edge, protocol string) io.ReadWriter {
	t.Helper()
	switch protocol {
	case "h1":
		conn := e.dial(t, "http/1.1")
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		br := bufio.NewReader(conn)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("upgrade: %v, %v", res, err)
		}
		return struct {
			io.Reader
			io.Writer
		}{br, conn}
	case "h2":
		body, feed := io.Pipe()
		t.Cleanup(func() { feed.Close() })
		req := newRequest(t, http.MethodConnect, "https://"+host+"/", body)
		req.Header[":protocol"] = []string{"websocket"}
		tr := &http2.Transport{
			TLSClientConfig: &tls.Config{RootCAs: e.roots},
			DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) {
				return e.dial(t, "h2"), nil
			},
		}
		t.Cleanup(tr.CloseIdleConnections)
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return struct {
			io.Reader
			io.Writer
		}{res.Body, feed}
	}
	tr := e.client(t, "h3").Transport.(*http3.Transport)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	conf := http3.ConfigureTLSConfig(tr.TLSClientConfig)
	conf.ServerName = host
	conn, err := tr.Dial(ctx, "", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	cc := tr.NewClientConn(conn)
	<-cc.ReceivedSettings()
	stream, err := cc.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := newRequest(t, http.MethodConnect, "https://"+host+"/", nil)
	req.Proto = "websocket"
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.ReadResponse(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("extended CONNECT: %v, %v", res, err)
	}
	return stream
}

func TestProgressLeavesUpgradedConnection(t *testing.T) {
	t.Parallel()
	e := serve(t, usual(t), LimitProgress(http.HandlerFunc(echoUpgraded), stall))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := openUpgraded(t, e, protocol)
			for _, pause := range []time.Duration{0, 2 * stall} {
				<-time.After(pause)
				io.WriteString(s, "ping")
				got := make([]byte, 4)
				if _, err := io.ReadFull(s, got); err != nil || string(got) != "ping" {
					t.Fatalf("read %q, %v; want the echo", got, err)
				}
			}
		})
	}
}

func BenchmarkLimitProgress(b *testing.B) {
	body := make([]byte, 1<<10)
	h := LimitProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.Write(body)
	}), time.Minute)
	r := newRequest(b, http.MethodGet, "https://"+host+"/", nil)
	w := nopWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
