package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"detour/engine/server"
)

// stall is the ProgressTimeout of these tests.
const stall = 500 * time.Millisecond

// verdict is where a handler's error goes.
type verdict chan error

// want waits for the end that a client leads to that makes no progress from start.
func (v verdict) want(t *testing.T, start time.Time) {
	t.Helper()
	select {
	case err := <-v:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the handler ended with %v; want %v", err, os.ErrDeadlineExceeded)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the handler was not cut within 10 s")
	}
	if took := time.Since(start); took < stall/2 {
		t.Errorf("cut after %v; want about %v", took, stall)
	}
}

func TestProgressCutsSilentUpload(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"Content-Length: 100\r\n\r\nbegun", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n0\r\nX: "} {
		eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			_, again := r.Body.Read(make([]byte, 1))
			if !errors.Is(again, os.ErrDeadlineExceeded) || r.Context().Err() == nil {
				err = fmt.Errorf("%w, then %v, context %v", err, again, r.Context().Err())
			}
			return err
		}, func(t *testing.T, dial func() net.Conn, ended verdict) {
			c := dial()
			start := time.Now()
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+head)
			ended.want(t, start)
			br := bufio.NewReader(c)
			answer(t, br, "POST")
			if _, err := br.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the answer: %v; want the end of the connection", err)
			}
		})
	}
}

// A body that nobody wanted is read for the connection's sake, but not for long.
func TestProgressCutsUnwantedDrip(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(http.ResponseWriter, *http.Request) error { return nil }, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(stall / 8):
					io.WriteString(c, "x")
				}
			}
		}()
		start := time.Now()
		answer(t, bufio.NewReader(c), "POST")
		if took := time.Since(start); took > 20*stall { // the body takes more than a minute
			t.Errorf("answered after %v; want about %v", took, stall)
		}
	})
}

func TestProgressCutsSilentReader(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 1 << 20, 64 << 20} {
		eachSocket(t, func(w http.ResponseWriter, r *http.Request) error {
			b := make([]byte, size)
			for {
				if _, err := w.Write(b); err != nil {
					if r.Context().Err() == nil {
						err = errors.New("the context lives on")
					}
					return err
				}
			}
		}, func(t *testing.T, dial func() net.Conn, ended verdict) {
			c := dial()
			defer c.Close()
			start := time.Now()
			io.WriteString(c, get)
			ended.want(t, start)
		})
	}
}

// A reader may be slow, also when what it reads was one Write, as long as it
// moves.
func TestProgressLeavesSlowReader(t *testing.T) {
	t.Parallel()
	const size = 12 << 20 // more than the buffers on the way hold, by far
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		if n, err := w.Write(make([]byte, size)); n != size || err != nil {
			t.Errorf("Write = %d, %v; want %d", n, err, size)
		}
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		got := 0
		for b := make([]byte, 1<<20); ; {
			n, err := io.ReadFull(c, b)
			if got += n; err != nil {
				break
			}
			<-time.After(stall / 3) // four times the limit in all
		}
		if got < size {
			t.Errorf("read %d bytes; want %d", got, size)
		}
	})
}

// The same over HTTP/2, whose writes are those of all answers of a connection.
func TestProgressLeavesSlowHTTP2Reader(t *testing.T) {
	t.Parallel()
	certificate() // as in eachTransport
	synctest.Test(t, testProgressLeavesSlowHTTP2Reader)
}

func testProgressLeavesSlowHTTP2Reader(t *testing.T) {
	const size = 200 << 10 // of which several writes are in one piece
	l := newMemory()
	serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Errorf("Write: %v", err)
		}
	}), func(o *server.Options) { secure(o); o.Limits.ProgressTimeout = stall })
	raw, err := l.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	conf := clientTLS()
	conf.NextProtos = []string{"h2"}
	c := tls.Client(slow{raw}, conf)
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: size})
	_ = f.WriteWindowUpdate(0, size)
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	for got := 0; got < size; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			got += len(data.Data())
		}
	}
}

// slow is a connection that takes 64 KiB, which are written at once, in twice the
// limit.
type slow struct{ net.Conn }

func (c slow) Read(p []byte) (int, error) {
	const steps = 64
	<-time.After(2 * stall / steps)
	return c.Conn.Read(p[:min(len(p), 64<<10/steps)])
}

// What the client is not asked for is not its fault.
func TestProgressLeavesSlowHandler(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		first := make([]byte, 1)
		io.ReadFull(r.Body, first)
		<-time.After(2 * stall) // with part of the body there
		rest, err := io.ReadAll(r.Body)
		r.Context().Done()
		<-time.After(2 * stall) // an upstream thinks
		fmt.Fprintln(w, string(first), len(rest), err, r.Context().Err())
		http.NewResponseController(w).Flush()
		<-time.After(2 * stall)
		io.WriteString(w, ".")
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		br := bufio.NewReader(c)
		for range 2 { // the second time on the same connection
			go fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("x", 1<<20))
			if _, got := answer(t, br, "POST"); got != "x 1048575 <nil> <nil>\n." {
				t.Errorf("answer %q", got)
			}
		}
	})
}

// A body that moves may take as long as it likes.
func TestProgressLeavesSlowUpload(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
		for range 12 {
			<-time.After(stall / 6)
			io.WriteString(c, "x")
		}
		if _, got := answer(t, bufio.NewReader(c), "POST"); got != "xxxxxxxxxxxx<nil>" {
			t.Errorf("answer %q; want what was sent", got)
		}
	})
}

// Nothing limits a stream of events, nor whoever reads it; but it does limit
// what comes after on the connection.
func TestProgressLeavesEventStream(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // more than the buffers on the way hold
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.Path != "/" {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		io.WriteString(w, "data: x\n\n")
		http.NewResponseController(w).Flush()
		<-time.After(2 * stall)
		w.Write(make([]byte, size))
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		br := bufio.NewReader(c)
		io.WriteString(c, get)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(4 * stall)
		if n, err := io.Copy(io.Discard, res.Body); n != 9+size || err != nil {
			t.Errorf("read %d bytes, %v; want %d", n, err, 9+size)
		}
		start := time.Now()
		io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
		ended.want(t, start)
	})
}

func TestProgressLeavesIdleConnection(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		io.Copy(w, r.Body)
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		br := bufio.NewReader(c)
		for range 2 {
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
			<-time.After(stall / 4)
			io.WriteString(c, "abc")
			if _, got := answer(t, br, "POST"); got != "abc" {
				t.Errorf("answer %q; want abc", got)
			}
			<-time.After(2 * stall)
		}
	})
}

func TestProgressLeavesHijackedConnection(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(w http.ResponseWriter, r *http.Request) error {
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return nil
		}
		defer c.Close()
		io.Copy(c, buffered)
		return nil
	}, func(t *testing.T, dial func() net.Conn, ended verdict) {
		c := dial()
		br := bufio.NewReader(c)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("upgrade: %v, %v", res, err)
		}
		const size = 16 << 20
		go func() {
			io.WriteString(c, "ping")
			<-time.After(2 * stall)
			c.Write(make([]byte, size)) // whose echo nobody reads at first
		}()
		<-time.After(4 * stall)
		if n, err := io.CopyN(io.Discard, br, 4+size); err != nil {
			t.Errorf("read %d bytes, %v; want %d", n, err, 4+size)
		}
	})
}

// What a handler allows the body that it reads is not for the rest that nobody
// wants: a client that sends no more of that is not waited for.
func TestProgressCutsUnwantedRest(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/lifted":
			rc.SetReadDeadline(time.Time{})
		case "/lifted/written":
			rc.SetReadDeadline(time.Time{})
			w.Write(make([]byte, 8<<10))
		case "/lifted/closed":
			rc.SetReadDeadline(time.Time{})
			r.Body.Close()
		case "/past":
			rc.SetReadDeadline(time.Unix(1, 0))
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
		case "/events/flushed":
			w.Header().Set("Content-Type", "text/event-stream")
			rc.Flush()
		}
	})
	for path, waits := range map[string]bool{"/": true, "/lifted": true, "/lifted/written": true, "/lifted/closed": true, "/past": false, "/events": true, "/events/flushed": true} {
		t.Run(path, func(t *testing.T) {
			limit := stall
			if !waits {
				limit = 16 * time.Second // nobody takes so long for the rest
			}
			c := serve(t, h, func(o *server.Options) { o.Limits.ProgressTimeout = limit }).dial(t)
			start := time.Now()
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbegun", path)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if took := time.Since(start); !res.Close || took > limit/2 != waits {
				t.Errorf("answer after %v, close %v; want the last, and a wait for the rest: %v", took, res.Close, waits)
			}
		})
	}
}

// A handler that lifted the limit reads on without one when the server has given
// up reading the rest for it.
func TestProgressLeavesLiftedBehindUnwantedRest(t *testing.T) {
	t.Parallel()
	const size = 600 << 10 // more than is read for nobody
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.SetReadDeadline(time.Time{})
		w.Write(make([]byte, 8<<10))
		rc.Flush()
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, " ", n > 0, err)
	}), func(o *server.Options) { o.Limits.ProgressTimeout = stall })
	c := s.dial(t)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", size, make([]byte, size/2))
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * stall)
	fmt.Fprintf(c, "%s\r\n0\r\n\r\n", make([]byte, size-size/2))
	if got, err := io.ReadAll(res.Body); err != nil || !strings.HasSuffix(string(got), " true <nil>") {
		t.Errorf("the answer ends with %.20q, %v; want the body read", got[min(len(got), 8<<10):], err)
	}
}
