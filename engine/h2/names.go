package h2

import (
	"net/http"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// The classes a byte can belong to.
const (
	nameByte      = 1 << iota // of a field name on the wire: tchar in lower case
	tokenByte                 // tchar, RFC 9110, section 5.6.2
	valueByte                 // of a field value
	authorityByte             // of host:port, RFC 3986, section 3.2
	pathByte                  // of a path that stands for itself
	targetByte                // of a path with query; browsers send bytes that RFC 3986 wants escaped
)

// classes is a table and not a function because it is asked for each byte.
var classes = func() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		alnum := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if alnum {
			t[c] |= tokenByte | authorityByte | pathByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= targetByte
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenByte
	}
	for i := range t {
		if t[i]&tokenByte != 0 && (i < 'A' || i > 'Z') {
			t[i] |= nameByte
		}
	}
	for _, c := range []byte("-._~!$&'()*+,;=:[]%") {
		t[c] |= authorityByte
	}
	for _, c := range []byte("/-._~") {
		t[c] |= pathByte
	}
	return t
}()

func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

func validName(s string) bool { return s != "" && all(s, nameByte) }

func validToken(s string) bool { return s != "" && all(s, tokenByte) }

func validAuthority(s string) bool { return s != "" && all(s, authorityByte) }

func validValue(s string) bool { return all(s, valueByte) }

// padded reports whether white space surrounds a value, which RFC 9113, section
// 8.2.1, forbids.
func padded(s string) bool { return s != "" && (blank(s[0]) || blank(s[len(s)-1])) }

func blank(c byte) bool { return c == ' ' || c == '\t' }

const (
	badPath   = iota
	plainPath // it is its own URL.Path
	otherPath
)

func pathKind(s string) int {
	switch {
	case s == "" || s[0] != '/' || !all(s, targetByte):
		return badPath
	case all(s, pathByte):
		return plainPath
	}
	return otherPath
}

// canonical is http.CanonicalHeaderKey for names on the wire.
func canonical(name string) string {
	if s, ok := canonicalNames[name]; ok {
		return s
	}
	return http.CanonicalHeaderKey(name)
}

// wireName is a name as it is sent.
type wireName struct {
	name  string
	once  bool  // its values hardly come again, or are better kept out of tables
	index uint8 // of the first entry in the static table that has the name; 0 = none has, or the name is not common
}

// wireNameOf is a canonical name as it is sent; without a name if it is not valid.
func wireNameOf(name string) wireName {
	if n, ok := wireNames[name]; ok {
		return n
	}
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	if s := string(b); validName(s) {
		return wireName{name: s}
	}
	return wireName{}
}

// commonNames are those that are seen all day.
var commonNames = []string{
	"accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "access-control-allow-credentials",
	"access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin",
	"access-control-expose-headers", "access-control-max-age", "access-control-request-headers",
	"access-control-request-method", "age", "allow", "alt-svc", "authorization", "cache-control", "cdn-loop",
	"cf-connecting-ip", "cf-ipcountry", "cf-ray", "cf-visitor", "content-disposition", "content-encoding",
	"content-language", "content-length", "content-location", "content-range", "content-security-policy", "content-type",
	"cookie", "cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy", "date",
	"depth", "destination", "dnt", "etag", "expect", "expires", "forwarded", "from", "grpc-encoding", "grpc-message",
	"grpc-status", "grpc-timeout", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
	"if-unmodified-since", "keep-alive", "last-modified", "link", "location", "max-forwards", "origin", "overwrite",
	"permissions-policy", "pragma", "priority", "proxy-authenticate", "proxy-authorization", "range", "referer",
	"referrer-policy", "refresh", "report-to", "retry-after", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
	"sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-gpc", "sec-websocket-extensions",
	"sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version", "server", "server-timing", "set-cookie",
	"strict-transport-security", "te", "trailer", "transfer-encoding", "upgrade", "upgrade-insecure-requests",
	"user-agent", "vary", "via", "www-authenticate", "x-accel-buffering", "x-content-type-options", "x-forwarded-for",
	"x-forwarded-host", "x-forwarded-proto", "x-frame-options", "x-powered-by", "x-real-ip", "x-request-id",
	"x-requested-with", "x-robots-tag", "x-xss-protection",
}

// onceNames are fields whose values hardly come again on the same connection. They
// would push fields out of the client's table that do come again.
var onceNames = []string{
	"age", "content-disposition", "content-range", "etag", "expires", "last-modified", "link", "location", "set-cookie",
	"x-request-id", "cf-ray", "server-timing", "grpc-message",
}

// canonicalNames and wireNames are commonNames, from the wire and to it.
var canonicalNames, wireNames = func() (canonical map[string]string, wire map[string]wireName) {
	canonical = make(map[string]string, len(commonNames))
	wire = make(map[string]wireName, len(commonNames))
	for _, name := range commonNames {
		key := http.CanonicalHeaderKey(name)
		canonical[name] = key
		index := slices.IndexFunc(staticFields[:], func(f hpack.HeaderField) bool { return f.Name == name })
		wire[key] = wireName{name, slices.Contains(onceNames, name), uint8(max(index, 0))}
	}
	return canonical, wire
}()
