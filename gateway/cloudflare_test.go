package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"detour/gateway"
)

// A new list of Cloudflare's ranges takes effect while serving, and leaves the
// hosts in their states.
func TestCloudflareRangesAreRefreshed(t *testing.T) {
	api := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"success":true,"result":{"ipv4_cidrs":["192.0.2.0/24"],"ipv6_cidrs":[]}}`)
	})
	t.Setenv("CLOUDFLARE_BASE_URL", "http://"+api)
	dir := t.TempDir()
	r := &rig{dir: dir, config: filepath.Join(dir, "proxy.toml"), process: &syncBuffer{}}
	file := strings.Replace(fmt.Sprintf(preamble, dir, *engine), "[acme]", "trusted_proxies = [\"cloudflare\"]\n[acme]", 1) +
		fmt.Sprintf("[hosts]\nshop = { upstream = %[1]q }\nblog = { upstream = %[1]q, online = false }\n", says(t, "x"))
	if err := os.WriteFile(r.config, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	r.run(t, gateway.Options{})
	eventually(t, "the ranges are refreshed", func() bool {
		return strings.Contains(r.process.String(), "address ranges refreshed")
	})
	if got, err := get(t.Context(), r.client(t, "h2"), "https://shop.example.test/"); err != nil || got.Body != "x" {
		t.Errorf("an online host: %+v, %v; want its upstream", got, err)
	}
	if h := r.host(t, "blog"); h.State != "offline" {
		t.Errorf("an offline host: %+v", h)
	}
	if n := r.Status().Generation; n != 1 {
		t.Errorf("generation %d of a configuration that did not change; want 1", n)
	}
}
