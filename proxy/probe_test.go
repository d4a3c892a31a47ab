package proxy_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"detour/proxy"
)

// A probe looks like a visitor's request, over the upstream's own connections.
func TestProbe(t *testing.T) {
	type request struct{ Host, URI string }
	got := make(chan request, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- request{r.Host, r.RequestURI}
		w.Header().Set("Location", "https://elsewhere.test/")
		w.WriteHeader(http.StatusFound)
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	local.Start()
	defer local.Close()
	plainAddr, secureAddr := plain.Listener.Addr().String(), secure.Listener.Addr().String()

	for _, test := range []struct {
		name string
		o    proxy.UpstreamOptions
		host string
		want string // Host field
	}{
		{"http", proxy.UpstreamOptions{Scheme: "http", Address: plainAddr}, "shop.example.test", "shop.example.test"},
		{"http, wildcard", proxy.UpstreamOptions{Scheme: "http", Address: plainAddr}, "*.example.test", plainAddr},
		{"https has its own name", proxy.UpstreamOptions{Scheme: "https", Address: secureAddr, Insecure: true}, "shop.example.test", secureAddr},
		{"unix", proxy.UpstreamOptions{Scheme: "unix", Address: socket}, "shop.example.test", "shop.example.test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, err := proxy.NewUpstream(test.o, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Retire()
			status, err := u.Probe(t.Context(), test.host, "/healthz?deep=1")
			if err != nil || status != http.StatusFound {
				t.Fatalf("Probe() = %d, %v; want the redirect itself", status, err)
			}
			if want, is := (request{test.want, "/healthz?deep=1"}), <-got; is != want {
				t.Errorf("the upstream was asked %+v; want %+v", is, want)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		u, err := proxy.NewUpstream(proxy.UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if status, err := u.Probe(ctx, "shop.example.test", "/"); err == nil {
			t.Errorf("Probe() = %d; want an error", status)
		}
	})
}
