package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestForwards(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.Host+" "+r.RequestURI)
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, body := get(t, c, url+"/a?b=1")
		if want := "GET " + host + " /a?b=1"; res.StatusCode != 200 || body != want {
			t.Errorf("GET = %d %q; want 200 %q", res.StatusCode, body, want)
		}
	})
}

func TestRedirectToHTTPS(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		port          int
		want          string // Location; "" = 400
	}{
		{"path and query", "GET /a%2Fb?c=%zz;d HTTP/1.1\nHost: " + host, 443, "https://" + host + "/a%2Fb?c=%zz;d"},
		{"port of http goes", "GET / HTTP/1.1\nHost: " + host + ":80", 443, "https://" + host + "/"},
		{"port of https comes", "GET /? HTTP/1.1\nHost: " + host + ":80", 8443, "https://" + host + ":8443/?"},
		{"unknown host", "GET // HTTP/1.1\nHost: Nobody.Test.", 443, "https://nobody.test//"},
		{"address", "GET / HTTP/1.1\nHost: [2001:DB8::1]:80", 443, "https://[2001:db8::1]/"},
		{"post", "POST /form HTTP/1.1\nContent-Length: 0\nHost: " + host, 443, "https://" + host + "/form"},
		{"absolute form", "GET http://" + host + "/x HTTP/1.1\nHost: " + host, 443, "https://" + host + "/x"},
		{"whole server", "OPTIONS * HTTP/1.1\nHost: " + host, 443, "https://" + host + "/"},
		{"another site in the host", "GET / HTTP/1.1\nHost: a@evil.test", 443, ""},
		{"path in the host", "GET / HTTP/1.1\nHost: evil.test/x", 443, ""},
		{"no host", "GET / HTTP/1.0", 443, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table, err := NewTable(TableOptions{AdvertisePort: tc.port})
			if err != nil {
				t.Fatal(err)
			}
			addr := startUpstream(t, NewHandler(HandlerOptions{Table: table}).RedirectToHTTPS())
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, strings.ReplaceAll(tc.request+"\n\n", "\n", "\r\n"))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := http.StatusPermanentRedirect
			if tc.want == "" {
				want = http.StatusBadRequest
			}
			if got := res.Header.Get("Location"); res.StatusCode != want || got != tc.want || !res.Close {
				t.Errorf("= %d, Location %q, close %v; want %d, %q, true", res.StatusCode, got, res.Close, want, tc.want)
			}
		})
	}
}

func TestAltSvc(t *testing.T) {
	for _, tc := range []struct {
		o    TableOptions
		want string
	}{
		{TableOptions{HTTP3: true}, `h3=":443"; ma=2592000`},
		{TableOptions{HTTP3: true, AdvertisePort: 8443}, `h3=":8443"; ma=2592000`},
		{TableOptions{}, "clear"},
	} {
		tc.o.Routes = []*Route{{Host: host, Names: []string{host}, Stats: new(Stats)}}
		table, err := NewTable(tc.o)
		if err != nil {
			t.Fatal(err)
		}
		e := serve(t, usual(t), NewHandler(HandlerOptions{Table: table}))
		if res, _ := get(t, e.client(t, "h2"), "https://"+host+"/"); res.Header.Get("Alt-Svc") != tc.want {
			t.Errorf("%+v: Alt-Svc = %q; want %q", tc.o, res.Header.Get("Alt-Svc"), tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	a, b, c := &Route{Host: "a.test", Names: []string{"a.test", "www.a.test"}}, &Route{Host: "*.a.test", Names: []string{"*.a.test"}}, &Route{Host: "x.test", Names: []string{"www.a.test"}}
	table, err := NewTable(TableOptions{Generation: 7, Routes: []*Route{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*Route{"a.test": a, "www.a.test": a, "x.a.test": b, "y.x.a.test": nil, ".a.test": b, "test": nil, "": nil, "*.a.test": b} {
		if got := table.Lookup(name); got != want {
			t.Errorf("Lookup(%q) = %v; want %v", name, got, want)
		}
	}
	if table.Generation() != 7 || len(table.routes) != 2 {
		t.Errorf("Generation %d, %d routes; want 7, 2", table.Generation(), len(table.routes))
	}
	if _, err := NewTable(TableOptions{Routes: []*Route{a, c}}); err == nil || !strings.Contains(err.Error(), "www.a.test") {
		t.Errorf("NewTable with a name twice = %v; want an error that names it", err)
	}
}

func TestSwap(t *testing.T) {
	inFirst, goOn := make(chan bool), make(chan bool)
	first := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inFirst <- true
		<-goOn
		io.WriteString(w, "first")
	}), rigOptions{})
	second := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "second") }), rigOptions{})
	c := first.client(t, "h2")
	answers := make(chan string, 1)
	go func() {
		_, body := get(t, c, "https://"+host+"/")
		answers <- body
	}()
	<-inFirst
	first.handler.Swap(second.handler.table.Load())
	if _, body := get(t, c, "https://"+host+"/"); body != "second" {
		t.Errorf("after the swap: %q; want second", body)
	}
	close(goOn)
	if body := <-answers; body != "first" {
		t.Errorf("the request in flight: %q; want first", body)
	}
}
