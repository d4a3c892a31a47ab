//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// h2load is the name of nghttp2's load generator: clients that we did not
// write, with the few fields of a request that such tools send.
const h2load = "h2load"

// byH2load measures under h2load's clients. Its flags say how many, and what
// they speak.
func byH2load(host, path string, status int, flags ...string) func(*trial) ([]float64, error) {
	return func(t *trial) ([]float64, error) {
		w, err := t.measured(func(d time.Duration) (tally, error) {
			// Each run opens its connections anew: of two seconds that is less than 1 %.
			args := append([]string{
				fmt.Sprintf("--duration=%dms", d.Milliseconds()),
				"--connect-to=" + t.target.addr,
				"--header=:authority: " + host,                              // without the port
				"--groups=X25519", "--tls13-ciphers=TLS_AES_128_GCM_SHA256", // as the other scenarios
			}, flags...)
			return runH2load(t.ctx, status, append(args, "https://"+net.JoinHostPort(host, t.site.Port())+path)...)
		})
		return []float64{w.perRequest()}, err
	}
}

var (
	h2loadRequests = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, 0 failed, 0 errored, 0 timeout$`)
	h2loadClass    = regexp.MustCompile(`\b[1-9]\d* (\d)xx\b`) // of status codes, that there were answers of
)

// runH2load runs it on this process's CPU. Any answer of another class of
// status is an error.
func runH2load(ctx context.Context, status int, args ...string) (tally, error) {
	out, err := exec.CommandContext(ctx, h2load, args...).CombinedOutput()
	if err != nil {
		return tally{}, fmt.Errorf("%s: %w\n%s", h2load, err, bytes.TrimSpace(out))
	}
	requests := h2loadRequests.FindSubmatch(out)
	// It counts an answer's status when the head is there, and the request when all is.
	statuses := h2loadClass.FindAllSubmatch(out, -1)
	if requests == nil || len(statuses) != 1 || int(statuses[0][1][0]-'0') != status/100 {
		return tally{}, fmt.Errorf("%s: want nothing but answers %d:\n%s", h2load, status, bytes.TrimSpace(out))
	}
	n, err := strconv.ParseInt(string(requests[1]), 10, 64)
	return tally{requests: n}, err
}
