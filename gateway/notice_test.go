package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour/config"
	"detour/control"
	"detour/notify"
)

// The operator hears when hosts go and come back and why, once each.
func TestNotices(t *testing.T) {
	t.Parallel()
	notices := make(chan notify.Notice, 100)
	to := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		var n notify.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("a notice cannot be read: %v", err)
		}
		notices <- n
	})
	now := time.Now()
	r := start(t, window("planned", now.Add(4*time.Second), now.Add(6*time.Second), `reason = "line one\nline <two>"`)+fmt.Sprintf(`
[notify]
url = "http://%s"
format = "json"
forgotten_after = "2s"
[hosts]
shop    = { upstream = %[2]q }
planned = { upstream = %[2]q }
`, to, says(t, "shop")))

	var got []notify.Notice
	hears := func(event, host string) notify.Notice {
		t.Helper()
		deadline := time.After(15 * time.Second)
		for {
			for i, n := range got {
				if n.Event == event && n.Host == host+".example.test" {
					got = append(got[:i], got[i+1:]...)
					return n
				}
			}
			select {
			case n := <-notices:
				got = append(got, n)
			case <-deadline:
				t.Fatalf("no notice %q of %s; there are %+v", event, host, got)
			}
		}
	}
	if _, err := config.SetOnlineFile(r.config, []string{"shop"}, false); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	if n := hears("offline", "shop"); n.Cause != "flag" || n.Text != "shop.example.test is offline: the operator took it offline" {
		t.Errorf("shop's notice is %+v", n)
	}
	n := hears("offline", "planned")
	if n.Cause != "window" || n.Reason != "line one\nline <two>" || n.Until.IsZero() || !strings.HasSuffix(n.Text, " (line one line <two>)") {
		t.Errorf("planned's notice is %+v; want cause, reason, end, and one line of text", n)
	}
	hears("online", "planned")
	if n := hears("forgotten", "shop"); !strings.Contains(n.Text, "forgotten?") {
		t.Errorf("the reminder is %+v", n)
	}
	if _, err := config.SetOnlineFile(r.config, []string{"shop"}, true); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	hears("online", "shop")
	for _, n := range got {
		if n.Event != "forgotten" { // which is told again and again
			t.Errorf("more was told: %+v", n)
		}
	}
}

// A server of notices that hangs delays nothing: not a flip, not the end.
func TestNoticesToAServerThatHangs(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{}, 100)
	to := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else the end of the connection goes unnoticed
		hung <- struct{}{}
		<-r.Context().Done()
	})
	r := start(t, fmt.Sprintf("[notify]\nurl = \"http://%s\"\n[hosts]\nshop = { upstream = %q }\n", to, says(t, "shop")))
	client := r.client(t, "h2")
	began := time.Now()
	for i := range 20 {
		if _, err := config.SetOnlineFile(r.config, []string{"shop"}, i%2 == 1); err != nil {
			t.Fatal(err)
		}
		r.Reload(control.ReloadOptions{})
		if _, err := get(t.Context(), client, "https://shop.example.test/"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 10*time.Second { // what one notice is given
		t.Errorf("20 flips took %s", took)
	}
	receive(t, "a notice", hung)
	began = time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v; want nil", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the end took %s", took)
	}
}
