package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"detour/engine/server"
)

func TestCutsSlowAndIdleClients(t *testing.T) {
	noLeak(t)
	const limit = 600 * time.Millisecond
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			r.Context().Done()
			time.Sleep(2 * limit)
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}), func(o *server.Options) {
		o.Limits.HeaderTimeout, o.Limits.IdleTimeout = limit, limit
	})
	t.Run("dripping head", func(t *testing.T) {
		t.Parallel()
		for _, before := range []string{"", get} {
			c := s.dial(t)
			br := bufio.NewReader(c)
			io.WriteString(c, before)
			if before != "" {
				answer(t, br, "GET")
			}
			stop := make(chan struct{})
			var drips sync.WaitGroup
			drips.Go(func() {
				io.WriteString(c, "GET / HTTP/1.1\r\nX: ")
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						if _, err := io.WriteString(c, "x"); err != nil {
							return
						}
					}
				}
			})
			if got, err := io.ReadAll(br); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a head that drips got %q, %v; want the end", got, err)
			}
			close(stop)
			drips.Wait()
		}
	})
	t.Run("pipelined part of a head", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{"\r\n", "Content-Length: 3\r\n\r\nabc"} {
			c := s.dial(t)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+body+"GET / HTT")
			br := bufio.NewReader(c)
			answer(t, br, "POST")
			start := time.Now()
			if got, err := io.ReadAll(br); len(got) > 0 || err != nil || time.Since(start) > 10*time.Second {
				t.Errorf("half a head got %q, %v after %v; want the end", got, err, time.Since(start))
			}
		}
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"", "/", "/slow"} {
			c := s.dial(t)
			br := bufio.NewReader(c)
			if path != "" {
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
				if _, got := answer(t, br, "GET"); got != "<nil>" {
					t.Errorf("%s: answer %q", path, got)
				}
			}
			start := time.Now()
			if got, err := io.ReadAll(br); len(got) > 0 || err != nil || time.Since(start) > 10*time.Second {
				t.Errorf("%s: an idle connection got %q, %v after %v; want the end", path, got, err, time.Since(start))
			}
		}
	})
	t.Run("slow body", func(t *testing.T) { // is none of the server's business
		t.Parallel()
		c := s.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
		for _, b := range "abc" {
			time.Sleep(limit * 5 / 6)
			io.WriteString(c, string(b))
		}
		if _, got := answer(t, bufio.NewReader(c), "POST"); got != "abc<nil>" {
			t.Errorf("answer %q; want abc", got)
		}
	})
}

// Between two requests a connection may rest for long, but not behind the first
// byte of a request.
func TestOneByteIsTheBeginningOfAHead(t *testing.T) {
	noLeak(t)
	for name, edit := range map[string]func(o *server.Options){"plaintext": func(*server.Options) {}, "TLS": secure} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, http.HandlerFunc(yes), func(o *server.Options) {
				edit(o)
				o.Limits.HeaderTimeout, o.Limits.IdleTimeout = 300*time.Millisecond, time.Hour
			})
			var c net.Conn
			if name == "TLS" {
				c = s.dialTLS(t)
			} else {
				c = s.dial(t)
			}
			br := bufio.NewReader(c)
			for range 2 {
				io.WriteString(c, get)
				answer(t, br, "GET")
			}
			io.WriteString(c, "G")
			if got, err := io.ReadAll(br); len(got) > 0 || err != nil {
				t.Errorf("one byte got %q, %v; want the end", got, err)
			}
		})
	}
}

func TestHandlerDeadlines(t *testing.T) {
	cut := make(chan struct{})    // closed when a write has failed
	passed := make(chan struct{}) // closed when a read has
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/read":
			rc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded), r.Context().Err() != nil)
		case "/again":
			rc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			close(passed)
			rc.SetReadDeadline(time.Time{})
			b, err2 := io.ReadAll(r.Body)
			fmt.Fprint(w, err != nil, string(b), err2)
		case "/body":
			b, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(b), err)
		case "/cut", "/cut/watched": // as a gateway ends a request from outside
			done := r.Context().Done()
			if r.URL.Path == "/cut/watched" {
				eventually(t, "the watch", reading)
			}
			go rc.SetReadDeadline(time.Unix(1, 0))
			<-done
			fmt.Fprint(w, "cut")
		case "/write":
			rc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write = %v; want %v", err, os.ErrDeadlineExceeded)
			}
			if r.Context().Err() == nil {
				t.Error("the context lives on after a failed write")
			}
			close(cut)
		case "/far": // stands for the request alone
			rc.SetWriteDeadline(time.Now().Add(time.Minute))
			rc.SetWriteDeadline(time.Now().Add(time.Minute + 10*time.Millisecond))
		case "/past":
			w.WriteHeader(200)
			rc.Flush()
			rc.SetWriteDeadline(time.Unix(1, 0))
			if rc.SetWriteDeadline(time.Time{}) != nil {
				t.Error("the deadline cannot be lifted")
			}
		}
	}, secure)
	c := s.dialTLS(t)
	br := bufio.NewReader(c)
	ask := func(path, body, want string) {
		t.Helper()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\n%s", path, body)
		if _, got := answer(t, br, "POST"); got != want {
			t.Errorf("%s: answer %q; want %q", path, got, want)
		}
	}
	ask("/far", "\r\n", "")
	ask("/far", "\r\n", "")
	ask("/past", "\r\n", "")
	ask("/cut", "\r\n", "cut")
	ask("/cut/watched", "\r\n", "cut") // and the connection lives on
	ask("/cut", "\r\n", "cut")
	go func() {
		<-passed
		io.WriteString(c, "abc")
	}()
	ask("/again", "Content-Length: 3\r\n\r\n", "trueabc<nil>")
	// The deadline of one request is not that of the next, behind it.
	ask("/cut", "\r\nPOST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", "cut")
	io.WriteString(c, "cd")
	if _, got := answer(t, br, "POST"); got != "abcd<nil>" {
		t.Errorf("answer %q to the request behind; want abcd", got)
	}
	ask("/read", "Content-Length: 3\r\n\r\n", "true true")

	c = s.dialTLS(t)
	io.WriteString(c, "GET /write HTTP/1.1\r\nHost: a\r\n\r\n")
	<-cut
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil { // else not even the head was sent in time
		_, err = io.Copy(io.Discard, res.Body)
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an answer that was cut ends with %v; want its connection to end", err)
	}
}

// Behind an answer that could not be sent whole nothing is done: its client cannot
// know what became of it.
func TestNothingRunsBehindFailedAnswer(t *testing.T) {
	returned, deleted := make(chan struct{}), make(chan struct{}, 1)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			deleted <- struct{}{}
			return
		}
		defer close(returned)
		const length = 8 << 20 // more than the buffers of any socket
		w.Header().Set("Content-Length", fmt.Sprint(length))
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := w.Write(make([]byte, length)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write = %v; want %v", err, os.ErrDeadlineExceeded)
		}
	}), nil)
	c := s.dial(t)
	io.WriteString(c, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nDELETE /b HTTP/1.1\r\nHost: a\r\n\r\n")
	<-returned
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil { // else not even the head was sent in time
		_, err = io.Copy(io.Discard, res.Body)
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an answer that failed ends with %v; want its connection to end", err)
	}
	select {
	case <-deleted:
		t.Error("a request behind an answer that failed was served")
	default:
	}
}
