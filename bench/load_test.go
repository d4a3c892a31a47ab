//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// serve serves handler on one loopback address by HTTP/1.1, 2 and 3.
func serve(t *testing.T, handler http.Handler, curves ...tls.CurveID) target {
	t.Helper()
	l, err := newLab(t.TempDir(), cpuSplit{}, options{duration: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	cert, err := tls.LoadX509KeyPair(l.cert, l.key)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := packets.LocalAddr().String()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the port that UDP gave is taken for TCP: %v", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: curves}
	quiet := log.New(io.Discard, "", 0)
	srv := &http.Server{Handler: handler, TLSConfig: conf.Clone(), ErrorLog: quiet}
	h3srv := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(conf)}
	served := make(chan error, 2)
	go func() { served <- srv.ServeTLS(ln, "", "") }()
	go func() { served <- h3srv.Serve(packets) }()
	t.Cleanup(func() {
		srv.Close()
		h3srv.Close()
		packets.Close()
		<-served
		<-served
	})
	return target{addr: addr, roots: l.roots}
}

func TestClientsCountWhatTheyGet(t *testing.T) {
	to := serve(t, newBackend())
	tests := []struct {
		name string
		dial func(context.Context) (conn, error)
		want tally
	}{
		{"h1", func(ctx context.Context) (conn, error) { return dialH1(ctx, to, onlineHost, getSmall) }, tally{10, 10 * smallSize}},
		{"h2", func(ctx context.Context) (conn, error) { return dialH2(ctx, to, onlineHost, getSmall, 4) }, tally{10, 10 * smallSize}},
		{"h3", func(ctx context.Context) (conn, error) { return dialH3(ctx, to, onlineHost, getSmall, 4) }, tally{10, 10 * smallSize}},
		{"upload", func(ctx context.Context) (conn, error) { return dialH1(ctx, to, onlineHost, postUpload) }, tally{2, 2 * uploadSize}},
		{"upload over h2's windows", func(ctx context.Context) (conn, error) {
			return dialH2(ctx, to, onlineHost, postUpload, 1)
		}, tally{2, 2 * uploadSize}},
		{"download over h2's windows", func(ctx context.Context) (conn, error) {
			return dialH2(ctx, to, onlineHost, getDownload, 1)
		}, tally{2, 2 * downloadSize}},
		{"newcomer", func(ctx context.Context) (conn, error) {
			return &newcomer{ctx: ctx, target: to, host: onlineHost, want: getSmall}, nil
		}, tally{10, 10 * smallSize}},
		{"newcomer with a session", func(ctx context.Context) (conn, error) {
			to := to
			to.sessions = tls.NewLRUClientSessionCache(1)
			return &newcomer{ctx: ctx, target: to, host: onlineHost, want: getSmall}, nil
		}, tally{10, 10 * smallSize}},
		{"websocket", func(ctx context.Context) (conn, error) { return dialWebSocket(ctx, to, onlineHost, openWSEcho) }, tally{10, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			l, err := openLoad(ctx, 1, func(ctx context.Context, _ int) (conn, error) { return tt.dial(ctx) })
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			got, err := l.run(times(int(tt.want.requests)))
			if err != nil || got != tt.want {
				t.Errorf("run = %+v, %v; want %+v, nil", got, err, tt.want)
			}
		})
	}
}

// times asks n requests on every connection.
func times(n int) pace {
	return func(int) func() bool {
		left := n
		return func() bool {
			left--
			return left >= 0
		}
	}
}

func TestClientsRefuseWrongAnswers(t *testing.T) {
	handlers := map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"encoding": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = w.Write(make([]byte, smallSize))
		},
		"size": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, smallSize-1)) },
		"abort": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, smallSize/2))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	for name, handler := range handlers {
		to := serve(t, handler)
		dials := map[string]func(ctx context.Context, i int) (conn, error){
			"h1": func(ctx context.Context, _ int) (conn, error) { return dialH1(ctx, to, onlineHost, getSmall) },
			"h2": func(ctx context.Context, _ int) (conn, error) { return dialH2(ctx, to, onlineHost, getSmall, 4) },
			"h3": func(ctx context.Context, _ int) (conn, error) { return dialH3(ctx, to, onlineHost, getSmall, 4) },
		}
		for proto, dial := range dials {
			t.Run(name+"/"+proto, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				l, err := openLoad(ctx, 2, dial)
				if err != nil {
					t.Fatal(err)
				}
				defer l.close()
				if got, err := l.run(once()); err == nil {
					t.Errorf("run = %+v, nil; want an error", got)
				}
			})
		}
	}
}

func TestHandshakeTellsAMissingKeyExchange(t *testing.T) {
	to := serve(t, newBackend(), tls.X25519)
	to.curves = []tls.CurveID{tls.X25519}
	c, err := to.handshake(t.Context(), onlineHost, "http/1.1")
	if err != nil {
		t.Fatalf("handshake with X25519: %v", err)
	}
	c.Close()
	to.curves = []tls.CurveID{tls.X25519MLKEM768, tls.X25519}
	if _, err := to.handshake(t.Context(), onlineHost, "http/1.1"); !errors.Is(err, errNoCurve) {
		t.Errorf("handshake with X25519MLKEM768: %v; want %v", err, errNoCurve)
	}
	if _, err := to.handshake(t.Context(), onlineHost, "gopher"); err == nil || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("handshake for an unknown protocol: %v; want it refused", err)
	}
}

// forgetful keeps no session, whatever it is told.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

func TestNewcomerTellsAHandshakeThatDoesNotResume(t *testing.T) {
	to := serve(t, newBackend())
	to.sessions = forgetful{}
	c := &newcomer{ctx: t.Context(), target: to, host: onlineHost, want: getSmall}
	if err := c.run(times(1)(0), new(tally)); err != nil {
		t.Fatalf("first visit: %v; want a full handshake", err)
	}
	if err := c.run(times(1)(0), new(tally)); err == nil {
		t.Error("second visit with a full handshake: nil; want an error")
	}
}

func TestDelays(t *testing.T) {
	to := serve(t, newBackend())
	trial := &trial{lab: &lab{duration: time.Millisecond}, ctx: t.Context()}
	dial := func(ctx context.Context) (net.Conn, error) { return to.handshake(ctx, onlineHost, "http/1.1") }
	for _, path := range []string{"/events", getSmall.path} {
		delays, err := trial.delays(dial, path)
		if err != nil || len(delays) != 10 || slices.Min(delays) <= 0 {
			t.Errorf("delays(%q) = %v, %v; want 10 of them, nil", path, delays, err)
		}
	}
	if delays, err := trial.delays(dial, "/nothing"); err == nil {
		t.Errorf("delays of an answer 404 = %v, nil; want an error", delays)
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	const rate, conns = 200, 4
	start := time.Now()
	count := 0
	pace := openLoop(rate, conns, 100*time.Millisecond)
	for i := range conns { // one after another: the later ones are behind and hurry
		for more := pace(i); more(); {
			count++
		}
	}
	if want := rate / 10; count != want {
		t.Errorf("asked %d times in 100 ms; want %d", count, want)
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("took %v; want at least until the last request's time", took)
	}
}
