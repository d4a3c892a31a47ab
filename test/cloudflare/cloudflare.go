// Package cloudflare is a stand-in for Cloudflare in tests: its v4 API as far as
// zones, TXT records and token checks go, and the authoritative name server that
// answers with those records.
package cloudflare

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a running stand-in. Its methods may be called at any time.
type Server struct {
	URL string // base of the v4 API, for CLOUDFLARE_BASE_URL
	DNS string // host:port of the authoritative name server, UDP and TCP

	mu       sync.Mutex // guards all below
	zones    []zone
	tokens   map[string]Scope
	records  []Record
	failures []Failure
	lag      time.Duration
	requests []string
	queries  int
}

// Scope is what a token may do. The zero Scope may do nothing but exist.
type Scope struct {
	ZoneRead bool
	DNSRead  bool
	DNSEdit  bool     // reading included
	Zones    []string // names of the zones it is limited to; nil = all
	Status   string   // "" = "active"
}

// Full is the scope of a token made as the documentation says.
var Full = Scope{ZoneRead: true, DNSEdit: true}

// Record is a DNS record in a zone.
type Record struct {
	ID      string    `json:"id"`
	ZoneID  string    `json:"zone_id"`
	Type    string    `json:"type"`
	Name    string    `json:"name"` // absolute, without the last dot
	Content string    `json:"content"`
	TTL     int       `json:"ttl"`
	Created time.Time `json:"created_on"`
}

// Failure is an answer that Fail puts in place of the real one.
type Failure struct {
	Method     string // only for requests of this method; "" = any
	Status     int    // 0 = carry the request out, then break the connection
	Body       string // "" = a JSON error with code 10100
	RetryAfter string
}

type zone struct{ id, name string }

// Start runs a stand-in that serves the zones until the test ends.
func Start(t testing.TB, zones ...string) *Server {
	t.Helper()
	s := &Server{tokens: map[string]Scope{}}
	for _, name := range zones {
		s.AddZone(name)
	}
	s.startDNS(t)
	api := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(api.Close)
	s.URL = api.URL + "/client/v4"
	return s
}

// AddZone makes a zone.
func (s *Server) AddZone(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = append(s.zones, zone{id: randomHex(16), name: name})
}

// Token makes a token.
func (s *Server) Token(scope Scope) string {
	token := "cf_secret_" + randomHex(15)
	s.Allow(token, scope)
	return token
}

// Allow makes token valid with scope, or changes its scope.
func (s *Server) Allow(token string, scope Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = scope
}

// Fail makes the next len(f) requests that match fail, in order.
func (s *Server) Fail(f ...Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, f...)
}

// Lag makes records visible in DNS only d after they were made.
func (s *Server) Lag(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = d
}

// Records returns the records that are there now.
func (s *Server) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// Requests returns "METHOD path" of every request since the start.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Queries returns how often the name server was asked.
func (s *Server) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	if i := slices.IndexFunc(s.failures, func(f Failure) bool { return f.Method == "" || f.Method == r.Method }); i >= 0 {
		f := s.failures[i]
		s.failures = slices.Delete(s.failures, i, i+1)
		s.fail(w, r, f)
		return
	}
	s.route(w, r)
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, f Failure) {
	if f.Status == 0 {
		s.route(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.Body == "" {
		refuse(w, f.Status, 10100, "More than 1200 requests per 300 seconds reached. Please wait and consider throttling your request speed")
		return
	}
	w.WriteHeader(f.Status)
	fmt.Fprint(w, f.Body)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" || strings.ContainsAny(token, `"{} `) {
		refuse(w, 400, 6003, "Invalid request headers", 6111)
		return
	}
	scope, known := s.tokens[token]
	if !known {
		refuse(w, 403, 9109, "Invalid access token")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/client/v4")
	if !ok {
		refuse(w, 404, 7000, "No route for that URI")
		return
	}
	if path == "/user/tokens/verify" {
		status := scope.Status
		if status == "" {
			status = "active"
		}
		answer(w, map[string]any{"id": "t", "status": status}, nil)
		return
	}
	if scope.Status != "" && scope.Status != "active" {
		refuse(w, 403, 9109, "Invalid access token")
		return
	}
	if path == "/zones" && r.Method == http.MethodGet {
		s.listZones(w, r, scope)
		return
	}
	rest, ok := strings.CutPrefix(path, "/zones/")
	id, rest, _ := strings.Cut(rest, "/")
	at := slices.IndexFunc(s.zones, func(z zone) bool { return z.id == id && scope.covers(z) })
	if !ok || at < 0 || rest != "dns_records" && !strings.HasPrefix(rest, "dns_records/") {
		refuse(w, 404, 7003, "Could not route to the zone")
		return
	}
	if !scope.DNSEdit && (!scope.DNSRead || r.Method != http.MethodGet) {
		refuse(w, 403, 10000, "Authentication error")
		return
	}
	s.serveRecords(w, r, s.zones[at], strings.TrimPrefix(strings.TrimPrefix(rest, "dns_records"), "/"))
}

func (sc Scope) covers(z zone) bool { return sc.Zones == nil || slices.Contains(sc.Zones, z.name) }

func (s *Server) listZones(w http.ResponseWriter, r *http.Request, scope Scope) {
	if !scope.ZoneRead {
		refuse(w, 403, 0, "Actor 'com.cloudflare.api.token.x' requires permission 'com.cloudflare.api.account.zone.list' to list zones")
		return
	}
	name := strings.TrimSuffix(r.URL.Query().Get("name"), ".") // libdns asks with the dot
	all := []map[string]any{}
	for _, z := range s.zones {
		if scope.covers(z) && (name == "" || name == z.name) {
			all = append(all, map[string]any{
				"id": z.id, "name": z.name, "status": "active", "type": "full",
				"name_servers": []string{s.DNS},
			})
		}
	}
	page(w, r, all, 20, 50)
}

func (s *Server) serveRecords(w http.ResponseWriter, r *http.Request, z zone, id string) {
	switch {
	case r.Method == http.MethodGet && id == "":
		q := r.URL.Query()
		found := []Record{}
		for _, rec := range s.records {
			if rec.ZoneID == z.id &&
				(q.Get("type") == "" || q.Get("type") == rec.Type) &&
				(q.Get("name") == "" || strings.TrimSuffix(q.Get("name"), ".") == rec.Name) &&
				strings.Contains(rec.Content, q.Get("content.contains")) {
				found = append(found, rec)
			}
		}
		page(w, r, found, 100, 5000)
	case r.Method == http.MethodPost && id == "":
		s.createRecord(w, r, z)
	case r.Method == http.MethodDelete:
		at := slices.IndexFunc(s.records, func(rec Record) bool { return rec.ID == id && rec.ZoneID == z.id })
		if at < 0 {
			refuse(w, 404, 81044, "Record does not exist.")
			return
		}
		rec := s.records[at]
		s.records = slices.Delete(s.records, at, at+1)
		answer(w, rec, nil)
	default:
		refuse(w, 405, 10405, "Method not allowed")
	}
}

func (s *Server) createRecord(w http.ResponseWriter, r *http.Request, z zone) {
	var rec Record
	// Not strict: libdns sends a zero created_on and an empty data.tag.
	if err := json.NewDecoder(r.Body).Decode(&rec); err != nil {
		refuse(w, 400, 9207, "Request body is invalid.")
		return
	}
	if rec.TTL != 0 && rec.TTL != 1 && rec.TTL < 60 {
		refuse(w, 400, 1004, "DNS Validation Error", 9021)
		return
	}
	rec.Name = strings.TrimSuffix(rec.Name, ".")
	if rec.Name == "@" {
		rec.Name = z.name
	} else if rec.Name != z.name && !strings.HasSuffix(rec.Name, "."+z.name) {
		rec.Name += "." + z.name
	}
	for _, other := range s.records {
		if other.ZoneID == z.id && other.Name == rec.Name && other.Type == rec.Type && other.Content == rec.Content {
			refuse(w, 400, 81058, "An identical record already exists.")
			return
		}
	}
	rec.ID, rec.ZoneID, rec.Created = randomHex(16), z.id, time.Now()
	s.records = append(s.records, rec)
	answer(w, rec, nil)
}

// page answers with the part of all that the request asks for.
func page[T any](w http.ResponseWriter, r *http.Request, all []T, usual, most int) {
	number := max(1, atoi(r.URL.Query().Get("page")))
	per := atoi(r.URL.Query().Get("per_page"))
	if per == 0 {
		per = usual
	}
	per = min(per, most)
	first := min(len(all), (number-1)*per)
	part := all[first:min(len(all), first+per)]
	answer(w, part, map[string]int{
		"page": number, "per_page": per, "count": len(part), "total_count": len(all), "total_pages": (len(all) + per - 1) / per,
	})
}

func answer(w http.ResponseWriter, result any, info map[string]int) {
	reply(w, 200, map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": result, "result_info": info})
}

func refuse(w http.ResponseWriter, status, code int, message string, chain ...int) {
	problem := map[string]any{"code": code, "message": message}
	if len(chain) > 0 {
		problem["error_chain"] = []any{map[string]any{"code": chain[0], "message": "Invalid format"}}
	}
	reply(w, status, map[string]any{"success": false, "errors": []any{problem}, "messages": []any{}, "result": nil})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client has gone
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
