//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"time"
)

// scenario is one kind of work. measure returns a figure for each row.
type scenario struct {
	name    string
	rows    []row
	short   bool // also with -short
	hosts   int
	tool    string                // the program that makes the load; "" = this one
	needs   func(contestant) bool // nil = everybody can do it
	measure func(*trial) ([]float64, error)
}

// row is a line of the table. Less is better in every row.
type row struct{ title, unit string }

func (s scenario) appliesTo(c contestant) bool { return s.needs == nil || s.needs(c) }

func hasZstd(c contestant) bool  { return c.zstd }
func hasHTTP3(c contestant) bool { return c.http3 }

const (
	microseconds = "µs"
	msPerGiB     = "ms/GiB"
	kib          = "KiB"
)

// scenarios are all there are, in the table's order. The names are the ones
// that docs/performance.md uses.
func scenarios() []scenario {
	perRequest := func(title string) []row { return []row{{title, microseconds}} }
	perGiB := func(title string) []row { return []row{{title, msPerGiB}} }
	compressed := func(title string) []row {
		return []row{{title, microseconds}, {"the same, size on the wire", "bytes"}}
	}
	return []scenario{
		{name: "a", short: true, rows: perRequest("1 KiB, HTTP/1.1, 64 connections"),
			measure: cpuPerRequest(64, overH1(getSmall))},
		{name: "b", short: true, rows: perRequest("1 KiB, HTTP/2, 8 connections × 8 streams"),
			measure: cpuPerRequest(8, overH2(getSmall, 8))},
		{name: "b64", rows: perRequest("1 KiB, HTTP/2, 64 connections × 1 stream"),
			measure: cpuPerRequest(64, overH2(getSmall, 1))},
		{name: "c1", short: true, rows: perRequest("302 of an offline host, HTTP/1.1, 64 connections"),
			measure: cpuPerRequest(64, toOffline(overH1(getRedirect)))},
		{name: "c2", short: true, rows: perRequest("302 of an offline host, HTTP/2, 8 × 8"),
			measure: cpuPerRequest(8, toOffline(overH2(getRedirect, 8)))},
		{name: "d-gzip", short: true, rows: compressed("50 KiB HTML, gzip, HTTP/1.1, 16 connections"),
			measure: cpuAndSize(16, overH1(getPageGzip))},
		{name: "d-zstd", rows: compressed("50 KiB HTML, zstd, HTTP/1.1, 16 connections"), needs: hasZstd,
			measure: cpuAndSize(16, overH1(getPageZstd))},
		{name: "e1", rows: perGiB("1 MiB downloads, HTTP/1.1, 4 connections"),
			measure: cpuPerGiB(4, overH1(getFile))},
		{name: "e100-h1", short: true, rows: perGiB("100 MiB download, HTTP/1.1, 4 connections"),
			measure: cpuPerGiB(4, overH1(getDownload))},
		{name: "e100-h2", rows: perGiB("100 MiB download, HTTP/2, 4 connections"),
			measure: cpuPerGiB(4, overH2(getDownload, 1))},
		{name: "f", rows: perGiB("10 MiB upload, HTTP/1.1, 4 connections"),
			measure: cpuPerGiB(4, overH1(postUpload))},
		{name: "f-h2", rows: perGiB("10 MiB upload, HTTP/2, 4 connections"),
			measure: cpuPerGiB(4, overH2(postUpload, 1))},
		{name: "g", short: true, rows: perRequest("connection, full handshake (X25519) and a 302, 16 at once"),
			measure: cpuPerRequest(16, byNewcomers(tls.X25519))},
		{name: "g-pq", rows: perRequest("the same with X25519MLKEM768"),
			measure: cpuPerRequest(16, byNewcomers(tls.X25519MLKEM768, tls.X25519))},
		{name: "g-res", rows: perRequest("the same with X25519 and a session that is resumed"),
			measure: cpuPerRequest(16, returning(byNewcomers(tls.X25519)))},
		{name: "h", rows: perRequest("WebSocket echo of 64 bytes, 64 connections"),
			measure: measureEcho},
		{name: "i", rows: []row{{"idle TLS connection that made one request, memory", kib}},
			measure: memoryPerConnection(overH1(getSmall))},
		{name: "i-h2", rows: []row{{"the same, HTTP/2", kib}},
			measure: memoryPerConnection(overH2(getSmall, 1))},
		{name: "k", rows: []row{{"added delay of a server-sent event", microseconds}, {"added time to the first byte, one quiet connection", microseconds}},
			measure: measureDelay},
		{name: "m", rows: perRequest("1 KiB, HTTP/3, 8 × 8"), needs: hasHTTP3,
			measure: cpuPerRequest(8, overH3(getSmall, 8))},
		{name: "n1000", hosts: 1000, rows: perRequest("as a, 1,000 hosts with a log each"),
			measure: cpuPerRequest(64, overH1(getSmall))},
		{name: "a1", rows: perRequest("as a, but one connection"),
			measure: cpuPerRequest(1, overH1(getSmall))},
		{name: "a-rate", rows: perRequest("as a, but 1,000 requests/s"),
			measure: measureAtRate},
		{name: "a-h2load", tool: h2load, rows: perRequest("as a, by h2load"),
			measure: byH2load(onlineHost, getSmall.path, getSmall.status, "--h1", "--clients=64")},
		{name: "b-h2load", tool: h2load, rows: perRequest("as b, by h2load"),
			measure: byH2load(onlineHost, getSmall.path, getSmall.status, "--clients=8", "--max-concurrent-streams=8")},
		{name: "b64-h2load", tool: h2load, rows: perRequest("as b64, by h2load"),
			measure: byH2load(onlineHost, getSmall.path, getSmall.status, "--clients=64", "--max-concurrent-streams=1")},
		{name: "c1-h2load", tool: h2load, rows: perRequest("as c1, by h2load"),
			measure: byH2load(offlineHost, getRedirect.path, getRedirect.status, "--h1", "--clients=64")},
		{name: "c2-h2load", tool: h2load, rows: perRequest("as c2, by h2load"),
			measure: byH2load(offlineHost, getRedirect.path, getRedirect.status, "--clients=8", "--max-concurrent-streams=8")},
		{name: "start", short: true, rows: []row{{"start to first answer", "ms"}, {"memory after start", "MiB"}, {"size of the binary", "MiB"}},
			measure: measureStart},
	}
}

// goal is what detour is meant to reach in a row of a scenario.
type goal struct {
	scenario string
	row      int
	// The peer's figure divided by detour's, at least; 0 = no goal.
	caddy float64
	best  float64 // the better one of nginx and HAProxy
	nginx float64 // nginx alone
	// detour's own figure, at most; 0 = no goal.
	most float64
	of   string // most is so many times detour's figure in this scenario
}

func goals() []goal {
	return []goal{
		{scenario: "a", caddy: 7, best: 1},
		{scenario: "b", caddy: 10, best: 1.1},
		{scenario: "b64", caddy: 7, best: 0.9},
		{scenario: "c1", caddy: 5, best: 1.1},
		{scenario: "c2", caddy: 13, best: 1.4},
		{scenario: "d-gzip", caddy: 2.4, nginx: 1.4},
		{scenario: "d-gzip", row: 1, nginx: 1}, // HAProxy's compression is cheap and bad
		{scenario: "d-zstd", caddy: 2},
		{scenario: "e100-h1", caddy: 1.4, best: 1.3},
		{scenario: "e100-h2", caddy: 2, best: 1.3},
		{scenario: "f", caddy: 1.1, best: 1.3},
		{scenario: "g", caddy: 1.5, best: 1.1},
		{scenario: "g-pq", caddy: 1.35},
		{scenario: "g-res", caddy: 1.5, best: 1},
		{scenario: "h", caddy: 0.95, best: 0.95},
		{scenario: "i", most: 25},
		{scenario: "i-h2", most: 25},
		{scenario: "m", caddy: 2.2},
		{scenario: "n1000", best: 1, most: 1.1, of: "a"},
		{scenario: "a-rate", caddy: 2, best: 0.8},
		{scenario: "a-h2load", caddy: 7, best: 1},
		{scenario: "b-h2load", caddy: 10, best: 1.1},
		{scenario: "b64-h2load", caddy: 7, best: 0.9},
		{scenario: "c1-h2load", caddy: 5, best: 1.1},
		{scenario: "c2-h2load", caddy: 13, best: 1.4},
		{scenario: "start", row: 0, most: 20},
		{scenario: "start", row: 1, most: 15},
		{scenario: "start", row: 2, most: 20},
	}
}

// selectScenarios are those that the flags ask for. Naming one with -run asks
// for it, short or not.
func selectScenarios(o options) []scenario {
	var selected []scenario
	for _, s := range scenarios() {
		if o.only.MatchString(s.name) && (s.short || !o.short || o.only.String() != "") {
			selected = append(selected, s)
		}
	}
	return selected
}

// dialer opens connection i of a load.
type dialer func(t *trial) func(ctx context.Context, i int) (conn, error)

// overH1 spreads the connections over all hosts, as the other dialers do.
func overH1(want request) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		return func(ctx context.Context, i int) (conn, error) {
			return dialH1(ctx, t.target, t.host(i), want)
		}
	}
}

func overH2(want request, streams int) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		return func(ctx context.Context, i int) (conn, error) {
			return dialH2(ctx, t.target, t.host(i), want, streams)
		}
	}
}

func overH3(want request, streams int) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		return func(ctx context.Context, i int) (conn, error) {
			return dialH3(ctx, t.target, t.host(i), want, streams)
		}
	}
}

// toOffline sends what d dials to the host that is offline.
func toOffline(d dialer) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		offline := *t
		offline.site.Hosts = []string{offlineHost}
		return d(&offline)
	}
}

// byNewcomers dials anew for each request and exchanges keys by the first of
// curves. The 302 shows that the handshake is complete, and costs little.
func byNewcomers(curves ...tls.CurveID) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		target := t.target
		target.curves = curves
		return func(ctx context.Context, _ int) (conn, error) {
			return &newcomer{ctx: ctx, target: target, host: offlineHost, want: getRedirect}, nil
		}
	}
}

// returning lets each of the connections that d dials keep a session.
func returning(d dialer) dialer {
	return func(t *trial) func(context.Context, int) (conn, error) {
		return func(ctx context.Context, i int) (conn, error) {
			known := *t
			known.target.sessions = tls.NewLRUClientSessionCache(1)
			return d(&known)(ctx, i)
		}
	}
}

// host is the host of connection i.
func (t *trial) host(i int) string {
	// 37 has no factor in common with the host counts: neighbours in the list are not neighbours in the load.
	return t.site.Hosts[i*37%len(t.site.Hosts)]
}

// work is what a load did, and what CPU time the proxy took for it.
type work struct {
	tally
	cpu time.Duration
}

// throughput opens n connections, warms the proxy up, and measures.
func (t *trial) throughput(n int, dial dialer, pace func(d time.Duration) pace) (work, error) {
	l, err := openLoad(t.ctx, n, dial(t))
	if err != nil {
		return work{}, err
	}
	defer l.close()
	return t.measured(func(d time.Duration) (tally, error) { return l.run(pace(d)) })
}

// measured warms the proxy up with run's load, and measures it under that.
func (t *trial) measured(run func(d time.Duration) (tally, error)) (work, error) {
	// Heaps and pools find their size, upstream connections are opened.
	warm, err := run(max(t.duration/4, 200*time.Millisecond))
	if err != nil {
		return work{}, err
	}
	before, err := t.sample()
	if err != nil {
		return work{}, err
	}
	done, err := run(t.duration)
	if err != nil {
		return work{}, err
	}
	after, err := t.sample()
	if err != nil {
		return work{}, err
	}
	t.requests += warm.requests + done.requests
	cpu := after.proxy - before.proxy
	t.window += after.at.Sub(before.at)
	t.foreign += max(0, after.busy-before.busy-cpu)
	return work{done, cpu}, nil
}

// sample is a moment on the proxy's CPU.
type sample struct {
	at    time.Time
	proxy time.Duration // used by the proxy
	busy  time.Duration // used by anybody
}

func (t *trial) sample() (sample, error) {
	proxy, err := t.process.cpuTime()
	if err != nil {
		return sample{}, err
	}
	busy, err := cpuBusy(t.cpus.proxy)
	return sample{time.Now(), proxy, busy}, err
}

func (w work) perRequest() float64 {
	return float64(w.cpu) / float64(time.Microsecond) / float64(w.requests)
}

func (w work) perGiB() float64 {
	return float64(w.cpu) / float64(time.Millisecond) / (float64(w.bytes) / (1 << 30))
}

func cpuPerRequest(n int, dial dialer) func(*trial) ([]float64, error) {
	return func(t *trial) ([]float64, error) {
		w, err := t.throughput(n, dial, closedLoop)
		return []float64{w.perRequest()}, err
	}
}

func cpuAndSize(n int, dial dialer) func(*trial) ([]float64, error) {
	return func(t *trial) ([]float64, error) {
		w, err := t.throughput(n, dial, closedLoop)
		return []float64{w.perRequest(), float64(w.bytes) / float64(w.requests)}, err
	}
}

func cpuPerGiB(n int, dial dialer) func(*trial) ([]float64, error) {
	return func(t *trial) ([]float64, error) {
		w, err := t.throughput(n, dial, closedLoop)
		return []float64{w.perGiB()}, err
	}
}

func measureAtRate(t *trial) ([]float64, error) {
	const rate, conns = 1000, 64
	w, err := t.throughput(conns, overH1(getSmall), func(d time.Duration) pace { return openLoop(rate, conns, d) })
	return []float64{w.perRequest()}, err
}

func measureEcho(t *trial) ([]float64, error) {
	before := t.requests
	w, err := t.throughput(64, func(t *trial) func(context.Context, int) (conn, error) {
		return func(ctx context.Context, i int) (conn, error) {
			return dialWebSocket(ctx, t.target, t.host(i), openWSEcho)
		}
	}, closedLoop)
	t.requests = before // messages are not logged; a connection's line comes at its end, which the stop may cut off
	return []float64{w.perRequest()}, err
}

// How long a proxy is left alone before its memory is read, when it has started and
// after work: what it frees soon is not held against it.
const (
	settling = time.Second
	resting  = 5 * time.Second
)

func memoryPerConnection(dial dialer) func(*trial) ([]float64, error) {
	// Many, so that what the proxy takes once does not count; few enough for
	// 20,000 files in this process and in HAProxy, which wants two each.
	const conns = 4000
	return func(t *trial) ([]float64, error) {
		if err := t.pause(settling); err != nil {
			return nil, err
		}
		before, err := t.process.memory()
		if err != nil {
			return nil, err
		}
		open := dial(t)
		l, err := openLoad(t.ctx, conns, func(ctx context.Context, i int) (conn, error) {
			c, err := open(ctx, i)
			if err != nil {
				return nil, err
			}
			var n tally
			return c, c.run(once()(i), &n)
		})
		if err != nil {
			return nil, err
		}
		defer l.close()
		t.requests += conns
		if err := t.pause(resting); err != nil {
			return nil, err
		}
		after, err := t.process.memory()
		return []float64{float64(after-before) / 1024 / conns}, err
	}
}

func measureStart(t *trial) ([]float64, error) {
	if err := t.pause(settling); err != nil {
		return nil, err
	}
	memory, err := t.process.memory()
	if err != nil {
		return nil, err
	}
	binary, err := os.Stat(t.contestant.binary)
	if err != nil {
		return nil, fmt.Errorf("size of the binary: %w", err)
	}
	return []float64{
		float64(t.startup) / float64(time.Millisecond),
		float64(memory) / (1 << 20),
		float64(binary.Size()) / (1 << 20),
	}, nil
}

// pause waits, unless the measurement is given up.
func (t *trial) pause(d time.Duration) error {
	select {
	case <-t.ctx.Done():
		return t.ctx.Err()
	case <-time.After(d):
		return nil
	}
}
