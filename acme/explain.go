package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/mholt/acmez/v3/acme"
)

// explain says what went wrong with an order in words an operator can act on.
func explain(err error) string {
	var (
		problem   acme.Problem
		api       *apiError
		noZone    *noZoneError
		noToken   *tokenError
		storage   *storageError
		untrusted x509.UnknownAuthorityError
		wrongHost x509.HostnameError
		badCert   *tls.CertificateVerificationError
		lookup    *net.DNSError
		network   *net.OpError
	)
	switch {
	case err == nil:
		return "unknown"
	case errors.As(err, &noToken):
		return noToken.Error()
	case errors.As(err, &noZone):
		return noZone.Error()
	case errors.As(err, &api):
		return api.explain()
	case errors.As(err, &storage):
		return storage.Error()
	case errors.As(err, &problem):
		return explainProblem(problem)
	case errors.As(err, &untrusted):
		return "the server's certificate is not from a known authority: " + shorten(err.Error()) + "; if it is your own, set ca_root to its root certificate"
	case errors.As(err, &wrongHost), errors.As(err, &badCert):
		return "the server's certificate is not valid: " + shorten(err.Error()) + "; check the router's clock and the URL"
	case errors.As(err, &lookup):
		return fmt.Sprintf("cannot look up %s: check the router's internet connection and DNS (%v)", lookup.Name, lookup)
	case errors.As(err, &network):
		return fmt.Sprintf("cannot reach %s: check the internet connection and the firewall (%v)", addrOf(network), network.Err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "no answer in time: " + shorten(err.Error())
	}
	return shorten(err.Error())
}

func addrOf(e *net.OpError) string {
	if e.Addr != nil {
		return e.Addr.String()
	}
	return "the server"
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// refused reports whether err says that the API has looked at the request and
// found fault with it: it is no web page of somebody else, nor too busy, nor broken.
func refused(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && len(e.Codes) > 0 && e.Status != http.StatusTooManyRequests && e.Status < 500
}

// explain maps the codes of Cloudflare's API to what the operator did or can do.
func (e *apiError) explain() string {
	hint := ""
	has := func(codes ...int) bool {
		return slices.ContainsFunc(codes, func(c int) bool { return slices.Contains(e.Codes, c) })
	}
	switch {
	case e.Status == 429 || has(10100):
		hint = "Cloudflare limits how often its API is used"
	case e.Status >= 500:
		hint = "Cloudflare's API has a problem of its own"
	case has(9109, 1000, 1001):
		hint = "the Cloudflare token is not valid: it was mistyped, deleted, disabled or has expired; make a new one"
	case has(6003, 6111):
		hint = "the Cloudflare token is malformed: put the bare token there, without quotes"
	case has(10000, 9103):
		hint = "the Cloudflare token may not do this: it needs DNS:Edit (and Zone:Read) for the zone"
	case strings.Contains(e.Message, "zone.list"):
		hint = "the Cloudflare token lacks Zone:Read; add it to the token's permissions"
	case has(81053, 81054):
		hint = "a CNAME record stands where the TXT record must be; remove it"
	case has(81057, 81058):
		hint = "the record is there already"
	case e.Status < 400 || len(e.Codes) == 0:
		hint = "this does not look like Cloudflare's API: a login page of the network, or a wrong CLOUDFLARE_BASE_URL?"
	case e.Status == 401 || e.Status == 403:
		hint = "the Cloudflare token may not do this: it needs Zone:Read and DNS:Edit for the zone"
	default:
		return e.Error()
	}
	return fmt.Sprintf("%s (HTTP %d: %s)", hint, e.Status, e.Message)
}

// limitEnds finds the time in Let's Encrypt's "retry after 2026-01-02 15:04:05 UTC".
var limitEnds = regexp.MustCompile(`(?i)retry after (\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?: ?UTC|Z)?)`)

// explainProblem puts an ACME problem (RFC 8555 section 6.7) into words.
func explainProblem(p acme.Problem) string {
	if p.Type == acme.ProblemTypeCompound && len(p.Subproblems) > 0 {
		texts := make([]string, len(p.Subproblems))
		for i, sub := range p.Subproblems {
			texts[i] = explainProblem(sub.Problem)
		}
		return strings.Join(texts, "; ")
	}
	hint := ""
	switch p.Type {
	case acme.ProblemTypeRateLimited:
		hint = "the authority's rate limit is reached"
		if at := limitEnds.FindStringSubmatch(p.Detail); at != nil {
			hint += ", it ends at " + at[1]
		}
	case acme.ProblemTypeDNS:
		hint = "the authority could not look the name up: does the domain exist, and does it point to Cloudflare's name servers?"
	case acme.ProblemTypeCAA:
		hint = "a CAA record of the domain forbids this authority; add one that allows it"
	case acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse:
		hint = "the authority did not see the TXT record: is the zone served by the Cloudflare account of the token?"
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		hint = "the authority does not issue for this name"
	case acme.ProblemTypeExternalAccountRequired:
		hint = "the authority wants an account made on its web site: set eab_key_id and eab_key_file"
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		hint = "the authority does not accept the e-mail address; correct acme.email"
	case acme.ProblemTypeUserActionRequired:
		hint = "the authority wants its new terms accepted"
		if p.Instance != "" {
			hint += " at " + p.Instance
		}
	case acme.ProblemTypeConnection:
		hint = "the authority could not reach the name servers"
	case acme.ProblemTypeServerInternal:
		hint = "the authority has a problem of its own; it is tried again later"
	case acme.ProblemTypeBadNonce, acme.ProblemTypeOrderNotReady:
		hint = "the authority lost track of the order; it is tried again"
	default:
		if p.Status == 503 || p.Status == 429 {
			hint = "the authority is busy; it is tried again later"
		} else {
			hint = "the authority refused"
		}
	}
	return fmt.Sprintf("%s (%s: %s)", hint, strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace), shorten(p.Detail))
}
