package server_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// handlers are what servers are compared with, by path.
var handlers = map[string]http.HandlerFunc{
	"/empty":   func(w http.ResponseWriter, r *http.Request) {},
	"/hello":   func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") },
	"/html":    func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><body>hello") },
	"/binary":  func(w http.ResponseWriter, r *http.Request) { w.Write([]byte{0, 1, 2, 255}) },
	"/emptywr": func(w http.ResponseWriter, r *http.Request) { w.Write(nil) },
	"/type": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "x/y")
		io.WriteString(w, "a")
	},
	"/notype": func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil; io.WriteString(w, "a") },
	"/nodate": func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil; io.WriteString(w, "a") },
	"/date":   func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Date", "x") },
	"/encoding": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		io.WriteString(w, "a")
	},
	"/noenc": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "")
		io.WriteString(w, "a")
	},
	"/length": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	},
	"/length0": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "0") },
	"/lengthnil": func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Length"] = nil
		io.WriteString(w, "a")
	},
	"/short": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "9")
		io.WriteString(w, "hello")
	},
	"/long": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, err := io.WriteString(w, "hello")
		if err != http.ErrContentLength {
			panic(err)
		}
	},
	"/badlength": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "x")
		io.WriteString(w, "hello")
	},
	"/flush": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		io.WriteString(w, "two")
	},
	"/flushempty": func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush() },
	"/flushtwice": func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		w.(http.Flusher).Flush()
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
	},
	"/flushlength": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		io.WriteString(w, "two")
	},
	"/2048":      func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 2048)) },
	"/2049":      func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 2049)) },
	"/100k":      func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("abcdefgh\n", 12000)) },
	"/pieces":    func(w http.ResponseWriter, r *http.Request) { pieces(w, 10, 700) },
	"/manysmall": func(w http.ResponseWriter, r *http.Request) { pieces(w, 3000, 7) },
	"/mixed": func(w http.ResponseWriter, r *http.Request) {
		for n := range 60 {
			io.WriteString(w, strings.Repeat("x", n*n*3))
			if n%7 == 0 {
				w.(http.Flusher).Flush()
			}
		}
	},
	"/lengthpieces": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(40*700))
		pieces(w, 40, 700)
	},
	"/copy": func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, strings.NewReader(strings.Repeat("z", 100000)))
	},
	"/201":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) },
	"/204":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
	"/204write": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204); writes(w, http.ErrBodyNotAllowed) },
	"/204fields": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Content-Type", "x/y")
		w.WriteHeader(204)
	},
	"/304": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) },
	"/304fields": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Content-Type", "x/y")
		w.Header().Set("ETag", `"e"`)
		w.WriteHeader(304)
	},
	"/599":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(599); io.WriteString(w, "odd") },
	"/redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) },
	"/location": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://x/")
		w.WriteHeader(302)
	},
	"/error":    func(w http.ResponseWriter, r *http.Request) { http.Error(w, "bad thing", 500) },
	"/notfound": http.NotFound,
	"/twice": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.WriteHeader(500)
		io.WriteString(w, "x")
	},
	"/latefield": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("A", "1")
		w.WriteHeader(200)
		w.Header().Set("B", "2")
		w.Header().Set("A", "3")
		io.WriteString(w, "x")
	},
	"/latefirst": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		w.Header().Set("B", "2")
	},
	"/many": func(w http.ResponseWriter, r *http.Request) {
		for i := range 60 {
			w.Header().Add(fmt.Sprint("X-", i%30), strings.Repeat("v", i))
		}
	},
	"/large": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 30000))
		io.WriteString(w, "ok")
	},
	"/crlf": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", "a\r\nB: c")
		w.Header().Set("Y", "  padded\t ")
		w.Header()["Bad Name"] = []string{"x"}
		w.Header()["lower"] = []string{"x"}
		w.Header()["Empty"] = []string{""}
	},
	"/close": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "x")
	},
	"/closelist": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "x, close")
		io.WriteString(w, "x")
	},
	"/keepalive": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "keep-alive")
		w.Header().Set("Content-Length", "1")
		io.WriteString(w, "x")
	},
	"/identity": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", "identity")
		io.WriteString(w, "x")
	},
	"/identitylength": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", "identity")
		w.Header().Set("Content-Length", "1")
		io.WriteString(w, "x")
	},
	"/chunked": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		io.WriteString(w, "x")
	},
	"/chunkedlength": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		w.Header().Set("Content-Length", "1")
		io.WriteString(w, "x")
	},
	"/trailer": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "A, b")
		w.Header().Add("Trailer", "Content-Length")
		io.WriteString(w, "x")
		w.Header().Set("A", "1")
		w.Header().Set("B", "2")
		w.Header().Set("C", "3")
	},
	"/latetrailer": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"Late", "1")
	},
	"/earlytrailer": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(http.TrailerPrefix+"Late", "1")
		io.WriteString(w, "x")
	},
	"/trailerempty": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "A")
		w.WriteHeader(200)
		w.Header().Set("A", "1")
	},
	"/103": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.Header().Set("Content-Length", "1")
		w.WriteHeader(103)
		w.Header().Set("X", "y")
		io.WriteString(w, "x")
	},
	"/102twice": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(102)
		w.WriteHeader(102)
		w.WriteHeader(200)
	},
	"/101": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(101)
	},
	"/panic":      func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	"/panicwrite": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x"); panic(http.ErrAbortHandler) },
	"/panicflush": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	},
	"/panichalf": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6000")
		w.Write(make([]byte, 3000))
		panic(http.ErrAbortHandler)
	},
	"/panicsmall": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		io.WriteString(w, "xxx")
		panic(http.ErrAbortHandler)
	},
	"/panicwhole": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "xxx")
		panic(http.ErrAbortHandler)
	},
	"/panicchunk": func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 3000))
		panic(http.ErrAbortHandler)
	},
	"/invalidcode": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(99) },
	"/readclose": func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		fmt.Fprint(w, second(r.Body.Read(make([]byte, 1))))
	},
	"/readafter": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v", b, err)
	},
	"/echo": func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %.100q %v", len(b), b, err)
	},
	"/readone": func(w http.ResponseWriter, r *http.Request) {
		n, err := io.ReadFull(r.Body, make([]byte, 1))
		fmt.Fprint(w, n, " ", err)
	},
	"/form": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.FormValue("a"), r.PostForm, r.Form)
	},
	"/duplex": func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %v", len(b), err)
	},
	"/duplexleft": func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.WriteString(w, "x")
	},
	"/describe": describe,
	"/hijack": func(w http.ResponseWriter, r *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		early, _ := buffered.Peek(buffered.Reader.Buffered())
		fmt.Fprintf(c, "mine %d", len(early)) // plain TCP from here
		if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
			fmt.Fprint(c, err)
		}
		if _, _, err := w.(http.Hijacker).Hijack(); err != http.ErrHijacked {
			fmt.Fprint(c, err)
		}
	},
	"/hijacklate": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Close()
	},
}

func second[A, B any](_ A, b B) B { return b }

func pieces(w io.Writer, n, size int) {
	for i := range n {
		io.WriteString(w, strings.Repeat(string(rune('a'+i%26)), size))
	}
}

func writes(w io.Writer, want error) {
	if _, err := io.WriteString(w, "x"); err != want {
		panic(err)
	}
}

// describe tells all that a handler can know of its request.
func describe(w http.ResponseWriter, r *http.Request) {
	_, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s|%s|%s|%d.%d|%q|%q\n", r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host, r.RemoteAddr)
	fmt.Fprintf(w, "%#v\n", *r.URL)
	fmt.Fprintf(w, "%d %v %v %v %v %v\n", r.ContentLength, r.TransferEncoding, r.Close, r.TLS, r.Body == http.NoBody, err)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(w, "%s=%q\n", k, r.Header[k])
	}
	fmt.Fprintf(w, "trailer %v %v\n", r.Trailer == nil, r.Trailer)
	_, isServer := r.Context().Value(http.ServerContextKey).(*http.Server)
	_, isAddr := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	_, hasDeadline := r.Context().Deadline()
	fmt.Fprintln(w, isServer, isAddr, hasDeadline, r.Context().Value("x"))
}

// requests are what each handler is asked with; %s is its path. Those that end
// with the connection show with a second request whether it lived on.
var requests = map[string]string{
	"get":         "GET %s HTTP/1.1\r\nHost: a\r\n\r\n",
	"head":        "HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n",
	"close":       "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"old":         "GET %s HTTP/1.0\r\n\r\n",
	"old keep":    "GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"old head":    "HEAD %s HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
	"post":        "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\na=b&c=d",
	"chunked":     "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
	"trailers":    "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
	"expect":      "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
	"medium body": "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("b", 100000),
}

// heads are requests that both servers must understand alike; "\n" stands for
// CRLF.
var heads = []string{
	"GET /a HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\nHost: a:80\nConnection: close\n\n",
	"GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n",
	"GET / HTTP/1.1\nHost: a\nConnection: keep-alive\n\n",
	"GET / HTTP/1.0\n\n",
	"GET /?a=b&c=%zz HTTP/1.1\nHost: a\n\n",
	"GET /? HTTP/1.1\nHost: a\n\n",
	"GET /?? HTTP/1.1\nHost: a\n\n",
	"GET /a?b? HTTP/1.1\nHost: a\n\n",
	"GET // HTTP/1.1\nHost: a\n\n",
	"GET //b/c HTTP/1.1\nHost: a\n\n",
	"GET ///b HTTP/1.1\nHost: a\n\n",
	"GET /a//b/../c/./ HTTP/1.1\nHost: a\n\n",
	"GET /%41%2F%20 HTTP/1.1\nHost: a\n\n",
	"GET /a!b HTTP/1.1\nHost: a\n\n",
	"GET /a*b'c(d) HTTP/1.1\nHost: a\n\n",
	"GET /a|b\"c<d>e^f`g{h}i HTTP/1.1\nHost: a\n\n",
	"GET /[x] HTTP/1.1\nHost: a\n\n",
	"GET /ü?ü HTTP/1.1\nHost: a\n\n",
	"GET /a:b@c;d=e,f+g$h&i~j HTTP/1.1\nHost: a\n\n",
	"GET /a\\b HTTP/1.1\nHost: a\n\n",
	"GET http://a/b?c HTTP/1.1\nHost: a\n\n",
	"GET http://a HTTP/1.1\nHost: A\n\n",
	"GET https://a:1/%2f HTTP/1.1\nHost: a:1\n\n",
	"OPTIONS * HTTP/1.1\nHost: a\n\n",
	"OPTIONS /x HTTP/1.1\nHost: a\n\n",
	"CONNECT a:443 HTTP/1.1\nHost: a:443\n\n",
	"CONNECT a:443 HTTP/1.1\nHost: b\n\n",
	"DELETE / HTTP/1.1\nHost: [::1]:80\n\n",
	"PATCH / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx",
	"PUT / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
	"M-SEARCH /x HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\nHost: a\nX: 1\nx: 2\nX: 3\n\n",
	"GET / HTTP/1.1\nHost: a\nX:\nY: \t \nZ: a b\t\n\n",
	"GET / HTTP/1.1\nhost: a\nuser-agent: b\nacCEPT-enCOding: gzip\nx_y: z\nETAG: w\n\n",
	"GET / HTTP/1.1\nHost: a\nPragma: no-cache\n\n",
	"GET / HTTP/1.1\nHost: a\nPragma: no-cache\nCache-Control: x\n\n",
	"GET / HTTP/1.1\nHost: a\nPragma: x\n\n",
	"GET / HTTP/1.1\nHost: a\nTrailer: X\n\n",
	"GET / HTTP/1.1\nHost: a\nTE: trailers\nUpgrade: h2c\nConnection: TE, Upgrade\n\n",
	"GET / HTTP/1.1\nHost: a\nX: ü\xff\n\n",
	"GET / HTTP/1.1\nHost: a\nCookie: a=b\nCookie: c=d\n\n",
	"GET / HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc",
	"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: CHUNKED\n\n3\nabc\n0\n\n",
	"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n",
	"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: a, B-c\nTrailer: d\n\n0\na: 1\nB-C: 2\nE: 3\n\n",
	"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: ,\n\n0\n\n",
	"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nab",
	"GET / HTTP/1.1\nHost: a\nExpect: 100-continue\n\n",
	"POST / HTTP/1.1\nHost: a\nExpect: 100-Continue\nContent-Length: 1\n\nx",
	"POST / HTTP/1.0\nHost: a\nExpect: 100-continue\nContent-Length: 1\n\nx",
	"POST / HTTP/1.1\nHost: a\nExpect: magic\nContent-Length: 1\n\nx",
	"POST / HTTP/1.1\nHost: a\nExpect:\nContent-Length: 1\n\nx",
	"GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("x", 10000) + "\n\n",
	"GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\nHost: a\n" + strings.Repeat("X: y\n", 2000) + "\n",
	"GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("x", 80000) + "\n\n", // 431
	"GET / HT", // the client goes
	"",
}
