// Package pebble runs Let's Encrypt's test authority inside a test.
package pebble

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/x509"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Server is a running authority.
type Server struct {
	Directory string         // ACME directory URL
	RootFile  string         // PEM of the root of the directory's own certificate
	Roots     *x509.CertPool // what the issued certificates lead to

	orders atomic.Int64
	down   atomic.Bool
}

// Options of a Server; the zero value is fine.
type Options struct {
	DNS      string            // host:port of the name server that validation asks
	Validity time.Duration     // of the certificates; 0 = 90 days
	EAB      map[string]string // key ids and base64url keys; not empty = required
	Blocked  []string          // domains it refuses to issue for
}

// Pebble is told by the environment not to misbehave: no random sleeps, no
// rejected nonces, and a challenge for every order.
var quiet = sync.OnceFunc(func() {
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	os.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	os.Setenv("PEBBLE_AUTHZREUSE", "0")
})

// Start runs an authority until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	quiet()
	if o.Validity == 0 {
		o.Validity = 90 * 24 * time.Hour
	}
	silent := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for id, key := range o.EAB {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range o.Blocked {
		if err := store.AddBlockedDomain(name); err != nil {
			t.Fatal(err)
		}
	}
	authority := ca.New(silent, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "only one", ValidityPeriod: uint64(o.Validity / time.Second)},
	})
	// The ports are for other challenges than DNS; nobody listens there.
	validation := va.New(silent, 5002, 5001, false, o.DNS, store)
	front := wfe.New(silent, store, validation, authority, nil, false, len(o.EAB) > 0, 0, 0)

	s := &Server{Roots: x509.NewCertPool()}
	handler := front.Handler()
	// One request at a time: Pebble's handlers take the locks of an order, an
	// authorization and the store in different orders and can wait for each
	// other for ever.
	var alone sync.Mutex
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			http.Error(w, "down for maintenance", http.StatusServiceUnavailable)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/order-plz") {
			s.orders.Add(1)
		}
		alone.Lock()
		defer alone.Unlock()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.Directory = server.URL + wfe.DirectoryPath
	s.RootFile = filepath.Join(t.TempDir(), "directory-root.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(s.RootFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM())
	return s
}

// Orders returns how many orders were placed.
func (s *Server) Orders() int { return int(s.orders.Load()) }

// Down makes the authority answer 503 to everything, or work again.
func (s *Server) Down(down bool) { s.down.Store(down) }
