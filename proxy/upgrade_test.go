package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// echo is a WebSocket server that sends every message back.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func TestWebSocketEchoes(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	opened := 0
	eachWebSocket(t, func(t *testing.T, protocol string) {
		c := openWebSocket(t, r.edge, protocol, "/chat?room=1")
		for _, size := range []int{5, 200, 70_000} {
			message := bytes.Repeat([]byte("x"), size)
			var writing sync.WaitGroup // a long echo comes back while it is sent
			writing.Go(func() { c.Write(wsFrame(2, message)) })
			if op, got := readFrame(t, c); op != 2 || !bytes.Equal(got, message) {
				t.Fatalf("echo of %d bytes = opcode %d, %d bytes; want the same", size, op, len(got))
			}
			writing.Wait()
		}
		c.Write(wsFrame(8, []byte{3, 232}))
		if op, got := readFrame(t, c); op != 8 || !bytes.HasPrefix(got, []byte{3, 232}) {
			t.Errorf("answer to close = opcode %d, % x; want close 1000", op, got)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the close: %v; want EOF", err)
		}
		opened++
		lines := r.accessLog(t, 2*opened)
		last := lines[len(lines)-1]
		want := 101.0
		if protocol != "h1" {
			want = 200
		}
		if last["status"] != want || last["action"] != "proxy" {
			t.Errorf("access log = %v; want status %v, action proxy", last, want)
		}
	})
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
}

func TestWebSocketByALibrary(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	c, res, err := websocket.Dial(t.Context(), "wss://"+host+"/", &websocket.DialOptions{HTTPClient: r.client(t, "h1"), CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatalf("Dial: %v (%v)", err, res)
	}
	defer c.CloseNow()
	for i := range 100 {
		want := strings.Repeat("message ", i)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != want {
			t.Fatalf("Read = %q, %v; want %q", got, err, want)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// An upgrade that its upstream agrees to when tunnels are being ended is
// refused: there would be nobody to say goodbye to it.
func TestNoUpgradeAtTheEnd(t *testing.T) {
	for _, way := range []string{"drain", "cut"} {
		for _, protocol := range []string{"h1", "h2"} {
			t.Run(way+"/"+protocol, func(t *testing.T) {
				var r *rig
				var ending sync.WaitGroup
				r = newRig(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if way == "drain" {
						r.handler.Drain(t.Context(), 1001)
					} else {
						r.reroute(t, func(rt *Route) { rt.Online = false })
						ending.Go(func() { r.handler.Cut(t.Context(), host, 1001) })
						eventually(t, "Cut waiting", func() bool { return !r.route.Stats.exchanges.mayUpgrade(onlyForwarding(r)) })
					}
					if c, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
						c.CloseNow()
					}
				}), rigOptions{})
				status := ""
				if protocol == "h2" {
					_, answer := h2Connect(t, r.edge, "/", "websocket")
					status = answer[":status"]
				} else {
					c := r.edge.dial(t, "http/1.1")
					fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Fatal(err)
					}
					status = res.Status[:3]
				}
				if status != "503" {
					t.Errorf("the handshake was answered with %s; want 503", status)
				}
				ending.Wait()
			})
		}
	}
}

// onlyForwarding is the one that is under way.
func onlyForwarding(r *rig) *forwarding {
	x := &r.route.Stats.exchanges
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.first
}

func TestUpgradeOfAnyProtocol(t *testing.T) {
	upstream := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+req.Header.Get("X-Answer")+"\r\n\r\nhello ")
		data, _ := io.ReadAll(br) // until the client closes its half
		conn.Write(bytes.ToUpper(data))
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: upstream}})
	for _, tc := range []struct{ name, wish, answer, want string }{
		{"as wished", "raw/1", "raw/1", "101"},
		{"another case", "Raw", "raw", "101"},
		{"one of two", "raw/2, raw/1", "raw/1", "101"},
		{"mismatched", "raw", "cooked", "502"},
		{"unnamed", "raw", "", "502"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := e2e(t, r.edge, tc.wish, tc.answer)
			br := bufio.NewReader(conn)
			status, err := br.ReadString('\n')
			if err != nil || !strings.Contains(status, tc.want) {
				t.Fatalf("status line %q, %v; want %s", status, err, tc.want)
			}
			if tc.want != "101" {
				return
			}
			for line := status; line != "\r\n"; {
				if line, err = br.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			conn.CloseWrite()
			got, err := io.ReadAll(br)
			if want := "hello EARLY"; err != nil || string(got) != want {
				t.Errorf("behind the 101: %q, %v; want %q", got, err, want)
			}
		})
	}
}

// e2e sends an upgrade with bytes behind it that do not wait for the 101.
func e2e(t *testing.T, e *edge, wish, answer string) interface {
	net.Conn
	CloseWrite() error
} {
	conn := e.dial(t, "http/1.1")
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: %s\r\nX-Answer: %s\r\n\r\nearly", host, wish, answer)
	return conn
}

func TestUpgradeRefused(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/401":
			w.WriteHeader(http.StatusUnauthorized)
		case "/upgraded":
			fmt.Fprint(w, r.Header["Upgrade"] != nil)
		}
	}), rigOptions{})
	for _, tc := range []struct {
		name, path, upgrade string
		want                int
	}{
		{"the upstream's refusal passes", "/401", "websocket", 401},
		{"a WebSocket that was not switched", "/200", "websocket", 502},
		{"another protocol may be ignored", "/200", "raw", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, _ := r.raw(t, "GET "+tc.path+" HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: "+tc.upgrade+"\n\n")
			if res.StatusCode != tc.want {
				t.Errorf("status = %d; want %d", res.StatusCode, tc.want)
			}
		})
	}
	t.Run("h2c is not passed on", func(t *testing.T) {
		res, body := r.raw(t, "GET /upgraded HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: h2c\n\n")
		if res.StatusCode != 200 || body != "false" {
			t.Errorf("= %d %q; want an ordinary request", res.StatusCode, body)
		}
	})
	for path, want := range map[string]string{"/401": "401", "/200": "502"} {
		t.Run("extended CONNECT "+path, func(t *testing.T) {
			if _, answer := h2Connect(t, r.edge, path, "websocket"); answer[":status"] != want {
				t.Errorf("status = %s; want %s", answer[":status"], want)
			}
		})
	}
}

func TestPlainConnect(t *testing.T) {
	r := newRig(t, http.HandlerFunc(echo), rigOptions{})
	connect := func(host string, want int) {
		t.Helper()
		// Behind it the client may already send what is meant for the tunnel.
		res, _ := r.raw(t, "CONNECT "+host+":443 HTTP/1.1\nHost: "+host+":443\n\n")
		if res.StatusCode != want || !res.Close {
			t.Errorf("CONNECT %s on h1 = %d, close %v; want %d and a closed connection", host, res.StatusCode, res.Close, want)
		}
	}
	connect(host, http.StatusNotImplemented)
	connect("elsewhere.test", http.StatusMisdirectedRequest)
	r.reroute(t, func(rt *Route) { rt.Online = false })
	connect(host, http.StatusServiceUnavailable)
	r.reroute(t, func(rt *Route) { rt.Online = true })
	for _, protocol := range []string{"", "connect-udp"} {
		if _, answer := h2Connect(t, r.edge, "/", protocol); answer[":status"] != "501" {
			t.Errorf("CONNECT with :protocol %q on h2 = %s; want 501", protocol, answer[":status"])
		}
	}
}

// A 426 says what to upgrade to (RFC 9110, 15.5.22), where there is an upgrade.
func TestUpgradeRequired(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "TLS/1.3, websocket")
		w.WriteHeader(http.StatusUpgradeRequired)
	}), rigOptions{})
	check := func(t *testing.T, res *http.Response, upgrade, connection []string) {
		t.Helper()
		if got := res.Header; res.StatusCode != 426 || !slices.Equal(got["Upgrade"], upgrade) || !slices.Equal(got["Connection"], connection) {
			t.Errorf("= %d, Upgrade %q, Connection %q; want 426, %q and %q", res.StatusCode, got["Upgrade"], got["Connection"], upgrade, connection)
		}
	}
	named := []string{"TLS/1.3, websocket"}
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, _ := get(t, c, url+"/")
		if res.ProtoMajor == 1 {
			check(t, res, named, []string{"Upgrade"})
		} else {
			check(t, res, nil, nil)
		}
	})
	t.Run("to a WebSocket", func(t *testing.T) {
		res, _ := r.raw(t, "GET / HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 7\n\n")
		check(t, res, named, []string{"Upgrade"})
	})
	t.Run("with a body on its way", func(t *testing.T) {
		res, _ := r.raw(t, "POST / HTTP/1.1\nHost: "+host+"\nContent-Length: 9000000\n\n")
		check(t, res, named, nil) // http.ReadResponse takes a Connection field with a close away
		if !res.Close {
			t.Error("the connection lives on, with the rest of the body to come")
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		res, _ := r.raw(t, "GET / HTTP/1.0\nHost: "+host+"\n\n")
		check(t, res, nil, nil)
	})
}
