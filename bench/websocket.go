//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// echoer sends a WebSocket message and waits until it comes back.
type echoer struct {
	ctx     context.Context
	ws      *websocket.Conn
	message []byte
}

func dialWebSocket(ctx context.Context, t target, host string, want request) (*echoer, error) {
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
			return t.handshake(ctx, host, "http/1.1")
		},
	}}
	ws, _, err := websocket.Dial(ctx, "wss://"+host+want.path, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, err
	}
	return &echoer{ctx: ctx, ws: ws, message: []byte("sixty-four bytes, like a short message of a chat or a live page.")}, nil
}

func (c *echoer) Close() error { return c.ws.CloseNow() }

func (c *echoer) run(more func() bool, t *tally) error {
	for more() {
		if err := c.ws.Write(c.ctx, websocket.MessageText, c.message); err != nil {
			return err
		}
		_, answer, err := c.ws.Read(c.ctx)
		if err != nil {
			return err
		}
		if len(answer) != len(c.message) {
			return fmt.Errorf("echo of %d bytes; want %d", len(answer), len(c.message))
		}
		t.requests++
	}
	return nil
}
