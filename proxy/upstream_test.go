package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An upstream of HTTP/1 may close a connection just as it is used again after a
// rest, so a request that must not be repeated is sent on none that rested. On
// HTTP/2 it would say what it did not look at.
func TestNoPostOnARestedConnection(t *testing.T) {
	for kind, apart := range map[string]bool{"https": true, "https, HTTP/2": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := startUpstreamOf(t, kind, time.Minute, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, r.RemoteAddr)
			})
			r := newRig(t, nil, o)
			c := r.client(t, "h2")
			post := func() string {
				_, from := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form")))
				return from
			}
			_, kept := get(t, c, "https://"+host+"/")
			first := post()
			if (first != kept) != apart || post() != first {
				t.Fatalf("POST on %s, GET on %s, and the next POST elsewhere", first, kept)
			}
			if !apart {
				return
			}
			time.Sleep(onceIdleTimeout + onceIdleTimeout/2)
			if again := post(); again == first {
				t.Error("POST on a connection that rested")
			}
			if _, again := get(t, c, "https://"+host+"/"); again != kept {
				t.Error("GET on a new connection; want the one that rested")
			}
		})
	}
}

func TestUpstreamSchemes(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	onSocket := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	onSocket.Start()
	t.Cleanup(onSocket.Close)

	h2c := httptest.NewUnstartedServer(h)
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	t.Cleanup(h2c.Close)

	secure := startTLSUpstream(t, h)
	for _, tc := range []struct {
		name, want string
		o          UpstreamOptions
	}{
		{"http", "HTTP/1.1", UpstreamOptions{Scheme: "http", Address: startUpstream(t, h)}},
		{"unix", "HTTP/1.1", UpstreamOptions{Scheme: "unix", Address: socket}},
		{"h2c", "HTTP/2.0", UpstreamOptions{Scheme: "h2c", Address: h2c.Listener.Addr().String()}},
		{"https with roots", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, RootsPEM: testRootsPEM()}},
		{"https with a name", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, RootsPEM: testRootsPEM(), ServerName: "example.test"}},
		{"https insecure", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, Insecure: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, nil, rigOptions{upstream: tc.o})
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				if res, body := get(t, c, url+"/"); res.StatusCode != 200 || body != tc.want {
					t.Errorf("= %d %q; want 200 %q", res.StatusCode, body, tc.want)
				}
			})
		})
	}
	for _, o := range []UpstreamOptions{{Scheme: "ftp", Address: "x"}, {Scheme: "https", Address: "x", RootsPEM: "nonsense"}} {
		if _, err := NewUpstream(o, nil); err == nil {
			t.Errorf("NewUpstream(%+v) = nil error; want one", o)
		}
	}
}

func TestUpstreamSettings(t *testing.T) {
	u, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "10.1.1.4", ResponseTimeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := u.String(); got != "10.1.1.4:80" {
		t.Errorf("String() = %q; want 10.1.1.4:80", got)
	}
	transport, upgrades := u.transport.(*http.Transport), u.upgrades.(*http.Transport)
	if transport.Proxy != nil || upgrades.Proxy != nil {
		t.Error("HTTP_PROXY would be asked")
	}
	if c := transport.HTTP2; c != nil && c.SendPingTimeout != 0 {
		t.Error("a gRPC server would end connections, with their calls, for PINGs")
	}
	if transport.ResponseHeaderTimeout != time.Minute || upgrades.ResponseHeaderTimeout != 0 {
		t.Errorf("response header timeouts = %v, %v; want 1m, none for upgrades", transport.ResponseHeaderTimeout, upgrades.ResponseHeaderTimeout)
	}
	if transport.MaxIdleConnsPerHost != 256 || transport.IdleConnTimeout != 2*time.Minute || !transport.DisableCompression {
		t.Errorf("idle %d for %v, DisableCompression %v; want 256 for 2m, true", transport.MaxIdleConnsPerHost, transport.IdleConnTimeout, transport.DisableCompression)
	}
}

// A retired upstream closes what is idle and still serves.
func TestRetire(t *testing.T) {
	closed := make(chan bool, 4)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- true
		}
	}
	srv.Start()
	defer srv.Close()
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: srv.Listener.Addr().String()}})
	c := r.client(t, "h1")
	for range 2 {
		if res, _ := get(t, c, "https://"+host+"/"); res.StatusCode != 200 {
			t.Fatalf("= %d; want 200", res.StatusCode)
		}
		r.route.Pool.Members()[0].Retire()
		select {
		case <-closed:
		case <-time.After(5 * time.Second):
			t.Fatal("the idle connection stays open")
		}
	}
}

// NTLM and Negotiate authenticate a connection, not a request: whoever is next
// on it would be taken for the visitor before.
func TestConnectionAuthenticationIsNotShared(t *testing.T) {
	for scheme, shared := range map[string]bool{"NTLM TlRMTVNTUAAB": false, "negotiate YII=": false, "Basic YTpi": true, "Bearer x": true} {
		var mu sync.Mutex
		var from []string
		r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			from = append(from, r.RemoteAddr)
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", "Negotiate")
			}
		}), rigOptions{})
		c := r.client(t, "h2")
		req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
		req.Header.Set("Authorization", scheme)
		do(t, c, req)
		get(t, c, "https://"+host+"/")
		if got := from[0] == from[1]; got != shared {
			t.Errorf("%s: the next request on the same connection = %v; want %v", scheme, got, shared)
		}
	}
}

// An upgrade asks for its connection to go on, whatever it is authenticated by;
// when it is refused, nobody else gets that connection.
func TestUpgradesShareNoConnection(t *testing.T) {
	var mu sync.Mutex
	var from []string
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from = append(from, r.RemoteAddr)
		if got := r.Header["Connection"]; len(got) != 1 || got[0] != "Upgrade" {
			t.Errorf("Connection: %q; want Upgrade alone", got)
		}
		w.WriteHeader(http.StatusNotFound)
	}), rigOptions{})
	for range 2 {
		res, _ := r.raw(t, "GET / HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\nAuthorization: Negotiate YII=\n\n")
		if res.StatusCode != http.StatusNotFound {
			t.Fatalf("answer %d; want 404", res.StatusCode)
		}
	}
	if from[0] == from[1] {
		t.Error("two visitors' upgrades on one connection")
	}
}
