package wire

import "bytes"

// checkTarget holds the target against the four forms of RFC 9112, section 3.2.
func (h *Head) checkTarget() error {
	t := h.Target
	switch {
	case string(h.Method) == "CONNECT":
		// authority-form: a host with a port
		if !validHost(t) || bytes.LastIndexByte(t, ':') <= bytes.LastIndexByte(t, ']') {
			return ErrTarget
		}
		return nil
	case t[0] == '/':
		return checkPath(t)
	case len(t) == 1 && t[0] == '*':
		if string(h.Method) != "OPTIONS" {
			return ErrTarget
		}
		return nil
	}
	return h.checkAbsolute()
}

// checkAbsolute checks the absolute-form, in which clients speak to a forward
// proxy. In RFC 9112 its authority wins over Host; some servers have it the other
// way round, so both must say the same.
func (h *Head) checkAbsolute() error {
	t := h.Target
	switch {
	case len(t) > len("http://") && equalFold(t[:7], "http://"):
		t = t[7:]
	case len(t) > len("https://") && equalFold(t[:8], "https://"):
		t = t[8:]
	default:
		return ErrTarget
	}
	end := bytes.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	if !bytes.EqualFold(t[:end], h.Host) { // both ASCII: Host is valid, or nil and unequal
		return errHostDiffers
	}
	return checkPath(t[end:])
}

// checkPath refuses a broken escape in the path; the query is left to the upstream.
func checkPath(t []byte) error {
	if end := bytes.IndexByte(t, '?'); end >= 0 {
		t = t[:end]
	}
	for {
		i := bytes.IndexByte(t, '%')
		if i < 0 {
			return nil
		}
		if len(t) < i+3 || !is(t[i+1], hexByte) || !is(t[i+2], hexByte) {
			return ErrTarget
		}
		t = t[i+3:]
	}
}

// validHost reports whether v is a host with an optional port: a name, an IPv4
// address, or an IPv6 address in brackets. It is stricter than RFC 3986, whose
// names may hold commas, which a proxy may read as a list, and escapes.
func validHost(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	i := 0
	if v[0] == '[' {
		i = bytes.IndexByte(v, ']') + 1
		if i < len("[::]") {
			return false
		}
		for _, c := range v[1 : i-1] {
			if !is(c, hexByte) && c != ':' && c != '.' {
				return false
			}
		}
	} else {
		for i < len(v) && is(v[i], nameByte) {
			i++
		}
		if i == 0 {
			return false
		}
	}
	if i == len(v) {
		return true
	}
	port := v[i+1:]
	if v[i] != ':' || len(port) == 0 || len(port) > 5 {
		return false
	}
	for _, c := range port {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
