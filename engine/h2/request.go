package h2

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"detour/engine/wire"
)

// fill makes the request from a header block; false = that is malformed.
func (st *stream) fill(h *head) bool {
	r := &st.request
	r.Method, r.Host = h.pseudo[pseudoMethod], h.pseudo[pseudoAuthority]
	r.Proto, r.ProtoMajor = "HTTP/2.0", 2
	r.RemoteAddr, r.TLS = st.c.remote, st.c.tls
	r.Header, r.Body = st.header, http.NoBody
	st.writer.head = r.Method == http.MethodHead
	st.declared = -1
	st.silent = r.Method == http.MethodConnect
	switch {
	case h.tooLarge:
		st.writer.refusal = http.StatusRequestHeaderFieldsTooLarge
	case h.padded && h.malformed == "":
		st.writer.refusal = http.StatusBadRequest
	}
	if st.writer.refusal != 0 { // what is known is enough for that answer
		r.URL, r.RequestURI = &st.url, h.pseudo[pseudoPath]
	} else {
		h.header(st, r)
		h.target(st, r)
		if h.malformed != "" {
			return false
		}
	}
	if h.ends {
		st.recvEnded = true
		return true
	}
	st.hasBody = true
	st.missing = st.declared
	st.body.trailer = r.Trailer
	r.Body, r.ContentLength = &st.body, st.declared
	return true
}

// target checks the pseudo-fields (RFC 9113, section 8.3.1; RFC 8441, section
// 4) and fills in what they say.
func (h *head) target(st *stream, r *http.Request) {
	scheme, path, protocol := h.pseudo[pseudoScheme], h.pseudo[pseudoPath], h.pseudo[pseudoProtocol]
	plainConnect := r.Method == http.MethodConnect && !h.seen[pseudoProtocol]
	switch {
	case !validToken(r.Method):
		h.wrong("method")
	case h.seen[pseudoProtocol] && (r.Method != http.MethodConnect || !validToken(protocol)):
		h.wrong(":protocol")
	case plainConnect && (h.seen[pseudoScheme] || h.seen[pseudoPath] || !h.seen[pseudoAuthority]):
		h.wrong("CONNECT with a target")
	case !validAuthority(r.Host):
		h.wrong("authority")
	case !plainConnect && scheme != "https" && scheme != "http":
		h.wrong("scheme")
	}
	if h.malformed != "" {
		return
	}
	if plainConnect {
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
		return
	}
	if h.seen[pseudoProtocol] {
		r.Header[":protocol"] = []string{protocol} // where net/http has it
	}
	r.RequestURI = path
	kind := pathKind(path)
	if kind == plainPath || path == "*" && r.Method == http.MethodOptions {
		st.url.Path = path
		r.URL = &st.url
		return
	}
	u, err := url.ParseRequestURI(path)
	if err != nil || kind == badPath {
		h.wrong("path")
	}
	r.URL = u
}

// header makes the request's header from the fields.
func (h *head) header(st *stream, r *http.Request) {
	values := make([]string, len(h.fields)) // of all fields in one piece
	cookies, names, expects, trailers := 0, 0, false, false
	for i := range h.fields {
		f := &h.fields[i]
		switch f.name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			h.wrong("connection-specific field") // RFC 9113, section 8.2.2
		case "Te":
			if f.value != "trailers" {
				h.wrong("TE")
			}
		case "Host":
			h.host(r, f.value)
			continue
		case "Content-Length":
			n, err := strconv.ParseUint(f.value, 10, 63)
			if err != nil || f.value[0] == '+' || st.declared >= 0 || h.ends && n > 0 {
				h.wrong("Content-Length")
			}
			st.declared = int64(n)
		case "Cookie":
			if cookies++; cookies > 1 {
				continue
			}
		case "Expect":
			expects = true
		case "Trailer":
			trailers = true
		}
		values[i] = f.value
		r.Header[f.name] = values[i : i+1 : i+1]
		names++
	}
	if len(r.Header) < names { // a name came twice; to check each time would cost more
		h.repeated(r.Header)
	}
	if cookies > 1 {
		r.Header["Cookie"] = []string{h.cookies(cookies)}
	}
	if expects && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		st.body.expect = true
		delete(r.Header, "Expect")
	}
	if trailers {
		r.Trailer = wire.AnnouncedTrailer(r.Header["Trailer"])
		delete(r.Header, "Trailer")
	}
}

// repeated makes the header anew, with all values of fields that came more than once.
func (h *head) repeated(header http.Header) {
	clear(header)
	for _, f := range h.fields {
		if f.name != "Host" {
			header[f.name] = append(header[f.name], f.value)
		}
	}
}

// cookies joins a Cookie field that came in n pieces (RFC 9113, section 8.2.3).
func (h *head) cookies(n int) string {
	crumbs := make([]string, 0, n)
	for _, f := range h.fields {
		if f.name == "Cookie" {
			crumbs = append(crumbs, f.value)
		}
	}
	return strings.Join(crumbs, "; ")
}

// host takes a Host field, which must say what :authority says.
func (h *head) host(r *http.Request, v string) {
	if !h.seen[pseudoAuthority] && r.Host == "" {
		r.Host = v
	}
	if v == "" || !strings.EqualFold(r.Host, v) {
		h.wrong("Host is not :authority")
	}
}

// trailerOf makes a header from trailers; nil if there are none.
func trailerOf(h *head) http.Header {
	if len(h.fields) == 0 {
		return nil
	}
	t := make(http.Header, len(h.fields))
	for _, f := range h.fields {
		name := f.name
		if !httpguts.ValidTrailerHeader(name) {
			h.wrong("field that must not be a trailer")
		}
		t[name] = append(t[name], f.value)
	}
	return t
}
