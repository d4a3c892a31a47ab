package server_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// smuggler is what follows a request that two servers could end at different
// places. It must never be seen as a request of its own.
const smuggler = "GET /smuggled HTTP/1.1\r\nHost: " + name + "\r\n\r\n"

func post(fields string) string {
	return "POST /first HTTP/1.1\nHost: " + name + "\n" + fields + "\n"
}

func chunkedPost(body string) string { return post("Transfer-Encoding: chunked\n") + body }

func getWith(fields string) string {
	return "GET /first HTTP/1.1\nHost: " + name + "\n" + fields + "\n"
}

// badHeads must be refused before any handler sees them; status 0 means 400. 501
// and 505 are for what is well-formed and not known here (RFC 9112, section 6.1;
// RFC 9110, section 15.6.6): net/http's server, behind wire.Guard, can answer
// nothing but 400. In them \n stands for CRLF, \l for a bare LF.
var badHeads = []struct {
	name, in string
	status   int
}{
	{"CL.TE", post("Content-Length: 6\nTransfer-Encoding: chunked\n") + "0\n\nX", 0},
	{"TE.CL", post("Transfer-Encoding: chunked\nContent-Length: 3\n") + "8\nSMUGGLED\n0\n\n", 0},
	{"CL.0 with TE", post("Content-Length: 0\nTransfer-Encoding: chunked\n") + "0\n\n", 0},
	{"CL.CL different", post("Content-Length: 0\nContent-Length: 5\n"), 0},
	{"CL.CL equal", post("Content-Length: 0\nContent-Length: 0\n"), 0},
	{"CL.CL in other case", post("Content-Length: 0\ncontent-length: 5\n"), 0},
	{"CL list", post("Content-Length: 0, 5\n"), 0},
	{"CL list of equals", post("Content-Length: 0, 0\n"), 0},
	{"CL plus", post("Content-Length: +0\n"), 0},
	{"CL minus", post("Content-Length: -1\n"), 0},
	{"CL hex", post("Content-Length: 0x0\n"), 0},
	{"CL octal", post("Content-Length: 00\n"), 0},
	{"CL with letters", post("Content-Length: 0abc\n"), 0},
	{"CL with inner space", post("Content-Length: 1 0\n"), 0},
	{"CL float", post("Content-Length: 0.0\n"), 0},
	{"CL empty", post("Content-Length:\n"), 0},
	{"CL quoted", post("Content-Length: \"0\"\n"), 0},
	{"CL overflow of 64 bits", post("Content-Length: 18446744073709551616\n"), 0},
	{"CL with NUL", post("Content-Length: 0\x00\n"), 0},
	{"CL with vertical tab", post("Content-Length: \x0b0\n"), 0},
	{"CL with other digits", post("Content-Length: ٠\n"), 0},
	{"TE.TE two fields", post("Transfer-Encoding: chunked\nTransfer-Encoding: identity\n") + "0\n\n", 0},
	{"TE.TE same twice", post("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n") + "0\n\n", 0},
	{"TE xchunked", post("Transfer-Encoding: xchunked\n") + "0\n\n", 0},
	{"TE chunkedx", post("Transfer-Encoding: chunkedx\n") + "0\n\n", 0},
	{"TE identity", post("Transfer-Encoding: identity\n"), 0},
	{"TE identity, chunked", post("Transfer-Encoding: identity, chunked\n") + "0\n\n", 501},
	{"TE gzip, chunked", post("Transfer-Encoding: gzip, chunked\n") + "0\n\n", 501},
	{"TE chunked, identity", post("Transfer-Encoding: chunked, identity\n") + "0\n\n", 0},
	{"TE chunked, chunked", post("Transfer-Encoding: chunked, chunked\n") + "0\n\n", 0},
	{"TE chunked,", post("Transfer-Encoding: chunked,\n") + "0\n\n", 0},
	{"TE , chunked", post("Transfer-Encoding: , chunked\n") + "0\n\n", 0},
	{"TE with parameter", post("Transfer-Encoding: chunked;x=y\n") + "0\n\n", 0},
	{"TE quoted", post("Transfer-Encoding: 'chunked'\n") + "0\n\n", 0},
	{"TE empty", post("Transfer-Encoding:\n"), 0},
	{"TE vertical tab", post("Transfer-Encoding:\x0bchunked\n") + "0\n\n", 0},
	{"TE trailing vertical tab", post("Transfer-Encoding: chunked\x0b\n") + "0\n\n", 0},
	{"TE form feed", post("Transfer-Encoding: \x0cchunked\n") + "0\n\n", 0},
	{"TE NUL", post("Transfer-Encoding: chunked\x00\n") + "0\n\n", 0},
	{"TE no-break space", post("Transfer-Encoding:\xa0chunked\n") + "0\n\n", 0},
	{"TE long s", post("Tran\u017ffer-Encoding: chunked\n") + "0\n\n", 0},
	{"TE Kelvin sign", post("Transfer-Encoding: chun\u212aed\n") + "0\n\n", 0},
	{"TE space before colon", post("Transfer-Encoding : chunked\n") + "0\n\n", 0},
	{"TE tab before colon", post("Transfer-Encoding\t: chunked\n") + "0\n\n", 0},
	{"TE leading space", "POST /first HTTP/1.1\nHost: " + name + "\n Transfer-Encoding: chunked\n\n0\n\n", 0},
	{"TE folded value", post("Transfer-Encoding:\n chunked\n") + "0\n\n", 0},
	{"TE folded behind another", post("X: y\n Transfer-Encoding: chunked\n") + "0\n\n", 0},
	{"TE behind bare LF", post("X: y\\lTransfer-Encoding: chunked\n") + "0\n\n", 0},
	{"TE behind bare CR", post("X: y\rTransfer-Encoding: chunked\n") + "0\n\n", 0},
	{"TE with bare CR", post("Transfer-Encoding: chunked\r\r\n") + "0\n\n", 0},
	{"TE in HTTP/1.0", strings.Replace(post("Transfer-Encoding: chunked\n"), "1.1", "1.0", 1) + "0\n\n", 0},
	{"TE with NUL in the name", post("Transfer\x00-Encoding: chunked\n") + "0\n\n", 0},
	{"no name", getWith(": x\n"), 0},
	{"no colon", getWith("Transfer-Encoding\n"), 0},
	{"fold at the start", "GET /first HTTP/1.1\n Host: " + name + "\n\n", 0},
	{"bare LF after the request line", "GET /first HTTP/1.1\\lHost: " + name + "\n\n", 0},
	{"bare LF everywhere", "GET /first HTTP/1.1\\lHost: " + name + "\\l\\l", 0},
	{"bare LF at the end", "GET /first HTTP/1.1\nHost: " + name + "\n\\l", 0},
	{"no Host", "GET /first HTTP/1.1\n\n", 0},
	{"two Hosts", getWith("Host: other.example.test\n"), 0},
	{"two equal Hosts", getWith("Host: " + name + "\n"), 0},
	{"Host list", "GET /first HTTP/1.1\nHost: " + name + ", other.example.test\n\n", 0},
	{"Host with path", "GET /first HTTP/1.1\nHost: " + name + "/x\n\n", 0},
	{"Host with user", "GET /first HTTP/1.1\nHost: x@" + name + "\n\n", 0},
	{"Host with port word", "GET /first HTTP/1.1\nHost: " + name + ":x\n\n", 0},
	{"empty Host", "GET /first HTTP/1.1\nHost:\n\n", 0},
	{"folded Host", "GET /first HTTP/1.1\nHost:\n " + name + "\n\n", 0},
	{"target of another host", "GET http://other.example.test/first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"two spaces", "GET  /first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"tab for a space", "GET\t/first\tHTTP/1.1\nHost: " + name + "\n\n", 0},
	{"space before the method", " GET /first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"space after the version", "GET /first HTTP/1.1 \nHost: " + name + "\n\n", 0},
	{"space in the target", "GET /first x HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"NUL in the target", "GET /first\x00 HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"CR in the target", "GET /first\rX HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"fragment", "GET /first#x HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"HTTP/0.9", "GET /first\n\n", 0},
	{"HTTP/1.2", "GET /first HTTP/1.2\nHost: " + name + "\n\n", 505},
	{"HTTP/2.0", "GET /first HTTP/2.0\nHost: " + name + "\n\n", 505},
	{"HTTP/01.1", "GET /first HTTP/01.1\nHost: " + name + "\n\n", 0},
	{"HTTP/2 preface", "PRI * HTTP/2.0\n\nSM\n\n", 505},
	{"two empty lines", "\n\nGET /first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"bare LF before", "\\lGET /first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"bare CR before", "\rGET /first HTTP/1.1\nHost: " + name + "\n\n", 0},
	{"control in a value", getWith("X: \x01\n"), 0},
	{"delete in a value", getWith("X: \x7f\n"), 0},
	{"trailer that frames", post("Transfer-Encoding: chunked\nTrailer: Content-Length\n") + "0\n\n", 0},
	{"CONNECT with a body", "CONNECT " + name + ":443 HTTP/1.1\nHost: " + name + "\nContent-Length: 5\n\n", 0},
	{"TLS on plaintext", "\x16\x03\x01\x02\x00\x01", 0},
	{"head over the limit", getWith("X: " + strings.Repeat("x", 70000) + "\n"), 431},
	{"target over the limit", "GET /" + strings.Repeat("x", 70000) + " HTTP/1.1\nHost: " + name + "\n\n", 431},
	{"head without an end", "GET /first HTTP/1.1\nX: " + strings.Repeat("x", 1<<20), 431},
}

// badBodies follow a good head: the handler may see that, and an error.
var badBodies = []struct{ name, in string }{
	{"chunk size with sign", chunkedPost("+0\n\n")},
	{"chunk size with prefix", chunkedPost("0x0\n\n")},
	{"chunk size with space before", chunkedPost(" 0\n\n")},
	{"chunk size with space after", chunkedPost("0 \n\n")},
	{"chunk size with tab", chunkedPost("0\t\n\n")},
	{"chunk size empty", chunkedPost("\n\n")},
	{"chunk size wraps 32 bits", chunkedPost("100000000\nX\n0\n\n")},
	{"chunk size wraps 64 bits", chunkedPost("10000000000000000\nX\n0\n\n")},
	{"chunk size of many zeros", chunkedPost("0000000000000000000000\n\n")},
	{"chunk size with underscore", chunkedPost("0_0\n\n")},
	{"chunk with bare LF after its size", chunkedPost("1\\lX\n0\n\n")},
	{"chunk with bare CR after its size", chunkedPost("1\rX\n0\n\n")},
	{"chunk with bare LF in its extension", chunkedPost("1;a\\lX\n0\n\n")},
	{"chunk with CR in its extension", chunkedPost("1;a\rb\nX\n0\n\n")},
	{"chunk with NUL in its extension", chunkedPost("1;\x00\nX\n0\n\n")},
	{"chunk with long extension", chunkedPost("1;" + strings.Repeat("a", 5000) + "\nX\n0\n\n")},
	{"chunk longer than its size", chunkedPost("1\nXX\n0\n\n")},
	{"chunk ended by bare LF", chunkedPost("1\nX\\l0\n\n")},
	{"last chunk with bare LF", chunkedPost("0\\l\\l")},
	{"trailers ended by bare LF", chunkedPost("0\nX: y\\l\\l")},
	{"trailer with framing", chunkedPost("0\nContent-Length: 5\n\n")},
	{"trailer with host", chunkedPost("0\nHost: x\n\n")},
	{"trailer folded", chunkedPost("0\nX: y\n z\n\n")},
	{"trailer without colon", chunkedPost("0\nGET /smuggled HTTP/1.1\n\n")},
	{"trailers too long", chunkedPost("0\nX: " + strings.Repeat("y", 8000) + "\n\n")},
}

// TestRefusesSmuggling sends what is known to be read in two ways, arriving at
// once and in pieces.
func TestRefusesSmuggling(t *testing.T) {
	noLeak(t)
	var mu sync.Mutex
	seen := map[string][]string{}
	handlers := map[string]http.HandlerFunc{
		"reads": func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				http.Error(w, "bad body", http.StatusBadRequest)
			}
		},
		"ignores": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"closes":  func(w http.ResponseWriter, r *http.Request) { r.Body.Close(); w.WriteHeader(http.StatusBadRequest) },
		"flushes": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			http.NewResponseController(w).EnableFullDuplex()
			http.NewResponseController(w).Flush()
		},
	}
	for kind, h := range handlers {
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen[r.RemoteAddr] = append(seen[r.RemoteAddr], r.URL.Path)
			mu.Unlock()
			h(w, r)
		}), nil)
		try := func(t *testing.T, in string, step int) (paths []string, status int) {
			c := s.dial(t)
			mu.Lock()
			delete(seen, c.LocalAddr().String()) // of an earlier connection from that port
			mu.Unlock()
			in = strings.ReplaceAll(strings.ReplaceAll(in, "\n", "\r\n"), `\l`, "\n")
			c.SetNoDelay(true)
			go func() {
				for b := []byte(in + smuggler); len(b) > 0; b = b[min(step, len(b)):] {
					if _, err := c.Write(b[:min(step, len(b))]); err != nil {
						return
					}
				}
				c.CloseWrite() // whatever is waited for does not come
			}()
			br := bufio.NewReader(c)
			for n := 0; ; n++ {
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					break
				}
				if n > 0 || res.StatusCode < 400 {
					t.Errorf("%.100q: answer %d is %s; want one error", in, n+1, res.Status)
				}
				if !res.Close && n == 0 && kind != "flushes" {
					t.Errorf("%.100q: the answer does not say that the connection ends", in)
				}
				status = res.StatusCode
				io.Copy(io.Discard, res.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			return seen[c.LocalAddr().String()], status
		}
		for _, step := range []int{1 << 20, 11} {
			for _, tt := range badHeads {
				t.Run(kind+"/"+tt.name, func(t *testing.T) {
					if len(tt.in) > 10000 && step < 1000 {
						t.Skip("too slow in pieces")
					}
					want := tt.status
					if want == 0 {
						want = http.StatusBadRequest
					}
					paths, status := try(t, tt.in, step)
					if len(paths) > 0 || status != want {
						t.Errorf("%.100q: the handler saw %q, answer %d; want nothing, %d", tt.in, paths, status, want)
					}
				})
			}
			for _, tt := range badBodies {
				t.Run(kind+"/"+tt.name, func(t *testing.T) {
					paths, _ := try(t, tt.in, step)
					if len(paths) > 1 || len(paths) == 1 && paths[0] != "/first" {
						t.Errorf("%.100q: the handler saw %q; want /first alone", tt.in, paths)
					}
				})
			}
		}
	}
}

// What is unusual but has one meaning is served, however it arrives.
func TestToleratesTheHarmless(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("%s: body: %v", r.RequestURI, err)
		}
		w.Write(b)
	}), secure)
	tests := []struct{ name, in, want string }{
		{"empty line before", "\nGET / HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"pipelined", "GET / HTTP/1.1\nHost: " + name + "\n\nGET / HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"chunks with extension and trailer", "POST / HTTP/1.1\nHost: " + name + "\nTransfer-Encoding: Chunked\n\n3;a=b\nabc\n01\nd\n0\nX: y\n\n", "abcd"},
		{"length", "POST / HTTP/1.1\nHost: " + name + "\nContent-Length: 4\n\nabcd", "abcd"},
		{"empty line between", "POST / HTTP/1.1\nHost: " + name + "\nContent-Length: 4\n\nabcd\nGET / HTTP/1.1\nHost: " + name + "\n\n", "abcd"},
		{"absolute form", "GET http://" + name + "/ HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"asterisk", "OPTIONS * HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"odd query", "GET /?a={|}^`%zz HTTP/1.1\nHost: " + name + "\n\n", ""},
		{"utf-8", "GET /ü HTTP/1.1\nHost: " + name + "\nX: ü\n\n", ""},
		{"long head", "GET / HTTP/1.1\nHost: " + name + "\nX: " + strings.Repeat("x", 60000) + "\n\n", ""},
	}
	for _, tt := range tests {
		for _, step := range []int{1, 7, 1 << 20} {
			if len(tt.in) > 10000 && step < 10 {
				continue
			}
			c := s.dialTLS(t)
			in := strings.ReplaceAll(tt.in, "\n", "\r\n") + "GET /last HTTP/1.0\r\n\r\n"
			go func() {
				for b := []byte(in); len(b) > 0; b = b[min(step, len(b)):] {
					c.Write(b[:min(step, len(b))])
				}
			}()
			all, err := io.ReadAll(c)
			n := strings.Count(tt.in, "HTTP/1.1") + 1
			if got := strings.Count(string(all), "HTTP/1.1 200 OK") + strings.Count(string(all), "HTTP/1.0 200 OK"); err != nil || got != n || !strings.Contains(string(all), tt.want) {
				t.Errorf("%s in steps of %d: answer %q, %v; want %d good ones with %q", tt.name, step, all, err, n, tt.want)
			}
		}
	}
}

// Some clients send an empty line behind a request. It begins no other one, so its
// end is not answered.
func TestEmptyLineIsNoRequest(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), nil)
	for in, want := range map[string]int{
		"\r\n": 0,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n": 1,
		get + get + "\r\n": 2,
	} {
		got := talk(t, s.addr, in)
		if n := strings.Count(got, "HTTP/1.1 "); n != want || strings.Count(got, "200 OK") != n {
			t.Errorf("%q: answered %q; want %d answers", in, got, want)
		}
	}
	if log := s.log.String(); strings.Contains(log, "refused") {
		t.Errorf("the log speaks of a refusal: %s", log)
	}
}
