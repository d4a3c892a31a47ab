package proxy

import (
	"net/http"
	"strings"
)

// compressible reports whether the answer with this header may be sent in a
// content coding that its upstream did not choose, or would be to a client
// that asks for one: it varies with Accept-Encoding.
func compressible(h http.Header) bool {
	contentType := h["Content-Type"]
	return len(contentType) == 1 && compressibleType(contentType[0]) &&
		h["Content-Encoding"] == nil &&
		!digested(h) &&
		!hasToken(h["Cache-Control"], "no-transform")
}

// mediaType is a Content-Type without parameters, in lower case.
func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.Trim(t, " \t"))
}

// digested reports whether h promises a checksum of the bytes as they are.
func digested(h http.Header) bool {
	return h["Content-Digest"] != nil || h["Repr-Digest"] != nil || h["Digest"] != nil || h["Content-Md5"] != nil
}

// compressibleType reports whether content of this type usually shrinks:
// Caddy's list, and every structured syntax in JSON or XML (RFC 6839). But a
// stream of events would keep an encoder for the hours in which it says little,
// and a hundred of them, a page's each, would leave none for the pages.
func compressibleType(contentType string) bool {
	t := mediaType(contentType)
	switch t {
	case "application/javascript", "application/json", "application/wasm",
		"application/x-httpd-cgi", "application/x-javascript", "application/x-perl",
		"application/x-protobuf", "application/xml",
		"application/eot", "application/opentype", "application/otf", "application/truetype",
		"application/ttf", "application/vnd.ms-fontobject", "application/x-opentype",
		"application/x-otf", "application/x-ttf", "font/otf", "font/ttf",
		"image/vnd.microsoft.icon", "image/x-icon":
		return true
	case "text/event-stream":
		return false
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// addVary names field in Vary, beside what is there.
func addVary(h http.Header, field string) {
	vary := h["Vary"]
	if hasToken(vary, "*") || hasToken(vary, field) {
		return
	}
	if before := strings.Join(vary, ", "); before != "" {
		field = before + ", " + field
	}
	h["Vary"] = []string{field}
}
