//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// eventEvery is the distance of two events of a stream, and of two requests
// whose answers are timed: far enough that the proxy sleeps in between.
const eventEvery = 4 * time.Millisecond

// sendEvents is a stream of server-sent events that say when they were sent.
func sendEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no") // as such services say to nginx
	stream := http.NewResponseController(w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano()); err != nil {
			return
		}
		if err := stream.Flush(); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// measureDelay says how much later an event of a stream, and the answer to a
// request on a quiet connection, arrive through the proxy than from the
// backend directly.
func measureDelay(t *trial) ([]float64, error) {
	direct := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", t.backendAddr)
	}
	proxied := func(ctx context.Context) (net.Conn, error) {
		return t.target.handshake(ctx, onlineHost, "http/1.1")
	}
	var figures []float64
	for _, path := range []string{"/events", getSmall.path} {
		var medians [2]time.Duration
		for i, dial := range []func(context.Context) (net.Conn, error){direct, proxied} {
			delays, err := t.delays(dial, path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			slices.Sort(delays)
			medians[i] = delays[len(delays)/2]
		}
		figures = append(figures, float64(medians[1]-medians[0])/float64(time.Microsecond))
	}
	return figures, nil
}

// delays of the events of a stream, or of answers. There are four such series
// in the time that a scenario is measured.
func (t *trial) delays(dial func(context.Context) (net.Conn, error), path string) ([]time.Duration, error) {
	conn, err := dial(t.ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	n := max(10, int(t.duration/4/eventEvery))
	if err := conn.SetDeadline(time.Now().Add(time.Duration(n)*eventEvery + 10*time.Second)); err != nil {
		return nil, err
	}
	ask := "GET " + path + " HTTP/1.1\r\nHost: " + onlineHost + "\r\nAccept: */*\r\n\r\n" // no Accept-Encoding: nobody shall hold events back to compress them
	r := bufio.NewReaderSize(conn, 32<<10)
	if path == "/events" {
		if _, err := conn.Write([]byte(ask)); err != nil {
			return nil, err
		}
		return readEvents(r, n)
	}
	var delays []time.Duration
	for range n {
		time.Sleep(eventEvery)
		sent := time.Now()
		if _, err := conn.Write([]byte(ask)); err != nil {
			return nil, err
		}
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		delays = append(delays, time.Since(sent))
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode != http.StatusOK || answer.ContentLength != smallSize {
			return nil, fmt.Errorf("status %d with %d bytes; want 200 with %d", answer.StatusCode, answer.ContentLength, smallSize)
		}
		if _, err := r.Discard(smallSize); err != nil {
			return nil, err
		}
	}
	return delays, nil
}

// readEvents reads n events of sendEvents and returns how old each was. Every
// other line is the answer's head or its chunks' framing.
func readEvents(r *bufio.Reader, n int) ([]time.Duration, error) {
	status, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("answer %q; want status 200", status)
	}
	var delays []time.Duration
	for len(delays) < n {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		now := time.Now().UnixNano()
		if sent, ok := strings.CutPrefix(line, "data: "); ok {
			at, err := strconv.ParseInt(strings.TrimSpace(sent), 10, 64)
			if err != nil {
				return nil, err
			}
			delays = append(delays, time.Duration(now-at))
		}
	}
	return delays, nil
}
