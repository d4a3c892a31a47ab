package proxy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"detour/logging"
)

// page is what a client is told when there is no answer of an upstream: every
// error and decision that has a body looks like this. Title and Text may both be
// left empty where pageTexts knows the status.
type page struct {
	Status     int
	Title      string // a few calm words for people
	Text       string // a sentence or two: what happened, what to do
	Reason     string // why, in the operator's words, which may hold anything; "" = not told
	StatusPage string // URL of the host's status page; "" = none
}

// pageTexts are the words for a status, when the caller has none that are
// more to the point.
var pageTexts = map[int]struct{ title, text string }{
	http.StatusBadRequest:            {"That request makes no sense", "The request could not be understood, so it was not passed on."},
	http.StatusRequestTimeout:        {"That took too long", "The request did not arrive in time. Please try again."},
	http.StatusRequestEntityTooLarge: {"That is too large", "What was sent is larger than this service accepts. Nothing of it was kept."},
	http.StatusMisdirectedRequest:    {"No such site here", "This server does not serve a site of that name. Please check the address."},
	http.StatusNotImplemented:        {"Not a forward proxy", "This server does not open tunnels to other places."},
	http.StatusBadGateway:            {"This service is not answering", "It cannot be reached right now. That is usually over soon; please try again in a moment."},
	http.StatusServiceUnavailable:    {"Back soon", "This service is offline for the moment. Please come back a little later."},
	http.StatusGatewayTimeout:        {"This service is taking too long", "It did not answer in time. Please try again in a moment."},
}

//go:embed page.html
var pageHTML string

// pageParts are what stands around the title, the message and the footer.
var pageParts = strings.Split(pageHTML, "{}")

// writePage answers r with p as HTML, as problem details (RFC 9457) or as plain text,
// whichever Accept prefers. The page is never cached, names the request's ID in the
// log, and loads nothing from elsewhere. A HEAD gets the header alone.
func writePage(w http.ResponseWriter, r *http.Request, p page) {
	p = p.worded(isSafe(r.Method))
	id := logging.RecordFrom(w).RequestID

	h := w.Header()
	var body []byte
	switch preferredFormat(r.Header["Accept"]) {
	case formatHTML:
		body = p.html(id, isSafe(r.Method))
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
	case formatJSON:
		body = p.json(id)
		h.Set("Content-Type", "application/problem+json")
	default:
		body = p.text(id)
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	for _, of := range [...]string{"Content-Encoding", "Etag", "Last-Modified", "Accept-Ranges", "Trailer"} {
		delete(h, of) // of an answer that is not sent
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		w.Write(body) // a client that went away misses nothing
	}
}

// worded fills in the usual words if p has none. After a form "try again" would be bad
// advice if nobody knows whether the form arrived.
func (p page) worded(safe bool) page {
	if p.Title == "" {
		words := pageTexts[p.Status]
		p.Title, p.Text = words.title, words.text
		if !safe && (p.Status == http.StatusBadGateway || p.Status == http.StatusGatewayTimeout) {
			p.Text = "It gave no answer, so what you sent may or may not have arrived. Please check before you send it again."
		}
	}
	return p
}

// html is put together by hand. Only text and quoted attributes need escaping, and
// html/template would make the whole program a sixth larger, as the linker then keeps
// every method that a template might call.
func (p page) html(requestID string, retry bool) []byte {
	title := html.EscapeString(p.Title)
	var b bytes.Buffer
	b.WriteString(pageParts[0])
	b.WriteString(title)
	b.WriteString(pageParts[1])
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p>%s</p>\n", title, html.EscapeString(p.Text))
	if p.Reason != "" {
		fmt.Fprintf(&b, "<p class=\"reason\">%s</p>\n", html.EscapeString(p.Reason))
	}
	p.links(&b, retry && retryHelps(p.Status))
	b.WriteString(pageParts[2])
	fmt.Fprintf(&b, "%d %s", p.Status, http.StatusText(p.Status))
	if requestID != "" {
		fmt.Fprintf(&b, " · request <code>%s</code>", html.EscapeString(requestID))
	}
	b.WriteString(pageParts[3])
	return b.Bytes()
}

// links are where to go from the page: the status page first, if there is one.
func (p page) links(b *bytes.Buffer, retry bool) {
	if p.StatusPage == "" && !retry {
		return
	}
	class := ` class="main"` // the first one's
	b.WriteString("<nav>")
	if p.StatusPage != "" { // http or https: ParseStatusPage made it
		fmt.Fprintf(b, `<a%s href="%s">Service status</a>`, class, html.EscapeString(p.StatusPage))
		class = ""
	}
	if retry {
		fmt.Fprintf(b, `<a%s href="">Try again</a>`, class)
	}
	b.WriteString("</nav>\n")
}

// retryHelps reports whether the same request may fare better a little later.
func retryHelps(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout
}

func (p page) json(requestID string) []byte {
	body, err := json.Marshal(struct {
		Type       string `json:"type"`
		Title      string `json:"title"`
		Status     int    `json:"status"`
		Detail     string `json:"detail,omitempty"`
		Reason     string `json:"reason,omitempty"`
		RequestID  string `json:"request_id,omitempty"`
		StatusPage string `json:"status_page,omitempty"`
	}{"about:blank", http.StatusText(p.Status), p.Status, p.Text, p.Reason, requestID, p.StatusPage})
	if err != nil {
		return []byte("{}") // cannot happen: strings and a number
	}
	return append(body, '\n')
}

func (p page) text(requestID string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s\n\n%s. %s\n", p.Status, http.StatusText(p.Status), p.Title, p.Text)
	if p.Reason != "" {
		fmt.Fprintf(&b, "\nReason:  %s\n", oneLine(p.Reason))
	}
	if p.StatusPage != "" {
		fmt.Fprintf(&b, "\nStatus:  %s\n", p.StatusPage)
	}
	if requestID != "" {
		fmt.Fprintf(&b, "\nRequest: %s\n", requestID)
	}
	return b.Bytes()
}

// oneLine makes s fit for a terminal: no control characters, whose sequences it
// would obey, no invisible ones, one line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, s)
}

// isSafe reports whether method only reads (RFC 9110, 9.2.1).
func isSafe(method string) bool { return method == http.MethodGet || method == http.MethodHead }
