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
// Below: input.go holds what was read and not used yet, batch.go makes few system
// calls of many TLS records, deadline.go gives reads their time, paced.go writes.
// Whether the client is still there is looked after only when somebody asks for the
// request's context and the handler takes its time (watch.go).
//
// What a handler gets is used again when it has returned (exchange.go): package
// lifetime says what it may keep.
//
// # Differences from net/http
//
// Its tests hold it against net/http's server, byte for byte but for the order of
// fields of different names; where it differs they say why. What net/http's server
// cannot tell apart from other mistakes behind wire.Guard, and answers with 400, is
// here 501 if it is a transfer coding before chunked, and 505 if it is a version of
// HTTP that is not spoken here.
//
// A client that is still sending when its request has been answered may go on for
// 30 s, and so reach the answer, unless it sends nothing for 5 s. Of an answer that
// its handler gives up, what there is is sent, unless it would look whole.
package server
