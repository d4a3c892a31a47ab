package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// serveFrames is HTTP/2's side of a server that gives each frame to take, until
// that returns false.
func serveFrames(conn net.Conn, take func(fr *http2.Framer, f http2.Frame) bool) {
	br := bufio.NewReader(conn)
	br.Discard(len(http2.ClientPreface))
	fr := http2.NewFramer(conn, br)
	fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil || !take(fr, f) {
			return
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			fr.WriteSettingsAck()
		}
	}
}

// frameAnswer answers stream with 200 and body.
func frameAnswer(fr *http2.Framer, stream uint32, body string) {
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}, EndHeaders: true}) // :status 200
	fr.WriteData(stream, true, []byte(body))
}

// What an HTTP/2 upstream says it did not look at is sent to it again, with its
// body; what it may have looked at is not.
func TestRefusedStreams(t *testing.T) {
	goAway := func(before uint32) func(*http2.Framer, uint32) {
		return func(fr *http2.Framer, stream uint32) { fr.WriteGoAway(stream-before, http2.ErrCodeNo, nil) }
	}
	reset := func(code http2.ErrCode) func(*http2.Framer, uint32) {
		return func(fr *http2.Framer, stream uint32) { fr.WriteRSTStream(stream, code) }
	}
	const window = 65535
	for _, tc := range []struct {
		name   string
		size   int
		refuse func(fr *http2.Framer, stream uint32)
		want   int
	}{
		{"GOAWAY", 300, goAway(1), 200},
		{"GOAWAY, upload", 1 << 20, goAway(1), 200},
		{"GOAWAY that is later", 300, goAway(0), 502},
		{"REFUSED_STREAM", 300, reset(http2.ErrCodeRefusedStream), 200},
		{"REFUSED_STREAM, upload", 1 << 20, reset(http2.ErrCodeRefusedStream), 200},
		{"INTERNAL_ERROR", 300, reset(http2.ErrCodeInternal), 502},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := strings.Repeat("0123456789", tc.size/10)
			var mu sync.Mutex // guards what follows
			refused := false
			var taken bytes.Buffer // of one stream
			take := func(fr *http2.Framer, f http2.Frame) bool {
				mu.Lock()
				defer mu.Unlock()
				stream := f.Header().StreamID
				switch f := f.(type) {
				case *http2.HeadersFrame:
					taken.Reset()
					if f.StreamEnded() {
						frameAnswer(fr, stream, "")
					}
				case *http2.DataFrame:
					taken.Write(f.Data())
					switch {
					case refused && f.StreamEnded():
						frameAnswer(fr, stream, fmt.Sprint(taken.String() == body))
					case refused:
						fr.WriteWindowUpdate(0, uint32(len(f.Data())))
						fr.WriteWindowUpdate(stream, uint32(len(f.Data())))
					case f.StreamEnded() || taken.Len() == window:
						refused = true
						fr.WriteWindowUpdate(0, uint32(taken.Len()))
						tc.refuse(fr, stream)
						return tc.want == 200
					}
				}
				return true
			}
			addr := startRawUpstream(t, func(conn net.Conn, _ *bufio.Reader) { serveFrames(conn, take) })
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "h2c", Address: addr}})
			c := r.client(t, "h2")
			get(t, c, "https://"+host+"/") // so that the connection of a form is a kept one
			res, got := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader(body)))
			if res.StatusCode != tc.want || tc.want == 200 && got != "true" {
				t.Errorf("= %d %q; want %d and the body whole", res.StatusCode, got, tc.want)
			}
		})
	}
}

// A request that an upstream refused because it stops goes to another one.
func TestRefusedStreamGoesToAnother(t *testing.T) {
	ln, err := net.Listen("tcp", deadAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serveFrames(conn, func(fr *http2.Framer, f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.HeadersFrame:
				if f.StreamEnded() {
					frameAnswer(fr, f.StreamID, "")
				}
			case *http2.DataFrame:
				ln.Close()
				fr.WriteGoAway(1, http2.ErrCodeNo, nil)
			}
			return true
		})
	}()
	stops, err := NewUpstream(UpstreamOptions{Scheme: "h2c", Address: ln.Addr().String()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stops.Retire)
	standby := upstreamAt(t, startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })))
	r := poolRig(t, NewPool([]*Upstream{stops}, []*Upstream{standby}), nil)
	c := r.client(t, "h2")
	get(t, c, "https://"+host+"/")
	res, got := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form")))
	if res.StatusCode != 200 || got != "form" {
		t.Errorf("= %d %q; want the standby's answer", res.StatusCode, got)
	}
}

// A body is put back to its beginning only between two Reads.
func TestReopenBesideRead(t *testing.T) {
	src, client := io.Pipe()
	b, _, err := newRequestBody(&http.Request{Method: "POST", Body: src, ContentLength: 2, ProtoMajor: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.keep()
	read := make(chan string, 1)
	next := func() {
		p := make([]byte, 2)
		n, _ := b.Read(p)
		read <- string(p[:n])
	}
	go next()
	eventually(t, "a Read on the way", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.reading
	})
	go client.Write([]byte("ab"))
	for !b.reopen() {
	}
	if got := <-read; got != "ab" {
		t.Errorf("first Read = %q; want all", got)
	}
	if next(); <-read != "ab" {
		t.Error("the body does not begin again")
	}
}

// A body that an upstream did not take may wait for a connection for as long as it has to.
func TestReopenedBodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, err := newRequestBody(&http.Request{Method: "POST", Body: io.NopCloser(strings.NewReader("form")), ContentLength: 4, ProtoMajor: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var stuck atomic.Bool
		b.keep()
		b.limitPieces(time.Second, func() { stuck.Store(true) })
		io.ReadAll(b)
		b.Close()
		if !b.reopen() {
			t.Fatal("reopen() = false; want true of a form")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if stuck.Load() {
			t.Error("a body that nobody has was found to be stuck")
		}
		io.ReadAll(b)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !stuck.Load() {
			t.Error("a body that was not taken the second time was not found")
		}
	})
}

// What an upstream may send ahead of a visitor who does not read is held in
// memory.
func TestWindowOfAnswers(t *testing.T) {
	window := make(chan uint32, 1)
	addr := startRawUpstream(t, func(conn net.Conn, _ *bufio.Reader) {
		serveFrames(conn, func(fr *http2.Framer, f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
					window <- size
				}
			case *http2.HeadersFrame:
				frameAnswer(fr, f.StreamID, "")
			}
			return true
		})
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "h2c", Address: addr}})
	get(t, r.client(t, "h2"), "https://"+host+"/")
	if got := <-window; got > 1<<20 {
		t.Errorf("window of %d bytes; a hundred slow visitors would fill a small machine", got)
	}
}

// An upstream that wants a request over HTTP/1.1 gets it so.
func TestUpstreamThatRequiresHTTP1(t *testing.T) {
	c := startHTTP1Requirer(t, func() bool { return true })
	for _, form := range []string{"", "form"} {
		res, got := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader(form)))
		if want := "HTTP/1.1 " + form; res.StatusCode != 200 || got != want {
			t.Errorf("POST of %q = %d %q; want %q", form, res.StatusCode, got, want)
		}
	}
}

// One request that an upstream wants over HTTP/1.1 does not move the others there: a
// gRPC call would fail.
func TestOnlyWhatRequiresHTTP1GoesThere(t *testing.T) {
	var requests atomic.Int32
	c := startHTTP1Requirer(t, func() bool { return requests.Add(1) == 1 })
	for _, want := range []string{"HTTP/1.1 form", "HTTP/2"} {
		if _, got := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form"))); got != want {
			t.Errorf("POST was answered with %q; want %q", got, want)
		}
	}
}

// startHTTP1Requirer starts an upstream that refuses the requests over HTTP/2 that
// requires picks. It answers with the protocol, and over HTTP/1.1 with the body, too.
func startHTTP1Requirer(t *testing.T, requires func() bool) *http.Client {
	cert, _ := testCertificate()
	addr := startRawUpstream(t, func(conn net.Conn, _ *bufio.Reader) {
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
		if secure.Handshake() != nil {
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			serveFrames(secure, func(fr *http2.Framer, f http2.Frame) bool {
				if _, ok := f.(*http2.HeadersFrame); !ok {
					return true
				}
				if requires() {
					fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeHTTP11Required)
				} else {
					frameAnswer(fr, f.Header().StreamID, "HTTP/2")
				}
				return true
			})
			return
		}
		for br := bufio.NewReader(secure); ; {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(secure, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nHTTP/1.1 %s", len("HTTP/1.1 ")+len(body), body)
		}
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "https", Address: addr, RootsPEM: testRootsPEM()}})
	return r.client(t, "h2")
}

// An upstream that stops but still listens is waited for, not run over.
func TestUpstreamThatEndsEachConnection(t *testing.T) {
	const stopped = 500 * time.Millisecond
	begin := time.Now()
	var connections atomic.Int32
	addr := startRawUpstream(t, func(conn net.Conn, _ *bufio.Reader) {
		connections.Add(1)
		ended := time.Since(begin) < stopped
		serveFrames(conn, func(fr *http2.Framer, f http2.Frame) bool {
			switch f.(type) {
			case *http2.SettingsFrame:
				if ended {
					fr.WriteGoAway(0, http2.ErrCodeNo, nil)
				}
			case *http2.HeadersFrame:
				if !ended {
					frameAnswer(fr, f.Header().StreamID, "")
				}
			}
			return true
		})
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "h2c", Address: addr}})
	if res, _ := get(t, r.client(t, "h2"), "https://"+host+"/"); res.StatusCode != 200 {
		t.Errorf("= %d; want 200", res.StatusCode)
	}
	if n := connections.Load(); n > 30 {
		t.Errorf("dialled %d times in %v; want pauses", n, stopped)
	}
}
