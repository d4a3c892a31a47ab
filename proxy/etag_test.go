package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStripETagSuffix(t *testing.T) {
	tests := []struct {
		name, accept, in, want string
	}{
		{"gzip", "gzip", `"abc-gzip"`, `"abc"`},
		{"zstd", "gzip, zstd", `"abc-zstd"`, `"abc"`},
		{"weak", "gzip", `W/"abc-gzip"`, `W/"abc"`},
		{"list", "gzip, zstd", `"a-gzip", W/"b-zstd" ,"c"`, `"a", W/"b" ,"c"`},
		{"comma in a tag", "gzip", `"a,b-gzip","-gzip,c"`, `"a,b","-gzip,c"`},
		{"empty tag", "gzip", `"-gzip"`, `""`},
		{"none", "gzip", `"abc"`, `"abc"`},
		{"within", "gzip", `"abc-gzip-1"`, `"abc-gzip-1"`},
		{"any", "gzip", `*`, `*`},
		{"not accepted any more", "zstd", `"a-gzip", "b-zstd"`, `"a-gzip", "b"`},
		{"nothing accepted", "", `"a-gzip"`, `"a-gzip"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := http.Header{"If-None-Match": {`"x"`, tt.in}, "If-Range": {`"abc-gzip"`}}
			if tt.accept != "" {
				client.Set("Accept-Encoding", tt.accept)
			}
			upstream := http.Header{}
			for name, values := range client {
				upstream[name] = values // shared, as a shallow copy does
			}
			before := client.Clone()
			stripETagSuffix(upstream)
			if diff := cmp.Diff([]string{`"x"`, tt.want}, upstream["If-None-Match"]); diff != "" {
				t.Errorf("If-None-Match (-want +got):\n%s", diff)
			}
			if got := upstream.Get("If-Range"); got != `"abc-gzip"` {
				t.Errorf("If-Range = %q; want it as it was", got)
			}
			if diff := cmp.Diff(before, client); diff != "" {
				t.Errorf("the client's header changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestStripETagSuffixFromIfMatch(t *testing.T) {
	h := http.Header{"If-Match": {`"a-gzip", "b-zstd"`}} // a PUT says nothing about codings
	stripETagSuffix(h)
	if got, want := h.Get("If-Match"), `"a", "b"`; got != want {
		t.Errorf("If-Match = %q; want %q", got, want)
	}
}

// A 304 names the tag that the client has.
func TestNotModifiedTag(t *testing.T) {
	tests := []struct {
		name, accept, knows, upstream, want string
	}{
		{"identity", "gzip", `"a"`, `"a"`, `"a"`},
		{"gzip", "gzip", `"a-gzip"`, `"a"`, `"a-gzip"`},
		{"one of several", "gzip", `"b-gzip", "a-gzip"`, `"a"`, `"a-gzip"`},
		{"weakened on the way", "gzip", `W/"a-gzip"`, `"a"`, `"a-gzip"`},
		{"older form still good", "gzip, zstd", `"a-gzip"`, `"a"`, `"a-gzip"`},
		{"a cache knows all", "gzip, zstd", `"a", "a-gzip", "a-zstd"`, `"a"`, `"a-zstd"`},
		{"a cache knows two", "gzip, zstd", `"a-gzip", "a"`, `"a"`, `"a"`},
		{"weak upstream", "gzip", `W/"a"`, `W/"a"`, `W/"a"`},
		{"longer tag is another", "gzip", `"ba-gzip"`, `"a"`, `"a"`},
		{"no tag", "gzip", `"a-gzip"`, ``, ``},
		{"any", "gzip", `*`, `"a"`, `"a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := accepting(t, "GET", "/", tt.accept)
			r.Header.Set("If-None-Match", tt.knows)
			res := compress(t, r, func(w http.ResponseWriter, _ *http.Request) {
				if tt.upstream != "" {
					w.Header().Set("Etag", tt.upstream)
				}
				w.WriteHeader(http.StatusNotModified)
			})
			if got := res.Header.Get("Etag"); got != tt.want {
				t.Errorf("Etag = %q; want %q", got, tt.want)
			}
		})
	}
}

// A client revalidates what it got compressed, and edits it, against an
// upstream that knows only its own tags; ranges are never mixed.
func TestConditionalRequests(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Content-Type", "text/html")
		if r.Method == "PUT" {
			if r.Header.Get("If-Match") != `"v1"` {
				w.WriteHeader(http.StatusPreconditionFailed)
			}
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(prose(5000)))
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, coding := range []string{"gzip", "zstd"} {
			first, _ := do(t, c, accepting(t, "GET", url, coding))
			tag := first.Header.Get("Etag")
			if want := `"v1-` + coding + `"`; tag != want {
				t.Fatalf("Etag = %q; want %q", tag, want)
			}
			again := accepting(t, "GET", url, coding)
			again.Header.Set("If-None-Match", tag)
			res, _ := do(t, c, again)
			if res.StatusCode != 304 || res.Header.Get("Etag") != tag || res.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("revalidation = %d %v; want 304 with %s", res.StatusCode, res.Header, tag)
			}
			put := accepting(t, "PUT", url, "")
			put.Header.Set("If-Match", tag)
			if res, _ := do(t, c, put); res.StatusCode != 200 {
				t.Errorf("PUT with If-Match %s = %d; want 200", tag, res.StatusCode)
			}
			part := accepting(t, "GET", url, coding)
			part.Header.Set("Range", "bytes=100-")
			part.Header.Set("If-Range", tag)
			if res, _ := do(t, c, part); res.StatusCode != 200 || res.Header.Get("Content-Encoding") != coding {
				t.Errorf("range of a %s answer = %d; want the whole", coding, res.StatusCode)
			}
			part.Header.Set("If-Range", `"v1"`)
			if res, body := do(t, c, part); res.StatusCode != 206 || body != prose(5000)[100:] || res.Header.Get("Etag") != `"v1"` {
				t.Errorf("range of an identity answer = %d %v; want 206 untouched", res.StatusCode, res.Header)
			}
		}
	})
}
