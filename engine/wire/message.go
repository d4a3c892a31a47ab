package wire

import (
	"net/http"
	"strings"
)

// BodyAllowed reports whether answers with that status may have a body (RFC 9110,
// section 6.4.1).
func BodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// AnnouncedTrailer is a message's Trailer before its body is read: a key, without
// values yet, for each name in its Trailer fields, whose values are given; nil if
// there is none. Names of fields that frame a message are left out.
func AnnouncedTrailer(values []string) http.Header {
	var t http.Header
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
			switch name {
			case "", "Transfer-Encoding", "Trailer", "Content-Length":
				continue
			}
			if t == nil {
				t = make(http.Header)
			}
			t[name] = nil
		}
	}
	return t
}
