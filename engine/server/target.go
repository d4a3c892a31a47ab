package server

import (
	"net/http"
	"net/url"
	"strings"
)

// parseTarget sets r.URL, and r.Host if the target names it, as net/http does.
// false means that package url refuses what wire accepts.
func (x *exchange) parseTarget(r *http.Request) bool {
	target := r.RequestURI
	if path, query, plain := plainTarget(target); plain {
		x.url.Path = path
		x.url.RawQuery = query
		x.url.ForceQuery = query == "" && strings.HasSuffix(target, "?")
		return true
	}
	if r.Method == http.MethodConnect {
		target = "http://" + target
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	if r.Method == http.MethodConnect {
		u.Scheme = ""
	}
	x.url = *u
	if u.Host != "" {
		r.Host = u.Host
	}
	return true
}

// plainTarget splits a target whose path stands for itself: nothing in it is
// escaped or needs to be.
func plainTarget(target string) (path, query string, plain bool) {
	if target[0] != '/' {
		return "", "", false
	}
	for i := range len(target) {
		switch c := target[i]; {
		case 'a' <= c && c <= 'z', '/' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '_', c == '.':
		case c == '?':
			return target[:i], target[i+1:], true
		case strings.IndexByte("~$&+,:;=@", c) >= 0:
		default:
			return "", "", false
		}
	}
	return target, "", true
}
