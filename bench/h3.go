//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sync/errgroup"
)

// h3 is one QUIC connection with a number of streams always open.
type h3 struct {
	ctx       context.Context
	transport *http3.Transport
	host      string
	want      request
	streams   int
}

func dialH3(ctx context.Context, t target, host string, want request, streams int) (*h3, error) {
	return &h3{
		ctx: ctx,
		transport: &http3.Transport{
			TLSClientConfig:    t.tlsConfig(host, http3.NextProtoH3),
			DisableCompression: true,
			Dial: func(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, t.addr, tlsConf, conf) // by address: the name exists nowhere
			},
		},
		host: host, want: want, streams: streams,
	}, nil
}

func (c *h3) Close() error { return c.transport.Close() }

func (c *h3) run(more func() bool, t *tally) error {
	var g errgroup.Group
	var mu sync.Mutex // guards more and t
	for range c.streams {
		g.Go(func() error {
			for {
				mu.Lock()
				again := more()
				mu.Unlock()
				if !again {
					return nil
				}
				n, err := c.ask()
				if err != nil {
					return err
				}
				mu.Lock()
				t.requests++
				t.bytes += n
				mu.Unlock()
			}
		})
	}
	return g.Wait()
}

func (c *h3) ask() (int64, error) {
	req, err := http.NewRequestWithContext(c.ctx, c.want.method, "https://"+c.host+c.want.path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept-Encoding", c.want.accept)
	for _, line := range browserLines {
		req.Header.Set(line[0], line[1])
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != c.want.status {
		return 0, fmt.Errorf("status %d; want %d", resp.StatusCode, c.want.status)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != c.want.encoding {
		return 0, fmt.Errorf("content-encoding %q; want %q", encoding, c.want.encoding)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && c.want.size > 0 && n != c.want.size {
		err = fmt.Errorf("body of %d bytes; want %d", n, c.want.size)
	}
	return n, err
}
