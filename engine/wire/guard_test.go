package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pieces is a connection whose client sends parts, one at a time.
type pieces struct {
	net.Conn
	parts [][]byte
}

func (c *pieces) Read(p []byte) (int, error) {
	if len(c.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.parts[0])
	if c.parts[0] = c.parts[0][n:]; len(c.parts[0]) == 0 {
		c.parts = c.parts[1:]
	}
	return n, nil
}

func inSteps(b []byte, step int) *pieces {
	c := &pieces{}
	for len(b) > 0 {
		n := min(step, len(b))
		c.parts = append(c.parts, b[:n])
		b = b[n:]
	}
	return c
}

// requests lists what a server behind a Guard reads.
func requests(src io.Reader, size int) (got []string) {
	br := bufio.NewReaderSize(src, size)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return got
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return append(got, r.Method+" "+r.RequestURI+" body refused")
		}
		got = append(got, r.Method+" "+r.RequestURI+" "+string(body))
	}
}

// wanted lists what the pure functions make of the same bytes.
func wanted(b []byte, limit int) (want []string) {
	for {
		b = bytes.TrimPrefix(b, []byte("\r\n"))
		end, err := HeadEnd(b, 0)
		if end == 0 || err != nil || end > limit {
			return want
		}
		h, err := ParseHead(b[:end], nil)
		if err != nil {
			return want
		}
		line := string(h.Method) + " " + string(h.Target) + " "
		b = b[end:]
		switch {
		case h.Length == LengthChunked:
			n, done, err := new(Chunked).Scan(b)
			if err != nil || !done {
				return append(want, line+"body refused")
			}
			end, err := HeadEnd(b[n:], 0)
			if err != nil || end == 0 || ParseTrailers(b[n:n+end], nil) != nil || end > maxTrailers {
				return append(want, line+"body refused")
			}
			r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(
				strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(b[:n+end]))))
			if err != nil {
				return append(want, err.Error())
			}
			body, _ := io.ReadAll(r.Body)
			want = append(want, line+string(body))
			b = b[n+end:]
		case h.Length > int64(len(b)):
			return append(want, line+"body refused")
		default:
			want = append(want, line+string(b[:h.Length]))
			b = b[h.Length:]
		}
	}
}

// However the bytes arrive and are asked for, a server behind a Guard reads
// what the grammar says, and nothing else.
func FuzzGuard(f *testing.F) {
	const get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, s := range []string{
		get + get,
		"\r\n" + get + "\r\n" + get,
		"\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" + get,
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n" + get,
		get + "GET /b HTTP/1.1\nHost: a\r\n\r\n" + get,
		"GET /" + strings.Repeat("a", 700) + " HTTP/1.1\r\nHost: a\r\n\r\n" + get,
		"\x16\x03\x01\x02\x00\x01",
	} {
		f.Add([]byte(s), uint8(1), uint8(0))
		f.Add([]byte(s), uint8(200), uint8(3))
	}
	const limit = 512
	f.Fuzz(func(t *testing.T, b []byte, step, size uint8) {
		g := NewGuard(inSteps(b, int(step)+1), limit)
		got := requests(io.LimitReader(g, int64(len(b)+16<<10)), 16+16*int(size))
		if diff := cmp.Diff(wanted(b, limit), got); diff != "" {
			t.Errorf("%q in steps of %d: -grammar +guarded\n%s", b, int(step)+1, diff)
		}
	})
}

func TestGuardGivesFirstByteWithoutWaiting(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	g := NewGuard(server, 1<<10)
	go client.Write([]byte("GET"))
	var one [1]byte
	if n, err := g.Read(one[:]); n != 1 || err != nil || one[0] != 'G' {
		t.Fatalf("Read = %d, %v, %q; want the first byte of an unfinished head", n, err, one[:n])
	}
	// A deadline ends the wait for the rest, and the connection lives on.
	g.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	buf := make([]byte, 100)
	got := "G"
	for {
		n, err := g.Read(buf)
		got += string(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g.SetReadDeadline(time.Time{})
	go client.Write([]byte(" / HTTP/1.1\r\nHost: a\r\n\r\n"))
	for !strings.HasSuffix(got, "\r\n\r\n") {
		n, err := g.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += string(buf[:n])
	}
	if want := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"; got != want {
		t.Errorf("read %q; want %q", got, want)
	}
}

func TestGuardPassThrough(t *testing.T) {
	head := "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"
	for _, step := range []int{1, 7, 1000} {
		g := NewGuard(inSteps([]byte(head+"\x00\n\nnot http"), step), 1<<10)
		buf := make([]byte, len(head))
		if _, err := io.ReadFull(g, buf); err != nil || string(buf) != head {
			t.Fatalf("steps of %d: read %q, %v; want the head", step, buf, err)
		}
		var one [1]byte // as net/http reads while the handler runs
		if _, err := g.Read(one[:]); err != nil || one[0] != 0 {
			t.Fatalf("steps of %d: read %q, %v; want the first byte after the head", step, one, err)
		}
		g.PassThrough()
		rest, err := io.ReadAll(g)
		if want := "\n\nnot http"; string(rest) != want || err != nil {
			t.Errorf("steps of %d: read %q, %v after PassThrough; want %q", step, rest, err, want)
		}
	}
}

func TestGuardHoldsNothingBetweenRequests(t *testing.T) {
	g := NewGuard(inSteps([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 3), 1<<10)
	if _, err := io.Copy(io.Discard, g); err != nil {
		t.Fatal(err)
	}
	if g.buf != nil {
		t.Errorf("holds %d bytes; want none", cap(g.buf))
	}
}

func BenchmarkGuard(b *testing.B) {
	head := []byte("GET /assets/app.js?v=42 HTTP/1.1\r\nHost: blog.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://blog.example.org/\r\n" +
		"Connection: keep-alive\r\nCookie: session=0123456789abcdef\r\nSec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n")
	g := NewGuard(again{b: head}, 64<<10)
	p := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := g.Read(p); n != len(head) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// again is a connection on which every read brings b.
type again struct {
	net.Conn
	b []byte
}

func (c again) Read(p []byte) (int, error) { return copy(p, c.b), nil }
