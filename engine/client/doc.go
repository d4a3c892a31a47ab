// Package client exchanges requests with an upstream over HTTP/1.1: an
// http.RoundTripper that does what http.Transport does for plain HTTP, at a
// fraction of the cost, and believes less.
//
// The whole exchange runs in the goroutine that asks for it. What http.Transport
// has two goroutines a connection for is done without:
//
//   - That a kept connection has died, or that the upstream sends bytes nobody
//     asked for, is noticed when it is taken again: by a read that must find
//     nothing. The same read arms the runtime's poller, so that the usual read
//     after the request, which finds nothing yet, is not needed (probe_unix.go).
//   - A context that ends closes the connection: by its method AfterFunc, if it has
//     the one that context.AfterFunc looks for, as that costs nothing.
//   - Deadlines are set once in a while, not once a request (deadline.go).
//   - Only a request with a body gets a goroutine, which sends it (upload.go).
//   - Who is done with an answer may say so, and its memory serves the next
//     request (release.go).
//
// The parts: Transport keeps the connections (transport.go, pool.go), an
// exchange is one request and its answer (exchange.go, request.go,
// response.go), and is the answer's body too (body.go).
package client
