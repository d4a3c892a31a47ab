package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseResponse(t *testing.T) {
	in := "HTTP/1.1 404 Not Found\r\nServer: x\r\nX-Pad: \t a b\t \r\nContent-Length: 12\r\nConnection: a, Close\r\nTrailer: X\r\n\r\n"
	var fields []Field
	got, err := ParseResponse([]byte(in), &fields)
	if err != nil {
		t.Fatal(err)
	}
	want := Response{Minor: 1, Status: 404, StatusText: []byte("404 Not Found"), Length: 12, KeepAlive: -1, Close: true, Trailer: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseResponse(%q): -want +got\n%s", in, diff)
	}
	wantFields := []Field{
		{[]byte("Server"), []byte("x")}, {[]byte("X-Pad"), []byte("a b")}, {[]byte("Content-Length"), []byte("12")},
		{[]byte("Connection"), []byte("a, Close")}, {[]byte("Trailer"), []byte("X")},
	}
	if diff := cmp.Diff(wantFields, fields); diff != "" {
		t.Errorf("ParseResponse(%q) fields: -want +got\n%s", in, diff)
	}
}

func TestParseResponseVerdicts(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, in string
		want     error
	}{
		{"plain", ok + "\r\n", nil},
		{"no reason", "HTTP/1.1 200 \r\n\r\n", nil},
		{"no reason and no space", "HTTP/1.1 200\r\n\r\n", nil},
		{"http/1.0", "HTTP/1.0 200 OK\r\n\r\n", nil},
		{"chunked", ok + "Transfer-Encoding: CHUNKED\r\n\r\n", nil},
		{"host as it likes", ok + "Host: a b\r\nHost: c\r\n\r\n", nil},

		{"empty", "\r\n", errVersion},
		{"lower case", "http/1.1 200 OK\r\n\r\n", errVersion},
		{"http/2", "HTTP/2.0 200 OK\r\n\r\n", errVersion},
		{"http/1.2", "HTTP/1.2 200 OK\r\n\r\n", errVersion},
		{"icy", "ICY 200 OK\r\n\r\n", errVersion},
		{"tab", "HTTP/1.1\t200 OK\r\n\r\n", errVersion},
		{"space at the start", " HTTP/1.1 200 OK\r\n\r\n", errVersion},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", errStatus},
		{"short status", "HTTP/1.1 20 OKAY\r\n\r\n", errStatus},
		{"long status", "HTTP/1.1 2000 OK\r\n\r\n", errStatus},
		{"signed status", "HTTP/1.1 +20 OK\r\n\r\n", errStatus},
		{"low status", "HTTP/1.1 099 OK\r\n\r\n", errStatus},
		{"control in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n", errReason},
		{"bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n", errReason},

		{"length and coding", ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", errBothFramings},
		{"two lengths", ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", errLengthTwice},
		{"same length twice", ok + "Content-Length: 3\r\ncontent-length: 3\r\n\r\n", errLengthTwice},
		{"length list", ok + "Content-Length: 3, 3\r\n\r\n", errLength},
		{"signed length", ok + "Content-Length: +3\r\n\r\n", errLength},
		{"empty length", ok + "Content-Length:\r\n\r\n", errLength},
		{"octal length", ok + "Content-Length: 010\r\n\r\n", errLength},
		{"huge length", ok + "Content-Length: 99999999999999999999\r\n\r\n", errLength},
		{"gzip, chunked", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
		{"two codings", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCodingTwice},
		{"coding in http/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", errCodingOld},
		{"trailer that frames", ok + "Trailer: x, Content-Length\r\n\r\n", errTrailerField},
		{"space before colon", ok + "X : y\r\n\r\n", errFieldName},
		{"obs-fold", ok + "X: y\r\n z\r\n\r\n", errFieldName},
		{"no colon", ok + "XY\r\n\r\n", errFieldName},
		{"empty name", ok + ": y\r\n\r\n", errFieldName},
		{"nul in a value", ok + "X: \x00\r\n\r\n", errFieldValue},
		{"bare CR in a value", ok + "X: a\rb\r\n\r\n", errFieldValue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want != nil {
				want = OfResponse(want)
			}
			if _, err := ParseResponse([]byte(tt.in), nil); !errors.Is(err, want) {
				t.Errorf("ParseResponse(%q) = %v; want %v", tt.in, err, want)
			}
		})
	}
}

func TestParseResponseKeepAlive(t *testing.T) {
	tests := []struct {
		in   string
		want int64
	}{
		{"", -1},
		{"timeout=5, max=100", 5},
		{"timeout=5", 5},
		{"max=100,\tTimeout=15 ", 15},
		{"timeout=0", 0},
		{"timeout=5, max=0", 0},
		{"max=0", 0},
		{"timeout=30, timeout=5, timeout=60", 5},
		{"timeout=999999999", 999999999},

		{"timeout", -1}, {"timeout=", -1}, {"timeout=-1", -1}, {"timeout=+5", -1}, {"timeout=5s", -1}, {"timeout=1.5", -1},
		{"timeout=\"5\"", -1}, {"timeout = 5", -1}, {"timeout=05", -1}, {"timeout=5;max=0", -1}, {"timeout=9999999999", -1},
		{"xtimeout=5", -1}, {"timeout=5=5", -1}, {"=5", -1}, {"5", -1}, {",,", -1}, {"timeout=soon, x, timeout=7", 7},
	}
	for _, tt := range tests {
		in := "HTTP/1.1 200 OK\r\nkeep-alive: " + tt.in + "\r\n\r\n"
		if r, err := ParseResponse([]byte(in), nil); err != nil || r.KeepAlive != tt.want {
			t.Errorf("ParseResponse with Keep-Alive: %s says %d, %v; want %d", tt.in, r.KeepAlive, err, tt.want)
		}
	}
	const two = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nKeep-Alive: timeout=3\r\n\r\n"
	if r, err := ParseResponse([]byte(two), nil); err != nil || r.KeepAlive != 3 {
		t.Errorf("ParseResponse(%q) says %d, %v; want 3", two, r.KeepAlive, err)
	}
}

func TestParseResponseTrailers(t *testing.T) {
	tests := []struct {
		in   string
		want string // names, with commas
		err  error
	}{
		{"\r\n", "", nil},
		{"A: 1\r\nB: 2\r\n\r\n", "A,B", nil},
		{"A: 1\r\nSet-Cookie: 2\r\nCache-Control: 3\r\nHost: 4\r\nB: 5\r\n\r\n", "A,B", nil},
		{"Content-Length: 1\r\n\r\n", "", errTrailerField},
		{"transfer-encoding: x\r\n\r\n", "", errTrailerField},
		{"A : 1\r\n\r\n", "", errFieldName},
		{"A: 1\r\n", "", errEnd},
	}
	for _, tt := range tests {
		var fields []Field
		err := ParseResponseTrailers([]byte(tt.in), &fields)
		var names []string
		for _, f := range fields {
			names = append(names, string(f.Name))
		}
		want := tt.err
		if want != nil {
			want = OfResponse(want)
			names = nil
		}
		if got := strings.Join(names, ","); got != tt.want || !errors.Is(err, want) {
			t.Errorf("ParseResponseTrailers(%q) = %q, %v; want %q, %v", tt.in, got, err, tt.want, want)
		}
	}
}

// What ParseResponse accepts, net/http must read in the same way.
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\nx-a:  c \r\n\r\n",
		"HTTP/1.0 404\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5, max=100\r\n\r\n",
		"HTTP/1.1 204 \r\nPragma: no-cache\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nConnection: x, close\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end, err := HeadEnd(b, 0)
		if err != nil || end == 0 {
			return
		}
		b = b[:end]
		var fields []Field
		h, err := ParseResponse(b, &fields)
		if err != nil {
			return
		}
		if !LooksLikeResponse(b) {
			t.Errorf("ParseResponse(%q) accepts what does not look like a response", b)
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			t.Fatalf("ParseResponse(%q) accepts; http.ReadResponse says %v", b, err)
		}
		text := strings.TrimLeft(string(h.StatusText), " ")
		if r.StatusCode != h.Status || strings.TrimRight(r.Status, " \t") != strings.TrimRight(text, " \t") || r.ProtoMinor != h.Minor {
			t.Errorf("%q: net/http reads %q 1.%d; ParseResponse %q 1.%d", b, r.Status, r.ProtoMinor, text, h.Minor)
		}
		if h.Status >= 200 && h.Status != 204 && h.Status != 304 {
			length := h.Length
			if length == LengthNone {
				length = -1
			}
			if r.ContentLength != length {
				t.Errorf("%q: net/http reads length %d; ParseResponse %d", b, r.ContentLength, h.Length)
			}
			if r.Close != (h.Close || h.Length == LengthNone) {
				t.Errorf("%q: net/http reads close %v; ParseResponse %v", b, r.Close, h.Close)
			}
		}
		got, want := responseHeader(fields), map[string][]string(r.Header)
		for _, name := range []string{"Connection", "Trailer", "Cache-Control"} { // it moves, or invents
			delete(got, name)
			delete(want, name)
		}
		if h.Length >= 0 && want["Content-Length"] != nil {
			want["Content-Length"] = []string{strconv.FormatInt(h.Length, 10)}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: fields -net/http +ParseResponse\n%s", b, diff)
		}
	})
}

func responseHeader(fields []Field) map[string][]string {
	h := http.Header{}
	for _, f := range fields {
		if !strings.EqualFold(string(f.Name), "Transfer-Encoding") {
			h.Add(string(f.Name), string(f.Value))
		}
	}
	return h
}

// Decode must find what Scan finds, and the content that net/http does, however
// the bytes arrive.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1;a\r\nx\r\n0\r\nX: y\r\n\r\nrest", "a\r\n0123456789\r\n3\r\nabc\r\n00;b\r\n\r\n", "2\r\nabc\r\n",
		"5 \r\nhello\r\n0\t \r\n\r\n", "5 0\r\nhello\r\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(128))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		padded := step >= 128
		n, done, err := (&Chunked{Padded: padded}).Scan(b)
		content, dn, ddone, derr := decodeInSteps(b, int(step)%7+1, padded)
		if dn != n || ddone != done || derr != err {
			t.Fatalf("Scan(%q) = %v, %v, %v; Decode in steps of %d %v, %v, %v", b, n, done, err, step%7+1, dn, ddone, derr)
		}
		if !done {
			return
		}
		const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		r, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(b[:n]), strings.NewReader("\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(content, want) {
			t.Errorf("%q decodes to %q; net/http says %q, %v", b, content, want, err)
		}
	})
}

func decodeInSteps(b []byte, step int, padded bool) (content []byte, n int, done bool, err error) {
	c := Chunked{Padded: padded}
	for n < len(b) && !done && err == nil {
		part := bytes.Clone(b[n:min(n+step, len(b))])
		var data, m int
		data, m, done, err = c.Decode(part)
		content = append(content, part[:data]...)
		n += m
	}
	return content, n, done, err
}

// What may be sent must be read as it was meant.
func FuzzAppend(f *testing.F) {
	f.Add("GET", "/a?b", "example.org:80", "X-A", " b\tc ")
	f.Add("P(", "/ ", "a,b", "X:", "a\r\nb")
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		b, err := AppendMethod(nil, method)
		if err != nil {
			return
		}
		start := len(b)
		if b, err = EndRequestLine(append(b, target...), start); err != nil {
			return
		}
		if b, err = AppendHost(b, host); err != nil {
			return
		}
		if b, err = AppendField(b, name, value); err != nil {
			return
		}
		b = append(b, "\r\n"...)
		if end, err := HeadEnd(b, 0); err != nil || end != len(b) {
			t.Fatalf("%q is more or less than one head: %v", b, err)
		}
		var fields []Field
		h, err := ParseHead(b, &fields)
		if err != nil {
			return // a field that says something about the others, or a target that is none
		}
		if string(h.Method) != method || string(h.Target) != target || string(h.Host) != host {
			t.Errorf("%q %q %q is read as %q %q %q", method, target, host, h.Method, h.Target, h.Host)
		}
		if last := fields[len(fields)-1]; len(fields) != 2 || string(last.Name) != name || string(last.Value) != strings.Trim(value, " \t") {
			t.Errorf("%q: %q is read as %q", name, value, fields)
		}
	})
}

func TestValidValue(t *testing.T) {
	for c := range 256 {
		want := c >= ' ' && c != 0x7f || c == '\t'
		for i := range 20 {
			v := bytes.Repeat([]byte{'a'}, 20)
			v[i] = byte(c)
			if got := validValue(v); got != want {
				t.Fatalf("validValue(%q) = %v; want %v", v, got, want)
			}
		}
	}
}

func BenchmarkParseResponse(b *testing.B) {
	head := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 22 Nov 2025 13:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
		"Content-Length: 1024\r\nConnection: keep-alive\r\nETag: \"5f3e-61\"\r\nCache-Control: max-age=60\r\nVary: Accept-Encoding\r\n\r\n")
	fields := make([]Field, 0, 16)
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		fields = fields[:0]
		if _, err := ParseResponse(head, &fields); err != nil {
			b.Fatal(err)
		}
	}
}
