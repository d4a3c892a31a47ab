package proxy

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"detour/logging"
)

const (
	// BypassParameter is the query parameter of a bypass link. Access logs must
	// redact it: a link that was opened where it is worthless is still good
	// where it belongs.
	BypassParameter = "detour-bypass"
	// bypassCookie can only be set by the host itself and goes to no other
	// (RFC 6265bis, 4.1.3.2).
	bypassCookie = "__Host-detour-bypass"
)

// bypass lets the operator through to hosts that are not online. A link holds a token
// that is good once, for one host; it is exchanged for a cookie that is good until the
// link's time is over or the host is back online.
type bypass struct {
	key     []byte
	now     func() time.Time
	started time.Time

	mu   sync.Mutex             // guards used
	used map[[16]byte]time.Time // IDs of links that were opened, and until when these are good
}

func newBypass(key []byte, now func() time.Time) *bypass {
	if key == nil {
		key = make([]byte, sha256.Size)
		rand.Read(key) // never fails
	}
	return &bypass{key: key, now: now, started: now(), used: make(map[[16]byte]time.Time)}
}

// pass is what a token says.
type pass struct {
	kind   byte
	minted time.Time // of the link, in its cookie too; milliseconds
	until  time.Time
	id     [16]byte // makes each token different
}

const (
	passLink   = 'l'
	passCookie = 'c'
)

// passSize is that of a pass in binary: kind, minted, until, id.
const passSize = 1 + 8 + 8 + 16

// seal makes a token of p for host: base64url of p and an HMAC-SHA256 of host
// and p.
func (b *bypass) seal(p pass, host string) string {
	data := make([]byte, 0, passSize+sha256.Size)
	data = append(data, p.kind)
	data = binary.BigEndian.AppendUint64(data, uint64(p.minted.UnixMilli()))
	data = binary.BigEndian.AppendUint64(data, uint64(p.until.UnixMilli()))
	data = append(data, p.id[:]...)
	return base64.RawURLEncoding.EncodeToString(b.sign(data, host))
}

// sign appends the signature to data.
func (b *bypass) sign(data []byte, host string) []byte {
	mac := hmac.New(sha256.New, b.key)
	mac.Write(data) // of fixed length, so where host begins is certain
	mac.Write([]byte(host))
	return mac.Sum(data)
}

// open checks a token: it must be ours, of that kind, for host, not over, and not older
// than since, when the host stopped being online.
func (b *bypass) open(token string, kind byte, host string, since time.Time) (pass, bool) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(data) != passSize+sha256.Size {
		return pass{}, false
	}
	if !hmac.Equal(b.sign(data[:passSize:passSize], host), data) {
		return pass{}, false
	}
	p := pass{
		kind:   data[0],
		minted: time.UnixMilli(int64(binary.BigEndian.Uint64(data[1:]))),
		until:  time.UnixMilli(int64(binary.BigEndian.Uint64(data[9:]))),
		id:     [16]byte(data[17:passSize]),
	}
	return p, p.kind == kind && b.now().Before(p.until) && p.minted.UnixMilli() >= since.UnixMilli()
}

// mintTime is what a link that is made now has as its time. Even if the clock was set
// back it is never before the time by which redeem recognises old links.
func (b *bypass) mintTime(since time.Time) time.Time {
	at := b.now()
	for _, earliest := range []time.Time{since, b.started} {
		if at.Before(earliest) {
			at = earliest
		}
	}
	return at
}

// redeem exchanges a link's token for a cookie, once. Links from before the
// start are worthless: nobody remembers whether they were opened.
func (b *bypass) redeem(token, host string, since time.Time) (*http.Cookie, bool) {
	if since.Before(b.started) {
		since = b.started
	}
	p, ok := b.open(token, passLink, host, since)
	if !ok || !b.firstTime(p) {
		return nil, false
	}
	p.kind = passCookie
	rand.Read(p.id[:]) // never fails
	left := p.until.Sub(b.now())
	return &http.Cookie{
		Name:     bypassCookie,
		Value:    b.seal(p, host),
		Path:     "/",
		MaxAge:   int((left + time.Second - 1) / time.Second),
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // the link may be opened from an e-mail
	}, true
}

func (b *bypass) firstTime(p pass) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, used := b.used[p.id]; used {
		return false
	}
	now := b.now()
	for id, until := range b.used { // there are as many as links were opened lately
		if !now.Before(until) {
			delete(b.used, id)
		}
	}
	b.used[p.id] = p.until
	return true
}

// admits reports whether r carries a cookie that is good for host now.
func (b *bypass) admits(r *http.Request, host string, since time.Time) bool {
	for _, cookies := range r.Header["Cookie"] {
		if !strings.Contains(cookies, bypassCookie) {
			continue
		}
		for cookies != "" {
			var name, value string
			name, value, cookies = nextCookie(cookies)
			if name == bypassCookie {
				_, ok := b.open(value, passCookie, host, since)
				return ok
			}
		}
	}
	return false
}

// MintBypass makes a link that lets whoever opens it first through to host, a canonical
// name, until the time until or until the host is back online. The error says in words
// for an operator why there is none.
func (h *Handler) MintBypass(host string, until time.Time) (string, error) {
	t := h.table.Load()
	rt := t.Lookup(host)
	switch {
	case rt == nil:
		return "", fmt.Errorf("there is no host %q", host)
	case strings.HasPrefix(host, "*"):
		return "", fmt.Errorf("host %s stands for many names; ask for a link to one of them", host)
	case rt.Online:
		return "", fmt.Errorf("host %s is online, so there is nothing to bypass", host)
	case !h.bypass.now().Before(until):
		return "", errors.New("the link would be over before it is opened")
	}
	p := pass{kind: passLink, minted: h.bypass.mintTime(rt.Since), until: until}
	rand.Read(p.id[:]) // never fails
	return "https://" + host + t.port + "/?" + BypassParameter + "=" + h.bypass.seal(p, host), nil
}

// takeLink takes the parameter of a bypass link out of r, however often it is there, so
// that neither the upstream nor the status page sees a token. The first that is not
// empty counts; "" = there is none.
func takeLink(r *http.Request) (token string, without *http.Request) {
	target := r.RequestURI
	if target == "" { // no server made r
		target = r.URL.RequestURI()
	}
	if !strings.Contains(target, BypassParameter+"=") { // nearly always
		return "", r
	}
	path, query, _ := strings.Cut(rawTarget(r), "?")
	var kept []string
	found := false
	for parameter := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(parameter, BypassParameter+"="); ok {
			found = true
			token = cmp.Or(token, value)
		} else {
			kept = append(kept, parameter)
		}
	}
	if !found { // it is in the path, or part of another name
		return "", r
	}
	clean, u := *r, *r.URL
	u.RawQuery, u.ForceQuery = strings.Join(kept, "&"), false
	clean.URL, clean.RequestURI = &u, path
	if u.RawQuery != "" {
		clean.RequestURI += "?" + u.RawQuery
	}
	return token, &clean
}

// openLink answers a visitor who followed a bypass link: with a redirect to the address
// without the token, so that the token leaves the address bar and the history, and with
// the cookie if the token is good. r has no token any more.
func (h *Handler) openLink(w http.ResponseWriter, r *http.Request, rt *Route, rec *logging.Record, host, token string) {
	rec.Action = actionRedirect
	header := w.Header()
	// A robot that looks at the links of a chat must not use it up.
	if !rt.Online && r.Method == http.MethodGet && kindOf(r) != kindBot {
		if cookie, ok := h.bypass.redeem(token, host, rt.Since); ok {
			rec.Action = actionBypass
			header.Set("X-Detour", actionBypass)
			header.Add("Set-Cookie", cookie.String())
		}
	}
	redirectToClean(w, r, host)
}

// redirectToClean redirects to the address of r, which has no token any more.
func redirectToClean(w http.ResponseWriter, r *http.Request, host string) {
	location := "https://" + host // absolute, for a path may begin with two slashes
	if _, port, err := splitPort(r.Host); err == nil && port != "" {
		location += ":" + port
	}
	header := w.Header()
	header.Set("Location", location+requestURI(r))
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header["Content-Type"] = nil // no body, so no type to guess
	w.WriteHeader(http.StatusSeeOther)
}

// withoutBypassCookie is a request's Cookie field as the upstream gets it.
func withoutBypassCookie(fields []string) []string {
	if !slices.ContainsFunc(fields, func(cookies string) bool { return strings.Contains(cookies, bypassCookie) }) {
		return fields // nearly always
	}
	var kept []string
	for _, cookies := range fields {
		var rest []string
		for cookie := range strings.SplitSeq(cookies, ";") {
			if name, _, _ := nextCookie(cookie); name != bypassCookie {
				rest = append(rest, strings.Trim(cookie, " \t"))
			}
		}
		if len(rest) > 0 {
			kept = append(kept, strings.Join(rest, "; "))
		}
	}
	return kept
}
