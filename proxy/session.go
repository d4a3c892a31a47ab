package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// SessionSigns say by what a request is known to belong to a running session;
// one of them is enough.
type SessionSigns struct {
	Cookies []string // names; one that ends in "*" is a prefix
	Paths   []string // a path and everything below it: "/cart" is also "/cart/x", not "/cartoon"
	Queries []string // names of query parameters, as they are sent
}

// Session recognises the requests of running sessions. It remembers nothing
// and looks at the request alone. It is immutable; nil recognises none.
type Session struct {
	cookies  []string
	prefixes []string // of cookies' names
	paths    []string // without a slash at the end
	queries  []string
}

// NewSession compiles signs; it is nil when there are none.
func NewSession(signs SessionSigns) *Session {
	s := new(Session)
	for _, name := range signs.Cookies {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			s.prefixes = append(s.prefixes, prefix)
		} else {
			s.cookies = append(s.cookies, name)
		}
	}
	for _, path := range signs.Paths {
		s.paths = append(s.paths, strings.TrimSuffix(path, "/"))
	}
	s.queries = append(s.queries, signs.Queries...)
	if s.cookies == nil && s.prefixes == nil && s.paths == nil && s.queries == nil {
		return nil
	}
	return s
}

// Matches reports whether r carries a sign. It does not allocate.
func (s *Session) Matches(r *http.Request) bool {
	return s != nil && (s.hasPath(r.URL.Path) || s.hasQuery(r.URL.RawQuery) || s.hasCookie(r.Header["Cookie"]))
}

func (s *Session) hasPath(path string) bool {
	for _, p := range s.paths {
		if below, ok := strings.CutPrefix(path, p); ok && (below == "" || below[0] == '/') {
			return true
		}
	}
	return false
}

func (s *Session) hasQuery(query string) bool {
	if len(s.queries) == 0 {
		return false
	}
	for query != "" {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		name, _, _ := strings.Cut(parameter, "=")
		if slices.Contains(s.queries, name) {
			return true
		}
	}
	return false
}

func (s *Session) hasCookie(fields []string) bool {
	if len(s.cookies) == 0 && len(s.prefixes) == 0 {
		return false
	}
	for _, cookies := range fields {
		for cookies != "" {
			var name string
			name, _, cookies = nextCookie(cookies)
			if slices.Contains(s.cookies, name) {
				return true
			}
			for _, prefix := range s.prefixes {
				if strings.HasPrefix(name, prefix) {
					return true
				}
			}
		}
	}
	return false
}

// nextCookie takes the first cookie off a Cookie field (RFC 6265, 4.2.1).
func nextCookie(cookies string) (name, value, rest string) {
	cookies, rest, _ = strings.Cut(cookies, ";")
	name, value, _ = strings.Cut(strings.Trim(cookies, " \t"), "=")
	return name, value, rest
}
