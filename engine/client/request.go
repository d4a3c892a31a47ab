package client

import (
	"net/http"
	"strconv"
	"strings"

	"detour/engine/wire"
)

// appendHead appends the head of req.
func appendHead(b []byte, req *http.Request) ([]byte, error) {
	method := req.Method
	switch method {
	case "":
		method = http.MethodGet
	case http.MethodConnect:
		return nil, errConnect
	}
	b, err := wire.AppendMethod(b, method)
	if err != nil {
		return nil, err
	}
	start := len(b)
	b = appendTarget(b, req)
	if b, err = wire.EndRequestLine(b, start); err != nil {
		return nil, err
	}
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	if b, err = wire.AppendHost(b, host); err != nil {
		return nil, err
	}
	if b, err = appendFraming(b, method, req); err != nil {
		return nil, err
	}
	for name, values := range req.Header {
		if ours(name) || len(values) == 0 || len(values[0]) == 0 && strings.EqualFold(name, "User-Agent") {
			continue
		}
		for _, value := range values {
			if b, err = wire.AppendField(b, name, value); err != nil {
				return nil, err
			}
		}
	}
	return append(b, "\r\n"...), nil
}

// appendTarget appends what URL.RequestURI returns.
func appendTarget(b []byte, req *http.Request) []byte {
	u := req.URL
	switch {
	case u.Opaque == "":
		path := u.EscapedPath()
		if path == "" {
			path = "/"
		}
		b = append(b, path...)
	case strings.HasPrefix(u.Opaque, "//"):
		b = append(b, u.Scheme...)
		b = append(b, ':')
		b = append(b, u.Opaque...)
	default:
		b = append(b, u.Opaque...)
	}
	if u.ForceQuery || u.RawQuery != "" {
		b = append(b, '?')
		b = append(b, u.RawQuery...)
	}
	return b
}

// ours reports whether a field is written from what Request says otherwise. A header
// may have it all the same, in any spelling.
func ours(name string) bool {
	switch len(name) {
	case len("host"):
		return strings.EqualFold(name, "host")
	case len("trailer"):
		return strings.EqualFold(name, "trailer")
	case len("content-length"):
		return strings.EqualFold(name, "content-length")
	case len("transfer-encoding"):
		return strings.EqualFold(name, "transfer-encoding")
	}
	return false
}

// appendFraming appends the fields that say how the message and the connection
// end.
func appendFraming(b []byte, method string, req *http.Request) ([]byte, error) {
	if req.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	switch n := bodyLength(req); {
	case n < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		return appendTrailerNames(b, req.Trailer)
	case n > 0 || method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch:
		// Many servers want it from these methods (RFC 9110, 8.6).
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, n, 10)
		b = append(b, "\r\n"...)
	}
	return b, nil
}

// appendTrailerNames announces the trailers.
func appendTrailerNames(b []byte, trailer http.Header) ([]byte, error) {
	var err error
	for name := range trailer {
		if ours(name) {
			return nil, wire.ErrSendField
		}
		if b, err = wire.AppendField(b, "Trailer", name); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// bodyLength is the length of req's body; -1 = unknown, to be sent chunked.
func bodyLength(req *http.Request) int64 {
	switch {
	case !hasBody(req):
		return 0
	case req.ContentLength > 0:
		return req.ContentLength
	}
	return -1
}

func expectsContinue(req *http.Request) bool {
	v := req.Header["Expect"]
	return len(v) > 0 && strings.EqualFold(v[0], "100-continue")
}
