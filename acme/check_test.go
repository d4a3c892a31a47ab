package acme

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever was not asked has not found fault with the token.
func TestCheckTokenWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	server := func(answer http.HandlerFunc) string {
		s := httptest.NewServer(answer)
		t.Cleanup(s.Close)
		return s.URL
	}
	busy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "31") // more than it is waited for
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	tests := []struct {
		name, base string
		unasked    bool
		want       string
	}{
		{"no such name", "http://a..b", true, "cannot look up a..b"}, // no resolver is asked for what is no name
		{"hotel", server(say(200, "<html><title>Log in to the hotel</title>")), true, "login page of the network"},
		{"broken down", server(busy), true, "a problem of its own"},
		{"lost on the way", server(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.Contains(r.URL.Path, "dns_records"):
				busy(w, r)
			case strings.HasSuffix(r.URL.Path, "/zones"):
				say(200, `{"success":true,"result":[{"id":"z","name":"example.test"}]}`)(w, r)
			default:
				say(200, `{"success":true,"result":{"status":"active"}}`)(w, r)
			}
		}), true, "zone example.test: "},
		{"too many questions", server(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodDelete:
				w.Header().Set("Retry-After", "31") // more than it is waited for
				say(429, `{"success":false,"errors":[{"code":971,"message":"x"}]}`)(w, r)
			case strings.HasSuffix(r.URL.Path, "/verify"):
				say(200, `{"success":true,"result":{"status":"active"}}`)(w, r)
			default:
				say(200, `{"success":true,"result":[{"id":"z","name":"example.test"}]}`)(w, r)
			}
		}), true, "limits how often"},
		{"an account's token, and broken down", server(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/zones") {
				busy(w, r)
				return
			}
			say(403, `{"success":false,"errors":[{"code":9109,"message":"x"}]}`)(w, r)
		}), true, "a problem of its own"},
		{"refusal", server(say(403, `{"success":false,"errors":[{"code":9109,"message":"x"}]}`)), false, "token is not valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := CheckToken(t.Context(), secretToken, tt.base, []string{"blog.example.test"})
			if errors.Is(err, ErrUnasked) != tt.unasked || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CheckToken() = %v; want %q, unasked: %t", err, tt.want, tt.unasked)
			}
		})
	}
}
