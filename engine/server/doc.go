// Package server is an HTTP server in the shape of net/http's, for the same
// handlers: strict in what it reads (engine/wire), cheap in what it does.
//
// An HTTP/1 connection is one goroutine, conn.run: it waits for a request without
// holding a buffer, reads its head (request.go), runs the handler, and ends the
// answer (freeze.go and answer.go, below response.go). Whether the client is
// still there is looked after only when somebody asks for the request's context
// and the handler takes its time (watch.go). HTTP/2 connections go to engine/h2.
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
