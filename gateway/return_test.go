package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// At a window's end only what the upstream says then counts: it was well a
// moment before, and is being restarted now.
func TestReturnNeedsAFreshAnswer(t *testing.T) {
	t.Parallel()
	up := newStoppable(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	now := time.Now()
	until := now.Add(5 * time.Second) // for a slow machine to ask before it
	r := start(t, window("shop", now.Add(-time.Hour), until, "")+fmt.Sprintf(`
[hosts]
shop = { upstream = %q, auto_offline = true, health = { interval = "1s", timeout = "1s" } }
`, up.addr))
	eventually(t, "the upstream is found to be well", func() bool { return r.host(t, "shop").Health == "healthy" })
	up.stop()

	r.becomes(t, "shop", "offline", "overran")
	if got, err := get(t.Context(), r.client(t, "h2"), "https://shop.example.test/"); err != nil || !strings.HasPrefix(got.Location, "https://status.example.net/") {
		t.Errorf("after the window: %+v, %v; want the status page, as the upstream is down", got, err)
	}
	up.start(t)
	r.becomes(t, "shop", "online", "")
}
