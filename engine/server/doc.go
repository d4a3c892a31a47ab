// Package server is an HTTP server in the shape of net/http's, for the same
// handlers: strict in what it reads (engine/wire), cheap in what it does.
//
// An HTTP/1 connection is one goroutine, conn.run: it waits for a request without
// holding a buffer, reads its head (request.go), runs the handler, and ends the
// answer (freeze.go and answer.go, below response.go). Whether the client is
// still there is looked after only when somebody asks for the request's context
// and the handler takes its time (watch.go). HTTP/2 connections go to engine/h2.
//
// Its tests hold it against net/http's server, byte for byte; where it differs
// they say why.
package server
