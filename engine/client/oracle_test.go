package client

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outcome is all that a caller sees of an exchange.
type outcome struct {
	Failed     bool // RoundTrip returned an error
	Status     string
	StatusCode int
	Proto      string
	Header     http.Header
	Length     int64
	Coding     []string
	Close      bool
	Body       string
	BodyFailed bool // the body did not end with io.EOF
	Trailer    http.Header
	Interim    []int
	Reused     bool // the next request went over the same connection
}

// What net/http guesses and this package refuses.
const refused = "two parsers could read it in two ways"

func TestOracle(t *testing.T) {
	const (
		ok   = "HTTP/1.1 200 OK\n"
		ab   = "Content-Length: 2\n\nab"
		last = "0\n\n"
	)
	tests := []struct {
		name, raw string // \n is sent as CRLF, \l as a bare LF
		method    string // "" = GET
		ends      bool   // the upstream closes behind raw, as somebody waits for it
		differs   string // why ours does
		ours      func(theirs *outcome)
	}{
		{name: "length", raw: ok + ab},
		{name: "empty", raw: ok + "Content-Length: 0\n\n"},
		{name: "chunked", raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n3\ncde\n" + last},
		{name: "chunked, capitals", raw: ok + "Transfer-Encoding: CHUNKED\n\n2\nab\n" + last},
		{name: "chunked, empty", raw: ok + "Transfer-Encoding: chunked\n\n" + last},
		{name: "chunk extension", raw: ok + "Transfer-Encoding: chunked\n\n2;a=b\nab\n0;c\n\n"},
		{name: "chunk with leading zeros", raw: ok + "Transfer-Encoding: chunked\n\n0002\nab\n000\n\n"},
		{name: "padded chunk sizes", raw: ok + "Transfer-Encoding: chunked\n\n2  \nab\n3\t \ncde\n0   \n\n"},
		{name: "padded chunk of 100 KiB", raw: ok + "Transfer-Encoding: chunked\n\n19000 \n" + strings.Repeat("0123456789abcdef", 6400) + "\n" + last},
		{name: "until close", ends: true, raw: ok + "X: y\n\nabc"},
		{name: "until close, nothing", ends: true, raw: ok + "\n"},
		{name: "trailers", raw: ok + "Trailer: A, b\nTransfer-Encoding: chunked\n\n2\nab\n0\nA: 1\nB: 2\nC: 3\nA: 4\n\n"},
		{name: "trailer announced and not sent", raw: ok + "Trailer: A\nTransfer-Encoding: chunked\n\n" + last},
		{name: "trailer without chunks", raw: ok + "Trailer: A\n" + ab},
		{name: "http/1.0", ends: true, raw: "HTTP/1.0 200 OK\n\nab"},
		{name: "http/1.0 with length", raw: "HTTP/1.0 200 OK\n" + ab},
		{name: "http/1.0 keep-alive", raw: "HTTP/1.0 200 OK\nConnection: keep-alive\n" + ab},
		{name: "close", raw: ok + "Connection: close\n" + ab},
		{name: "close in a list", raw: ok + "Connection: X-Y, Close\n" + ab,
			differs: "who passes the answer on must know what ends here", ours: func(o *outcome) { o.Header.Set("Connection", "X-Y, Close") }},
		{name: "keep-alive", raw: ok + "Connection: keep-alive\nKeep-Alive: timeout=5\n" + ab},
		{name: "head", method: "HEAD", raw: ok + "Content-Length: 5\n\n"},
		{name: "head without length", method: "HEAD", raw: ok + "\n"},
		{name: "head chunked", method: "HEAD", raw: ok + "Transfer-Encoding: chunked\n\n"},
		{name: "204", raw: "HTTP/1.1 204 No Content\n\n"},
		{name: "204 with length 0", raw: "HTTP/1.1 204 No Content\nContent-Length: 0\n\n"},
		{name: "204 with length", raw: "HTTP/1.1 204 No Content\nContent-Length: 2\n\n",
			differs: "the next parser may wait for the body", ours: func(o *outcome) { o.Reused = false }},
		{name: "204 chunked", raw: "HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n\n",
			differs: "the next parser may wait for the body", ours: func(o *outcome) { o.Reused = false }},
		{name: "304", raw: "HTTP/1.1 304 Not Modified\nETag: \"x\"\n\n"},
		{name: "304 with length", raw: "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n"},
		{name: "205", raw: "HTTP/1.1 205 Reset\nContent-Length: 0\n\n"},
		{name: "404", raw: "HTTP/1.1 404 Not Found\n" + ab},
		{name: "599", raw: "HTTP/1.1 599 x\n" + ab},
		{name: "999", raw: "HTTP/1.1 999 \n" + ab},
		{name: "no reason", raw: "HTTP/1.1 200 \n" + ab},
		{name: "no reason and no space", raw: "HTTP/1.1 200\n" + ab},
		{name: "long reason", raw: "HTTP/1.1 200 It is all well, ü\n" + ab},
		{name: "odd names", raw: ok + "x-low: 1\nX-UP: 2\n1st: 3\na_b: 4\nEtag: 5\nWWW-authenticate: 6\nx!y: 7\n" + ab},
		{name: "several values", raw: ok + "Set-Cookie: a=1\nset-cookie: b=2\nVary: a\nVary: b\nSET-COOKIE: c=3\n" + ab},
		{name: "white space around a value", raw: ok + "X:  \t a \t b\t \nY:\nZ: \n" + ab},
		{name: "utf-8 in a value", raw: ok + "X: ü\n" + ab},
		{name: "many fields", raw: ok + strings.Repeat("X-Many: 1\n", 500) + ab},
		{name: "field of 20 KiB", raw: ok + "X: " + strings.Repeat("a", 20<<10) + "\n" + ab},
		{name: "body of 100 KiB", raw: ok + "Content-Length: 102400\n\n" + strings.Repeat("0123456789abcdef", 6400)},
		{name: "chunk of 100 KiB", raw: ok + "Transfer-Encoding: chunked\n\n19000\n" + strings.Repeat("0123456789abcdef", 6400) + "\n" + last},
		{name: "many chunks", raw: ok + "Transfer-Encoding: chunked\n\n" + strings.Repeat("3\nabc\n", 10000) + last},
		{name: "100 unasked", raw: "HTTP/1.1 100 Continue\n\n" + ok + ab},
		{name: "103", raw: "HTTP/1.1 103 Early Hints\nLink: </a>\n\n" + ok + ab},
		{name: "several 1xx", raw: "HTTP/1.1 102 Processing\n\nHTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 103 Early Hints\n\n" + ok + ab},
		{name: "pragma", raw: ok + "Pragma: no-cache\n" + ab,
			differs: "no field is invented", ours: func(o *outcome) { o.Header.Del("Cache-Control") }},
		{name: "trailers of cache and cookies", raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n0\nSet-Cookie: a=b\nA: 1\n\n",
			differs: "fields that must not be trailers are left out", ours: func(o *outcome) { o.Trailer.Del("Set-Cookie") }},

		{name: "truncated", ends: true, raw: ok + "Content-Length: 5\n\nab"},
		{name: "truncated chunk", ends: true, raw: ok + "Transfer-Encoding: chunked\n\n5\nab"},
		{name: "no last chunk", ends: true, raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n"},
		{name: "no end of trailers", ends: true, raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n0\nA: 1\n"},
		{name: "truncated head", raw: ok + "X: "},
		{name: "nothing", raw: ""},
		{name: "not http", raw: "SSH-2.0-OpenSSH_9.2\n"},
		{name: "tls alert", raw: "\x15\x03\x01\x00\x02\x02\x46"},
		{name: "http/2", ends: true, raw: "HTTP/2.0 200 OK\n\n", differs: refused},
		{name: "http/1.2", raw: "HTTP/1.2 200 OK\n" + ab, differs: refused},
		{name: "http/0.9", raw: "HTTP/0.9 200 OK\n" + ab, differs: refused},
		{name: "two-digit status", raw: "HTTP/1.1 20 OK\n" + ab},
		{name: "four-digit status", raw: "HTTP/1.1 2000 OK\n" + ab},
		{name: "signed status", raw: "HTTP/1.1 +20 OK\n" + ab, differs: refused},
		{name: "status 099", raw: "HTTP/1.1 099 OK\n" + ab, differs: refused},
		{name: "two spaces before status", raw: "HTTP/1.1  200 OK\n" + ab, differs: refused},
		{name: "control in reason", raw: "HTTP/1.1 200 O\x01K\n" + ab, differs: refused},
		{name: "empty line before the head", raw: "\n" + ok + ab},
		{name: "both framings", raw: ok + "Transfer-Encoding: chunked\nContent-Length: 2\n\n2\nab\n" + last, differs: refused},
		{name: "coding in http/1.0", ends: true, raw: "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n2\nab\n" + last, differs: refused},
		{name: "same length twice", raw: ok + "Content-Length: 2\n" + ab, differs: refused},
		{name: "two lengths", raw: ok + "Content-Length: 3\n" + ab},
		{name: "length list", raw: ok + "Content-Length: 2, 2\n\nab"},
		{name: "signed length", raw: ok + "Content-Length: +2\n\nab"},
		{name: "negative length", raw: ok + "Content-Length: -2\n\nab"},
		{name: "length with leading zero", raw: ok + "Content-Length: 02\n\nab", differs: refused},
		{name: "huge length", raw: ok + "Content-Length: 9999999999999999999999\n\nab"},
		{name: "empty length", raw: ok + "Content-Length:\n\nab"},
		{name: "hex length", raw: ok + "Content-Length: 0x2\n\nab"},
		{name: "gzip coding", raw: ok + "Transfer-Encoding: gzip, chunked\n\n2\nab\n" + last},
		{name: "two codings", raw: ok + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n2\nab\n" + last},
		{name: "identity", raw: ok + "Transfer-Encoding: identity\n\nab"},
		{name: "bare LF in the head", raw: "HTTP/1.1 200 OK\\lX: y\\lContent-Length: 2\\l\\lab", differs: refused},
		{name: "bare LF behind a field", raw: ok + "X: y\\l" + ab, differs: refused},
		{name: "obs-fold", raw: ok + "X: y\n z\n" + ab, differs: refused},
		{name: "space before colon", ends: true, raw: ok + "Content-Length : 2\n\nab", differs: refused},
		{name: "field without colon", raw: ok + "X\n" + ab},
		{name: "empty name", raw: ok + ": y\n" + ab},
		{name: "control in a name", raw: ok + "X\x01: y\n" + ab},
		{name: "nul in a value", raw: ok + "X: \x00\n" + ab},
		{name: "control in a value", raw: ok + "X: a\x0bb\n" + ab},
		{name: "bare CR in a value", raw: ok + "X: a\rb\n" + ab},
		{name: "chunk size with sign", raw: ok + "Transfer-Encoding: chunked\n\n+2\nab\n" + last},
		{name: "chunk size with prefix", raw: ok + "Transfer-Encoding: chunked\n\n0x2\nab\n" + last},
		{name: "bare LF behind a chunk size", raw: ok + "Transfer-Encoding: chunked\n\n2\\lab\n" + last},
		{name: "bare LF behind a chunk", raw: ok + "Transfer-Encoding: chunked\n\n2\nab\\l" + last},
		{name: "chunk longer than said", raw: ok + "Transfer-Encoding: chunked\n\n2\nabc\n" + last},
		{name: "huge chunk", raw: ok + "Transfer-Encoding: chunked\n\nfffffffffffffffff\nab\n" + last},
		{name: "trailer that frames", raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n0\nContent-Length: 5\n\n", differs: refused},
		{name: "framing announced as trailer", raw: ok + "Trailer: Content-Length\nTransfer-Encoding: chunked\n\n2\nab\n" + last},
		{name: "bytes behind the body", raw: ok + ab + "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil"},
		{name: "bytes behind the chunks", raw: ok + "Transfer-Encoding: chunked\n\n2\nab\n" + last + "x"},
		{name: "bytes behind a 204", raw: "HTTP/1.1 204 No Content\n\nx"},
		{name: "body of a head", method: "HEAD", raw: ok + ab},
		{name: "101 unasked", ends: true, raw: "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: Upgrade\n\n",
			differs: "nobody asked for it", ours: func(o *outcome) { *o = outcome{Failed: true} }},
		{name: "head of 100 KiB", raw: ok + "X: " + strings.Repeat("a", 100<<10) + "\n" + ab},
	}
	if len(tests) < 60 {
		t.Fatal("the table has shrunk")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.method == "" {
				tt.method = http.MethodGet
			}
			raw := strings.NewReplacer("\n", "\r\n", `\l`, "\n").Replace(tt.raw)
			got := observe(t, transports[0], tt.method, raw, tt.ends)
			want := observe(t, transports[1], tt.method, raw, tt.ends)
			switch {
			case tt.differs == refused:
				if !got.Failed && !got.BodyFailed {
					t.Errorf("%q: accepted: %+v; want an error: %s", raw, got, refused)
				}
				if cmp.Equal(want, got) {
					t.Errorf("%q: net/http refuses it too; take it off the list", raw)
				}
				return
			case tt.differs != "":
				before := want
				before.Header, before.Trailer = want.Header.Clone(), want.Trailer.Clone()
				tt.ours(&want)
				if cmp.Equal(want, before) {
					t.Errorf("%q: net/http does it too; take it off the list", raw)
				}
			}
			diff := cmp.Diff(want, got)
			for tries := 0; diff != "" && tt.differs == "" && tries < 5; tries++ {
				// net/http may send the next request before it notices what came behind the answer.
				diff = cmp.Diff(observe(t, transports[1], tt.method, raw, tt.ends), got)
			}
			if diff != "" {
				t.Errorf("%.200q: -net/http +client\n%s", raw, diff)
			}
		})
	}
}

// observe makes two requests of an upstream that answers the first with raw.
func observe(t *testing.T, kind transportKind, method, raw string, ends bool) (o outcome) {
	t.Helper()
	ends = ends || !strings.Contains(raw, "\r\n\r\n")
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, raw)
		if ends {
			return
		}
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
		}
	})
	options := defaults()
	options.HeadLimit = 64 << 10
	rt := kind.make(t, addr, options)
	req, err := http.NewRequest(method, "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		o.Interim = append(o.Interim, code)
		return nil
	}}
	res, err := rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return outcome{Failed: true}
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	o.Status, o.StatusCode, o.Proto, o.Header, o.Length = res.Status, res.StatusCode, res.Proto, res.Header, res.ContentLength
	o.Coding, o.Close, o.Trailer = res.TransferEncoding, res.Close, res.Trailer
	o.Body, o.BodyFailed = string(body), err != nil
	if err != nil {
		o.Body = "" // how much of it came before is a matter of luck
		return o
	}
	second, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	trace = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { o.Reused = info.Reused }}
	if res, err := rt.RoundTrip(second.WithContext(httptrace.WithClientTrace(second.Context(), trace))); err == nil {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	} else if !errors.Is(err, io.EOF) {
		t.Logf("second request: %v", err)
	}
	return o
}
