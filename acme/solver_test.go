package acme

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// records is as much of Cloudflare's API as a TXT record's life needs; the
// whole stand-in lives in the test module.
type records struct {
	mu   sync.Mutex
	all  map[string]string // content by id
	deaf bool              // looking records up fails
}

func (r *records) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var result any = []any{}
	_, id, _ := strings.Cut(q.URL.Path, "/dns_records/")
	switch {
	case strings.HasSuffix(q.URL.Path, "/zones"):
		result = []zone{{ID: "z", Name: "example.test"}}
	case q.Method == http.MethodPost:
		var rec struct{ Content string }
		json.NewDecoder(q.Body).Decode(&rec) // an empty one is seen below
		id := fmt.Sprint(len(r.all) + 1)
		r.all[id] = rec.Content
		result = map[string]any{"id": id, "type": "TXT", "name": "x", "content": rec.Content, "ttl": 60}
	case q.Method == http.MethodDelete:
		result = map[string]any{"id": id, "type": "TXT", "name": "x", "content": r.all[id], "ttl": 60}
		delete(r.all, id)
	case r.deaf:
		say(403, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`)(w, q)
		return
	default:
		found := []any{}
		for id, content := range r.all {
			if strings.Contains(content, q.URL.Query().Get("content.contains")) {
				found = append(found, map[string]any{"id": id, "type": "TXT", "name": "x", "content": content, "ttl": 60})
			}
		}
		result = found
	}
	json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []any{}, "result": result}) // the client sees it
}

func (r *records) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

func TestSweepRemovesOrphans(t *testing.T) {
	t.Parallel()
	cf := &records{all: map[string]string{"9": `"somebody else's"`}}
	api, _ := apiServer(t, cf.ServeHTTP)
	st := newStorage(t.TempDir())
	s := newSolver(api, st, slog.New(slog.DiscardHandler))
	s.use(func() (string, error) { return secretToken, nil }, nil)
	challenge := acme.Challenge{Type: "dns-01", Identifier: acme.Identifier{Type: "dns", Value: "blog.example.test"}, KeyAuthorization: "a.b"}
	if err := s.Present(t.Context(), challenge); err != nil {
		t.Fatal(err)
	}
	if got := cf.count(); got != 2 {
		t.Fatalf("records = %d; want 2", got)
	}
	// As after a crash: another solver, the same storage.
	s = newSolver(api, st, slog.New(slog.DiscardHandler))
	s.use(func() (string, error) { return secretToken, nil }, nil)
	if err := s.sweep(t.Context(), time.Hour); err != nil || cf.count() != 2 {
		t.Errorf("sweep = %v, %d records; want the young record kept", err, cf.count())
	}
	cf.deaf = true
	if err := s.sweep(t.Context(), 0); err == nil {
		t.Error("sweep succeeded though the records could not be looked up; want an error")
	}
	cf.deaf = false
	if err := s.sweep(t.Context(), 0); err != nil || cf.count() != 1 {
		t.Errorf("sweep = %v, %d records; want only the other's left", err, cf.count())
	}
	left, err := st.List(t.Context(), journal, false)
	if err != nil || len(left) != 0 {
		t.Errorf("journal = %v, %v; want it empty", left, err)
	}
	if err := s.sweep(t.Context(), 0); err != nil || cf.count() != 1 {
		t.Errorf("second sweep = %v, %d records; want nothing to do", err, cf.count())
	}
}

func TestZoneErrors(t *testing.T) {
	t.Parallel()
	cf := &records{all: map[string]string{}}
	api, calls := apiServer(t, cf.ServeHTTP)
	s := newSolver(api, newStorage(t.TempDir()), slog.New(slog.DiscardHandler))
	if _, _, err := s.zone(t.Context(), "example.test"); err == nil {
		t.Error("zone without a token succeeded; want an error")
	}
	s.use(func() (string, error) { return secretToken, nil }, nil)
	for range 3 {
		if _, z, err := s.zone(t.Context(), "a.b.example.test"); err != nil || z.ID != "z" {
			t.Errorf("zone = %v, %v; want z", z, err)
		}
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("requests = %d; want one for all", got)
	}
	if _, _, err := s.zone(t.Context(), "example.org"); err == nil || !strings.Contains(err.Error(), "sees only example.test") {
		t.Errorf("zone of a stranger = %v; want what the token sees", err)
	}
}
