package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestDrainClosesWebSockets(t *testing.T) {
	codes := make(chan websocket.StatusCode, 1)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		_, _, err = c.Read(r.Context())
		codes <- websocket.CloseStatus(err)
	}), rigOptions{})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			h := NewHandler(HandlerOptions{Table: r.handler.table.Load()})
			e := serve(t, serverKinds[0], h)
			c := openWebSocket(t, e, protocol, "/")
			drained := make(chan struct{})
			go func() { defer close(drained); h.Drain(t.Context(), 1012) }()
			if op, got := readFrame(t, c); op != 8 || binary.BigEndian.Uint16(got) != 1012 {
				t.Errorf("at the drain = opcode %d, % x; want close 1012", op, got)
			}
			if code := <-codes; code != websocket.StatusServiceRestart {
				t.Errorf("the upstream saw %v; want 1012", code)
			}
			c.Write(wsFrame(8, []byte{3, 0xf4}))
			select {
			case <-drained:
			case <-time.After(5 * time.Second):
				t.Fatal("Drain waits although both sides closed")
			}
		})
	}
}

// What breaks off at the end of the grace was cut by us: its client did not
// leave. Earlier it did.
func TestDrainDoesNotBlameTheClient(t *testing.T) {
	for _, path := range []string{"/download", "/silent"} {
		eachWebSocket(t, func(t *testing.T, protocol string) {
			r := newRig(t, busy(nil), rigOptions{})
			grace := &deadline{t.Context(), make(chan struct{})}
			r.handler.Drain(grace, 1001) // no WebSocket is open
			for i, want := range []error{errClientGone, errStopped} {
				c := r.client(t, protocol)
				ctx, cut := context.WithCancel(t.Context()) // to the handler it is the same as the server's Close
				c.Transport = inContext{c.Transport, ctx}
				broken := ask(c, "https://"+host+path)
				atUpstream(t, r, path)
				if want == errStopped {
					close(grace.passed)
				}
				cut()
				<-broken
				if line := r.accessLog(t, i+1)[i]; line["error"] != want.Error() || (line["status"] == 499.0) != (want == errClientGone) {
					t.Errorf("access log of %s = %v %v; want %q", path, line["status"], line["error"], want)
				}
			}
		})
	}
}

// A close frame may not tear a message apart that is on its way.
func TestDrainWaitsForTheEndOfAFrame(t *testing.T) {
	half, whole := make(chan struct{}), make(chan struct{})
	upstream := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: %s\r\n\r\n", websocketAccept(req.Header.Get("Sec-WebSocket-Key")))
		conn.Write([]byte{0x81, 6, 'a', 'b', 'c'})
		close(half)
		<-whole
		conn.Write([]byte{'d', 'e', 'f', 0x81, 1, 'x'}) // and one more message
		io.Copy(io.Discard, br)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: upstream}})
	c := openWebSocket(t, r.edge, "h1", "/")
	<-half
	first := make([]byte, 5)
	if _, err := io.ReadFull(c, first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { defer close(drained); r.handler.Drain(ctx, 1001) }()
	eventually(t, "goodbye due", func() bool { return r.handler.tunnels.stopped() })
	time.Sleep(20 * time.Millisecond) // a goodbye that is sent too early would be there now
	close(whole)
	rest := make([]byte, 7)
	if _, err := io.ReadFull(c, rest); err != nil || !bytes.Equal(rest, []byte{'d', 'e', 'f', 0x88, 2, 3, 0xe9}) {
		t.Errorf("behind half a frame: % x, %v; want its other half and a close frame", rest, err)
	}
	cancel() // neither side answers: they are cut
	select {
	case <-drained:
	case <-time.After(5 * time.Second):
		t.Fatal("Drain did not cut")
	}
}

// A peer that takes nothing holds a tunnel no longer than Drain allows, whatever
// carries it, and whichever end it is.
func TestDrainCutsPeersThatDoNotRead(t *testing.T) {
	for _, tt := range []struct {
		name     string
		upstream func(c *websocket.Conn) // until the test ends
		client   func(c wsClient)
	}{
		{"client", func(c *websocket.Conn) {
			for c.Write(context.Background(), websocket.MessageBinary, make([]byte, 32<<10)) == nil {
			}
		}, func(wsClient) {}},
		{"upstream", nil, func(c wsClient) {
			for frame := wsFrame(2, make([]byte, 32<<10)); ; {
				if _, err := c.Write(frame); err != nil {
					return
				}
			}
		}},
	} {
		for _, p := range protocols {
			if tt.upstream == nil && p == "h2" {
				continue // our client of HTTP/2 sends no more than fits the buffers
			}
			t.Run(tt.name+", "+p, func(t *testing.T) {
				over := make(chan struct{})
				r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
					if err != nil {
						return
					}
					defer c.CloseNow()
					if tt.upstream != nil {
						tt.upstream(c)
					} else {
						<-over
					}
				}), rigOptions{})
				defer close(over)
				c := openWebSocket(t, r.edge, p, "/")
				defer c.Close()
				go tt.client(c)
				r.handler.tunnels.mu.Lock()
				var tn *tunnel
				for tn = range r.handler.tunnels.open {
				}
				r.handler.tunnels.mu.Unlock()
				d := &tn.down
				if tt.upstream == nil {
					d = &tn.up
				}
				last, same := uint64(0), 0
				eventually(t, "write that blocks", func() bool {
					d.mu.Lock()
					defer d.mu.Unlock()
					if same++; !d.busy || d.writes != last {
						last, same = d.writes, 0
					}
					return same > 50 // for a tenth of a second
				})
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				drained := make(chan struct{})
				go func() { r.handler.Drain(ctx, 1001); close(drained) }()
				select {
				case <-drained:
				case <-time.After(5 * time.Second):
					t.Fatal("Drain hangs")
				}
			})
		}
	}
}

// When the gateway stops, who listens to events is told to come back at once, also
// when they begin only then. The answer to a question in events is left its time.
func TestDrainEndsEventStreams(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/late" {
			asked <- struct{}{}
			<-answer
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		if r.Method == http.MethodPost {
			<-answer
			io.WriteString(w, "data: whole\n\n")
			return
		}
		<-r.Context().Done()
	}), rigOptions{})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			h := NewHandler(HandlerOptions{Table: r.handler.table.Load()})
			e := serve(t, serverKinds[0], h)
			c := e.client(t, protocol)
			open := func(method, path string, body io.Reader) *bufio.Reader {
				res, err := c.Do(with(t, method, "https://"+host+path, "", body))
				if err != nil {
					t.Error(err)
					return bufio.NewReader(strings.NewReader(""))
				}
				t.Cleanup(func() { res.Body.Close() })
				return bufio.NewReader(res.Body)
			}
			listening, asking := open("GET", "/", nil), open("POST", "/", strings.NewReader("why?"))
			late := make(chan *bufio.Reader, 1)
			go func() { late <- open("GET", "/late", nil) }()
			<-asked
			for _, events := range []*bufio.Reader{listening, asking} {
				if line, err := events.ReadString('\n'); err != nil {
					t.Fatalf("the first event = %q, %v", line, err)
				}
			}
			h.Drain(t.Context(), 1001)
			if rest, err := io.ReadAll(listening); err != nil || strings.TrimSpace(string(rest)) != "" {
				t.Errorf("rest of the stream = %q, %v; want a clean end", rest, err)
			}
			answer <- struct{}{}
			answer <- struct{}{}
			if rest, err := io.ReadAll(<-late); err != nil || strings.Contains(string(rest), "whole") {
				t.Errorf("the stream that began in the drain = %q, %v; want a clean end", rest, err)
			}
			if rest, err := io.ReadAll(asking); err != nil || !strings.HasSuffix(string(rest), "data: whole\n\n") {
				t.Errorf("rest of the answer to a POST = %q, %v; want all of it", rest, err)
			}
		})
	}
}
