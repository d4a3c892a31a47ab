package acme

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers TXT questions by f on loopback, UDP only.
func nameServer(t *testing.T, f func(reply *dns.Msg)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		f(reply)
		w.WriteMsg(reply) // asked again
	})}
	ready, ended := make(chan struct{}), make(chan struct{})
	server.NotifyStartedFunc = func() { close(ready) }
	go func() {
		defer close(ended)
		server.ActivateAndServe() // ends with Shutdown
	}()
	<-ready
	t.Cleanup(func() {
		server.Shutdown() // the test is over
		<-ended
	})
	return conn.LocalAddr().String()
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	shows := func(r *dns.Msg) {
		r.Authoritative = true
		r.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{"val", "ue"},
		}}
	}
	absent := func(r *dns.Msg) { r.Authoritative, r.Rcode = true, dns.RcodeNameError }
	refuses := func(r *dns.Msg) { r.Rcode = dns.RcodeRefused }
	intercepted := func(r *dns.Msg) { r.Rcode = dns.RcodeNameError } // not authoritative
	var asked atomic.Int64
	late := func(r *dns.Msg) {
		absent(r)
		if asked.Add(1) > 3 {
			r.Rcode = dns.RcodeSuccess
			shows(r)
		}
	}
	const dead = "127.0.0.1:1"
	serve := func(f func(*dns.Msg)) string { return nameServer(t, f) }
	const blind, limit = time.Second, 3 * time.Second // far enough from each other for a slow machine
	tests := []struct {
		name       string
		servers    []string
		resolvers  bool // the servers are configured, not the zone's own
		ok         bool
		atLeast    time.Duration
		noLongerBy time.Duration
	}{
		{"visible", []string{serve(shows)}, false, true, 0, blind},
		{"late", []string{serve(late)}, false, true, 30 * time.Millisecond, limit},
		{"half is enough", []string{serve(shows), serve(absent)}, false, true, 0, blind},
		{"one of two is dead", []string{dead, serve(shows)}, false, true, 0, blind},
		{"one of two refuses", []string{serve(refuses), serve(shows)}, false, true, 0, blind},
		{"a third is not enough", []string{serve(shows), serve(absent), serve(absent)}, false, false, limit, time.Minute},
		{"never", []string{serve(absent)}, false, false, limit, time.Minute},
		{"all dead: the authority decides", []string{dead, dead}, false, true, blind, limit},
		{"intercepted: the authority decides", []string{serve(intercepted)}, false, true, blind, limit},
		{"resolver with a stale cache: the authority decides", []string{serve(intercepted)}, true, true, limit, time.Minute},
		{"no servers known: the authority decides", nil, false, true, blind, limit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			own, resolvers := tt.servers, []string(nil)
			if tt.resolvers {
				own, resolvers = nil, tt.servers
			}
			v := newVisibility(record{Name: "_acme-challenge.example.test", Value: "value"}, own, resolvers, slog.New(slog.DiscardHandler))
			v.poll, v.blind, v.limit = 10*time.Millisecond, blind, limit
			start := time.Now()
			err := v.wait(t.Context())
			took := time.Since(start)
			if (err == nil) != tt.ok || took < tt.atLeast || took > tt.noLongerBy {
				t.Errorf("wait = %v after %s; want success %v within %s to %s", err, took, tt.ok, tt.atLeast, tt.noLongerBy)
			}
		})
	}

	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		v := newVisibility(record{Name: "x.test", Value: "v"}, []string{serve(absent)}, nil, slog.New(slog.DiscardHandler))
		if err := v.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait = %v; want the context's end", err)
		}
	})
}

func TestServerPorts(t *testing.T) {
	t.Parallel()
	v := newVisibility(record{}, []string{"ns.example.test", "127.0.0.1:5353", "::1", "[::1]:54"}, nil, nil)
	want := []string{"ns.example.test:53", "127.0.0.1:5353", "[::1]:53", "[::1]:54"}
	for i := range want {
		if v.servers[i] != want[i] {
			t.Errorf("servers[%d] = %q; want %q", i, v.servers[i], want[i])
		}
	}
}
