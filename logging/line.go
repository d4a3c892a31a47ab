package logging

import (
	"crypto/tls"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What a line may hold at most, in JSON bytes. A client pays for its URI byte by
// byte; but HPACK makes 57 KiB of headers of 130 bytes, with which one client
// would soon rotate away what all others did. Applications send less than
// maxHeaders, even with a token and a policy in it.
const (
	maxURI     = 128 << 10 // the rest is cut off
	maxHeaders = 16 << 10  // of one header block; of a field that does not fit the name stays, if that does
	maxText    = 16 << 10  // of any other text
)

// line is one entry of an access log, field for field as Caddy writes it
// (modules/caddyhttp/marshalers.go and server.go there), then our own.
type line struct {
	sink       *Sink
	request    *http.Request
	header     http.Header // of the response
	record     *Record
	status     int
	bytesRead  int64
	size       int64
	time       time.Time // when the line is written
	duration   time.Duration
	connection string // "opened", "closed"; "" = not an upgraded connection
	err        string // of record.Err, which may be anyone's code: not to be called under a lock
}

// append writes the line, with its line feed.
func (l *line) append(b []byte) []byte {
	if l.status >= 500 {
		b = append(b, `{"level":"error","ts":`...)
	} else {
		b = append(b, `{"level":"info","ts":`...)
	}
	b = appendSeconds(b, l.time.Unix(), l.time.Nanosecond())
	b = append(b, l.sink.name...) // logger and msg
	b = l.appendRequest(b)
	b = append(b, `},"bytes_read":`...)
	b = strconv.AppendInt(b, l.bytesRead, 10)
	b = append(b, `,"user_id":"","duration":`...)
	b = appendSeconds(b, int64(l.duration/time.Second), int(l.duration%time.Second))
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, l.size, 10)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(l.status), 10)
	b = append(b, `,"resp_headers":`...)
	b = l.appendHeaders(b, l.header)
	b = appendField(b, `,"action":`, l.record.Action)
	b = appendField(b, `,"upstream":`, l.record.Upstream)
	b = appendField(b, `,"request_id":`, l.record.RequestID)
	b = appendField(b, `,"connection":`, l.connection)
	if l.err != "" {
		b = append(b, `,"error":`...)
		b = l.sink.redact.append(b, l.err, maxText)
	}
	return append(b, '}', '\n')
}

// appendRequest writes the request object, without its closing brace.
func (l *line) appendRequest(b []byte) []byte {
	r := l.request
	ip, port := splitAddr(r.RemoteAddr)
	client := l.record.ClientIP
	if client == "" {
		client = ip
	}
	uri := r.RequestURI
	if uri == "" {
		uri = r.URL.RequestURI() // a request no server made
	}
	proto := r.Proto
	if r.ProtoMajor == 3 {
		proto = "HTTP/3.0" // quic-go puts an extended CONNECT's :protocol here
	}
	b = append(b, `,"request":{"remote_ip":`...)
	b = appendString(b, ip, maxText)
	b = append(b, `,"remote_port":`...)
	b = appendString(b, port, maxText)
	b = append(b, `,"client_ip":`...)
	b = appendString(b, client, maxText)
	b = append(b, `,"proto":`...)
	b = appendString(b, proto, maxText)
	b = append(b, `,"method":`...)
	b = appendString(b, r.Method, maxText)
	b = append(b, `,"host":`...)
	b = appendString(b, r.Host, maxText)
	b = append(b, `,"uri":`...)
	b = l.sink.redact.append(b, uri, maxURI)
	b = append(b, `,"headers":`...)
	b = l.appendHeaders(b, r.Header)
	if r.TLS != nil {
		b = appendTLS(b, r.TLS)
	}
	return b
}

func appendTLS(b []byte, t *tls.ConnectionState) []byte {
	b = append(b, `,"tls":{"resumed":`...)
	b = strconv.AppendBool(b, t.DidResume)
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, uint64(t.Version), 10)
	b = append(b, `,"cipher_suite":`...)
	b = strconv.AppendUint(b, uint64(t.CipherSuite), 10)
	b = append(b, `,"proto":`...)
	b = appendString(b, t.NegotiatedProtocol, maxText)
	b = append(b, `,"server_name":`...)
	b = appendString(b, t.ServerName, maxText)
	b = append(b, `,"ech":`...)
	b = strconv.AppendBool(b, t.ECHAccepted)
	return append(b, '}')
}

// appendHeaders writes a header map as an object of arrays, as Caddy does in
// the order in which the map gives them: sorting took a fifth of a line's time.
func (l *line) appendHeaders(b []byte, h http.Header) []byte {
	b = append(b, '{')
	first := len(b)
	for name, values := range h {
		before := len(b)
		if before > first {
			b = append(b, ',')
		}
		b = append(appendString(b, name, maxText), ':')
		named := len(b)
		b = l.appendValues(b, name, values)
		if len(b)-first > maxHeaders {
			b = append(b[:named], `["OMITTED"]`...)
		}
		if len(b)-first > maxHeaders {
			b = b[:before] // a shorter field may fit
		}
	}
	return append(b, '}')
}

func (l *line) appendValues(b []byte, name string, values []string) []byte {
	switch name {
	case "Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization":
		return append(b, `["REDACTED"]`...)
	}
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if carriesURI(name) {
			b = l.sink.redact.append(b, v, maxHeaders)
		} else {
			b = appendString(b, v, maxHeaders)
		}
	}
	return append(b, ']')
}

// carriesURI reports whether a header's value holds a URI, and so the same
// secrets that a request's own may hold.
func carriesURI(name string) bool {
	switch name {
	case "Referer", "Location", "Content-Location", "Link", "Refresh":
		return true
	}
	return false
}

func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, key...), value, maxText)
}

// appendSeconds writes seconds as a decimal with at least one digit behind the
// point, which GoAccess's "%x.%^" wants.
func appendSeconds(b []byte, seconds int64, nanos int) []byte {
	b = strconv.AppendInt(b, seconds, 10)
	if nanos < 0 { // a duration below zero; the wall clock has none
		nanos = 0
	}
	var digits [9]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + nanos%10)
		nanos /= 10
	}
	end := len(digits)
	for end > 1 && digits[end-1] == '0' {
		end--
	}
	b = append(b, '.')
	return append(b, digits[:end]...)
}

// splitAddr splits a server's RemoteAddr without an allocation; what has no
// port is an address wholly.
func splitAddr(addr string) (ip, port string) {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return addr, ""
	}
	ip, port = addr[:i], addr[i+1:]
	if len(ip) > 1 && ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	return ip, port
}
