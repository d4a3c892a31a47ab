package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// HTTP/2 and 3 can carry white space around a value, which is not part of it (RFC
// 9110, 5.5): who looks at it, an upstream that cuts it off excepted, would be fooled.
func TestServersTrimValues(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", append(r.Header["Authorization"], r.Header["X"]...))
	})
	over := map[string]*http.Client{
		"h2": serve(t, h, nil).client(t, "h2"),
		"h3": serveQUIC(t, h).client(t),
	}
	for protocol, c := range over {
		req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
		req.Header = http.Header{"Authorization": {" NTLM a b"}, "X": {"c", "\td \t ", "  "}}
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
			continue
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		want := `["NTLM a b" "c" "d" ""]`
		if protocol == "h2" && *engine == "detour" { // RFC 9113, 8.2.1
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s; want 400", protocol, res.Status)
			}
		} else if string(got) != want {
			t.Errorf("%s: the handler saw %s; want %s", protocol, got, want)
		}
	}
}

// Trailers get into the map that the handler was given, as net/http's do.
func TestQUICServerRequestTrailers(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trailer := r.Trailer
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, trailer.Get("X-Sum"), r.Trailer.Get("X-Sum"))
	}))
	req, err := http.NewRequest(http.MethodPost, "https://"+name+"/", io.NopCloser(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Sum": {"42"}}
	res, err := s.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); string(got) != "4242" || err != nil {
		t.Errorf("the handler saw %q, %v; want 4242", got, err)
	}
}

// A client that takes its request back may still be ready to take an answer, or
// be found to be so: the body's end alone has to say that it is gone.
func TestQUICServerBodyTakenBack(t *testing.T) {
	began, ended := make(chan int64), make(chan error)
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- r.ContentLength
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}))
	c := s.client(t)
	for _, length := range []int64{10, -1} {
		half, body := net.Pipe()
		req, _ := http.NewRequest(http.MethodPost, "https://"+name+"/", half)
		req.ContentLength = length
		answered := make(chan bool)
		go func() {
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
			close(answered)
		}()
		io.WriteString(body, "half")
		if got := receive(t, "request", began); got != length {
			t.Errorf("ContentLength = %d; want %d", got, length)
		}
		half.Close() // so that reading it fails
		if err := receive(t, "end of the body", ended); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("body of length %d ended with %v; want unexpected EOF", length, err)
		}
		<-answered
	}
}

// The answer to HEAD has the length of a GET's, or none (RFC 9110, 8.6).
func TestQUICServerHead(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.Header().Set("Content-Length", r.URL.Path[1:])
		}
		w.WriteHeader(http.StatusOK)
	}))
	for path, want := range map[string]string{"/": "", "/0": "0", "/70000": "70000"} {
		res, err := s.client(t).Head("https://" + name + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Content-Length"); got != want {
			t.Errorf("HEAD %s: Content-Length %q; want %q", path, got, want)
		}
	}
}

// Chromium looks for an answer only when it has sent all, and never if it is
// told to stop: who is answered early may send on.
func TestQUICServerEarlyAnswer(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "too large")
	}))
	const size = 8 << 20 // far more than may be sent unread
	silent, speaker := io.Pipe()
	defer speaker.Close()
	tests := []struct {
		name  string
		body  io.Reader
		size  int64
		taken bool // the server takes all of it
	}{
		{name: "all is sent", body: io.LimitReader(zeros{}, size), size: size, taken: true},
		{name: "the client falls silent", body: silent, size: size},
		{name: "of unknown length", body: silent, size: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := &watchedBody{Reader: tt.body, end: make(chan error, 1)}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+name+"/", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = tt.size
			res, err := s.client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if tt.taken {
				if err := receive(t, "the end of the upload", body.end); err != io.EOF {
					t.Errorf("the upload ended with %v; want it whole", err)
				}
			}
			got, err := io.ReadAll(res.Body)
			if res.StatusCode != http.StatusRequestEntityTooLarge || string(got) != "too large" || err != nil {
				t.Errorf("%s %q, %v; want 413 and its text", res.Status, got, err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// watchedBody tells how the reading of it ended.
type watchedBody struct {
	io.Reader
	end  chan error // gets one
	once sync.Once
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.once.Do(func() { b.end <- err })
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.once.Do(func() { b.end <- errors.New("closed by the transport") })
	return nil
}

// RFC 9220: both directions of an extended CONNECT are open at once.
func TestQUICServerExtendedConnect(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Proto != "websocket" {
			t.Errorf("handler saw %s %s; want CONNECT with websocket in Proto", r.Method, r.Proto)
		}
		rc := http.NewResponseController(w)
		w.WriteHeader(http.StatusOK)
		rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			if n > 0 {
				w.Write(b[:n])
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	}))
	tr := s.transport(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := tr.Dial(ctx, "", tr.TLSClientConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	cc := tr.NewClientConn(conn)
	<-cc.ReceivedSettings()
	if !cc.Settings().EnableExtendedConnect {
		t.Error("extended CONNECT is not offered")
	}
	stream, err := cc.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodConnect, "https://"+name+"/chat", nil)
	req.Proto = "websocket"
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.ReadResponse(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("answer %v, %v; want 200", res, err)
	}
	for i := range 3 {
		want := fmt.Sprintf("message %d", i)
		io.WriteString(stream, want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(stream, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q back", got, err, want)
		}
	}
	stream.Close()
	if rest, err := io.ReadAll(stream); len(rest) > 0 || err != nil {
		t.Errorf("after our end: %q, %v; want the server's", rest, err)
	}
}
