package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"detour/logging"
)

// pageFor answers a request that accepts accept with p.
func pageFor(t testing.TB, method, accept string, p page) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, "/", nil)
	r.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	writePage(rec, r, p)
	body, _ := io.ReadAll(rec.Result().Body)
	return rec.Result(), string(body)
}

// Nothing that comes from elsewhere can add an element, an attribute with
// code, or a line.
func TestPageEscapes(t *testing.T) {
	evil := page{
		Status:     502,
		Title:      `</title><script>alert(1)</script>`,
		Text:       `"><img src=x onerror=alert(1)>`,
		StatusPage: `https://status.example/"onclick="alert(1)?<b>`,
	}
	_, body := pageFor(t, "GET", "text/html", evil)
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "b", "link", "iframe":
			t.Errorf("the page has a <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "style" {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
			if a.Key == "href" && a.Val != "" && !strings.HasPrefix(a.Val, "https://status.example/") {
				t.Errorf("a link goes to %q", a.Val)
			}
		}
	}
	_, body = pageFor(t, "GET", "application/json", evil)
	var got struct{ Detail string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Detail != evil.Text {
		t.Errorf("JSON %q: %v; want detail %q", body, err, evil.Text)
	}
}

func TestPageWords(t *testing.T) {
	for status := range pageTexts {
		for _, accept := range []string{"text/html", "application/json", "*/*"} {
			res, body := pageFor(t, "GET", accept, page{Status: status, StatusPage: "https://status.example/"})
			if res.StatusCode != status || !strings.Contains(html.UnescapeString(body), pageTexts[status].text) || !strings.Contains(body, "https://status.example/") {
				t.Errorf("%d as %s = %d %q; want its words and the status page", status, accept, res.StatusCode, body)
			}
		}
	}
}

// Nobody is told to send a form twice that may have arrived.
func TestPageAfterForm(t *testing.T) {
	for status, want := range map[int]bool{502: true, 504: true, 503: false, 413: false} {
		_, body := pageFor(t, "POST", "text/plain", page{Status: status})
		if got := strings.Contains(body, "may or may not have arrived"); got != want {
			t.Errorf("page of %d after a POST = %q; doubt = %v; want %v", status, body, got, want)
		}
	}
}

// Every failure that is answered has words.
func TestFailuresHaveWords(t *testing.T) {
	for _, err := range []error{
		errMalformed, errNotServed, errPlainConnect, errBodyTooLarge, errClientBody, errClientSlow, errStopping, errCut, errStopped,
		errNoConnection, errNotTaken, io.ErrUnexpectedEOF, context.DeadlineExceeded,
	} {
		rec := httptest.NewRecorder()
		fail(rec, httptest.NewRequest("GET", "/", nil), &Route{Stats: new(Stats)}, new(logging.Record), err)
		body := rec.Body.String()
		if title, text, _ := strings.Cut(body[strings.Index(body, "\n\n")+2:], ". "); title == "" || len(text) < 10 {
			t.Errorf("%v: page %q; want a title and what happened", err, body)
		}
	}
}

// Trying again is offered where it may help and does not send a form twice.
func TestPageOffersRetry(t *testing.T) {
	for _, tt := range []struct {
		method string
		status int
		want   bool
	}{
		{"GET", 502, true}, {"GET", 504, true}, {"GET", 421, false}, {"GET", 413, false}, {"POST", 502, false},
	} {
		_, body := pageFor(t, tt.method, "text/html", page{Status: tt.status})
		if got := strings.Contains(body, "Try again</a>"); got != tt.want {
			t.Errorf("%s %d offers to try again = %v; want %v", tt.method, tt.status, got, tt.want)
		}
	}
}

func TestPageHeader(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	rec := httptest.NewRecorder()
	for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified", "Accept-Ranges"} {
		rec.Header().Set(name, "of another answer")
	}
	writePage(rec, r, page{Status: 502})
	h := rec.Result().Header
	if len(h) != 4 || h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") == "" {
		t.Errorf("header = %v; want only the page's own", h)
	}
}

// HEAD says the length and sends nothing, on every protocol.
func TestPageHead(t *testing.T) {
	e := serve(t, usual(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writePage(w, r, page{Status: http.StatusBadGateway})
	}))
	eachProtocol(t, e, func(t *testing.T, c *http.Client, url string) {
		g, body := get(t, c, url)
		h, none := do(t, c, newRequest(t, "HEAD", url, nil))
		if none != "" || h.StatusCode != 502 || h.ContentLength != int64(len(body)) || g.ContentLength != h.ContentLength {
			t.Errorf("HEAD = %d, length %d, %q; want 502, length %d, nothing", h.StatusCode, h.ContentLength, none, len(body))
		}
	})
}
