package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"bytes"
	"golang.org/x/net/http2/hpack"
)

// hpackHead is the header block of GET / for authority.
func hpackHead(authority string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", "/"}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return b.Bytes()
}

// smuggler is what follows a request that two servers could end at different
// places. It must never be seen as a request of its own.
const smuggler = "GET /smuggled HTTP/1.1\r\nHost: " + name + "\r\n\r\n"

// refusal is true of 400; our engine also says what else it may be: a transfer
// coding or a version that it does not know.
func refusal(status int) bool {
	return status == http.StatusBadRequest ||
		*engine == "detour" && (status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported)
}

// TestServerRefusesSmuggling sends what is known to be read in two ways. Each
// must be answered 400 or not at all, the connection closed, and the handler
// must not see the smuggled request; where refused is set it must not even see
// the first one. In the heads \n stands for CRLF, \l for a bare LF.
func TestServerRefusesSmuggling(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		mu.Lock()
		seen = append(seen, r.URL.Path)
		mu.Unlock()
		if err != nil {
			http.Error(w, "bad body", http.StatusBadRequest)
		}
	}), nil)
	post := func(fields string) string { return "POST /first HTTP/1.1\nHost: " + name + "\n" + fields + "\n" }
	chunked := func(body string) string { return post("Transfer-Encoding: chunked\n") + body }
	get := func(fields string) string { return "GET /first HTTP/1.1\nHost: " + name + "\n" + fields + "\n" }

	heads := []struct{ name, in string }{
		{"CL.TE", post("Content-Length: 6\nTransfer-Encoding: chunked\n") + "0\n\nX"},
		{"TE.CL", post("Transfer-Encoding: chunked\nContent-Length: 3\n") + "8\nSMUGGLED\n0\n\n"},
		{"CL.0 with TE", post("Content-Length: 0\nTransfer-Encoding: chunked\n") + "0\n\n"},
		{"CL.CL different", post("Content-Length: 0\nContent-Length: 5\n")},
		{"CL.CL equal", post("Content-Length: 0\nContent-Length: 0\n")},
		{"CL.CL in other case", post("Content-Length: 0\ncontent-length: 5\n")},
		{"CL list", post("Content-Length: 0, 5\n")},
		{"CL list of equals", post("Content-Length: 0, 0\n")},
		{"CL plus", post("Content-Length: +0\n")},
		{"CL minus", post("Content-Length: -1\n")},
		{"CL hex", post("Content-Length: 0x0\n")},
		{"CL octal", post("Content-Length: 00\n")},
		{"CL with letters", post("Content-Length: 0abc\n")},
		{"CL with inner space", post("Content-Length: 1 0\n")},
		{"CL float", post("Content-Length: 0.0\n")},
		{"CL empty", post("Content-Length:\n")},
		{"CL quoted", post("Content-Length: \"0\"\n")},
		{"CL overflow of 64 bits", post("Content-Length: 18446744073709551616\n")},
		{"CL with NUL", post("Content-Length: 0\x00\n")},
		{"CL with vertical tab", post("Content-Length: \x0b0\n")},
		{"CL with other digits", post("Content-Length: ٠\n")},
		{"TE.TE two fields", post("Transfer-Encoding: chunked\nTransfer-Encoding: identity\n") + "0\n\n"},
		{"TE.TE same twice", post("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n") + "0\n\n"},
		{"TE xchunked", post("Transfer-Encoding: xchunked\n") + "0\n\n"},
		{"TE chunkedx", post("Transfer-Encoding: chunkedx\n") + "0\n\n"},
		{"TE identity", post("Transfer-Encoding: identity\n")},
		{"TE identity, chunked", post("Transfer-Encoding: identity, chunked\n") + "0\n\n"},
		{"TE gzip, chunked", post("Transfer-Encoding: gzip, chunked\n") + "0\n\n"},
		{"TE chunked, identity", post("Transfer-Encoding: chunked, identity\n") + "0\n\n"},
		{"TE chunked,", post("Transfer-Encoding: chunked,\n") + "0\n\n"},
		{"TE , chunked", post("Transfer-Encoding: , chunked\n") + "0\n\n"},
		{"TE with parameter", post("Transfer-Encoding: chunked;x=y\n") + "0\n\n"},
		{"TE quoted", post("Transfer-Encoding: 'chunked'\n") + "0\n\n"},
		{"TE empty", post("Transfer-Encoding:\n")},
		{"TE vertical tab", post("Transfer-Encoding:\x0bchunked\n") + "0\n\n"},
		{"TE trailing vertical tab", post("Transfer-Encoding: chunked\x0b\n") + "0\n\n"},
		{"TE form feed", post("Transfer-Encoding: \x0cchunked\n") + "0\n\n"},
		{"TE NUL", post("Transfer-Encoding: chunked\x00\n") + "0\n\n"},
		{"TE no-break space", post("Transfer-Encoding:\xa0chunked\n") + "0\n\n"},
		{"TE long s", post("Tran\u017ffer-Encoding: chunked\n") + "0\n\n"},
		{"TE Kelvin sign", post("Transfer-Encoding: chun\u212aed\n") + "0\n\n"},
		{"TE space before colon", post("Transfer-Encoding : chunked\n") + "0\n\n"},
		{"TE tab before colon", post("Transfer-Encoding\t: chunked\n") + "0\n\n"},
		{"TE leading space", "POST /first HTTP/1.1\nHost: " + name + "\n Transfer-Encoding: chunked\n\n0\n\n"},
		{"TE folded value", post("Transfer-Encoding:\n chunked\n") + "0\n\n"},
		{"TE folded behind another", post("X: y\n Transfer-Encoding: chunked\n") + "0\n\n"},
		{"TE behind bare LF", post("X: y\\lTransfer-Encoding: chunked\n") + "0\n\n"},
		{"TE behind bare CR", post("X: y\rTransfer-Encoding: chunked\n") + "0\n\n"},
		{"TE with bare CR", post("Transfer-Encoding: chunked\r\r\n") + "0\n\n"},
		{"TE in HTTP/1.0", strings.Replace(post("Transfer-Encoding: chunked\n"), "1.1", "1.0", 1) + "0\n\n"},
		{"TE with NUL in the name", post("Transfer\x00-Encoding: chunked\n") + "0\n\n"},
		{"no name", get(": x\n")},
		{"no colon", get("Transfer-Encoding\n")},
		{"fold at the start", "GET /first HTTP/1.1\n Host: " + name + "\n\n"},
		{"bare LF after the request line", "GET /first HTTP/1.1\\lHost: " + name + "\n\n"},
		{"bare LF everywhere", "GET /first HTTP/1.1\\lHost: " + name + "\\l\\l"},
		{"bare LF at the end", "GET /first HTTP/1.1\nHost: " + name + "\n\\l"},
		{"no Host", "GET /first HTTP/1.1\n\n"},
		{"two Hosts", get("Host: other.example.test\n")},
		{"two equal Hosts", get("Host: " + name + "\n")},
		{"Host list", "GET /first HTTP/1.1\nHost: " + name + ", other.example.test\n\n"},
		{"Host with path", "GET /first HTTP/1.1\nHost: " + name + "/x\n\n"},
		{"Host with user", "GET /first HTTP/1.1\nHost: x@" + name + "\n\n"},
		{"Host with port word", "GET /first HTTP/1.1\nHost: " + name + ":x\n\n"},
		{"empty Host", "GET /first HTTP/1.1\nHost:\n\n"},
		{"folded Host", "GET /first HTTP/1.1\nHost:\n " + name + "\n\n"},
		{"target of another host", "GET http://other.example.test/first HTTP/1.1\nHost: " + name + "\n\n"},
		{"two spaces", "GET  /first HTTP/1.1\nHost: " + name + "\n\n"},
		{"tab for a space", "GET\t/first\tHTTP/1.1\nHost: " + name + "\n\n"},
		{"space before the method", " GET /first HTTP/1.1\nHost: " + name + "\n\n"},
		{"space after the version", "GET /first HTTP/1.1 \nHost: " + name + "\n\n"},
		{"space in the target", "GET /first x HTTP/1.1\nHost: " + name + "\n\n"},
		{"NUL in the target", "GET /first\x00 HTTP/1.1\nHost: " + name + "\n\n"},
		{"CR in the target", "GET /first\rX HTTP/1.1\nHost: " + name + "\n\n"},
		{"fragment", "GET /first#x HTTP/1.1\nHost: " + name + "\n\n"},
		{"HTTP/0.9", "GET /first\n\n"},
		{"HTTP/1.2", "GET /first HTTP/1.2\nHost: " + name + "\n\n"},
		{"HTTP/2.0", "GET /first HTTP/2.0\nHost: " + name + "\n\n"},
		{"HTTP/01.1", "GET /first HTTP/01.1\nHost: " + name + "\n\n"},
		{"HTTP/2 preface", "PRI * HTTP/2.0\n\nSM\n\n"},
		{"two empty lines", "\n\nGET /first HTTP/1.1\nHost: " + name + "\n\n"},
		{"bare LF before", "\\lGET /first HTTP/1.1\nHost: " + name + "\n\n"},
		{"control in a value", get("X: \x01\n")},
		{"delete in a value", get("X: \x7f\n")},
		{"trailer that frames", post("Transfer-Encoding: chunked\nTrailer: Content-Length\n") + "0\n\n"},
		{"CONNECT with a body", "CONNECT " + name + ":443 HTTP/1.1\nHost: " + name + "\nContent-Length: 5\n\n"},
	}
	bodies := []struct{ name, in string }{
		{"chunk size with sign", chunked("+0\n\n")},
		{"chunk size with prefix", chunked("0x0\n\n")},
		{"chunk size with space before", chunked(" 0\n\n")},
		{"chunk size with space after", chunked("0 \n\n")},
		{"chunk size with tab", chunked("0\t\n\n")},
		{"chunk size empty", chunked("\n\n")},
		{"chunk size wraps 32 bits", chunked("100000000\nX\n0\n\n")},
		{"chunk size wraps 64 bits", chunked("10000000000000000\nX\n0\n\n")},
		{"chunk size of many zeros", chunked("0000000000000000000000\n\n")},
		{"chunk size with underscore", chunked("0_0\n\n")},
		{"chunk with bare LF after its size", chunked("1\\lX\n0\n\n")},
		{"chunk with bare CR after its size", chunked("1\rX\n0\n\n")},
		{"chunk with bare LF in its extension", chunked("1;a\\lX\n0\n\n")},
		{"chunk with CR in its extension", chunked("1;a\rb\nX\n0\n\n")},
		{"chunk with NUL in its extension", chunked("1;\x00\nX\n0\n\n")},
		{"chunk with long extension", chunked("1;" + strings.Repeat("a", 5000) + "\nX\n0\n\n")},
		{"chunk longer than its size", chunked("1\nXX\n0\n\n")},
		{"chunk ended by bare LF", chunked("1\nX\\l0\n\n")},
		{"last chunk with bare LF", chunked("0\\l\\l")},
		{"trailers ended by bare LF", chunked("0\nX: y\\l\\l")},
		{"trailer with framing", chunked("0\nContent-Length: 5\n\n")},
		{"trailer with host", chunked("0\nHost: x\n\n")},
		{"trailer folded", chunked("0\nX: y\n z\n\n")},
		{"trailer without colon", chunked("0\nGET /smuggled HTTP/1.1\n\n")},
		{"trailers too long", chunked("0\nX: " + strings.Repeat("y", 8000) + "\n\n")},
	}
	try := func(t *testing.T, in string) (res *http.Response) {
		mu.Lock()
		seen = nil
		mu.Unlock()
		c := s.dial(t, "http/1.1")
		in = strings.ReplaceAll(strings.ReplaceAll(in, "\n", "\r\n"), `\l`, "\n")
		io.WriteString(c, in+smuggler)
		c.CloseWrite() // whatever is waited for does not come
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return nil // closed without an answer
		}
		if !refusal(res.StatusCode) {
			t.Errorf("%q: answer %s; want 400", in, res.Status)
		}
		io.Copy(io.Discard, res.Body)
		for more := 0; ; more++ {
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				break // the end
			}
			io.Copy(io.Discard, res.Body)
			if !refusal(res.StatusCode) || more > 0 {
				t.Errorf("%q: a further answer %s; want the end", in, res.Status)
			}
		}
		return res
	}
	for _, tt := range heads {
		t.Run(tt.name, func(t *testing.T) {
			if try(t, tt.in) == nil {
				t.Errorf("%q: no answer; want 400", tt.in)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) > 0 {
				t.Errorf("%q: the handler saw %q; want nothing", tt.in, seen)
			}
		})
	}
	for _, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			try(t, tt.in)
			mu.Lock()
			defer mu.Unlock()
			if len(seen) > 1 || len(seen) == 1 && seen[0] != "/first" {
				t.Errorf("%q: the handler saw %q; want /first alone", tt.in, seen)
			}
		})
	}
}

// What is unusual but has one meaning is served.
func TestServerToleratesTheHarmless(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("%s: body: %v", r.RequestURI, err)
		}
		w.Write(b)
	}), nil)
	tests := []struct{ name, in, want string }{
		{"empty line before", "\nGET / HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"pipelined", "GET / HTTP/1.1\nHost: " + name + "\n\nGET / HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"chunks with extension and trailer", "POST / HTTP/1.1\nHost: " + name + "\nTransfer-Encoding: Chunked\n\n3;a=b\nabc\n01\nd\n0\nX: y\n\n", "abcd"},
		{"length", "POST / HTTP/1.1\nHost: " + name + "\nContent-Length: 4\n\nabcd", "abcd"},
		{"absolute form", "GET http://" + name + "/ HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"asterisk", "OPTIONS * HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"odd query", "GET /?a={|}^`%zz HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"utf-8", "GET /ü HTTP/1.1\nHost: " + name + "\nX: ü\n\n", ""},
	}
	for _, tt := range tests {
		for _, step := range []int{1, 7, 1 << 20} {
			c := s.dial(t, "http/1.1")
			in := strings.ReplaceAll(tt.in, "\n", "\r\n") + "GET /last HTTP/1.0\r\n\r\n"
			for b := []byte(in); len(b) > 0; b = b[min(step, len(b)):] {
				c.Write(b[:min(step, len(b))])
			}
			all, err := io.ReadAll(c)
			n := strings.Count(tt.in, "HTTP/1.1") + 1
			if got := strings.Count(string(all), "HTTP/1.1 200 OK") + strings.Count(string(all), "HTTP/1.0 200 OK"); err != nil || got != n || !strings.Contains(string(all), tt.want) {
				t.Errorf("%s in steps of %d: answer %q, %v; want %d good ones with %q", tt.name, step, all, err, n, tt.want)
			}
		}
	}
}
