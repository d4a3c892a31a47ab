package proxy

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// wooCommerce are the signs of a running session in a shop.
var wooCommerce = SessionSigns{
	Cookies: []string{"woocommerce_items_in_cart", "woocommerce_cart_hash", "wp_woocommerce_session_*"},
	Paths:   []string{"/cart", "/checkout", "/wc-api", "/wp-json/wc/store"},
	Queries: []string{"wc-ajax"},
}

// shop is as much of a WooCommerce shop as a checkout needs.
func shop() http.Handler {
	mux := http.NewServeMux()
	hasCart := func(r *http.Request) bool {
		c, err := r.Cookie("woocommerce_items_in_cart")
		return err == nil && c.Value == "1"
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wc-ajax") && !hasCart(r) {
			http.Error(w, "no cart", http.StatusBadRequest)
			return
		}
		io.WriteString(w, "shop "+r.URL.Path)
	})
	mux.HandleFunc("POST /product/teapot", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "woocommerce_items_in_cart", Value: "1", Path: "/", Secure: true})
		http.SetCookie(w, &http.Cookie{Name: "wp_woocommerce_session_3f2a", Value: "t_8c%7C%7C1", Path: "/", Secure: true, HttpOnly: true})
		http.Redirect(w, r, "/cart/", http.StatusFound)
	})
	mux.HandleFunc("POST /checkout/", func(w http.ResponseWriter, r *http.Request) {
		if !hasCart(r) || r.FormValue("billing_email") != "anna@example.test" {
			http.Error(w, "no cart", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "/checkout/order-received/17/", http.StatusFound)
	})
	return mux
}

// A customer with a full cart gets through the checkout while the shop drains;
// who comes new goes to the status page; at the end all do.
func TestCheckoutSurvivesADrain(t *testing.T) {
	r := newRig(t, shop(), rigOptions{route: func(rt *Route) {
		rt.Session = NewSession(wooCommerce)
		rt.StatusPage, _ = ParseStatusPage("https://status.example{uri}")
	}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, shop string) {
		jar, _ := cookiejar.New(nil)
		customer := &http.Client{Transport: c.Transport, CheckRedirect: c.CheckRedirect, Jar: jar, Timeout: c.Timeout}
		step := func(c *http.Client, who, method, target, form string, want int, location string) {
			t.Helper()
			req := newRequest(t, method, shop+target, strings.NewReader(form))
			if form != "" {
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			req.Header.Set("Accept", "text/html")
			res, _ := do(t, c, req)
			if res.StatusCode != want || res.Header.Get("Location") != location {
				t.Errorf("%s: %s %s = %d %q; want %d %q", who, method, target, res.StatusCode, res.Header.Get("Location"), want, location)
			}
		}
		r.reroute(t, func(rt *Route) { rt.Online, rt.Draining = true, false })
		step(customer, "customer", "GET", "/", "", 200, "")
		step(customer, "customer", "POST", "/product/teapot", "add-to-cart=17", 302, "/cart/")

		r.reroute(t, func(rt *Route) { rt.Online, rt.Draining = false, true })
		before := r.route.Stats.Sessions.Load()
		began := time.Now()
		step(c, "visitor", "GET", "/", "", 302, "https://status.example/")
		step(c, "visitor", "POST", "/product/teapot", "add-to-cart=17", 503, "")
		if n := r.route.Stats.Sessions.Load(); n != before {
			t.Errorf("sessions seen = %d after visitors without one; want %d", n, before)
		}
		step(customer, "customer", "GET", "/cart/", "", 200, "")
		step(customer, "customer", "GET", "/product/spoon", "", 200, "")
		step(customer, "customer", "POST", "/?wc-ajax=update_order_review", "country=AU", 200, "")
		step(customer, "customer", "POST", "/checkout/", url.Values{"billing_email": {"anna@example.test"}}.Encode(), 302, "/checkout/order-received/17/")
		step(customer, "customer", "GET", "/checkout/order-received/17/", "", 200, "")
		if n, at := r.route.Stats.Sessions.Load()-before, r.route.Stats.LastSession(); n != 5 || at.Before(began) {
			t.Errorf("sessions seen = %d, last at %v; want 5, after %v", n, at, began)
		}

		r.reroute(t, func(rt *Route) { rt.Draining = false })
		step(customer, "customer", "GET", "/cart/", "", 302, "https://status.example/cart/")
	})
}

// Setting the clock neither ends a drain nor makes it longer.
func TestLastSessionIsMonotonic(t *testing.T) {
	var s Stats
	if at := s.LastSession(); !at.IsZero() {
		t.Errorf("LastSession before the first = %v; want zero", at)
	}
	s.sessionSeen()
	if at := s.LastSession(); !strings.Contains(at.String(), " m=") {
		t.Errorf("LastSession = %v; want a time with a monotonic reading", at)
	}
}

func TestSessionMatches(t *testing.T) {
	s := NewSession(wooCommerce)
	for _, tt := range []struct {
		name, target string
		cookies      []string
		want         bool
	}{
		{"nothing", "/", nil, false},
		{"path", "/cart", nil, true},
		{"path with a slash", "/cart/", nil, true},
		{"below a path", "/checkout/order-pay/5?key=a", nil, true},
		{"longer name", "/cartoon", nil, false},
		{"deeper", "/blog/cart", nil, false},
		{"query", "/?wc-ajax=add_to_cart", nil, true},
		{"later in the query", "/?a=b&wc-ajax", nil, true},
		{"value in the query", "/?q=wc-ajax", nil, false},
		{"cookie", "/", []string{"a=b; woocommerce_cart_hash=7"}, true},
		{"cookie with a prefix", "/", []string{"wp_woocommerce_session_12=x"}, true},
		{"cookie in a second field", "/", []string{"a=b", "woocommerce_items_in_cart=1"}, true},
		{"cookie's value", "/", []string{"a=woocommerce_cart_hash=7"}, false},
		{"longer cookie", "/", []string{"woocommerce_cart_hash2=7"}, false},
		{"empty fields", "/", []string{"", ";;", "="}, false},
	} {
		r := httptest.NewRequest("GET", tt.target, nil)
		r.Header["Cookie"] = tt.cookies
		if got := s.Matches(r); got != tt.want {
			t.Errorf("%s: Matches = %v; want %v", tt.name, got, tt.want)
		}
		if n := testing.AllocsPerRun(10, func() { s.Matches(r) }); n != 0 {
			t.Errorf("%s: Matches allocates %v times; want 0", tt.name, n)
		}
	}
	if s := NewSession(SessionSigns{}); s != nil || s.Matches(httptest.NewRequest("GET", "/cart", nil)) {
		t.Errorf("a Session without signs = %v; want nil, which matches nothing", s)
	}
}
