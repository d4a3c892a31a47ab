package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"detour/engine/workers"
)

// early answers without a look at the body: the path is the status.
func early(w http.ResponseWriter, r *http.Request) {
	code, _ := strconv.Atoi(r.URL.Path[1:])
	w.WriteHeader(code)
	_, _ = io.WriteString(w, "no")
}

// put is the head of an upload of size bytes.
func put(path string, size int) []byte {
	return block(":method", "PUT", ":scheme", "https", ":authority", "a.test", ":path", path, "content-length", strconv.Itoa(size))
}

// untilAnswered reads the answer on stream id and the PING behind it.
func (r *raw) untilAnswered(id uint32) (ping [8]byte) {
	r.t.Helper()
	r.until("the answer", endOf(id))
	r.until("a PING", func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			r.t.Fatalf("%v right behind the answer", f)
		case *http2.PingFrame:
			ping = f.Data
			return !f.IsAck()
		}
		return false
	})
	return ping
}

// wantReset reads until stream id is reset.
func (r *raw) wantReset(id uint32, want http2.ErrCode) {
	r.t.Helper()
	f := r.until("a reset", func(f http2.Frame) bool {
		return f.Header().Type == http2.FrameRSTStream && f.Header().StreamID == id
	})
	if code := f.(*http2.RSTStreamFrame).ErrCode; code != want {
		r.t.Errorf("reset with %v; want %v", code, want)
	}
}

func TestEarlyAnswer(t *testing.T) {
	noLeaks(t)
	g := start(t, early, Options{})
	tests := map[string]func(r *raw){
		"reset after a round trip": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			ping := r.untilAnswered(1)
			r.WriteData(1, false, []byte("it did not know"))
			r.want(nothing) // not even a reset
			r.WritePing(true, ping)
			r.wantReset(1, noErr)
			r.WriteData(1, true, []byte("nor now"))
			r.want(nothing)
		},
		"a PING for each": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			first := r.untilAnswered(1)
			r.headers(3, path("PUT", "/503"), false)
			second := r.untilAnswered(3)
			r.WritePing(true, second)
			r.wantReset(3, noErr)
			r.WritePing(true, first)
			r.wantReset(1, noErr)
		},
		"none if the request ends": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			ping := r.untilAnswered(1)
			r.WriteData(1, true, []byte("the end"))
			r.WritePing(true, ping)
			r.want(nothing)
			r.WriteData(1, true, nil)
			r.wantReset(1, closedS)
		},
		"none if trailers end it": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			ping := r.untilAnswered(1)
			r.headers(1, block("x-sum", "1"), true)
			r.WritePing(true, ping)
			r.want(nothing)
		},
		"none if the client resets": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			ping := r.untilAnswered(1)
			r.WriteRSTStream(1, noErr)
			r.WritePing(true, ping)
			r.want(nothing)
		},
		"at once after a success": func(r *raw) {
			for i, block := range [][]byte{path("PUT", "/200"), put("/200", DefaultLimits().StreamWindow+1), put("/204", 1)} {
				id := uint32(2*i + 1)
				r.headers(id, block, false)
				r.until("the answer", endOf(id))
				r.want(onStream(noErr))
			}
		},
		"after a round trip without a body": func(r *raw) {
			r.headers(1, put("/304", 1), false)
			r.WritePing(true, r.untilAnswered(1))
			r.wantReset(1, noErr)
		},
		"not when the client can end its request": func(r *raw) {
			for i, test := range []struct {
				path string
				size int
			}{{"/200", 0}, {"/204", 0}, {"/503", 0}, {"/200", 2 * maxFrame}, {"/503", 2 * maxFrame}} {
				id := uint32(2*i + 1)
				r.headers(id, put(test.path, test.size), false)
				r.WritePing(true, r.untilAnswered(id))
				r.want(nothing)
				for range test.size / maxFrame {
					r.WriteData(id, false, make([]byte, maxFrame))
				}
				r.WriteData(id, true, nil)
				r.want(nothing)
			}
		},
		"not when the rest came meanwhile": func(r *raw) {
			r.headers(1, put("/503", 3), false)
			ping := r.untilAnswered(1)
			r.WriteData(1, false, []byte("all"))
			r.WritePing(true, ping)
			r.want(nothing)
			r.headers(1, block("x-sum", "1"), true)
			r.want(nothing)
		},
		"no window": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			r.untilAnswered(1)
			for range DefaultLimits().StreamWindow / maxFrame {
				r.WriteData(1, false, make([]byte, maxFrame))
			}
			r.WriteData(1, false, []byte("x"))
			r.wantReset(1, flow)
		},
		"window for others": func(r *raw) {
			for id := uint32(1); id < 20; id += 2 { // five times the connection's window
				r.headers(id, path("PUT", "/503"), false)
				r.untilAnswered(id)
				for range DefaultLimits().StreamWindow / maxFrame {
					r.WriteData(id, false, make([]byte, maxFrame))
				}
			}
			r.headers(21, path("GET", "/204"), true)
			r.until("the answer", endOf(21))
		},
		"before the connection ends": func(r *raw) {
			r.headers(1, path("PUT", "/503"), false)
			ping := r.untilAnswered(1)
			r.WriteGoAway(0, noErr, nil)
			r.until("GOAWAY", isGoAway)
			r.WritePing(true, ping)
			r.wantReset(1, noErr)
			r.closed()
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) { do(g.dial(t)) })
	}
}

// Streams that wait for their reset count, so that they cannot pile up.
func TestEarlyAnswersCount(t *testing.T) {
	noLeaks(t)
	g := start(t, early, Options{Limits: Limits{Streams: 2}})
	r := g.dial(t)
	r.headers(1, path("PUT", "/503"), false)
	ping := r.untilAnswered(1)
	r.headers(3, path("PUT", "/503"), false)
	r.untilAnswered(3)
	r.headers(5, path("GET", "/204"), true)
	r.wantReset(5, refused)
	r.WritePing(true, ping)
	r.wantReset(1, noErr)
	r.headers(7, path("GET", "/204"), true)
	r.until("the answer", endOf(7))
}

// Who does not acknowledge the PING is not waited for long.
func TestEarlyAnswerUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		done := make(chan error)
		o := Options{Handler: http.HandlerFunc(early), Workers: new(workers.Pool)}
		go func() { done <- New(ours, o).Serve(context.Background()) }()
		defer func() {
			theirs.Close()
			<-done
			o.Workers.Stop()
		}()
		r := &raw{t: t, conn: theirs, Framer: http2.NewFramer(theirs, theirs)}
		go func() {
			_, _ = io.WriteString(theirs, http2.ClientPreface)
			_ = r.WriteSettings()
			_ = r.headers(1, path("PUT", "/503"), false)
		}()
		r.untilAnswered(1)
		began := time.Now()
		r.wantReset(1, noErr)
		if waited := time.Since(began); waited != lingerOrderly {
			t.Errorf("the reset came after %v; want %v", waited, lingerOrderly)
		}
	})
}

// A client that stops in the middle, as it has seen the header of an answer, gets
// the rest of it; the handler sees that the request is not whole.
func TestCutShort(t *testing.T) {
	noLeaks(t)
	read := make(chan error, 1)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(413)
		w.(http.Flusher).Flush()
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
		_, _ = io.WriteString(w, "too much")
	}, Options{})
	r := g.dial(t)
	r.headers(1, request("PUT", "content-length", "100"), false)
	r.until("the header", func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders })
	r.WriteData(1, true, []byte("enough"))
	r.until("the end", endOf(1))
	r.want(nothing)
	if err := <-read; !errors.Is(err, errCutShort) {
		t.Errorf("reading the body: %v; want %v", err, errCutShort)
	}
}

// curl gets the whole of an answer that comes while it uploads.
func TestCurlEarlyAnswer(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(503)
		_, _ = w.Write(make([]byte, n))
	}, Options{})
	upload := t.TempDir() + "/upload"
	if err := os.WriteFile(upload, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, 20_000, 1_000_000} {
		for range 5 {
			out, err := exec.CommandContext(t.Context(), "curl", "-sSk", "--http2", "--max-time", "20", "-o", os.DevNull,
				"-w", "%{http_code} %{size_download}", "-T", upload, g.url(fmt.Sprintf("/%d", n))).CombinedOutput()
			if want := fmt.Sprintf("503 %d", n); string(out) != want || err != nil {
				t.Errorf("curl says %q, %v; want %q", out, err, want)
			}
		}
	}
}
