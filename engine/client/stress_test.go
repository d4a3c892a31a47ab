package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Many at once, with everything that can go wrong: whoever gets an answer gets
// his own, whole, and nothing is left behind.
func TestStress(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for rand.IntN(50) > 0 { // else the end of a kept connection
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if !misbehave(c, req) {
				return
			}
		}
	})
	rt := newClient(t, addr, nil)
	var clients sync.WaitGroup
	var mu sync.Mutex
	answered := 0
	for i := range 16 {
		clients.Go(func() {
			for j := range 150 {
				if exchangeMark(t, rt, addr, fmt.Sprintf("%d-%d", i, j)) {
					mu.Lock()
					answered++
					mu.Unlock()
				}
				if j%50 == 49 {
					rt.(*Transport).CloseIdleConnections()
				}
			}
		})
	}
	clients.Wait()
	if answered < 16*150/4 {
		t.Errorf("%d of %d requests were answered", answered, 16*150)
	}
}

// misbehave answers req with its mark and its body, repeated, in one of many
// ways. It reports whether the connection goes on.
func misbehave(c net.Conn, req *http.Request) bool {
	mark := req.Header.Get("Mark")
	kind := rand.IntN(12)
	if kind == 5 && req.ContentLength != 0 {
		kind = 6 // a large piece may not arrive as one
	}
	if kind == 0 { // an answer before the request is read
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nEarly: yes\r\nMark: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", mark)
		return false
	}
	sent, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	body := bytes.Repeat(append([]byte(mark), sent...), 1+rand.IntN(3))
	switch kind {
	case 1: // reset
		c.(*net.TCPConn).SetLinger(0)
		return false
	case 2: // slow
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
	case 3: // truncated
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nMark: %s\r\nContent-Length: %d\r\n\r\n%s", mark, len(body)+1, body)
		return false
	case 4: // reset in the body
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nMark: %s\r\nContent-Length: %d\r\n\r\n%s", mark, len(body)+1, body)
		c.(*net.TCPConn).SetLinger(0)
		return false
	case 5: // bytes nobody asked for; in one piece, as such that come after the next request are an answer to it
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nMark: %s\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nMark: evil\r\nContent-Length: 0\r\n\r\n", mark, len(body), body)
		return false
	case 6, 7, 8: // chunks, in several packets
		fmt.Fprintf(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nMark: %s\r\nTransfer-Encoding: chunked\r\n\r\n", mark)
		for len(body) > 0 {
			n := min(len(body), 1+rand.IntN(20<<10))
			fmt.Fprintf(c, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		_, err = io.WriteString(c, "0\r\n\r\n")
		return err == nil
	}
	_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nMark: %s\r\nContent-Length: %d\r\n\r\n%s", mark, len(body), body)
	return err == nil
}

// exchangeMark makes one request, which may be cancelled or left half read, and
// checks what of the answer it got. It reports whether that was all of it.
func exchangeMark(t *testing.T, rt http.RoundTripper, addr, mark string) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	payload := ""
	var rd io.Reader
	if rand.IntN(2) == 0 {
		payload = strings.Repeat(strconv.Itoa(rand.IntN(10)), 1+rand.IntN(100<<10))
		rd = strings.NewReader(payload)
	}
	req := request(t, http.MethodPut, addr, rd).WithContext(ctx)
	req.Header.Set("Mark", mark)
	if rd != nil && rand.IntN(2) == 0 {
		req.ContentLength = -1
	}
	if rand.IntN(4) == 0 {
		timer := time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	if got := res.Header.Get("Mark"); got != mark {
		t.Errorf("request %s got the answer to %s", mark, got)
		return false
	}
	if rand.IntN(8) == 0 {
		io.CopyN(io.Discard, res.Body, int64(rand.IntN(10<<10)))
		return false
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return false
	}
	if unit := mark + payload; res.Header.Get("Early") == "" && (len(body) == 0 || strings.ReplaceAll(string(body), unit, "") != "") {
		t.Errorf("request %s got a wrong body of %d bytes", mark, len(body))
	}
	return true
}
