package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"detour/engine/wire"
)

// What the short way makes of a target is what package url makes of it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a", "/?", "/??", "/a?b", "/a?b?", "//a", "/~$&+,:;=@", "/a%2f", "/a!b", "/ü", "/a?%", "/[", "*", "http://a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		head := "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		if strings.ContainsAny(target, " \r\n") {
			return
		}
		if _, err := wire.ParseHead([]byte(head), nil); err != nil {
			return
		}
		want, err := url.ParseRequestURI(target)
		x := &exchange{}
		if ok := x.parseTarget(&http.Request{Method: "GET", RequestURI: target}); ok != (err == nil) {
			t.Fatalf("parseTarget(%q) = %v; url.ParseRequestURI says %v", target, ok, err)
		}
		if err == nil {
			if diff := cmp.Diff(*want, x.url); diff != "" {
				t.Errorf("parseTarget(%q): -url +ours\n%s", target, diff)
			}
		}
	})
}
