package server_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// oracle is net/http's server with the same handler.
func oracle(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// talk sends in to addr and returns all that comes back.
func talk(t testing.TB, addr, in string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		io.WriteString(c, in)
		c.(*net.TCPConn).CloseWrite()
	}()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%.80q: %v", in, err)
	}
	return string(b)
}

var (
	dates   = regexp.MustCompile(`(?m)^Date: .*GMT\r$`)
	remotes = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// normal takes out of s what may differ.
func normal(s string) string {
	return remotes.ReplaceAllString(dates.ReplaceAllString(s, "Date: now\r"), "address")
}

func route(w http.ResponseWriter, r *http.Request) {
	h := handlers[r.URL.Path]
	if h == nil {
		h = describe
	}
	h(w, r)
}

// differs lists what is meant to differ, with the reason. What both chunk is
// compared as one body: it may be cut elsewhere.
var differs = map[string]string{
	"/badlength":              "an invalid length is none to us; net/http chunks then, or sends it",
	"/chunkedlength/old keep": "net/http promises to keep the connection, and closes it",
	"/duplexleft/post":        "net/http's next read collides with its look-out for the client, and it closes",
	"/duplexleft/chunked":     "the same",
	"/duplexleft/trailers":    "the same",
	"/duplexleft/medium body": "the same",
	"/panichalf/head":         "the answer to a HEAD would look whole",
	"/panichalf/old head":     "the same",
	"/panicchunk/head":        "the same",
	"/panicchunk/old head":    "the same",
	"/panicsmall":             "what began is sent, by net/http only what no buffer held back; see TestBrokenAnswerBegins",
	"/hijack/medium body":     "our buffer holds more of what the client sent early",
}

func TestOracle(t *testing.T) {
	ours := serve(t, http.HandlerFunc(route), nil).addr
	theirs := oracle(t, http.HandlerFunc(route))
	n := 0
	for _, path := range slices.Sorted(maps.Keys(handlers)) {
		for _, kind := range slices.Sorted(maps.Keys(requests)) {
			n++
			t.Run(strings.TrimPrefix(path, "/")+"/"+kind, func(t *testing.T) {
				t.Parallel()
				if reason := cmp.Or(differs[path], differs[path+"/"+kind]); reason != "" {
					t.Skip(reason)
				}
				in := fmt.Sprintf(requests[kind], path) + "GET /second HTTP/1.1\r\nHost: b\r\n\r\n"
				compare(t, in, normal(talk(t, theirs, in)), normal(talk(t, ours, in)))
			})
		}
	}
	t.Logf("%d exchanges", n)
}

func compare(t *testing.T, in, theirs, ours string) {
	t.Helper()
	if theirs == ours {
		return
	}
	if diff := gocmp.Diff(unchunk(theirs), unchunk(ours)); diff != "" {
		t.Errorf("%.300q: -net/http +ours\n%.3000s", in, diff)
	}
}

// unchunk joins the chunks of the answers in s.
func unchunk(s string) string {
	var b strings.Builder
	for {
		head, rest, found := strings.Cut(s, "\r\n\r\n")
		b.WriteString(head)
		if !found {
			return b.String()
		}
		b.WriteString("\n--\n")
		if !strings.Contains(head, "\r\nTransfer-Encoding: chunked") || !strings.Contains(rest, "\r\n") {
			b.WriteString(rest)
			return b.String()
		}
		for {
			line, after, _ := strings.Cut(rest, "\r\n")
			n, err := strconv.ParseUint(line, 16, 32)
			if err != nil || int(n)+2 > len(after) {
				b.WriteString("broken: " + rest)
				return b.String()
			}
			if n == 0 {
				b.WriteString("\n-- end\n")
				s = after
				break
			}
			b.WriteString(after[:n])
			rest = after[n+2:]
		}
	}
}

func TestOracleHeads(t *testing.T) {
	ours := serve(t, http.HandlerFunc(describe), nil).addr
	theirs := oracle(t, http.HandlerFunc(describe))
	for i, head := range heads {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			in := strings.ReplaceAll(head, "\n", "\r\n")
			compare(t, in, normal(talk(t, theirs, in)), normal(talk(t, ours, in)))
		})
	}
}
