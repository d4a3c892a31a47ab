package cloudflare

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startDNS runs the authoritative name server on one port, UDP and TCP.
func (s *Server) startDNS(t testing.TB) {
	t.Helper()
	udp, tcp := listenBoth(t)
	s.DNS = udp.LocalAddr().String()
	for _, server := range []*dns.Server{
		{PacketConn: udp, Handler: dns.HandlerFunc(s.answerDNS)},
		{Listener: tcp, Handler: dns.HandlerFunc(s.answerDNS)},
	} {
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
	}
}

// listenBoth finds a port that is free for UDP and for TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func (s *Server) answerDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	reply := s.lookup(q)
	s.mu.Unlock()
	w.WriteMsg(reply) // the client asks again
}

// lookup answers from the records; called with mu held.
func (s *Server) lookup(q *dns.Msg) *dns.Msg {
	s.queries++
	reply := new(dns.Msg).SetReply(q)
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	zone := ""
	for _, z := range s.zones {
		if (name == z.name || strings.HasSuffix(name, "."+z.name)) && len(z.name) > len(zone) {
			zone = z.name
		}
	}
	if zone == "" {
		reply.Rcode = dns.RcodeRefused
		return reply
	}
	reply.Authoritative = true
	exists := name == zone
	for _, rec := range s.records {
		if rec.Name != name || time.Since(rec.Created) < s.lag {
			continue
		}
		exists = true
		if rec.Type == "TXT" && question.Qtype == dns.TypeTXT {
			reply.Answer = append(reply.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rec.TTL)},
				Txt: []string{strings.Trim(rec.Content, `"`)},
			})
		}
	}
	if question.Qtype == dns.TypeA || question.Qtype == dns.TypeAAAA || question.Qtype == dns.TypeCAA {
		exists = true // every host of the zone exists, no CAA record forbids anything
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 1800},
			Ns:  "ns.invalid.", Mbox: "dns.invalid.", Serial: 1, Refresh: 10000, Retry: 2400, Expire: 604800, Minttl: 1800,
		}}
	}
	return reply
}
