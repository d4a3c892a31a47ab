package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestChunkedScan(t *testing.T) {
	tests := []struct {
		name, in string
		n        int
		done     bool
		err      error
	}{
		{"empty", "0\r\n\r\n", 3, true, nil},
		{"one chunk", "5\r\nhello\r\n0\r\n", 13, true, nil},
		{"hex", "A\r\n0123456789\r\n000\r\n", 20, true, nil},
		{"extension", "1;a=b;c=\"d e\"\r\nx\r\n0;z\r\n", 23, true, nil},
		{"in the middle", "5\r\nhel", 6, false, nil},
		{"no size", "\r\n", 0, false, errChunkSize},
		{"extension without size", ";a\r\n", 0, false, errChunkSize},
		{"sign", "+5\r\n", 0, false, errChunkSize},
		{"prefix", "0x5\r\n", 1, false, errChunkSize},
		{"space before", " 5\r\n", 0, false, errChunkSize},
		{"space after", "5 \r\n", 1, false, errChunkSize},
		{"bare LF after size", "5\nhello", 1, false, errChunkSize},
		{"bare CR after size", "5\rhello", 2, false, errChunkSize},
		{"bare LF in extension", "5;a\nhello", 3, false, errChunkExt},
		{"nul in extension", "5;\x00", 2, false, errChunkExt},
		{"too large", "1000000000000000\r\n", 15, false, errChunkSize},
		{"no end", "2\r\nabc\r\n", 5, false, errChunkEnd},
		{"bare LF after data", "2\r\nab\n0\r\n", 5, false, errChunkEnd},
		{"CR alone after data", "2\r\nab\rx", 6, false, errChunkEnd},
		{"long extension", "1;" + strings.Repeat("a", 300), maxChunkLine, false, errChunkExt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, done, err := new(Chunked).Scan([]byte(tt.in))
			if n != tt.n || done != tt.done || !errors.Is(err, tt.err) {
				t.Errorf("Scan(%q) = %v, %v, %v; want %v, %v, %v", tt.in, n, done, err, tt.n, tt.done, tt.err)
			}
		})
	}
}

func TestChunkedPadded(t *testing.T) {
	tests := []struct {
		name, in string
		n        int
		done     bool
		err      error
	}{
		{"spaces", "5   \r\nhello\r\n0 \r\n", 17, true, nil},
		{"tab", "5\t\r\nhello\r\n0\r\n", 14, true, nil},
		{"no size", " \r\n", 0, false, errChunkSize},
		{"before a digit", "5 0\r\n", 2, false, errChunkSize},
		{"before an extension", "5 ;a\r\n", 2, false, errChunkSize},
		{"before bare LF", "5 \n", 2, false, errChunkSize},
		{"in the next size too", "1 \r\nx\r\n1 1\r\n", 9, false, errChunkSize},
		{"without an end", "5" + strings.Repeat(" ", 300), maxChunkLine, false, errChunkExt},
	}
	for _, tt := range tests {
		c := Chunked{Padded: true}
		n, done, err := c.Scan([]byte(tt.in))
		if n != tt.n || done != tt.done || !errors.Is(err, tt.err) {
			t.Errorf("%s: Scan(%q) = %v, %v, %v; want %v, %v, %v", tt.name, tt.in, n, done, err, tt.n, tt.done, tt.err)
		}
	}
}

func TestChunkedRefusesExtensionFlood(t *testing.T) {
	line := []byte("1;" + strings.Repeat("a", 200) + "\r\nx\r\n")
	var c Chunked
	for i := range 1000 {
		if _, _, err := c.Scan(line); err != nil {
			if !errors.Is(err, errChunkWaste) || i < 20 {
				t.Errorf("chunk %d: %v; want %v after some tolerance", i, err, errChunkWaste)
			}
			return
		}
	}
	t.Error("1000 chunks of nothing but extension were accepted")
}

func TestParseTrailers(t *testing.T) {
	tests := []struct {
		in   string
		want error
	}{
		{"\r\n", nil},
		{"Checksum: 1\r\nX: y\r\n\r\n", nil},
		{"Content-Length: 1\r\n\r\n", errTrailerField},
		{"transfer-encoding: chunked\r\n\r\n", errTrailerField},
		{"Host: b\r\n\r\n", errTrailerField},
		{"X : y\r\n\r\n", errFieldName},
		{"X: y\r\n z\r\n\r\n", errFieldName},
		{"X: \x00\r\n\r\n", errFieldValue},
		{"GET / HTTP/1.1\r\n\r\n", errFieldName},
		{"X: y\r\n", errEnd},
	}
	for _, tt := range tests {
		if err := ParseTrailers([]byte(tt.in), nil); !errors.Is(err, tt.want) {
			t.Errorf("ParseTrailers(%q) = %v; want %v", tt.in, err, tt.want)
		}
	}
}

// What Chunked and ParseTrailers accept, net/http must read up to the same
// byte; and the verdict must not depend on how the bytes arrive.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1;a\r\nx\r\n0\r\nX: y\r\n\r\nrest", "a\r\n0123456789\r\n00;b\r\n\r\n", "2\r\nabc\r\n",
	} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		n, done, err := new(Chunked).Scan(b)
		sn, sdone, serr := scanInSteps(b, int(step)%7+1)
		if sn != n || sdone != done || serr != err {
			t.Fatalf("Scan(%q) = %v, %v, %v; in steps of %d %v, %v, %v", b, n, done, err, step%7+1, sn, sdone, serr)
		}
		if !done {
			return
		}
		end, err := HeadEnd(b[n:], 0)
		if err != nil || end == 0 || ParseTrailers(b[n:n+end], nil) != nil {
			return
		}
		const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		src := bufio.NewReaderSize(io.MultiReader(strings.NewReader(head), bytes.NewReader(b)), 64<<10)
		r, err := http.ReadRequest(src)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatalf("%q is accepted; net/http says %v", b, err)
		}
		rest, _ := io.ReadAll(src)
		if got := len(b) - len(rest); got != n+end {
			t.Errorf("%q: net/http ends the body at %d; we at %d", b, got, n+end)
		}
	})
}

func scanInSteps(b []byte, step int) (n int, done bool, err error) {
	var c Chunked
	for n < len(b) && !done && err == nil {
		var m int
		part := b[n:min(n+step, len(b))]
		m, done, err = c.Scan(part)
		n += m
	}
	return n, done, err
}
