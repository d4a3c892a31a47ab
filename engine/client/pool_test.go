package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestConnectionIsReused(t *testing.T) {
	noLeaks(t)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		serveAll(okAB)(c, r)
	})
	rt := newClient(t, addr, nil)
	for range 10 {
		mustGet(t, rt, addr, "ab")
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, strings.NewReader("x"))); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v", body, err)
		}
		if res, _, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other; want 1", n)
	}
}

// A connection that the upstream closed is noticed before anything is sent, so
// requests that must not be sent twice do not fail either.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	noLeaks(t)
	closed := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, okAB)
		c.Close()
		closed <- true
	})
	rt := newClient(t, addr, nil)
	for range 5 {
		body := io.Reader(strings.NewReader("x"))
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, body)); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v; want ab", body, err)
		}
		<-closed
	}
}

// okABKept is okAB with a Keep-Alive field.
func okABKept(field string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\nKeep-Alive: " + field + "\r\n\r\nab"
}

// What an upstream says in Keep-Alive holds for the connection.
func TestKeepAlive(t *testing.T) {
	for field, want := range map[string]int32{
		"timeout=600, max=100": 1, "max=100": 1, "timeout=soon": 1, "timeout=0": 3, "timeout=600, max=0": 3,
	} {
		t.Run(field, func(t *testing.T) {
			noLeaks(t)
			var conns atomic.Int32
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				conns.Add(1)
				serveAll(okABKept(field))(c, r)
			})
			rt := newClient(t, addr, nil)
			for range 3 {
				mustGet(t, rt, addr, "ab")
			}
			if n := conns.Load(); n != want {
				t.Errorf("%d connections for 3 requests; want %d", n, want)
			}
		})
	}
}

// A connection that its upstream is about to close is not used again: what must
// not be sent twice would fail on it.
func TestConnectionAboutToCloseIsNotUsed(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) { // closes as soon as a second request is there
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, okABKept("timeout=1, max=100"))
			r.ReadByte()
		}
	})
	rt := newClient(t, addr, nil)
	for i := range 2 {
		if i > 0 {
			time.Sleep(600 * time.Millisecond) // what is tested is that time passes: over half of the second
		}
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, strings.NewReader("x"))); err != nil || body != "ab" {
			t.Fatalf("POST %d = %q, %v; want ab", i, body, err)
		}
	}
}

// Nor is one that has rested, if what is sent on it must not be sent twice and the
// upstream does not say when it closes.
func TestRestedConnection(t *testing.T) {
	const rested, fresh = -maxRest, time.Hour // the latter however slow the machine is
	tests := []struct {
		name, method string
		body         io.Reader
		answer       string
		asked        time.Duration // from now
		want         int32         // connections
	}{
		{"POST", http.MethodPost, strings.NewReader("x"), okAB, rested, 2},
		{"POST without a body", http.MethodPost, nil, okAB, rested, 2},
		{"PUT", http.MethodPut, strings.NewReader("x"), okAB, rested, 2},
		{"POST at once", http.MethodPost, strings.NewReader("x"), okAB, fresh, 1},
		{"POST to whom says how long", http.MethodPost, strings.NewReader("x"), okABKept("timeout=600"), rested, 1},
		{"GET", http.MethodGet, nil, okAB, rested, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			var conns atomic.Int32
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				conns.Add(1)
				serveAll(tt.answer)(c, r)
			})
			rt := newClient(t, addr, nil).(*Transport)
			mustGet(t, rt, addr, "ab")
			if n := idleCount(rt); n != 1 {
				t.Fatalf("%d connections are kept; want 1", n)
			}
			rt.idle[0].asked = time.Now().Add(tt.asked)
			if _, body, err := roundTrip(t, rt, request(t, tt.method, addr, tt.body)); err != nil || body != "ab" {
				t.Fatalf("%s = %q, %v; want ab", tt.method, body, err)
			}
			if n := conns.Load(); n != tt.want {
				t.Errorf("%d connections for 2 requests; want %d", n, tt.want)
			}
		})
	}
}

// It takes but one of those that rest with it: the others will do for a GET.
func TestRestedConnectionsStay(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, serveAll(okAB))
	rt := newClient(t, addr, nil).(*Transport)
	post := request(t, http.MethodPost, addr, strings.NewReader("x"))
	var rested []*conn
	for range 3 {
		c, err := rt.conn(t.Context(), post, true)
		if err != nil {
			t.Fatal(err)
		}
		rested = append(rested, c)
	}
	for _, c := range rested {
		rt.put(c) // never asked: for longer than any
	}
	if _, _, err := roundTrip(t, rt, post); err != nil {
		t.Fatal(err)
	}
	if n := idleCount(rt); n != len(rested) {
		t.Errorf("%d connections are kept of %d when a POST has taken a new one; want as many", n, len(rested))
	}
}

// The upstream counts from its answer, however long it took over it.
func TestSlowAnswerKeepsItsConnection(t *testing.T) {
	noLeaks(t)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for i := range 2 {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if i == 0 {
				time.Sleep(2100 * time.Millisecond) // what is tested is that time passes: over the two seconds
			}
			io.WriteString(c, okABKept("timeout=3, max=100"))
		}
	})
	rt := newClient(t, addr, nil)
	for range 2 {
		mustGet(t, rt, addr, "ab")
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 2 requests; want 1", n)
	}
}

// The last answer on a connection counts.
func TestKeepAliveIsOfTheLastAnswer(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for _, answer := range []string{okABKept("timeout=600"), okAB} {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, answer)
		}
		r.ReadByte()
	})
	rt := newClient(t, addr, nil).(*Transport)
	for i, want := range []bool{true, false} {
		mustGet(t, rt, addr, "ab")
		if n := idleCount(rt); n != 1 {
			t.Fatalf("%d connections are kept after answer %d; want 1", n, i)
		}
		if got := !rt.idle[0].usable.IsZero(); got != want {
			t.Errorf("after answer %d the connection's use is limited: %v; want %v", i, got, want)
		}
	}
}

// Bytes that come behind an answer, when it has been read, never become the
// next one.
func TestLateBytesAreNoAnswer(t *testing.T) {
	noLeaks(t)
	more, sent := make(chan bool), make(chan bool)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if conns.Add(1) > 1 {
			serveAll(okAB)(c, r)
			return
		}
		http.ReadRequest(r)
		io.WriteString(c, okAB)
		<-more
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		sent <- true
		r.ReadByte()
	})
	rt := newClient(t, addr, nil)
	mustGet(t, rt, addr, "ab")
	more <- true
	<-sent
	mustGet(t, rt, addr, "ab")
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections; want 2", n)
	}
}

// Behind kept connections may be nobody any more, without a sign. One request
// finds out by waiting, not one a connection.
func TestSilentlyDeadConnections(t *testing.T) {
	noLeaks(t)
	var died atomic.Bool
	together := make(chan bool)
	var old atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if died.Load() {
			serveAll(okAB)(c, r)
			return
		}
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		if old.Add(1) == 3 {
			close(together)
		}
		<-together // so there are as many connections
		io.WriteString(c, okAB)
		io.Copy(io.Discard, r)
	})
	rt := newClient(t, addr, nil).(*Transport)
	var gets sync.WaitGroup
	for range 3 {
		gets.Go(func() {
			if _, body, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); err != nil || body != "ab" {
				t.Errorf("GET = %q, %v; want ab", body, err)
			}
		})
	}
	gets.Wait()
	died.Store(true)
	usual := rt.o.ResponseTimeout
	rt.o.ResponseTimeout = 50 * time.Millisecond
	if res, _, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); !isTimeout(err) {
		t.Fatalf("answer of a dead connection = %v, %v; want a timeout", res, err)
	}
	rt.o.ResponseTimeout = usual
	mustGet(t, rt, addr, "ab")
}

// The time limit of whoever sends a request's body says nothing of the upstream.
func TestSlowSenderLeavesThePool(t *testing.T) {
	noLeaks(t)
	var together sync.WaitGroup
	together.Add(2)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		together.Done()
		together.Wait() // so there are two connections
		io.WriteString(c, okAB)
		io.Copy(io.Discard, r)
	})
	rt := newClient(t, addr, nil).(*Transport)
	var gets sync.WaitGroup
	for range 2 {
		gets.Go(func() { roundTrip(t, rt, request(t, http.MethodGet, addr, nil)) })
	}
	gets.Wait()
	slow := readerFunc(func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded })
	if _, _, err := roundTrip(t, rt, request(t, http.MethodPost, addr, slow)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("POST of a body that fails = %v; want %v", err, os.ErrDeadlineExceeded)
	}
	if n := idleCount(rt); n != 1 {
		t.Errorf("%d connections are kept; want the other one", n)
	}
}

func TestIdleConnections(t *testing.T) {
	noLeaks(t)
	var open atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		serveAll(okAB)(c, r)
	})
	o := defaults()
	o.MaxIdle, o.IdleTimeout = 3, time.Second
	rt := newClient(t, addr, o).(*Transport)
	useTogether := func(n int) {
		var bodies []io.Closer
		for range n {
			res, err := rt.RoundTrip(request(t, http.MethodGet, addr, nil))
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, res.Body)
		}
		for _, b := range bodies {
			b.Close()
		}
	}
	useTogether(5)
	eventually(t, "close of what is over MaxIdle", func() bool { return open.Load() == 3 })
	eventually(t, "close of what is over IdleTimeout", func() bool { return open.Load() == 0 })
	useTogether(2)
	rt.CloseIdleConnections()
	eventually(t, "close of the idle", func() bool { return open.Load() == 0 })

	res, err := rt.RoundTrip(request(t, http.MethodGet, addr, nil))
	if err != nil {
		t.Fatal(err)
	}
	rt.CloseIdleConnections()
	res.Body.Close()
	eventually(t, "close of one in use then", func() bool { return open.Load() == 0 })
	mustGet(t, rt, addr, "ab") // still serves
}

// What the upstream closed does not lie about until it is wanted.
func TestSweepClosesDeadConnections(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, okAB)
	})
	o := defaults()
	o.IdleTimeout = 8 * time.Second // looked at after two
	rt := newClient(t, addr, o).(*Transport)
	mustGet(t, rt, addr, "ab")
	if n := idleCount(rt); n != 1 {
		t.Fatalf("%d idle connections; want 1", n)
	}
	start := time.Now()
	eventually(t, "close of the dead", func() bool { return idleCount(rt) == 0 })
	if took := time.Since(start); took >= o.IdleTimeout*3/4 {
		t.Errorf("closed after %v, because of its age", took)
	}
}

// A connection that cannot be asked whether it is sound is used once.
func TestOpaqueConnection(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, serveAll(okAB))
	o := defaults()
	var dials int
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		dials++
		c, err := dialer(addr)(ctx)
		return struct{ net.Conn }{c}, err
	}
	rt := newClient(t, addr, o)
	for range 3 {
		mustGet(t, rt, addr, "ab")
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, strings.NewReader("x"))); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v", body, err)
		}
	}
	if dials != 6 {
		t.Errorf("%d connections for 6 requests; want one each", dials)
	}
}

func idleCount(t *Transport) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}
