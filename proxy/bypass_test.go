package proxy

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// bypassRig serves an offline host, and its sister, from an upstream that says
// which cookies and target it saw, by a clock that the test turns.
type bypassRig struct {
	*rig
	clock atomic.Int64 // Unix milliseconds
}

const sister = "shop.example.test"

func newBypassRig(t *testing.T) *bypassRig {
	b := new(bypassRig)
	b.clock.Store(time.Now().UnixMilli())
	b.rig = newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Detour", "forged")
		io.WriteString(w, r.RequestURI+" "+strings.Join(r.Header["Cookie"], "|"))
	}), rigOptions{wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.handler.ServeHTTP(w, r) })
	}})
	b.handler = NewHandler(HandlerOptions{Table: b.handler.table.Load()})
	b.handler.bypass = newBypass(nil, b.now)
	b.state(t, false)
	return b
}

func (b *bypassRig) now() time.Time { return time.UnixMilli(b.clock.Load()) }

func (b *bypassRig) pass(d time.Duration) { b.clock.Add(d.Milliseconds()) }

// state puts both hosts online, or offline in a new episode.
func (b *bypassRig) state(t *testing.T, online bool) {
	t.Helper()
	page, _ := ParseStatusPage("https://status.example{uri}")
	var routes []*Route
	for _, name := range []string{host, sister} {
		routes = append(routes, &Route{Host: name, Names: []string{name}, Online: online, Since: b.now(), StatusPage: page, Pool: b.route.Pool, Stats: new(Stats)})
	}
	table, err := NewTable(TableOptions{Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	b.handler.Swap(table)
}

// link mints a link for the host, and checks its shape.
func (b *bypassRig) link(t *testing.T) (token string) {
	t.Helper()
	link, err := b.handler.MintBypass(host, b.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(link, "https://"+host+"/?"+BypassParameter+"=")
	if !ok {
		t.Fatalf("link = %q; want one to https://%s", link, host)
	}
	return token
}

// visit gets target of name with cookie, and returns the answer and its body.
func visit(t *testing.T, c *http.Client, name, target, cookie string) (*http.Response, string) {
	t.Helper()
	req := newRequest(t, "GET", "https://"+name+target, nil)
	req.Header.Set("User-Agent", "Mozilla/5.0")
	req.Header.Set("Accept", "text/html")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	return do(t, c, req)
}

// admitted reports whether the host's upstream answered, as for a bypass.
func admitted(res *http.Response) bool {
	return res.StatusCode == 200 && cmp.Equal(res.Header["X-Detour"], []string{"bypass"})
}

func TestBypassLink(t *testing.T) {
	b := newBypassRig(t)
	eachProtocol(t, b.edge, func(t *testing.T, c *http.Client, url string) {
		token := b.link(t)
		res, body := visit(t, c, host, "//a%2Fb?x=1&"+BypassParameter+"="+token+"&y=%20;z", "")
		if want := "https://" + host + "//a%2Fb?x=1&y=%20;z"; res.StatusCode != 303 || res.Header.Get("Location") != want || body != "" {
			t.Errorf("opening the link = %d %q; want 303 %q", res.StatusCode, res.Header.Get("Location"), want)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Detour": "bypass"} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s = %q; want %q", name, got, want)
			}
		}
		cookies := res.Cookies()
		if len(cookies) != 1 {
			t.Fatalf("cookies = %v; want one", res.Header["Set-Cookie"])
		}
		got := *cookies[0]
		if strings.Contains(got.Value, token) {
			t.Error("the cookie holds the link's token")
		}
		want := http.Cookie{Name: "__Host-detour-bypass", Path: "/", MaxAge: 3600, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		value := got.Value
		got.Value, got.Raw = "", ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("cookie: -want +got\n%s", diff)
		}

		cookie := "a=b; __Host-detour-bypass=" + value + "; c=d"
		res, body = visit(t, c, host, "/?x=1", cookie)
		if !admitted(res) || body != "/?x=1 a=b; c=d" {
			t.Errorf("with the cookie = %d %v %q; want the upstream's answer without our cookie, X-Detour: bypass", res.StatusCode, res.Header, body)
		}
		if res, _ := visit(t, c, host, "/", ""); res.StatusCode != 302 {
			t.Errorf("without the cookie = %d; want 302 to the status page", res.StatusCode)
		}
	})
}

// What a link and its cookie must not be good for. Nothing of them gets to the
// status page either.
func TestBypassMisuse(t *testing.T) {
	b := newBypassRig(t)
	c := b.client(t, "h2")
	open := func(name, token string) (cookie string) {
		t.Helper()
		res, _ := visit(t, c, name, "/?"+BypassParameter+"="+token, "")
		if res.StatusCode != 303 || res.Header.Get("Location") != "https://"+name+"/" {
			t.Errorf("opening a link = %d %q; want 303 to the clean address", res.StatusCode, res.Header.Get("Location"))
		}
		for _, c := range res.Cookies() {
			cookie = c.Name + "=" + c.Value
		}
		return cookie
	}
	refused := func(what, cookie string) {
		t.Helper()
		if cookie != "" {
			t.Errorf("%s: the link is worth a cookie", what)
		}
	}
	out := func(what, name, cookie string) {
		t.Helper()
		if res, _ := visit(t, c, name, "/", cookie); res.StatusCode != 302 || res.Header["X-Detour"] != nil {
			t.Errorf("%s: %d %v; want 302 to the status page", what, res.StatusCode, res.Header)
		}
	}

	token := b.link(t)
	refused("another host", open(sister, token))
	for _, method := range []string{"HEAD", "POST"} {
		req := newRequest(t, method, "https://"+host+"/?"+BypassParameter+"="+token, nil)
		if res, body := do(t, c, req); res.Header["Set-Cookie"] != nil || strings.Contains(body+res.Header.Get("Location"), token) {
			t.Errorf("%s of a link = %d %v; want no cookie and no token", method, res.StatusCode, res.Header)
		}
	}
	bot := with(t, "GET", "https://"+host+"/?"+BypassParameter+"="+token, "User-Agent: Slackbot-LinkExpanding 1.0", nil)
	if res, _ := do(t, c, bot); res.Header["Set-Cookie"] != nil {
		t.Error("a robot got the cookie")
	}
	cookie := open(host, token)
	if res, _ := visit(t, c, host, "/", cookie); !admitted(res) {
		t.Fatalf("the link's cookie = %d; want it to be good after all that", res.StatusCode)
	}
	refused("twice", open(host, token))
	out("another host's cookie", sister, cookie)
	out("a link's token as a cookie", host, bypassCookie+"="+b.link(t))
	_, value, _ := strings.Cut(cookie, "=")
	refused("a cookie's value as a link", open(host, value))
	for i := range value {
		forged := []byte(value)
		forged[i] ^= 1
		if i%7 == 0 { // one in each field, and the signature
			out("forged", host, bypassCookie+"="+string(forged))
		}
	}
	for _, forged := range []string{"x", strings.Repeat("A", len(value)), value + "A", value[:len(value)-1], "%00"} {
		out("forged", host, bypassCookie+"="+forged)
		refused("forged", open(host, forged))
	}
	other := newBypass(nil, b.now)
	refused("another key", open(host, other.seal(pass{kind: passLink, minted: b.now(), until: b.now().Add(time.Hour)}, host)))

	late := b.link(t)
	b.pass(59 * time.Minute)
	if res, _ := visit(t, c, host, "/", cookie); !admitted(res) {
		t.Errorf("a minute before its end = %d; want it to be good", res.StatusCode)
	}
	b.pass(time.Minute)
	out("after its time", host, cookie)
	refused("after its time", open(host, late))

	cookie = open(host, b.link(t))
	unused := b.link(t)
	b.state(t, true)
	if res, body := visit(t, c, host, "/x", "a=b; "+cookie); res.StatusCode != 200 || body != "/x a=b" || res.Header["X-Detour"] != nil {
		t.Errorf("online with the cookie = %d %q %v; want the usual answer and no cookie at the upstream", res.StatusCode, body, res.Header)
	}
	refused("online", open(host, unused))
	b.pass(time.Millisecond)
	b.state(t, false)
	out("after the host came back", host, cookie)
	refused("after the host came back", open(host, unused))
	if n := len(b.handler.bypass.used); n > 2 {
		t.Errorf("%d opened links are remembered; want those that are not over", n)
	}
}

// A link is good also when the clock was set back since its host went offline.
func TestBypassAfterTheClockWasSetBack(t *testing.T) {
	b := newBypassRig(t)
	b.pass(-time.Hour)
	c := b.client(t, "h2")
	res, _ := visit(t, c, host, "/?"+BypassParameter+"="+b.link(t), "")
	if cookies := res.Cookies(); len(cookies) != 1 {
		t.Errorf("cookies = %v; want one", cookies)
	} else if res, _ := visit(t, c, host, "/", cookies[0].Name+"="+cookies[0].Value); !admitted(res) {
		t.Errorf("with the cookie = %d; want it to be good", res.StatusCode)
	}
}

func TestTakeLink(t *testing.T) {
	for _, tt := range []struct{ target, token, clean string }{
		{"/", "", "/"},
		{"/?a=b", "", "/?a=b"},
		{"/?detour-bypass=t", "t", "/"},
		{"/?a&detour-bypass=t&b=", "t", "/?a&b="},
		{"/?detour-bypass=t&detour-bypass=", "t", "/"},
		{"/?detour-bypass=&a&detour-bypass=t", "t", "/?a"},
		{"/?detour-bypass=t&detour-bypass=u", "t", "/"},
		{"/?detour-bypass=", "", "/"},
		{"/detour-bypass=t?a", "", "/detour-bypass=t?a"},
		{"/?xdetour-bypass=t", "", "/?xdetour-bypass=t"},
	} {
		token, clean := takeLink(httptest.NewRequest("GET", tt.target, nil))
		if token != tt.token || clean.RequestURI != tt.clean || clean.URL.RequestURI() != tt.clean {
			t.Errorf("takeLink(%q) = %q, %q and %q; want %q, %q", tt.target, token, clean.RequestURI, clean.URL, tt.token, tt.clean)
		}
	}
}

// A restart forgets which links were opened, so it ends them all; the cookies
// are good for as long as they would have been.
func TestBypassSurvivesARestartByCookieOnly(t *testing.T) {
	clock := time.Now()
	now := func() time.Time { return clock }
	key := []byte("0123456789abcdef0123456789abcdef")
	before := newBypass(key, now)
	mint := func() string {
		p := pass{kind: passLink, minted: now(), until: clock.Add(time.Hour)}
		rand.Read(p.id[:])
		return before.seal(p, host)
	}
	since := clock
	cookie, ok := before.redeem(mint(), host, since)
	if !ok {
		t.Fatal("a fresh link is not good")
	}
	unopened := mint()
	clock = clock.Add(time.Second)
	after := newBypass(key, now)
	if _, ok := after.redeem(unopened, host, since); ok {
		t.Error("a link from before the restart is good; want it worthless")
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(cookie)
	if !after.admits(r, host, since) {
		t.Error("a cookie from before the restart is worthless; want it good")
	}
}

func TestMintBypassRefuses(t *testing.T) {
	b := newBypassRig(t)
	for _, tt := range []struct {
		host string
		d    time.Duration
	}{{"unknown.example.test", time.Hour}, {"*.example.test", time.Hour}, {host, 0}, {host, -time.Hour}} {
		if link, err := b.handler.MintBypass(tt.host, b.now().Add(tt.d)); err == nil {
			t.Errorf("MintBypass(%q, %v) = %q; want an error", tt.host, tt.d, link)
		}
	}
	b.state(t, true)
	if link, err := b.handler.MintBypass(host, b.now().Add(time.Hour)); err == nil {
		t.Errorf("MintBypass for an online host = %q; want an error", link)
	}
}

// A network counts by the client's address, as trusted proxies name it.
func TestBypassNetworks(t *testing.T) {
	r := offlineRig(t, nil)
	r.route.Pool = NewPool([]*Upstream{echoUpstream(t, "inside")}, nil)
	table, err := NewTable(TableOptions{Routes: []*Route{r.route}, Trusted: NewTrusted(TrustedOptions{Networks: loopback}), Bypass: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	r.handler.Swap(table)
	n := 0
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for from, want := range map[string]bool{"192.168.1.7": true, "192.168.2.7": false, "192.168.1.7, 203.0.113.9": false} {
			res, body := do(t, c, with(t, "GET", url+"/", "X-Forwarded-For: "+from+"\r\nAccept: text/html", nil))
			if got := admitted(res) && body == "inside"; got != want {
				t.Errorf("from %s = %d; admitted %v, want %v", from, res.StatusCode, got, want)
			}
			n++
		}
	})
	bypassed := 0
	for _, line := range r.accessLog(t, n) {
		if line["action"] == "bypass" {
			bypassed++
		}
	}
	if bypassed != len(protocols) {
		t.Errorf("lines with action bypass = %d; want %d", bypassed, len(protocols))
	}
}

// echoUpstream is an upstream that answers with text.
func echoUpstream(t testing.TB, text string) *Upstream {
	t.Helper()
	return upstreamAt(t, startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })))
}

// upstreamAt is an http upstream at address.
func upstreamAt(t testing.TB, address string) *Upstream {
	t.Helper()
	u, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: address}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Retire)
	return u
}

// Whatever a stranger's query and cookies hold, ours goes, nothing else does,
// and nobody is let in.
func FuzzBypass(f *testing.F) {
	good := newBypass(make([]byte, 32), time.Now)
	token := good.seal(pass{kind: passCookie, minted: time.Now(), until: time.Now().Add(time.Hour)}, "elsewhere.test")
	f.Add("/a?b=c", "a=b; c=d")
	f.Add("//x?detour-bypass=t&a=%zz;&&=&detour-bypass=", "__Host-detour-bypass="+token)
	f.Add("/?xdetour-bypass=1&detour-bypass", "; ;__Host-detour-bypass; __Host-detour-bypassx=1;=")
	f.Fuzz(func(t *testing.T, target, cookies string) {
		if !strings.HasPrefix(target, "/") {
			return
		}
		path, query, _ := strings.Cut(target, "?")
		r := &http.Request{Method: "GET", RequestURI: target, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Cookie": {cookies}}}
		taken, clean := takeLink(r)
		if taken != "" && clean == r {
			t.Fatalf("takeLink(%q) = %q, and the request stayed", target, taken)
		}
		if clean != r {
			if again, _ := takeLink(clean); again != "" || strings.Contains("&"+clean.URL.RawQuery, "&"+BypassParameter+"=") {
				t.Errorf("takeLink(%q) leaves a token in %q", target, clean.RequestURI)
			}
			if gotPath, gotQuery, _ := strings.Cut(clean.RequestURI, "?"); gotPath != path || gotQuery != clean.URL.RawQuery {
				t.Errorf("takeLink(%q) makes %q of it, with the query %q", target, clean.RequestURI, clean.URL.RawQuery)
			}
		}
		for _, kept := range withoutBypassCookie([]string{cookies}) {
			for rest := kept; rest != ""; {
				var name string
				if name, _, rest = nextCookie(rest); name == bypassCookie {
					t.Errorf("withoutBypassCookie(%q) = %q", cookies, kept)
				}
			}
		}
		if good.admits(r, host, time.Time{}) {
			t.Errorf("%q lets in", cookies)
		}
	})
}
