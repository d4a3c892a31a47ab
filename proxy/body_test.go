package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A request without a body must not become a chunked one.
func TestNoBodyIsNoBody(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		nones := []io.Reader{nil}
		if !strings.HasSuffix(t.Name(), "h1") {
			nones = append(nones, io.MultiReader()) // a frame of its own ends the stream, as some send it always
		}
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "MOVE", "LOCK"} {
			for _, none := range nones {
				do(t, c, newRequest(t, method, url+"/", none))
				if head := <-heads; strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Content-Length") {
					t.Errorf("%s without a body became\n%s", method, head)
				}
			}
		}
		if strings.HasSuffix(t.Name(), "h3") {
			return // whether a POST has a body shows only when its stream ends
		}
		do(t, c, newRequest(t, http.MethodPost, url+"/", http.NoBody))
		if head := <-heads; strings.Contains(head, "chunked") || !strings.Contains(head, "Content-Length: 0") {
			t.Errorf("POST without a body became\n%s", head)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		want         int
		wantBody     bool
	}{
		{"the upstream wants the body", "HTTP/1.1 100 Continue\r\n\r\n", 200, true},
		{"the upstream refuses", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", 417, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bodies := make(chan string, 1)
			addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if req.Header.Get("Expect") != "100-continue" {
					bodies <- "no Expect"
				}
				io.WriteString(conn, tc.answer)
				if tc.wantBody {
					body, _ := io.ReadAll(req.Body)
					bodies <- string(body)
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
			conn := r.dial(t, "http/1.1")
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", host)
			br := bufio.NewReader(conn)
			if tc.wantBody {
				if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
					t.Fatalf("first line = %q; want 100", line)
				}
				br.ReadString('\n')
				io.WriteString(conn, "body")
				if got := <-bodies; got != "body" {
					t.Errorf("upstream's body = %q; want body", got)
				}
			}
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != tc.want {
				t.Fatalf("answer = %v, %v; want %d", res, err, tc.want)
			}
		})
	}
}

// Of HTTP/3's clients, those that wait for the upstream's 100 get it. (quic-go's
// server sends none of its own.)
func TestExpectContinueOverHTTP3(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for _, tc := range []struct {
		method string
		length int64
	}{{http.MethodPost, 3}, {http.MethodPatch, -1}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		body, hand := io.Pipe()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			go func() {
				fmt.Fprint(hand, code)
				hand.Close()
			}()
			return nil
		}})
		req := newRequest(t, tc.method, "https://"+host+"/", body).WithContext(ctx)
		req.ContentLength = tc.length
		req.Header.Set("Expect", "100-continue")
		if res, got := do(t, r.client(t, "h3"), req); res.StatusCode != 200 || got != "100" {
			t.Errorf("%s: answer = %d %q; want 200 and the body that was sent behind the 100", tc.method, res.StatusCode, got)
		}
	}
}

// A client of HTTP/1.0 waits for no 100, whatever it says: its upstream must not
// be waited for either.
func TestExpectOfHTTP10(t *testing.T) {
	expects := make(chan []string, 1)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		expects <- r.Header["Expect"]
		io.Copy(w, r.Body)
	}), rigOptions{})
	conn := r.dial(t, "http/1.1")
	fmt.Fprintf(conn, "POST / HTTP/1.0\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody", host)
	if got := <-expects; got != nil {
		t.Errorf("the upstream was told to expect %q; want nothing", got)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("answer = %v, %v; want 200", res, err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "body" {
		t.Errorf("body = %q, %v; want body", body, err)
	}
}

// A body flows as it is made, in both directions at once.
func TestBodiesStream(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		pr, pw := io.Pipe()
		req := newRequest(t, http.MethodPost, url+"/", pr)
		go pw.Write([]byte("first"))
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		buf := make([]byte, 100)
		for _, want := range []string{"first", "second", "third"} {
			if want != "first" {
				pw.Write([]byte(want))
			}
			n, err := io.ReadFull(res.Body, buf[:len(want)])
			if err != nil || string(buf[:n]) != want {
				t.Fatalf("echo = %q, %v; want %q", buf[:n], err, want)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v; want a clean end", rest, err)
		}
	})
}

func TestRequestTrailers(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	}), rigOptions{})
	for _, p := range []string{"h1", "h2"} {
		t.Run(p, func(t *testing.T) {
			req := newRequest(t, http.MethodPost, "https://"+host+"/", io.LimitReader(strings.NewReader("body"), 4))
			req.ContentLength = -1
			req.Trailer = http.Header{"X-Sum": {"42"}}
			do(t, r.client(t, p), req)
			if diff := cmp.Diff(http.Header{"X-Sum": {"42"}}, <-got); diff != "" {
				t.Errorf("trailer at the upstream (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMaxBody(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}), rigOptions{route: func(rt *Route) { rt.MaxBody = 1000 }})
	var lines int
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, tc := range []struct {
			size  int
			known bool
			want  int
		}{{1000, true, 200}, {1001, true, 413}, {1000, false, 200}, {1001, false, 413}, {300_000, false, 413}} {
			req := newRequest(t, http.MethodPost, url+"/", strings.NewReader(strings.Repeat("x", tc.size)))
			if !tc.known {
				req.ContentLength = -1
			}
			if res, _ := do(t, c, req); res.StatusCode != tc.want {
				t.Errorf("%d bytes, length known %v = %d; want %d", tc.size, tc.known, res.StatusCode, tc.want)
			}
			var why any
			if tc.want == http.StatusRequestEntityTooLarge {
				why = errBodyTooLarge.Error()
			}
			lines++
			if line := r.accessLog(t, lines)[lines-1]; line["error"] != why {
				t.Errorf("%d bytes, length known %v: access log says %v; want %v", tc.size, tc.known, line["error"], why)
			}
		}
	})
}

// An upstream that answers early is heard although the upload goes on.
func TestEarlyAnswer(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		conn.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, br, 1<<20)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		pr, pw := io.Pipe()
		defer pw.Close()
		go pw.Write([]byte("the beginning of something long"))
		res, body := do(t, c, newRequest(t, http.MethodPost, url+"/", pr))
		if res.StatusCode != 403 || body != "no" {
			t.Errorf("= %d %q; want 403 no", res.StatusCode, body)
		}
	})
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
}

// An upstream that refuses an upload and closes at once, as servers do, is
// heard too, although writing to it fails.
func TestEarlyAnswerAndClose(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		}
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	body := make([]byte, 4<<20)
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) {
			c := r.client(t, p)
			for range 20 {
				if p == "h1" { // http.Transport may itself miss what this is about
					conn := r.dial(t, "http/1.1")
					go fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
					if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 413 {
						t.Errorf("= %v, %v; want 413", res, err)
					}
					conn.Close()
					continue
				}
				res, err := c.Do(newRequest(t, http.MethodPost, "https://"+host+"/", bytes.NewReader(body)))
				if err != nil {
					t.Errorf("%v; want 413", err)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 413 {
					t.Errorf("= %d; want 413", res.StatusCode)
				}
			}
		})
	}
}
