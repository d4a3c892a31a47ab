// Package xconnect switches on extended CONNECT (RFC 8441: WebSocket over
// HTTP/2) in net/http's HTTP/2 server.
//
// The standard library offers the switch as GODEBUG=http2xconnect=1 and reads
// it once, when net/http is initialized. It is off there by default because
// handlers that only know HTTP/1.1 upgrades break when a browser uses it; ours
// know both. Packages are initialized in the order of their import paths as
// soon as their own imports are (Go specification, "Program initialization"),
// and this one imports only os, so it comes before net/http.
package xconnect

import "os"

var _ = enable()

func enable() error {
	v := "http2xconnect=1"
	if old := os.Getenv("GODEBUG"); old != "" {
		v = old + "," + v
	}
	return os.Setenv("GODEBUG", v)
}
