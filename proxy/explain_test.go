package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Explain says what the gateway then does.
func TestExplainIsWhatHappens(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }), rigOptions{route: func(rt *Route) {
		rt.StatusPage, _ = ParseStatusPage("https://status.example{uri}")
		rt.Session = NewSession(wooCommerce)
		rt.Cause, rt.Reason = "window", "database upgrade"
		rt.RetryAfter = 90 * time.Second
	}})
	const browser = "Accept: text/html"
	requests := []struct{ method, url, fields string }{
		{"GET", "https://" + host + "/a%2Fb?c=d", browser},
		{"POST", "https://" + host + "/cart", "Accept: application/json"},
		{"GET", "https://" + host + "/product", browser + "\r\nCookie: woocommerce_cart_hash=1"},
		{"GET", "https://" + host + "/api", "Accept: application/json"},
		{"OPTIONS", "https://" + host + "/api", "Access-Control-Request-Method: PUT\r\nOrigin: https://a.example"},
		{"PROPFIND", "https://" + host + "/remote.php/dav", ""},
		{"GET", "https://" + host + "/status.php", "User-Agent: mirall"},
		{"GET", "https://" + host + "/", browser + "\r\nUser-Agent: Googlebot/2.1"},
		{"POST", "https://" + host + "/grpc.Service/Call", "Content-Type: application/grpc"},
		{"GET", "https://" + host + "/?x=1&" + BypassParameter + "=token", browser},
		{"GET", "https://other.example.test/", browser},
	}
	asked := 0
	for _, state := range []string{"online", "draining", "offline"} {
		r.reroute(t, func(rt *Route) { rt.Online, rt.Draining = state == "online", state == "draining" })
		c := r.client(t, "h2")
		for _, q := range requests {
			e := r.handler.Explain(with(t, q.method, q.url, q.fields, nil), true)
			res, _ := do(t, c, with(t, q.method, q.url, q.fields, nil))
			forwarded := res.StatusCode == http.StatusTeapot
			status := e.Status
			if e.Upstream != "" && status == 0 {
				status = http.StatusTeapot
			}
			asked++
			line := r.accessLog(t, asked)[asked-1]
			if line["action"] != e.Action {
				t.Errorf("%s: Explain(%s %s) says action %q; the access log %q", state, q.method, q.url, e.Action, line["action"])
			}
			if status != res.StatusCode || (e.Upstream != "") != forwarded ||
				e.Location != res.Header.Get("Location") || e.RetryAfter != res.Header.Get("Retry-After") {
				t.Errorf("%s: Explain(%s %s) = %+v; what happened was %d %v", state, q.method, q.url, e, res.StatusCode, res.Header)
			}
			if strings.Contains(q.url, host) {
				if e.Host != host || e.State != state || e.Cause != "window" || e.Reason != "database upgrade" {
					t.Errorf("%s: Explain(%s %s) = %+v; want the host, its state and cause", state, q.method, q.url, e)
				}
			} else if e.Host != "" || e.State != "" {
				t.Errorf("%s: Explain(%s %s) = %+v; want no host", state, q.method, q.url, e)
			}
		}
	}
	if n := r.route.Stats.Sessions.Load(); n != 2 {
		t.Errorf("sessions seen = %d; want 2, those that were asked and none that was explained", n)
	}
}

func TestExplainPlainHTTP(t *testing.T) {
	r := offlineRig(t, nil)
	e := r.handler.Explain(newRequest(t, "GET", "http://"+host+"/a?b", nil), false)
	if e.Status != 308 || e.Location != "https://"+host+"/a?b" || e.Action != "redirect" {
		t.Errorf("Explain over plain HTTP = %+v; want 308 to https", e)
	}
}
