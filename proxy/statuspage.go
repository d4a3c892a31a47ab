package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// StatusPage is where visitors of an offline host are sent: a URL with the
// placeholders {uri}, the request's path and query, and {host}, the host that
// was asked for. Both may stand only behind the URL's host, so whatever a
// request looks like, it cannot move the redirect to another site.
//
// The zero value means that there is none. A StatusPage is immutable.
type StatusPage struct {
	prefix string    // constant up to the first placeholder; holds scheme and host whole
	rest   []segment // placeholders and the text behind each
}

// segment is one placeholder and the constant text that follows it.
type segment struct {
	host bool // {host}; else {uri}
	text string
}

// ParseStatusPage parses a template such as "https://status.example.org{uri}".
// A template without {uri} is used as it is; an empty one gives the zero
// StatusPage. The error says what is wrong, in words for an operator.
func ParseStatusPage(template string) (StatusPage, error) {
	if template == "" {
		return StatusPage{}, nil
	}
	scheme, after, ok := strings.Cut(template, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "https" && scheme != "http" {
		return StatusPage{}, fmt.Errorf("status page %q: must begin with https:// or http://", template)
	}
	if strings.ContainsAny(after, "\"<>\\^`|") { // they would also end a Link field's <…>
		return StatusPage{}, fmt.Errorf("status page %q: has a character that a URL holds percent-encoded only", template)
	}
	// {uri} begins with a slash, so it may end the authority like "/", "?" and "#".
	end := len(after)
	for _, stop := range []string{"/", "?", "#", "{uri}"} {
		if i := strings.Index(after, stop); i >= 0 {
			end = min(end, i)
		}
	}
	authority, err := asciiAuthority(after[:end])
	if err != nil {
		return StatusPage{}, fmt.Errorf("status page %q: %w", template, err)
	}

	page := StatusPage{}
	text := &page.prefix
	*text = scheme + "://" + authority
	rest := after[end:]
	for {
		before, behind, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return StatusPage{}, fmt.Errorf("status page %q: a } without a {", template)
		}
		*text += escapeURL(before)
		if !found {
			break
		}
		name, tail, closed := strings.Cut(behind, "}")
		if !closed || name != "uri" && name != "host" {
			return StatusPage{}, fmt.Errorf("status page %q: unknown placeholder; there are {uri} and {host}", template)
		}
		page.rest = append(page.rest, segment{host: name == "host"})
		text = &page.rest[len(page.rest)-1].text
		rest = tail
	}
	if _, err := url.Parse(page.Link("example.org")); err != nil {
		return StatusPage{}, fmt.Errorf("status page %q: %w", template, errors.Unwrap(err))
	}
	return page, nil
}

// asciiAuthority checks the host and port of a template and gives them as they
// stand in a header field: lower case and in punycode.
func asciiAuthority(s string) (string, error) {
	if strings.ContainsAny(s, "{}") {
		return "", errors.New("a placeholder in the host name would let a request choose the site")
	}
	u, err := url.Parse("//" + s)
	if err != nil || u.Hostname() == "" || u.Host != s {
		return "", errors.New("needs a plain host name behind ://, without user or password")
	}
	if strings.HasPrefix(s, "[") {
		return strings.ToLower(s), nil
	}
	name, err := idna.Lookup.ToASCII(u.Hostname())
	if err != nil {
		return "", fmt.Errorf("host name %q: %w", u.Hostname(), err)
	}
	return strings.ToLower(name) + s[len(u.Hostname()):], nil
}

// IsZero reports whether there is no status page.
func (s StatusPage) IsZero() bool { return s.prefix == "" }

// Location is the address to send r's visitor to; host is the canonical name
// that was asked for. It is a valid header field value, and its scheme and
// host are the template's.
func (s StatusPage) Location(r *http.Request, host string) string {
	return s.expand(requestURI(r), host)
}

// Link is the status page's own address, with "/" for {uri}: what pages and
// Link fields name. It is "" for the zero StatusPage.
func (s StatusPage) Link(host string) string { return s.expand("/", host) }

func (s StatusPage) expand(uri, host string) string {
	switch len(s.rest) {
	case 0:
		return s.prefix
	case 1: // by far the usual: one concatenation, one allocation
		return s.prefix + s.rest[0].value(uri, host) + s.rest[0].text
	}
	var b strings.Builder
	b.WriteString(s.prefix)
	for _, seg := range s.rest {
		b.WriteString(seg.value(uri, host))
		b.WriteString(seg.text)
	}
	return b.String()
}

func (seg segment) value(uri, host string) string {
	if seg.host {
		return url.PathEscape(host)
	}
	return uri
}

// requestURI is r's path and query byte for byte as the client sent them, with
// what a header field cannot hold percent-encoded. It begins with a slash,
// also for "OPTIONS *", CONNECT and an absolute-form target (RFC 9112, 3.2).
func requestURI(r *http.Request) string {
	uri := rawTarget(r)
	if !strings.HasPrefix(uri, "/") {
		return "/"
	}
	return escapeURL(uri)
}

// escapeURL percent-encodes the bytes of s that may not stand in a header
// field or would end a URL there: controls, space and everything beyond ASCII.
// All else, escapes included, stays as it is.
func escapeURL(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, i, len(s)+16)
	copy(b, s)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
