package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// The header fields that tell these clients apart, as they send them.
const (
	chrome     = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\n"
	firefox    = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
	safari     = "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15\r\n"
	acceptPage = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
	navigation = "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n"
)

func TestKindOf(t *testing.T) {
	tests := []struct {
		name, line, fields string
		want               kind
	}{
		{"Chrome opens a page", "GET /", chrome + acceptPage + navigation, kindPage},
		{"Chrome reloads", "GET /", chrome + acceptPage + navigation + "Cache-Control: max-age=0\r\n", kindPage},
		{"Chrome prefetches a page", "GET /next", chrome + acceptPage + "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Purpose: prefetch\r\nPurpose: prefetch\r\n", kindPage},
		{"Firefox opens a page", "GET /", firefox + acceptPage + navigation, kindPage},
		{"Safari opens a page", "GET /", safari + acceptPage + "Sec-Fetch-Mode: navigate\r\n", kindPage},
		{"old Safari opens a page", "GET /", safari + acceptPage, kindPage},
		{"page in a frame", "GET /", chrome + acceptPage + "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", kindPage},
		{"app's web view", "GET /", chrome + acceptPage + navigation + "X-Requested-With: com.example.app\r\n", kindPage},
		{"HEAD", "HEAD /", chrome, kindPage},
		{"curl", "GET /", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindPage},
		{"nothing said", "GET /", "", kindPage},
		{"feed reader", "GET /feed", "User-Agent: Miniflux/2.2\r\nAccept: application/atom+xml,text/xml,*/*;q=0.1\r\n", kindPage},
		{"Cubot phone", "GET /", "User-Agent: Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 Chrome/138.0 Mobile Safari/537.36\r\n" + acceptPage, kindPage},
		{"another Cubot phone", "GET /", "User-Agent: Mozilla/5.0 (Linux; Android 12; Cubot Note 20) AppleWebKit/537.36\r\n", kindPage},
		{"accepts JSON and HTML", "GET /", "Accept: application/json, text/html\r\n", kindPage},
		{"refuses JSON", "GET /", "Accept: application/json;q=0\r\n", kindPage},
		{"preflight without its header", "OPTIONS /", "Origin: https://a.example\r\n", kindSubmit},
		{"HTTP/1.1 upgrade to h2c", "GET /", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", kindPage},
		{"browser at /status.php", "GET /status.php", firefox + acceptPage + navigation, kindPage},
		{"old browser at /status.php", "GET /status.php", firefox + acceptPage, kindPage},
		{"curl at a status.php elsewhere", "GET /shop/status.php", "Accept: */*\r\n", kindPage},

		{"Chrome's image", "GET /a.png", chrome + "Accept: image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", kindPart},
		{"Firefox's font", "GET /a.woff2", firefox + "Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: font\r\n", kindPart},
		{"Chrome prefetches a script", "GET /a.js", chrome + "Accept: */*\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: empty\r\nSec-Purpose: prefetch\r\n", kindPart},
		{"fetch", "GET /api", chrome + "Accept: */*\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n", kindPart},
		{"fetch that posts", "POST /api", chrome + "Accept: */*\r\nSec-Fetch-Mode: same-origin\r\n", kindPart},
		{"XHR by jQuery", "GET /api", "Accept: */*\r\nX-Requested-With: XMLHttpRequest\r\n", kindPart},
		{"EventSource", "GET /events", chrome + "Accept: text/event-stream\r\nSec-Fetch-Mode: cors\r\n", kindPart},
		{"service worker's script", "GET /sw.js", chrome + "Service-Worker: script\r\nSec-Fetch-Mode: same-origin\r\nSec-Fetch-Dest: serviceworker\r\n", kindPart},
		{"API client", "GET /api", "User-Agent: okhttp/4.12\r\nAccept: application/json\r\n", kindPart},
		{"axios", "GET /api", "Accept: application/json, text/plain, */*\r\n", kindPart},
		{"the Fediverse", "GET /users/a", "User-Agent: Mastodon/4.3\r\nAccept: application/activity+json, application/ld+json\r\n", kindPart},
		{"WooCommerce's cart", "POST /?wc-ajax=add_to_cart", chrome + "Accept: application/json, text/javascript, */*; q=0.01\r\nX-Requested-With: XMLHttpRequest\r\nSec-Fetch-Mode: cors\r\nContent-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n", kindPart},

		{"CORS preflight", "OPTIONS /api", chrome + "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\nSec-Fetch-Mode: cors\r\n", kindPreflight},
		{"CORS preflight to Nextcloud", "OPTIONS /remote.php/dav", chrome + "Origin: https://a.example\r\nAccess-Control-Request-Method: PROPFIND\r\n", kindPreflight},

		{"form post", "POST /checkout", firefox + acceptPage + navigation + "Content-Type: application/x-www-form-urlencoded\r\n", kindSubmit},
		{"curl uploads", "PUT /a", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindSubmit},
		{"curl deletes", "DELETE /a", "Accept: */*\r\n", kindSubmit},
		{"Stripe's webhook", "POST /wc-api/stripe", "User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*; q=0.5, application/xml\r\nContent-Type: application/json; charset=utf-8\r\n", kindSubmit},
		{"OPTIONS *", "OPTIONS *", "", kindSubmit},
		{"CONNECT", "CONNECT blog.example:443", "", kindSubmit},

		{"WebSocket", "GET /ws", chrome + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-Fetch-Mode: websocket\r\n", kindWebSocket},
		{"Firefox's WebSocket", "GET /ws", firefox + "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", kindWebSocket},

		{"gRPC", "POST /svc.S/Do", "User-Agent: grpc-go/1.76\r\nTe: trailers\r\nContent-Type: application/grpc\r\n", kindGRPC},
		{"gRPC with protobuf", "POST /svc.S/Do", "Content-Type: application/grpc+proto\r\n", kindGRPC},
		{"gRPC-Web", "POST /svc.S/Do", chrome + "X-Grpc-Web: 1\r\nContent-Type: application/grpc-web-text\r\nSec-Fetch-Mode: cors\r\n", kindGRPC},

		{"Nextcloud desktop", "GET /", "User-Agent: Mozilla/5.0 (Linux) mirall/3.16.6git (Nextcloud, debian-6.12 ClientArchitecture: x86_64 OsArchitecture: x86_64)\r\n", kindDAV},
		{"Nextcloud Android", "GET /index.php/apps/files", "User-Agent: Mozilla/5.0 (Android) Nextcloud-android/3.32.1\r\n", kindDAV},
		{"Nextcloud iOS", "POST /index.php/login/v2", "User-Agent: Mozilla/5.0 (iOS) Nextcloud-iOS/6.6.4\r\n", kindDAV},
		{"ownCloud desktop", "PUT /a", "User-Agent: Mozilla/5.0 (Windows) mirall/5.3.2 (ownCloud, windows-10.0)\r\n", kindDAV},
		{"ownCloud iOS", "GET /", "User-Agent: ownCloudApp/12.5 (App/300; iOS/18.0; iPhone)\r\n", kindDAV},
		{"DAVx5", "GET /", "User-Agent: DAVx5/4.4.11-ose (dav4jvm; okhttp/4.12.0) Android/15\r\n", kindDAV},
		{"iOS calendar", "PROPFIND /", "User-Agent: iOS/18.5 (22F76) dataaccessd/1.0\r\n", kindDAV},
		{"Finder locks", "LOCK /a", "User-Agent: WebDAVFS/3.0.0\r\n", kindDAV},
		{"DAV path", "GET /remote.php/dav/files/a", "Accept: */*\r\n", kindDAV},
		{"DAV path in a folder", "GET /cloud/remote.php/webdav/", "Accept: */*\r\n", kindDAV},
		{"OCS", "GET /ocs/v2.php/cloud/user?format=json", "Accept: application/json\r\n", kindDAV},
		{"connectivity check", "GET /index.php/204", "", kindDAV},
		{"discovery", "GET /.well-known/caldav", "", kindDAV},

		{"Nextcloud's probe", "GET /status.php", "User-Agent: Mozilla/5.0 (Linux) mirall/3.16.6 (Nextcloud)\r\n", kindProbe},
		{"Nextcloud's probe in a folder", "GET /cloud/status.php", "User-Agent: Mozilla/5.0 (Android) Nextcloud-android/3.32.1\r\n", kindProbe},
		{"curl probes", "GET /status.php", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindProbe},
		{"HEAD probes", "HEAD /status.php", "", kindProbe},

		{"Googlebot", "GET /", "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)\r\n" + acceptPage, kindBot},
		{"AdsBot", "GET /", "User-Agent: AdsBot-Google (+http://www.google.com/adsbot.html)\r\n", kindBot},
		{"bingbot", "GET /", "User-Agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)\r\n", kindBot},
		{"Slurp", "GET /", "User-Agent: Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)\r\n", kindBot},
		{"Baidu", "GET /", "User-Agent: Mozilla/5.0 (compatible; Baiduspider/2.0)\r\n", kindBot},
		{"Twitter", "GET /", "User-Agent: Twitterbot/1.0\r\n", kindBot},
		{"Facebook's preview", "GET /", "User-Agent: facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)\r\n", kindBot},
		{"Slack's preview", "HEAD /", "User-Agent: Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)\r\n", kindBot},
		{"a crawler", "GET /", "User-Agent: my crawler\r\n", kindBot},

		{"git clones", "GET /a/b.git/info/refs?service=git-upload-pack", "User-Agent: git/2.50.1\r\nAccept: */*\r\nPragma: no-cache\r\nGit-Protocol: version=2\r\n", kindFetch},
		{"docker looks for a registry", "GET /v2/", "User-Agent: docker/28.3.0 go/go1.24.4 git-commit/265f709 kernel/6.12 os/linux arch/amd64\r\nAccept-Encoding: gzip\r\n", kindFetch},
		{"docker fetches a layer", "GET /v2/a/b/blobs/sha256:9f", "User-Agent: docker/28.3.0 go/go1.24.4\r\nAccept-Encoding: identity\r\n", kindFetch},
		{"docker fetches a manifest", "GET /v2/a/b/manifests/1", "User-Agent: docker/28.3.0\r\nAccept: application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*\r\n", kindPart},
		{"skopeo lists tags", "GET /v2/a/b/tags/list?n=50", "User-Agent: skopeo/1.18\r\nDocker-Distribution-Api-Version: registry/2.0\r\n", kindFetch},
		{"oras fetches a manifest of any kind", "HEAD /v2/a/manifests/1", "User-Agent: oras/1.2\r\nAccept: */*\r\n", kindFetch},
		{"cosign looks for signatures", "GET /v2/a/referrers/sha256:9f", "User-Agent: cosign/2.5\r\n", kindFetch},
		{"a catalogue of images", "GET /v2/_catalog", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindFetch},
		{"another API's version 2", "GET /v2/users/7", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindPage},
		{"another API's tags", "GET /v2/posts/7/tags", "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", kindPage},
		{"a page below the same path", "GET /v2/", firefox + acceptPage, kindPage},
		{"a page of that name", "GET /info/refs", chrome + acceptPage + navigation, kindPage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := readRequest(t, tt.line+" HTTP/1.1\r\nHost: blog.example\r\n"+strings.TrimSuffix(tt.fields, "\r\n"))
			got := kindOf(r)
			if got.String() == "" {
				t.Errorf("kind %d has no name", uint8(got))
			}
			if got != tt.want {
				t.Errorf("kindOf(%s %q) = %v; want %v", tt.line, tt.fields, got, tt.want)
			}
		})
	}
}

// Extended CONNECT as the two servers hand it over.
func TestKindOfExtendedConnect(t *testing.T) {
	h2 := readRequest(t, "GET /ws HTTP/1.1\r\nHost: blog.example")
	h2.Method, h2.Header = http.MethodConnect, http.Header{":protocol": {"websocket"}}
	h3 := readRequest(t, "GET /ws HTTP/1.1\r\nHost: blog.example")
	h3.Method, h3.Proto = http.MethodConnect, "websocket"
	for name, r := range map[string]*http.Request{"h2": h2, "h3": h3} {
		if got := kindOf(r); got != kindWebSocket {
			t.Errorf("%s: kindOf(extended CONNECT) = %d; want %d", name, got, kindWebSocket)
		}
	}
}

func TestKindOfAllocatesNothing(t *testing.T) {
	r := readRequest(t, "GET / HTTP/1.1\r\nHost: blog.example\r\n"+strings.TrimSuffix(chrome+acceptPage+navigation, "\r\n"))
	if n := testing.AllocsPerRun(100, func() { kindOf(r) }); n != 0 {
		t.Errorf("kindOf allocates %v times; want 0", n)
	}
}

func BenchmarkKindOf(b *testing.B) {
	r := readRequest(b, "GET / HTTP/1.1\r\nHost: blog.example\r\n"+strings.TrimSuffix(chrome+acceptPage+navigation, "\r\n"))
	b.ReportAllocs()
	for b.Loop() {
		kindOf(r)
	}
}

// What programs with credentials send to a host that is offline, or draining
// without their session: nothing is redirected, nothing comes back, nothing
// gets to the upstream.
func TestOfflineNeverRedirectsDAV(t *testing.T) {
	const secret = "Basic YW5uYTpzM2NyM3Q="
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached the upstream", r.Method, r.RequestURI)
	}), rigOptions{route: func(rt *Route) {
		rt.Online = false
		rt.Session = NewSession(wooCommerce)
		rt.StatusPage, _ = ParseStatusPage("https://status.example{uri}")
	}})
	const (
		desktop = "Mozilla/5.0 (Linux) mirall/3.13.0 (Nextcloud)"
		litmus  = "litmus/0.13 neon/0.33.0"
	)
	requests := []struct {
		agent, method, target, body string
		want                        int
	}{
		{desktop, "GET", "/index.php/204", "", 503},
		{desktop, "GET", "/status.php", "", 200},
		{desktop, "PROPFIND", "/remote.php/dav/files/anna/", "<d:propfind/>", 503},
		{desktop, "PUT", "/remote.php/dav/files/anna/a.txt", "content", 503},
		{desktop, "MKCOL", "/remote.php/dav/uploads/anna/1", "", 503},
		{desktop, "PUT", "/remote.php/dav/uploads/anna/1/00001", "piece", 503},
		{desktop, "MOVE", "/remote.php/dav/uploads/anna/1/.file", "", 503},
		{desktop, "GET", "/ocs/v2.php/apps/notifications/api/v2/notifications", "", 503},
		{litmus, "OPTIONS", "/litmus/", "", 503},
		{litmus, "MKCOL", "/litmus/", "", 503},
		{litmus, "PUT", "/litmus/res", "content", 503},
		{litmus, "GET", "/litmus/res", "", 503},
		{litmus, "HEAD", "/litmus/res", "", 503},
		{litmus, "COPY", "/litmus/res", "", 503},
		{litmus, "PROPPATCH", "/litmus/res", "<propertyupdate/>", 503},
		{litmus, "LOCK", "/litmus/res", "<lockinfo/>", 503},
		{litmus, "UNLOCK", "/litmus/res", "", 503},
		{litmus, "DELETE", "/litmus/res", "", 503},
	}
	for _, draining := range []bool{false, true} {
		r.reroute(t, func(rt *Route) { rt.Draining = draining })
		eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
			for _, q := range requests {
				req := newRequest(t, q.method, url+q.target, strings.NewReader(q.body))
				req.Header.Set("User-Agent", q.agent)
				req.Header.Set("Authorization", secret)
				req.Header.Set("Destination", url+"/elsewhere")
				res, body := do(t, c, req)
				if res.StatusCode != q.want || res.Header.Get("Location") != "" {
					t.Errorf("%s %s = %d %v; want %d without Location", q.method, q.target, res.StatusCode, res.Header, q.want)
				}
				for name, values := range res.Header {
					if strings.Contains(strings.Join(values, ""), secret) {
						t.Errorf("%s %s: the credentials come back in %s", q.method, q.target, name)
					}
				}
				if strings.Contains(body, secret) {
					t.Errorf("%s %s: the credentials come back in the body", q.method, q.target)
				}
			}
		})
	}
	for _, line := range r.accessLog(t, 2*len(protocols)*len(requests)) {
		headers := line["request"].(map[string]any)["headers"].(map[string]any)
		if got := headers["Authorization"].([]any); len(got) != 1 || got[0] != "REDACTED" {
			t.Fatalf("Authorization in the access log = %v; want REDACTED", got)
		}
	}
}
