// Package h2 is the server half of HTTP/2 (RFC 9113, RFC 7541, RFC 8441) below
// an ordinary http.Handler: one Conn a connection, made with New and run by
// Serve.
//
// One goroutine reads the connection and each request's handler runs in its
// own; whoever has something to send appends frames to the connection's one
// output buffer. The first to find it idle writes it out, after it has let the
// other runnable streams add theirs, so that many small answers share a TLS
// record and a system call. The buffer is bounded: handlers wait for room and
// for the client's windows, each for its own turn.
//
// Handlers see what net/http's server would show them; the tests hold both
// against each other, and list the differences with their reasons.
package h2
