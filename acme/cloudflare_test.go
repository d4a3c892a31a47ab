package acme

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const secretToken = "cf_secret_0123456789abcdef"

// apiServer answers with the handlers in turn, the last one again and again.
func apiServer(t *testing.T, handlers ...http.HandlerFunc) (*apiClient, *atomic.Int64) {
	t.Helper()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		handlers[min(n, len(handlers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	c, err := newAPIClient(server.URL + "/client/v4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c, &calls
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body) // the client sees it
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const okAnswer = `{"success":true,"errors":[],"result":[]}`

func TestAPIRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		method   string
		handlers []http.HandlerFunc
		calls    int64
		ok       bool
	}{
		{"success", "GET", []http.HandlerFunc{say(200, okAnswer)}, 1, true},
		{"429", "GET", []http.HandlerFunc{say(429, "error code: 1015"), say(200, okAnswer)}, 2, true},
		{"503 on POST", "POST", []http.HandlerFunc{say(503, "<html>"), say(200, okAnswer)}, 2, true},
		{"broken connection on GET", "GET", []http.HandlerFunc{hangUp, say(200, okAnswer)}, 2, true},
		{"broken connection on POST", "POST", []http.HandlerFunc{hangUp, say(200, okAnswer)}, 1, false},
		{"403 is final", "GET", []http.HandlerFunc{say(403, `{"success":false,"errors":[{"code":9109,"message":"x"}]}`), say(200, okAnswer)}, 1, false},
		{"web page with 200", "GET", []http.HandlerFunc{say(200, "<html><title>Log in to the hotel</title>")}, 1, false},
		{"patience has an end", "GET", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "31")
			w.WriteHeader(429)
		}}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, calls := apiServer(t, tt.handlers...)
			req, err := http.NewRequestWithContext(t.Context(), tt.method, publicAPI+"/zones?a=b", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if (err == nil) != tt.ok {
				t.Errorf("Do = %v; want success %v", err, tt.ok)
			}
			if err == nil {
				if body, _ := io.ReadAll(resp.Body); string(body) != okAnswer {
					t.Errorf("body = %q; want %q", body, okAnswer)
				}
			}
			if got := calls.Load(); got != tt.calls {
				t.Errorf("requests = %d; want %d", got, tt.calls)
			}
		})
	}
}

func TestAPIPathAndToken(t *testing.T) {
	t.Parallel()
	c, _ := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/client/v4/zones" || r.Header.Get("Authorization") != "Bearer "+secretToken {
			t.Errorf("request for %s", r.URL)
		}
		say(403, fmt.Sprintf(`{"errors":[{"code":9109,"message":"token %s is bad"}]}`, secretToken))(w, r)
	})
	_, err := c.zones(t.Context(), secretToken)
	if err == nil || strings.Contains(err.Error(), secretToken) {
		t.Errorf("zones = %v; want an error without the token", err)
	}
	if got := explain(err); !strings.Contains(got, "token is not valid") || strings.Contains(got, secretToken) {
		t.Errorf("explain = %q; want an explanation without the token", got)
	}
}

func TestZonesPaging(t *testing.T) {
	t.Parallel()
	c, calls := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		page := r.URL.Query().Get("page")
		fmt.Fprintf(w, `{"success":true,"result":[{"id":"z%s","name":"zone%s.test"}],"result_info":{"total_pages":3}}`, page, page)
	})
	zones, err := c.zones(t.Context(), secretToken)
	if err != nil || len(zones) != 3 || zones[2].Name != "zone3.test" || calls.Load() != 3 {
		t.Errorf("zones = %v, %v in %d requests; want three of three pages", zones, err, calls.Load())
	}
}

func TestZoneOf(t *testing.T) {
	t.Parallel()
	zones := []zone{{Name: "example.test"}, {Name: "home.example.test"}, {Name: "test.org"}}
	for name, want := range map[string]string{
		"example.test":             "example.test",
		"blog.example.test":        "example.test",
		"a.home.example.test":      "home.example.test",
		"notexample.test":          "",
		"_acme-challenge.test.org": "test.org",
		"com":                      "",
	} {
		if got, _ := zoneOf(name, zones); got.Name != want {
			t.Errorf("zoneOf(%q) = %q; want %q", name, got.Name, want)
		}
	}
}

func TestContextEndsRetries(t *testing.T) {
	t.Parallel()
	c, _ := apiServer(t, say(503, "no"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.zones(ctx, secretToken); err == nil {
		t.Error("zones succeeded; want an error")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s after the context's end; want at once", took)
	}
}

// TestGuard: libdns divides by what a bad answer leaves out.
func TestGuard(t *testing.T) {
	t.Parallel()
	err := guard(func() error {
		var missing *struct{ PerPage int }
		_ = missing.PerPage
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "understand Cloudflare's answer") {
		t.Errorf("guard = %v; want an error for a panic", err)
	}
	if err := guard(func() error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("guard = %v; want what the function returned", err)
	}
}

func FuzzReadAPIError(f *testing.F) {
	f.Add(200, []byte(okAnswer))
	f.Add(403, []byte(`{"errors":[{"code":1004,"message":"x","error_chain":[{"code":9021}]}]}`))
	f.Add(502, []byte("<html><title>Bad\n Gateway</title>"))
	f.Add(200, []byte{0xff})
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := readAPIError(status, body)
		if e == nil {
			if status >= 400 {
				t.Errorf("readAPIError(%d, %q) = nil; want an error", status, body)
			}
			return
		}
		if text := e.explain(); text == "" || strings.ContainsAny(text, "\n\r") || len(text) > 1000 {
			t.Errorf("explain = %q; want one line", text)
		}
	})
}
