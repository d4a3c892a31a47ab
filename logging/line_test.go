package logging

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func testLine() *line {
	r := httptest.NewRequest("GET", "/a?b=1", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Host = "blog.udance.com.au"
	r.RemoteAddr = "192.0.2.9:51234"
	r.Header = http.Header{
		"User-Agent": {"curl/8"}, "Cookie": {"a=b", "c=d"}, "Accept": {"*/*"},
	}
	r.TLS = &tls.ConnectionState{Version: 772, CipherSuite: 4865, NegotiatedProtocol: "h2", ServerName: "blog.udance.com.au"}
	return &line{
		sink:      newSink(nil, SinkOptions{Name: "blog", RedactQuery: []string{"token", "access_token", "key", "password", "code"}}),
		request:   r,
		header:    http.Header{"Content-Encoding": {"gzip"}, "Set-Cookie": {"x=y"}},
		record:    &Record{Action: "proxy", Upstream: "10.1.1.4:80", RequestID: "01J"},
		status:    200,
		size:      5120,
		time:      time.Unix(1724294246, 123456700),
		duration:  12300 * time.Microsecond,
		bytesRead: 0,
	}
}

func TestLineIsCaddys(t *testing.T) {
	want := `{"level":"info","ts":1724294246.1234567,"logger":"http.log.access.blog","msg":"handled request",` +
		`"request":{"remote_ip":"192.0.2.9","remote_port":"51234","client_ip":"192.0.2.9","proto":"HTTP/2.0","method":"GET",` +
		`"host":"blog.udance.com.au","uri":"/a?b=1","headers":{"Accept":["*/*"],"Cookie":["REDACTED"],"User-Agent":["curl/8"]},` +
		`"tls":{"resumed":false,"version":772,"cipher_suite":4865,"proto":"h2","server_name":"blog.udance.com.au","ech":false}},` +
		`"bytes_read":0,"user_id":"","duration":0.0123,"size":5120,"status":200,` +
		`"resp_headers":{"Content-Encoding":["gzip"],"Set-Cookie":["REDACTED"]},` +
		`"action":"proxy","upstream":"10.1.1.4:80","request_id":"01J"}` + "\n"
	if got := sortHeaders(t, testLine().append(nil)); got != want {
		t.Errorf("line = %s\nwant   %s", got, want)
	}

	l := testLine()
	l.request.TLS = nil
	l.status = 502
	l.connection = "closed"
	l.record = &Record{ClientIP: "2001:db8::1"}
	l.err = `Get "http://10.1.1.4/?key=secret": refused`
	l.request.RemoteAddr = "[2001:db8::2]:443"
	l.request.Header, l.header = nil, nil
	want = `{"level":"error","ts":1724294246.1234567,"logger":"http.log.access.blog","msg":"handled request",` +
		`"request":{"remote_ip":"2001:db8::2","remote_port":"443","client_ip":"2001:db8::1","proto":"HTTP/2.0","method":"GET",` +
		`"host":"blog.udance.com.au","uri":"/a?b=1","headers":{}},` +
		`"bytes_read":0,"user_id":"","duration":0.0123,"size":5120,"status":502,"resp_headers":{},` +
		`"connection":"closed","error":"Get \"http://10.1.1.4/?key=REDACTED\": refused"}` + "\n"
	if got := string(l.append(nil)); got != want {
		t.Errorf("line = %s\nwant   %s", got, want)
	}
}

// sortHeaders returns the line with its headers in the order of their names.
func sortHeaders(t *testing.T, line []byte) string {
	t.Helper()
	objects := regexp.MustCompile(`headers":\{[^}]*\}`)
	return string(objects.ReplaceAllFunc(line, func(object []byte) []byte {
		key, value, _ := bytes.Cut(object, []byte(":"))
		var headers map[string][]string
		if err := json.Unmarshal(value, &headers); err != nil {
			t.Fatal(err)
		}
		sorted, err := json.Marshal(headers)
		if err != nil {
			t.Fatal(err)
		}
		return append(append(key, ':'), sorted...)
	}))
}

func TestAppendSeconds(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0.0"},
		{time.Nanosecond, "0.000000001"},
		{1500 * time.Millisecond, "1.5"},
		{time.Hour, "3600.0"},
		{12 * time.Microsecond, "0.000012"},
	} {
		if got := string(appendSeconds(nil, int64(tt.d/time.Second), int(tt.d%time.Second))); got != tt.want {
			t.Errorf("appendSeconds(%v) = %s; want %s", tt.d, got, tt.want)
		}
	}
}

func TestSplitAddr(t *testing.T) {
	for _, tt := range []struct{ in, ip, port string }{
		{"192.0.2.1:80", "192.0.2.1", "80"},
		{"[::1]:443", "::1", "443"},
		{"[fe80::1%eth0]:443", "fe80::1%eth0", "443"},
		{"@", "@", ""},
		{"", "", ""},
	} {
		if ip, port := splitAddr(tt.in); ip != tt.ip || port != tt.port {
			t.Errorf("splitAddr(%q) = %q, %q; want %q, %q", tt.in, ip, port, tt.ip, tt.port)
		}
	}
}

func TestRedact(t *testing.T) {
	r := newRedactor([]string{"token", "Access_Token", "code", ""})
	for _, tt := range []struct{ in, want string }{
		{"/", "/"},
		{"/token=x", "/token=x"},
		{"/?token=x", "/?token=REDACTED"},
		{"/?token=", "/?token=REDACTED"},
		{"/?token", "/?token"},
		{"/?", "/?"},
		{"/?a=1&token=x&b=%2F&&c", "/?a=1&token=REDACTED&b=%2F&&c"},
		{"/?TOKEN=x&ToKeN=y", "/?TOKEN=REDACTED&ToKeN=REDACTED"},
		{"/?%74oken=x", "/?%74oken=REDACTED"},
		{"/?access%5Ftoken=x&access%5ftoken=y", "/?access%5Ftoken=REDACTED&access%5ftoken=REDACTED"},
		{"/?%zzoken=x&%7=y", "/?%zzoken=x&%7=y"},
		{"/?tokens=x&xtoken=x&oken=x", "/?tokens=x&xtoken=x&oken=x"},
		{"/?a=token=x", "/?a=token=x"},
		{"/?a=1;token=x;y", "/?a=1;token=REDACTED"},
		{"/?token=a=b?c#d", "/?token=REDACTED#d"},
		{"/?next=/b?token=x", "/?next=/b?token=REDACTED"},
		{"https://a.example/cb#access_token=x&state=y", "https://a.example/cb#access_token=REDACTED&state=y"},
		{`<https://s.example/?token=x>; rel="status"`, `<https://s.example/?token=REDACTED>; rel="status"`},
		{"//x?token=\xff&é=\u2028", "//x?token=REDACTED&é=\u2028"},
		{"/?code=1", "/?code=REDACTED"},
		{"*", "*"},
	} {
		var got string
		if b := r.append(nil, tt.in, maxURI); json.Unmarshal(b, &got) != nil || got != tt.want {
			t.Errorf("redact(%q) = %s; want %q", tt.in, b, tt.want)
		}
	}
}

func TestLineHasABound(t *testing.T) {
	l := testLine()
	nasty := strings.Repeat("\x01", 8<<20)
	l.request.RequestURI = "/" + nasty + "?token=" + nasty
	l.request.Header = http.Header{"A": {nasty}, "B": {nasty}, nasty: {"x"}}
	l.header = http.Header{"A": make([]string, 1<<20)}
	l.record, l.err = &Record{Action: nasty}, nasty
	b := l.append(nil)
	if len(b) > maxPending/2 || !json.Valid(b) {
		t.Errorf("line of %d bytes, valid = %v; want at most %d", len(b), json.Valid(b), maxPending/2)
	}
}

// Of a field that does not fit only the name is there; the others are whole,
// whichever comes first.
func TestLineLosesOnlyWhatDoesNotFit(t *testing.T) {
	l := testLine()
	l.header = http.Header{"Long": {strings.Repeat("x", maxHeaders)}}
	for i := range 20 {
		l.header["Field-"+strconv.Itoa(i)] = []string{"v"}
	}
	for range 10 { // the order is another one each time
		var got struct {
			Headers http.Header `json:"resp_headers"`
		}
		if err := json.Unmarshal(l.append(nil), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Headers) != 21 || got.Headers.Get("Long") != "OMITTED" || got.Headers.Get("Field-7") != "v" {
			t.Fatalf("%d fields, Long = %.20q; want all, and OMITTED for what does not fit", len(got.Headers), got.Headers["Long"])
		}
	}
}

// HPACK makes a large head of a few bytes, and so must not make a large line of
// them: that would rotate away what others did. What applications send stays.
func TestLineOfAnExpandedHead(t *testing.T) {
	l := testLine()
	l.request.Header["X-Again"] = slices.Repeat([]string{strings.Repeat("x", 4000)}, 14)
	if n := len(l.append(nil)); n > 20<<10 {
		t.Errorf("line of %d bytes; want at most 20 KiB", n)
	}
	l.request.Header = http.Header{}
	for i := range 500 {
		l.request.Header["X-"+strings.Repeat("x", 100)+strconv.Itoa(i)] = []string{"v"}
	}
	if n := len(l.append(nil)); n > 20<<10 {
		t.Errorf("line of %d bytes for many names; want at most 20 KiB", n)
	}
	token, policy := strings.Repeat("t", 8<<10), strings.Repeat("p", 4<<10)
	l.request.Header = http.Header{"X-Token": {token}, "Cookie": {strings.Repeat("c", 8<<10)}, "X-Policy": {policy}}
	if b := l.append(nil); !bytes.Contains(b, []byte(token)) || !bytes.Contains(b, []byte(policy)) {
		t.Errorf("line %.300q; want it with all of a token of 8 KiB and a field of 4 KiB", b)
	}
}

// Whatever bytes a client or an upstream sends, a line is one valid JSON object
// on one line that says what encoding/json would say.
func FuzzLine(f *testing.F) {
	f.Add("/a?token=x", "X-A", "v", "oh", true)
	f.Add("/\xff\xc3\x28?%74oken=\u2028&\"", "\x00\n\r\t\u2029", "\xed\xa0\x80\xf4\x90\x80\x80", "a\u0085b\x7f\u009b", false)
	f.Add("?#;&=token=", "Location", "https://x/?key=\\", "\xe2\x80", true)
	f.Fuzz(func(t *testing.T, uri, name, value, text string, redact bool) {
		l := testLine()
		if !redact {
			l.sink = newSink(nil, SinkOptions{})
		}
		l.request.RequestURI = uri
		l.request.Host, l.request.Method = text, value
		l.request.Header = http.Header{name: {value, value}}
		l.header = http.Header{name: {text}, value: nil}
		l.record, l.err = &Record{Action: name}, text
		b := l.append(nil)

		if bytes.IndexByte(b, '\n') != len(b)-1 || !json.Valid(b) || !utf8.Valid(b) {
			t.Fatalf("not one line of valid JSON: %q", b)
		}
		for _, c := range b[:len(b)-1] {
			if c < 0x20 || c == 0x7f {
				t.Fatalf("control byte %#x in %q", c, b)
			}
		}
		if bytes.Contains(b, []byte("\u2028")) || bytes.Contains(b, []byte("\u2029")) {
			t.Fatalf("line separator in %q", b)
		}
		var got struct {
			Request struct {
				Method, Host string
				Headers      map[string][]string
			}
			Action string
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if 6*max(len(name), len(value), len(text)) > maxText {
			return // cut off
		}
		for _, pair := range [][2]string{{got.Request.Method, value}, {got.Request.Host, text}} {
			if want := asJSONKeeps(pair[1]); pair[0] != want {
				t.Errorf("decoded %q; want %q", pair[0], want)
			}
		}
		if !redact && got.Action != asJSONKeeps(name) {
			t.Errorf("decoded %q; want %q", got.Action, asJSONKeeps(name))
		}
	})
}

// asJSONKeeps is s after a way through encoding/json.
func asJSONKeeps(s string) string {
	b, _ := json.Marshal(s)
	var out string
	_ = json.Unmarshal(b, &out)
	return out
}

// browser is what a browser sends and an upstream answers.
func browser() (*http.Request, http.Header) {
	r := testLine().request
	r.Header = http.Header{
		"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
		"Accept-Encoding":           {"gzip, deflate, br, zstd"},
		"Accept-Language":           {"en-AU,en;q=0.9"},
		"Cookie":                    {"session=0123456789abcdef0123456789abcdef"},
		"Priority":                  {"u=0, i"},
		"Referer":                   {"https://blog.udance.com.au/archive?page=2"},
		"Sec-Ch-Ua":                 {`"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"`},
		"Sec-Ch-Ua-Mobile":          {"?0"},
		"Sec-Ch-Ua-Platform":        {`"Linux"`},
		"Sec-Fetch-Dest":            {"document"},
		"Sec-Fetch-Mode":            {"navigate"},
		"Sec-Fetch-Site":            {"same-origin"},
		"Sec-Fetch-User":            {"?1"},
		"Upgrade-Insecure-Requests": {"1"},
		"User-Agent":                {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
	}
	return r, http.Header{
		"Accept-Ranges":             {"bytes"},
		"Alt-Svc":                   {`h3=":443"; ma=2592000`},
		"Cache-Control":             {"max-age=60"},
		"Content-Encoding":          {"gzip"},
		"Content-Type":              {"text/html; charset=utf-8"},
		"Date":                      {"Thu, 22 Aug 2024 02:37:26 GMT"},
		"Etag":                      {`W/"66c6a5d6-c8d2"`},
		"Last-Modified":             {"Thu, 22 Aug 2024 02:30:14 GMT"},
		"Strict-Transport-Security": {"max-age=31536000"},
		"Vary":                      {"Accept-Encoding"},
		"Via":                       {"1.1 detour"},
		"X-Content-Type-Options":    {"nosniff"},
	}
}

func TestLineAllocatesNothing(t *testing.T) {
	l := testLine()
	l.request, l.header = browser()
	b := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(100, func() { b = l.append(b[:0]) }); n > 0 {
		t.Errorf("append allocates %v times; want 0", n)
	}
}

func TestAccessLogAllocatesNothing(t *testing.T) {
	if poison {
		t.Skip("nothing is used again under the race detector")
	}
	files := NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	sink := files.Sink(SinkOptions{Path: filepath.Join(t.TempDir(), "a.log")})
	answer := []byte("answer")
	h := AccessLog(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		RecordFrom(w).Action = "proxy"
		w.WriteHeader(200)
		w.Write(answer)
	}), func() *Sink { return sink })
	r, header := browser()
	w := &nullWriter{header}
	// More than one buffer's worth: those are used again too.
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > 0 {
		t.Errorf("AccessLog allocates %v times a request; want 0", n)
	}
}

func BenchmarkLine(b *testing.B) {
	l := testLine()
	l.request, l.header = browser()
	buf := l.append(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = l.append(buf[:0])
	}
}

// BenchmarkAccessLog is all that AccessLog adds to a request, but for the
// writing, which happens elsewhere.
func BenchmarkAccessLog(b *testing.B) {
	files := NewFiles(slog.New(slog.DiscardHandler))
	sink := files.Sink(SinkOptions{Path: filepath.Join(b.TempDir(), "a.log"), Name: "blog", RedactQuery: []string{"token", "access_token", "key", "password", "code"}})
	h := AccessLog(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := RecordFrom(w)
		rec.Action, rec.Upstream, rec.RequestID = "proxy", "10.1.1.4:80", "01J5V7Q4M3"
		w.WriteHeader(200)
	}), func() *Sink { return sink })
	f := sink.file
	f.running = make(chan struct{}) // a flush, which the benchmark is
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r, header := browser()
		w := &nullWriter{header}
		for n := 0; pb.Next(); n++ {
			h.ServeHTTP(w, r)
			if n%16 == 0 {
				f.mu.Lock()
				files.pending.Add(-int64(len(f.buf)))
				f.buf = f.buf[:0]
				f.mu.Unlock()
			}
		}
	})
	if f.dropped > 0 {
		b.Errorf("%d lines dropped", f.dropped)
	}
}

type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}
