package wire

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHead(t *testing.T) {
	in := "POST /a/%2F?b=%zz|x HTTP/1.1\r\nHost: example.org:8443\r\nX-Empty:\r\nX-Pad: \t a b\t \r\nContent-Length: 12\r\nUpgrade: x\r\n\r\n"
	var fields []Field
	got, err := ParseHead([]byte(in), &fields)
	if err != nil {
		t.Fatal(err)
	}
	want := Head{Method: []byte("POST"), Target: []byte("/a/%2F?b=%zz|x"), Minor: 1, Host: []byte("example.org:8443"), Length: 12, Upgrade: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseHead(%q): -want +got\n%s", in, diff)
	}
	wantFields := []Field{
		{[]byte("Host"), []byte("example.org:8443")}, {[]byte("X-Empty"), []byte("")}, {[]byte("X-Pad"), []byte("a b")},
		{[]byte("Content-Length"), []byte("12")}, {[]byte("Upgrade"), []byte("x")},
	}
	if diff := cmp.Diff(wantFields, fields); diff != "" {
		t.Errorf("ParseHead(%q) fields: -want +got\n%s", in, diff)
	}
}

func TestParseHeadVerdicts(t *testing.T) {
	const host = "Host: a.example\r\n"
	tests := []struct {
		name, in string
		want     error
	}{
		{"plain", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"http/1.0 without host", "GET / HTTP/1.0\r\n\r\n", nil},
		{"absolute form", "GET http://A.example/x HTTP/1.1\r\n" + host + "\r\n", nil},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", nil},
		{"connect", "CONNECT a.example:443 HTTP/1.1\r\n" + host + "\r\n", nil},
		{"utf-8 target", "GET /ü HTTP/1.1\r\n" + host + "\r\n", nil},
		{"utf-8 value", "GET / HTTP/1.1\r\n" + host + "X: ü\r\n\r\n", nil},
		{"ipv6 host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", nil},
		{"underscore host", "GET / HTTP/1.1\r\nHost: my_box.lan\r\n\r\n", nil},
		{"chunked in capitals", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: CHUNKED\r\n\r\n", nil},

		{"no host", "GET / HTTP/1.1\r\n\r\n", errHostMissing},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", errHost},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", errHostTwice},
		{"host list", "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", errHost},
		{"host with path", "GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n", errHost},
		{"host with user", "GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n", errHost},
		{"host with bad port", "GET / HTTP/1.1\r\nHost: a.example:80x\r\n\r\n", errHost},
		{"host with empty port", "GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", errHost},
		{"host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", errHost},
		{"open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", errHost},
		{"absolute form for another host", "GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", errHostDiffers},
		{"absolute form with user", "GET http://a.example@b.example/ HTTP/1.1\r\n" + host + "\r\n", errHostDiffers},

		{"length and coding", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", errBothFramings},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", errLengthTwice},
		{"same length twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", errLengthTwice},
		{"length list", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\n", errLength},
		{"length with sign", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\n", errLength},
		{"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\n", errLength},
		{"hex length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\n", errLength},
		{"octal length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 010\r\n\r\n", errLength},
		{"empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", errLength},
		{"huge length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", errLength},
		{"gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", errCodingUnknown},
		{"chunked last but one", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, gzip\r\n\r\n", errCoding},
		{"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n", errCoding},
		{"empty coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: , chunked\r\n\r\n", errCoding},
		{"identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", errCoding},
		{"quoted coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n", errCoding},
		{"two codings", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCodingTwice},
		{"coding in 1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", errCodingOld},
		{"connect with body", "CONNECT a.example:443 HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\n", errConnectBody},
		{"connect without port", "CONNECT a.example HTTP/1.1\r\n" + host + "\r\n", ErrTarget},

		{"trailer that frames", "POST / HTTP/1.1\r\n" + host + "Trailer: x, Content-Length\r\n\r\n", errTrailerField},

		{"space before colon", "GET / HTTP/1.1\r\n" + host + "X : y\r\n\r\n", errFieldName},
		{"obs-fold", "GET / HTTP/1.1\r\n" + host + "X: y\r\n z\r\n\r\n", errFieldName},
		{"no colon", "GET / HTTP/1.1\r\n" + host + "XY\r\n\r\n", errFieldName},
		{"empty name", "GET / HTTP/1.1\r\n" + host + ": y\r\n\r\n", errFieldName},
		{"nul in name", "GET / HTTP/1.1\r\n" + host + "X\x00: y\r\n\r\n", errFieldName},
		{"nul in value", "GET / HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", errFieldValue},
		{"control in value", "GET / HTTP/1.1\r\n" + host + "X: \x0b\r\n\r\n", errFieldValue},
		{"bare cr in value", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", errFieldValue},

		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"tab", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", ErrMethod},
		{"space at the end", "GET / HTTP/1.1 \r\n" + host + "\r\n", errVersion},
		{"space at the start", " GET / HTTP/1.1\r\n" + host + "\r\n", ErrMethod},
		{"simple request", "GET /\r\n\r\n", ErrTarget},
		{"bad method", "G(T / HTTP/1.1\r\n" + host + "\r\n", ErrMethod},
		{"fragment", "GET /#x HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"relative target", "GET x HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"asterisk for GET", "GET * HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"broken escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"other scheme", "GET ftp://a.example/ HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"http/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", errVersionUnknown},
		{"http/2", "PRI * HTTP/2.0\r\n\r\n", errVersionUnknown},
		{"lower-case version", "GET / http/1.1\r\n" + host + "\r\n", errVersion},
		{"version with more digits", "GET / HTTP/1.10\r\n" + host + "\r\n", errVersion},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseHead([]byte(tt.in), nil); !errors.Is(err, tt.want) {
				t.Errorf("ParseHead(%q) = %v; want %v", tt.in, err, tt.want)
			}
		})
	}
}

func TestHeadEnd(t *testing.T) {
	tests := []struct {
		in   string
		want int
		err  error
	}{
		{"", 0, nil},
		{"\r", 0, nil},
		{"\r\n", 2, nil},
		{"a\r\n\r\n", 5, nil},
		{"a\r\n\r\nb", 5, nil},
		{"a\r\nb\r\n\r", 0, nil},
		{"a\n", 0, errBareLF},
		{"a\r\n\n", 0, errBareLF},
		{"a\r\nb\nc\r\n\r\n", 0, errBareLF},
	}
	for _, tt := range tests {
		if got, err := HeadEnd([]byte(tt.in), 0); got != tt.want || err != tt.err {
			t.Errorf("HeadEnd(%q) = %v, %v; want %v, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
}

// What ParseHead accepts, net/http must read in the same way.
func FuzzParseHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x?y HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\nX-A: b\r\nx-a:  c \r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
		"GET http://a/b HTTP/1.1\r\nHost: A\r\nConnection: close\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\n\r\n",
		"GET //x:y/%41 HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
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
		h, err := ParseHead(b, &fields)
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("ParseHead(%q) accepts; http.ReadRequest says %v", b, err)
		}
		if r.Method != string(h.Method) || r.RequestURI != string(h.Target) || r.ProtoMinor != h.Minor {
			t.Errorf("%q: net/http reads %q %q 1.%d; ParseHead %q %q 1.%d", b, r.Method, r.RequestURI, r.ProtoMinor, h.Method, h.Target, h.Minor)
		}
		if string(h.Method) != "CONNECT" && !strings.EqualFold(r.Host, string(h.Host)) {
			t.Errorf("%q: net/http reads host %q; ParseHead %q", b, r.Host, h.Host)
		}
		if r.ContentLength != h.Length {
			t.Errorf("%q: net/http reads length %d; ParseHead %d", b, r.ContentLength, h.Length)
		}
		if diff := cmp.Diff(headerOf(r), headerOfFields(fields)); diff != "" {
			t.Errorf("%q: fields -net/http +ParseHead\n%s", b, diff)
		}
	})
}

// headerOf gives back to r's header what net/http moved elsewhere.
func headerOf(r *http.Request) map[string][]string {
	h := map[string][]string(r.Header.Clone())
	delete(h, "Trailer")
	if r.ContentLength >= 0 && h["Content-Length"] != nil {
		h["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	return h
}

func headerOfFields(fields []Field) map[string][]string {
	h := http.Header{}
	pragma := false
	for _, f := range fields {
		name := string(f.Name)
		switch {
		case strings.EqualFold(name, "Host"), strings.EqualFold(name, "Transfer-Encoding"), strings.EqualFold(name, "Trailer"):
			continue // net/http takes these out of the header
		}
		h.Add(name, string(f.Value))
		pragma = pragma || strings.EqualFold(name, "Pragma") && len(h["Pragma"]) == 1 && string(f.Value) == "no-cache"
	}
	if pragma && h["Cache-Control"] == nil {
		h["Cache-Control"] = []string{"no-cache"} // net/http's courtesy to HTTP/1.0
	}
	return h
}

func BenchmarkParseHead(b *testing.B) {
	head := []byte("GET /assets/app.js?v=42 HTTP/1.1\r\nHost: blog.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://blog.example.org/\r\n" +
		"Connection: keep-alive\r\nCookie: session=0123456789abcdef\r\nSec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n")
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		end, err := HeadEnd(head, 0)
		if err != nil || end != len(head) {
			b.Fatal(end, err)
		}
		if _, err := ParseHead(head, nil); err != nil {
			b.Fatal(err)
		}
	}
}
