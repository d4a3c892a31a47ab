// Package server is an HTTP server in the shape of net/http's, for the same
// handlers: strict in what it reads (engine/wire), cheap in what it does.
//
// An HTTP/1 connection is one goroutine, conn.run: it waits for a request without
// holding a buffer, reads its head (request.go), runs the handler, and ends the
// answer (freeze.go and answer.go, below response.go). Whether the client is
// still there is looked after only when somebody asks for the request's context
// and the handler takes its time (watch.go). HTTP/2 connections go to engine/h2.
//
// # What a handler may keep
//
// The Request, its URL, its header map, that of the answer and the ResponseWriter
// are the handler's until it returns; strings and slices of values for longer. All
// of them are used again then, for a request of any client, if this one had no body
// and nobody has asked its context for Done (exchange.go). Until that other request
// comes, a ResponseWriter that was kept says that the request is over, and a
// request is empty. From then on they are the other's: who still writes, writes
// into its answer. Under the race detector nothing is used again, and requests and
// headers are overwritten with nonsense, so that tests find who keeps one.
//
// The context has the method AfterFunc that context.AfterFunc looks for; who calls
// it directly gets one callback without any allocation, and must not call its stop
// after the handler has returned.
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
