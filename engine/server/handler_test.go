package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestPanics(t *testing.T) {
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		r.Context().Done()
		if r.URL.Path == "/flushed" {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
		eventually(t, "the watch", reading)
		switch r.URL.RawQuery {
		case "abort":
			panic(http.ErrAbortHandler)
		case "exit":
			runtime.Goexit()
		}
		panic("a bug")
	}, secure)
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		for _, path := range []string{"/", "/flushed", "/?abort", "/flushed?abort", "/?exit", "/flushed?exit"} {
			c := s.dialTLS(t)
			fmt.Fprintf(c, "GET %s %s\r\nHost: a\r\n\r\n", path, proto)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				continue // nothing was sent
			}
			if !strings.HasPrefix(path, "/flushed") {
				t.Errorf("%s %s: a panic was answered %s", proto, path, res.Status)
			}
			if got, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s %s: the answer ends well after %q; want an error", proto, path, got)
			}
		}
	}
	if n := strings.Count(s.log.String(), `level=ERROR msg="handler panicked"`); n != 4 {
		t.Errorf("%d lines about 4 panics\n%s", n, s.log)
	}
}

// On plaintext only a reset tells that an answer without a length is cut short.
func TestAbortedAnswersLookIncomplete(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/identity" {
			w.Header().Set("Transfer-Encoding", "identity")
		}
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the client has read what there is
		panic(http.ErrAbortHandler)
	}), nil)
	for _, request := range []string{"GET / HTTP/1.0\r\n\r\n", "GET /identity HTTP/1.1\r\nHost: a\r\n\r\n", get} {
		c := s.dial(t)
		io.WriteString(c, request)
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q: an aborted answer ends well after %q", request, rest)
		}
	}
}

// Of an answer that breaks off the client gets what there is: one that got nothing
// may send its request again. What would look whole is not sent.
func TestBrokenAnswerBegins(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if n := query.Get("length"); n != "" {
			w.Header().Set("Content-Length", n)
		}
		if status, err := strconv.Atoi(query.Get("status")); err == nil {
			w.WriteHeader(status)
		}
		n, _ := strconv.Atoi(query.Get("written"))
		w.Write(make([]byte, n))
		panic(http.ErrAbortHandler)
	}), secure)
	tests := []struct {
		method, query string
		begins        bool
	}{
		{"GET", "length=10&written=5", true},
		{"GET", "length=5000&written=2500", true},
		{"GET", "length=50000&written=25000", true},
		{"GET", "written=2500", true},
		{"PUT", "length=10&written=5", true}, // its body is not waited for
		{"GET", "length=5&written=5", false},
		{"GET", "length=3000&written=3000", false},
		{"GET", "length=0", false},
		{"GET", "written=5", false}, // nobody knows how it goes on
		{"GET", "status=304&length=100", false},
		{"GET", "status=204&length=100", false},
		{"HEAD", "length=10&written=5", false},
		{"HEAD", "length=5000&written=2500", false},
	}
	for _, tt := range tests {
		c := s.dialTLS(t)
		length := 0
		if tt.method == "PUT" {
			length = 3
		}
		fmt.Fprintf(c, "%s /?%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", tt.method, tt.query, length)
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: tt.method})
		if begins := err == nil; begins != tt.begins {
			t.Errorf("%s ?%s: answer begins: %v, %v; want %v", tt.method, tt.query, begins, err, tt.begins)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(res.Body); err == nil || len(got) == 0 {
			t.Errorf("%s ?%s: the answer ends after %d bytes: %v; want some, and an error", tt.method, tt.query, len(got), err)
		}
	}
}

// An answer does not wait for somebody else who reads the body, and for a client
// that sends no more of it before it has the answer.
func TestAnswersBesideReader(t *testing.T) {
	read := make(chan struct{}, 2)
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.ReadFull(r.Body, make([]byte, 1))
			read <- struct{}{}
			io.Copy(io.Discard, r.Body)
		}()
		<-read
		eventually(t, "a wait for more", reading)
		io.WriteString(w, "early")
		rc.Flush()
		<-done
	}, nil)
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		c := s.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"+expect+"\r\nabc")
		br := bufio.NewReader(c)
		if expect != "" {
			if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q, %v; want to be asked for the body", line, err)
			}
			br.ReadString('\n')
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Errorf("%q: no answer beside a reader: %v", expect, err)
		} else if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
			t.Errorf("%q: no body beside a reader: %v", expect, err)
		}
		c.Close()
	}
}

// "close" wins over "keep-alive" (RFC 9112, section 9.3); net/http has it the other
// way round.
func TestCloseWinsInHTTP10(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }), nil)
	for _, options := range []string{"keep-alive, close", "close, keep-alive", "keep-alive\r\nConnection: close"} {
		c := s.dial(t)
		io.WriteString(c, strings.Repeat("GET / HTTP/1.0\r\nConnection: "+options+"\r\n\r\n", 2))
		b, err := io.ReadAll(c)
		if n := strings.Count(string(b), "200 OK"); err != nil || n != 1 || strings.Contains(string(b), "keep-alive") {
			t.Errorf("Connection: %s: answers %q, %v; want one, and the end", options, b, err)
		}
	}
}

func TestContinue(t *testing.T) {
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.WriteHeader(http.StatusForbidden)
			return
		case "/flushed":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		case "/closed":
			r.Body.Close()
			return
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}), nil)
	tests := []struct {
		path   string
		asked  bool
		status int
		close  bool
	}{
		{"/read", true, 200, false},
		{"/early", false, 403, true},
		{"/closed", false, 200, true},
	}
	for _, tt := range tests {
		c := s.dial(t)
		br := bufio.NewReader(c)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", tt.path)
		if tt.asked {
			b := make([]byte, len(interim))
			if _, err := io.ReadFull(br, b); err != nil || string(b) != interim {
				t.Fatalf("%s: %q, %v; want to be asked for the body", tt.path, b, err)
			}
			io.WriteString(c, "abc")
		}
		if res, body := answer(t, br, "POST"); res.StatusCode != tt.status || res.Close != tt.close || tt.asked && body != "abc<nil>" {
			t.Errorf("%s: %s, close %v, %q; want %d, close %v", tt.path, res.Status, res.Close, body, tt.status, tt.close)
		}
	}
}

// A handler that panics may leave somebody behind who reads the body: for him it
// ends before its buffer is another connection's.
func TestPanicBesideReader(t *testing.T) {
	noLeak(t)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read := make(chan struct{})
		go func() {
			p := make([]byte, 1)
			r.Body.Read(p)
			close(read)
			for err := error(nil); err == nil; {
				_, err = r.Body.Read(p)
			}
		}()
		<-read
		panic(http.ErrAbortHandler)
	}), nil)
	for _, framing := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		for range 20 {
			c := s.dial(t)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing+"\r\n\r\n"+strings.Repeat("5\r\nabcde\r\n", 500))
			io.Copy(io.Discard, c)
			c.Close()
		}
	}
}
