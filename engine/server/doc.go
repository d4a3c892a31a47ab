// Package server is an HTTP server in the shape of net/http's, for the same
// handlers: strict in what it reads (engine/wire), cheap in what it does.
//
// An HTTP/1 connection is one goroutine, conn.run: it waits for a request without
// holding a buffer, reads its head, runs the handler, and ends the answer. In the
// order of a connection:
//
//   - server.go has the listeners and the connections, accept.go takes one in, does
//     its handshake, and leaves HTTP/2 to engine/h2
//   - conn.go goes from request to request: request.go reads a head and makes a
//     request of it, target.go its URL, body.go its body; refusal.go answers what
//     is no request
//   - response.go is the http.ResponseWriter: freeze.go writes the head as it is at
//     WriteHeader, answer.go how the body is framed, and the end; hijack.go gives
//     the connection away instead
//   - leave.go ends the connection, for Shutdown, Close and the Limiter too
//
// Below that, input.go holds what was read and not used yet, batch.go turns many TLS
// records into few system calls, deadline.go limits the time of reads, and paced.go
// that of writes. Only when somebody asks for the request's context, and the handler
// takes its time, does watch.go look whether the client is still there.
//
// When a handler has returned, what it was given is used again (exchange.go); see
// package lifetime for what it may keep.
//
// # Differences from net/http
//
// Its tests compare its answers with those of net/http's server, byte for byte but
// for the order of fields with different names; where they differ the tests say
// why. A transfer coding before chunked is answered with 501, and a version of HTTP
// that is not supported with 505; net/http's server behind wire.Guard answers both
// with 400.
//
// A client that is still sending when its request has been answered may go on for
// 30 s, so that it gets to read the answer, unless it sends nothing for 5 s. If a
// handler panics, what it had written of its answer is sent, unless that would look
// whole.
package server
