package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mholt/acmez/v3/acme"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	problem := func(kind, detail string) error {
		return fmt.Errorf("[x] Obtain: %w", acme.Problem{Type: acme.ProblemTypeNamespace + kind, Status: 400, Detail: detail})
	}
	cloudflare := func(status int, codes ...int) error {
		return fmt.Errorf("add TXT record: %w", &apiError{Status: status, Codes: codes, Message: "m"})
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"limit with its time", problem("rateLimited", "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-01-02 15:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/"), "it ends at 2026-01-02 15:04:05 UTC"},
		{"limit", problem("rateLimited", "slow down"), "the authority's rate limit is reached (rateLimited: slow down)"},
		{"dns", problem("dns", "DNS problem: NXDOMAIN looking up TXT"), "could not look the name up"},
		{"caa", problem("caa", "CAA record for x prevents issuance"), "a CAA record of the domain forbids"},
		{"unauthorized", problem("unauthorized", "No TXT record found"), "did not see the TXT record"},
		{"rejected", problem("rejectedIdentifier", "policy"), "does not issue for this name"},
		{"eab", problem("externalAccountRequired", "eab"), "set eab_key_id and eab_key_file"},
		{"contact", problem("invalidContact", "bad"), "correct acme.email"},
		{"unknown type", problem("strange", "why"), "the authority refused (strange: why)"},
		{"compound", acme.Problem{Type: acme.ProblemTypeCompound, Subproblems: []acme.Subproblem{{Problem: acme.Problem{Type: acme.ProblemTypeCAA, Detail: "d"}}}}, "a CAA record"},
		{"token invalid", cloudflare(403, 9109), "the Cloudflare token is not valid"},
		{"token malformed", cloudflare(400, 6003, 6111), "put the bare token there"},
		{"no DNS:Edit", cloudflare(403, 10000), "needs DNS:Edit"},
		{"no Zone:Read", &apiError{Status: 403, Codes: []int{0}, Message: "requires permission 'com.cloudflare.api.account.zone.list'"}, "lacks Zone:Read"},
		{"api limit", cloudflare(429, 10100), "Cloudflare limits how often"},
		{"api down", cloudflare(503), "a problem of its own"},
		{"captive portal", cloudflare(200), "login page of the network"},
		{"cname", cloudflare(400, 81053), "a CNAME record stands where"},
		{"no zone", &noZoneError{"blog.x.test", []string{"y.test"}}, "sees only y.test"},
		{"no zones", &noZoneError{"blog.x.test", nil}, "sees no zone at all"},
		{"root", x509.UnknownAuthorityError{}, "set ca_root"},
		{"lookup", &net.DNSError{Err: "no such host", Name: "acme.test"}, "cannot look up acme.test"},
		{"refused", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Err: errors.New("connection refused")}, "cannot reach 127.0.0.1:1"},
		{"timeout", context.DeadlineExceeded, "no answer in time"},
		{"anything else", errors.New("line\nbreak"), "line break"},
		{"nothing", nil, "unknown"},
	}
	for _, tt := range tests {
		if got := explain(tt.err); !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: explain(%v) = %q; want one line with %q", tt.name, tt.err, got, tt.want)
		}
	}
}
