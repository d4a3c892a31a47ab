package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"detour/logging"
)

// offlineRig serves host as offline with a status page; its upstream says when
// it is asked, which must not happen.
func offlineRig(t *testing.T, edit func(rt *Route)) *rig {
	t.Helper()
	page, err := ParseStatusPage("https://status.example{uri}")
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the upstream of an offline host was asked for %s", r.RequestURI)
	}), rigOptions{route: func(rt *Route) {
		rt.Online = false
		rt.StatusPage = page
		rt.RetryAfter = 90 * time.Second
		if edit != nil {
			edit(rt)
		}
	}})
}

// with makes a request whose fields are written "Name: value\r\n…".
func with(t testing.TB, method, url, fields string, body io.Reader) *http.Request {
	t.Helper()
	req := newRequest(t, method, url, body)
	req.Header.Set("User-Agent", "test")
	for line := range strings.SplitSeq(strings.TrimSpace(fields), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	return req
}

// Every kind of client gets its answer, on every protocol, and the access log
// says which.
func TestOfflineAnswers(t *testing.T) {
	unavailable := http.Header{
		"Cache-Control": {"no-store"},
		"Retry-After":   {"90"},
		"Link":          {`<https://status.example/>; rel="status"`},
		"X-Robots-Tag":  {"noindex"},
	}
	plus := func(h http.Header, fields ...string) http.Header {
		h = h.Clone()
		for i := 0; i < len(fields); i += 2 {
			h[fields[i]] = []string{fields[i+1]}
		}
		return h
	}
	html := []string{"Content-Type", "text/html; charset=utf-8", "X-Content-Type-Options", "nosniff",
		"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"}
	text := []string{"Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"}
	problem := []string{"Content-Type", "application/problem+json", "X-Content-Type-Options", "nosniff"}
	cors := []string{"Access-Control-Allow-Origin", "https://a.example", "Access-Control-Allow-Credentials", "true",
		"Access-Control-Expose-Headers", "Link, Retry-After", "Vary", "Origin"}

	tests := []struct {
		name, method, path, fields string
		status                     int
		header                     http.Header
		body                       string // "" = empty, else a part of it
		action                     string
	}{
		{"page", "GET", "/a%2Fb?c=d", chrome + acceptPage + navigation, 302,
			http.Header{"Cache-Control": {"no-store"}, "Location": {"https://status.example/a%2Fb?c=d"}}, "", "redirect"},
		{"HEAD", "HEAD", "//x?", "", 302,
			http.Header{"Cache-Control": {"no-store"}, "Location": {"https://status.example//x?"}}, "", "redirect"},
		{"image", "GET", "/a.png", chrome + "Sec-Fetch-Mode: no-cors\r\n", 503, unavailable, "", "unavailable"},
		{"fetch of JSON from elsewhere", "GET", "/api", "Accept: application/json\r\nSec-Fetch-Mode: cors\r\nOrigin: https://a.example\r\n", 503,
			plus(plus(unavailable, problem...), cors...), `"status":503`, "unavailable"},
		{"fetch of anything from elsewhere", "GET", "/api", "Accept: */*\r\nSec-Fetch-Mode: cors\r\nOrigin: https://a.example\r\n", 503,
			plus(unavailable, cors...), "", "unavailable"},
		{"preflight", "OPTIONS", "/api", "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a,x-b\r\n", 204,
			http.Header{"Cache-Control": {"no-store"}, "Access-Control-Allow-Origin": {"https://a.example"}, "Access-Control-Allow-Credentials": {"true"},
				"Access-Control-Allow-Methods": {"PUT"}, "Access-Control-Allow-Headers": {"x-a,x-b"}, "Access-Control-Max-Age": {"0"},
				"Vary": {"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}}, "", "preflight"},
		{"form", "POST", "/checkout", firefox + acceptPage + navigation, 503, plus(unavailable, html...), "reload this page to send it again", "unavailable"},
		{"webhook", "POST", "/hook", "Accept: */*\r\n", 503, plus(unavailable, text...), "not submitted", "unavailable"},
		{"JSON post", "POST", "/api", "Accept: application/json\r\n", 503, plus(unavailable, problem...), `"status_page":"https://status.example/"`, "unavailable"},
		{"gRPC", "POST", "/s.S/Do", "Content-Type: application/grpc+proto\r\n", 200,
			http.Header{"Cache-Control": {"no-store"}, "Content-Type": {"application/grpc+proto"}, "Grpc-Status": {"14"}, "Grpc-Message": {"the service is offline for the moment"}}, "", "unavailable"},
		{"Nextcloud syncs", "PROPFIND", "/remote.php/dav", "Accept: */*\r\n", 503,
			plus(plus(unavailable, text...), "X-Nextcloud-Maintenance-Mode", "1"), "offline", "unavailable"},
		{"Nextcloud probes", "GET", "/status.php", "User-Agent: mirall/3.16\r\n", 200,
			http.Header{"Cache-Control": {"no-store"}, "Content-Type": {"application/json"}, "Access-Control-Allow-Origin": {"*"}}, nextcloudMaintenance, "maintenance"},
		{"git", "GET", "/a.git/info/refs?service=git-upload-pack", "User-Agent: git/2.50.1\r\nAccept: */*\r\n", 503, plus(unavailable, text...), "offline", "unavailable"},
		{"Googlebot", "GET", "/", "User-Agent: Googlebot/2.1\r\n" + acceptPage, 503, plus(unavailable, html...), "Back soon", "unavailable"},
	}
	r := offlineRig(t, nil)
	sent := 0
	want := map[string]int{} // actions in the log
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				var body io.Reader
				if tt.method == "POST" {
					body = strings.NewReader("a=b")
				}
				res, got := do(t, c, with(t, tt.method, url+tt.path, tt.fields, body))
				sent++
				want[tt.action]++
				if res.StatusCode != tt.status {
					t.Errorf("status %d; want %d", res.StatusCode, tt.status)
				}
				for _, name := range []string{"Date", "Alt-Svc", "Content-Length", "Connection"} {
					res.Header.Del(name)
				}
				if diff := cmp.Diff(tt.header, res.Header); diff != "" {
					t.Errorf("header (-want +got):\n%s", diff)
				}
				if tt.body == "" && got != "" || !strings.Contains(got, tt.body) {
					t.Errorf("body %q; want %q", got, tt.body)
				}
			})
		}
	})
	got := map[string]int{}
	for _, line := range r.accessLog(t, sent) {
		got[line["action"].(string)]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("actions in the log (-want +got):\n%s", diff)
	}
}

// A plain redirect is one for everybody.
func TestOfflineAnswerRedirect(t *testing.T) {
	r := offlineRig(t, func(rt *Route) { rt.RedirectAll = true })
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, req := range []*http.Request{
			with(t, "GET", url+"/x", chrome+acceptPage+navigation, nil),
			with(t, "POST", url+"/x", "Content-Type: application/grpc\r\n", strings.NewReader("a")),
			with(t, "PROPFIND", url+"/x", "", nil),
			with(t, "OPTIONS", url+"/x", "Access-Control-Request-Method: PUT\r\n", nil),
			with(t, "GET", url+"/x", "User-Agent: Googlebot\r\nAccept: application/json\r\n", nil),
		} {
			res, body := do(t, c, req)
			if res.StatusCode != 302 || res.Header.Get("Location") != "https://status.example/x" || body != "" || res.Header["Content-Type"] != nil {
				t.Errorf("%s = %d %v %q; want an empty 302", req.Method, res.StatusCode, res.Header, body)
			}
		}
	})
}

func TestOfflineWebSocket(t *testing.T) {
	r := offlineRig(t, nil)
	res, body := r.raw(t, "GET /ws HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n\n")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "90" || body != "" {
		t.Errorf("handshake = %d %v %q; want an empty 503", res.StatusCode, res.Header, body)
	}
}

// A WebSocket by extended CONNECT is refused in the same way.
func TestOfflineExtendedConnect(t *testing.T) {
	r := offlineRig(t, nil)
	for _, p := range []string{"h2", "h3"} {
		t.Run(p, func(t *testing.T) {
			c := r.client(t, p)
			req := newRequest(t, http.MethodConnect, "https://"+host+"/ws", nil)
			if p == "h2" {
				body, open := io.Pipe() // the client's direction stays open
				defer open.Close()
				req.Body = body
				req.Header[":protocol"] = []string{"websocket"}
				//lint:ignore SA1019 net/http's Transport refuses the field
				c.Transport = &http2.Transport{DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) {
					return r.dial(t, "h2"), nil
				}}
			} else {
				req.Proto = "websocket"
			}
			res, body := do(t, c, req)
			if res.StatusCode != 503 || res.Header.Get("Retry-After") != "90" || body != "" {
				t.Errorf("CONNECT = %d %v %q; want an empty 503", res.StatusCode, res.Header, body)
			}
		})
	}
}

// Targets that clients do not normally send.
func TestOfflineOddTargets(t *testing.T) {
	r := offlineRig(t, func(rt *Route) { rt.RedirectAll = true })
	for request, want := range map[string]string{
		"OPTIONS * HTTP/1.1":                          "https://status.example/",
		"GET http://" + host + "/a%2Fb? HTTP/1.1":     "https://status.example/a%2Fb?",
		"GET http://" + host + " HTTP/1.1":            "https://status.example/",
		"GET /\xc3\xa4 HTTP/1.1":                      "https://status.example/%C3%A4",
		"GET //evil.example/%2e%2e/..;/%zz? HTTP/1.1": "",
		"GET /?%zz;a HTTP/1.1":                        "https://status.example/?%zz;a",
	} {
		res, _ := r.raw(t, request+"\nHost: "+host+"\n\n")
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("%q: %d to %q; want %q", request, res.StatusCode, got, want)
		}
	}
}

func TestOfflineWithoutStatusPage(t *testing.T) {
	r := offlineRig(t, func(rt *Route) { rt.StatusPage, rt.RetryAfter = StatusPage{}, 0 })
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, body := do(t, c, with(t, "GET", url+"/", chrome+acceptPage+navigation, nil))
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "300" || res.Header["Link"] != nil || !strings.Contains(body, "Back soon") {
			t.Errorf("GET = %d %v %q; want a 503 page without a link", res.StatusCode, res.Header, body)
		}
	})
}

// A host with several names is told apart in {host}.
func TestOfflineHostPlaceholder(t *testing.T) {
	page, err := ParseStatusPage("https://status.example/{host}{uri}")
	if err != nil {
		t.Fatal(err)
	}
	r := offlineRig(t, func(rt *Route) {
		rt.StatusPage, rt.Names = page, []string{host, "*.example.test"}
	})
	for name, want := range map[string]string{
		"WWW.Example.test.":  "https://status.example/www.example.test/a",
		host + ":443":        "https://status.example/" + host + "/a",
		"other.example.test": "https://status.example/other.example.test/a",
	} {
		res, _ := r.raw(t, "GET /a HTTP/1.1\nHost: "+name+"\n\n")
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("Host %q: %d to %q; want %q", name, res.StatusCode, got, want)
		}
	}
}

// Whoever sends something large gets the answer, though nobody reads it.
func TestOfflineRefusesUpload(t *testing.T) {
	r := offlineRig(t, nil)
	const size = 32 << 20
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		body := new(zeros)
		req := with(t, "POST", url+"/upload", "", io.LimitReader(body, size))
		req.ContentLength = size
		res, answer := do(t, c, req)
		if res.StatusCode != 503 || !strings.Contains(answer, "not submitted") {
			t.Errorf("POST = %d %q; want the 503", res.StatusCode, answer)
		}
		if taken := body.taken.Load(); taken > size/2 {
			t.Errorf("%d of %d bytes were taken from the client; want few", taken, size)
		}
	})
}

// zeros is an endless body that counts what was taken of it.
type zeros struct{ taken atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.taken.Add(int64(len(p)))
	return len(p), nil
}

// The same with curl, which people have: with and without Expect.
func TestOfflineRefusesCurlUpload(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	r := offlineRig(t, nil)
	file := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(file, bytes.Repeat([]byte("detour "), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(r.addr, ":")
	for name, args := range map[string][]string{
		"h1, Expect":    {"--http1.1", "-H", "Expect: 100-continue"},
		"h1, no Expect": {"--http1.1", "-H", "Expect:"},
		"h2":            {"--http2"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(args, "-sSk", "--noproxy", "*", "--max-time", "20", "--resolve", host+":"+port+":127.0.0.1",
				"-T", file, "-w", "%{http_code} %{size_upload}", "https://"+host+":"+port+"/upload")
			out, err := exec.Command(curl, args...).Output()
			// Older curls now and then drop the body when RST_STREAM with
			// NO_ERROR follows it (RFC 9113, 8.1), and exit with 18.
			var exit *exec.ExitError
			dropped := name == "h2" && errors.As(err, &exit) && exit.ExitCode() == 18
			if err != nil && !dropped {
				t.Fatalf("curl %v: %v: %s", args, err, out)
			}
			if s := string(out); !strings.Contains(s, "503 ") || !dropped && !strings.Contains(s, "not submitted") {
				t.Errorf("curl said %q; want the 503 page", s)
			}
		})
	}
}

// The message of a gRPC call is read before its answer, but not waited for long.
func TestOfflineAwaitsTheCall(t *testing.T) {
	r := offlineRig(t, nil)
	client, fields := r.client(t, "h2"), "Content-Type: application/grpc\r\n"
	res, _ := do(t, client, with(t, "POST", "https://"+host+"/s.S/Do", fields, strings.NewReader("12345")))
	if line := r.accessLog(t, 1)[0]; line["bytes_read"] != 5.0 || res.Header.Get("Grpc-Status") != "14" {
		t.Errorf("a call: %v after %v bytes; want Grpc-Status 14 after 5", res.Header, line["bytes_read"])
	}
	body, open := io.Pipe()
	defer open.Close()
	began := time.Now()
	res, _ = do(t, client, with(t, "POST", "https://"+host+"/s.S/Stream", fields, body))
	if took := time.Since(began); took < callPatience || res.Header.Get("Grpc-Status") != "14" {
		t.Errorf("a stream without messages: %v after %v; want Grpc-Status 14 after %v", res.Header, took, callPatience)
	}
}

// The JSON page is what RFC 9457 describes.
func TestOfflineProblemDetails(t *testing.T) {
	r := offlineRig(t, nil)
	res, body := do(t, r.client(t, "h2"), with(t, "GET", "https://"+host+"/api", "Accept: application/json\r\n", nil))
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d %q: %v", res.StatusCode, body, err)
	}
	id := got["request_id"]
	delete(got, "request_id")
	want := map[string]any{
		"type": "about:blank", "title": "Service Unavailable", "status": 503.0,
		"detail": pageTexts[503].text, "status_page": "https://status.example/",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problem details (-want +got):\n%s", diff)
	}
	if logged := r.accessLog(t, 1)[0]["request_id"]; id == "" || id != logged {
		t.Errorf("request_id %v; want the log's, %v", id, logged)
	}
}

// nopWriter is the cheapest ResponseWriter: what is measured with it is ours.
type nopWriter struct{ h http.Header }

func (w nopWriter) Header() http.Header         { return w.h }
func (w nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nopWriter) WriteHeader(int)             {}

func redirectOnce(t testing.TB) func() {
	page, err := ParseStatusPage("https://status.example{uri}")
	if err != nil {
		t.Fatal(err)
	}
	rt := &Route{Host: host, Names: []string{host}, StatusPage: page}
	r := httptest.NewRequest("GET", "https://"+host+"/a?b=c", nil)
	r.RequestURI = "/a?b=c"
	r.Header.Set("User-Agent", strings.TrimPrefix(strings.TrimSpace(chrome), "User-Agent: "))
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	rec := new(logging.Record)
	w := nopWriter{make(http.Header, 4)}
	return func() {
		clear(w.h)
		answerOffline(w, r, rt, rec)
	}
}

func TestOfflineRedirectAllocations(t *testing.T) {
	// The address, and the slice that holds both header values.
	const want = 2
	if n := testing.AllocsPerRun(100, redirectOnce(t)); n > want {
		t.Errorf("a redirect allocates %v times; want at most %d", n, want)
	}
}

func BenchmarkOfflineRedirect(b *testing.B) {
	once := redirectOnce(b)
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

// The announced end is when clients are told to come back, and the reason is
// shown as text, whatever it holds.
func TestOfflineSaysUntilWhenAndWhy(t *testing.T) {
	const reason = "<script>alert(1)</script> \"&' \x1b[31mred\x1b[0m\nnext \u202eline"
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, route: func(rt *Route) {
		rt.Online, rt.Reason, rt.RetryAfter = false, reason, 90*time.Second
		rt.Until = time.Now().Add(2 * time.Hour)
	}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for accept, want := range map[string]string{
			"text/html":        "&lt;script&gt;alert(1)&lt;/script&gt; &#34;&amp;&#39;",
			"application/json": `"reason":"\u003cscript\u003ealert(1)\u003c/script\u003e \"\u0026' \u001b[31mred\u001b[0m\nnext `,
			"text/plain":       "Reason:  <script>alert(1)</script> \"&'  [31mred [0m next  line\n",
		} {
			req := newRequest(t, "POST", url+"/", nil)
			req.Header.Set("Accept", accept)
			res, body := do(t, c, req)
			if res.StatusCode != 503 || !strings.Contains(body, want) {
				t.Errorf("%s: %d %q; want 503 with %q", accept, res.StatusCode, body, want)
			}
			if left, err := time.ParseDuration(res.Header.Get("Retry-After") + "s"); err != nil || left > 2*time.Hour || left < 2*time.Hour-time.Minute {
				t.Errorf("Retry-After = %q; want about 7200", res.Header.Get("Retry-After"))
			}
		}
	})
	r.reroute(t, func(rt *Route) { rt.Until = time.Now().Add(-time.Second) })
	res, _ := do(t, r.client(t, "h1"), newRequest(t, "POST", "https://"+host+"/", nil))
	if got := res.Header.Get("Retry-After"); got != "90" {
		t.Errorf("Retry-After after the announced end = %q; want 90", got)
	}
}
