package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// visibility asks name servers until a TXT record can be seen there.
type visibility struct {
	record        record
	servers       []string // host:port
	authoritative bool     // the servers are the zone's own
	log           *slog.Logger

	poll, blind, limit time.Duration
}

func newVisibility(r record, own, resolvers []string, log *slog.Logger) *visibility {
	v := &visibility{
		record:        r,
		servers:       resolvers,
		authoritative: len(resolvers) == 0,
		log:           log,
		poll:          500 * time.Millisecond, // Cloudflare needs one to five seconds
		blind:         15 * time.Second,       // three times that, when nobody can be asked
		limit:         2 * time.Minute,        // authorities wait longer than this for the challenge
	}
	if v.authoritative {
		v.servers = own
	}
	v.servers = slices.Clone(v.servers)
	for i, server := range v.servers {
		if _, _, err := net.SplitHostPort(server); err != nil {
			v.servers[i] = net.JoinHostPort(strings.Trim(server, "[]"), "53")
		}
	}
	return v
}

// wait returns nil when at least half of the servers that answer show the
// record. Only the zone's own servers can say for certain that it is not there;
// when none can be reached, or a resolver may answer from its cache, wait ends
// without a verdict after a while and the authority decides.
func (v *visibility) wait(ctx context.Context) error {
	start := time.Now()
	ticks := time.NewTicker(v.poll)
	defer ticks.Stop()
	everAnswered := false
	for {
		seen, answered, err := v.ask(ctx)
		if seen > 0 && 2*seen >= answered {
			return nil
		}
		everAnswered = everAnswered || answered > 0
		waited := time.Since(start)
		switch {
		case !everAnswered && waited >= v.blind:
			v.log.Warn("name servers not reachable, leaving the check to the authority", "name", v.record.Name, "servers", v.servers, "error", err)
			return nil
		case waited >= v.limit && v.authoritative && answered > 0:
			return fmt.Errorf("TXT record %s is not visible at %s after %s", v.record.Name, strings.Join(v.servers, ", "), v.limit)
		case waited >= v.limit:
			v.log.Warn("TXT record not visible, leaving the check to the authority", "name", v.record.Name, "servers", v.servers)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

// ask asks all servers once. err is one of the reasons why a server did not
// answer.
func (v *visibility) ask(ctx context.Context) (seen, answered int, err error) {
	type answer struct {
		seen bool
		err  error
	}
	answers := make(chan answer, len(v.servers))
	for _, server := range v.servers {
		go func() {
			seen, err := v.query(ctx, server)
			answers <- answer{seen, err}
		}()
	}
	for range v.servers {
		a := <-answers
		switch {
		case a.err != nil:
			err = a.err
		case a.seen:
			seen++
			answered++
		default:
			answered++
		}
	}
	return seen, answered, err
}

// query asks one server whether it shows the record.
func (v *visibility) query(ctx context.Context, server string) (bool, error) {
	q := new(dns.Msg).SetQuestion(v.record.Name+".", dns.TypeTXT)
	q.RecursionDesired = !v.authoritative
	q.SetEdns0(1232, false) // what passes every network unfragmented (DNS flag day 2020)
	// A server that is that slow counts as absent for this round.
	client := dns.Client{Timeout: 2 * time.Second}
	resp, _, err := client.ExchangeContext(ctx, q, server)
	if err != nil || resp.Truncated {
		client.Net = "tcp"
		resp, _, err = client.ExchangeContext(ctx, q, server)
	}
	if err != nil {
		return false, err
	}
	for _, rr := range resp.Answer {
		if txt, ok := rr.(*dns.TXT); ok && strings.Join(txt.Txt, "") == v.record.Value {
			return true, nil
		}
	}
	switch {
	case resp.Rcode != dns.RcodeSuccess && resp.Rcode != dns.RcodeNameError:
		return false, fmt.Errorf("%s answered %s", server, dns.RcodeToString[resp.Rcode])
	case v.authoritative && !resp.Authoritative:
		// Somebody between us and the server answers in its place.
		return false, errors.New("port 53 is intercepted: " + server + " did not answer itself")
	}
	return false, nil
}
