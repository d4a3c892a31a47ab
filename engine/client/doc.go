// Package client exchanges requests with an upstream over HTTP/1.1: an
// http.RoundTripper that does what http.Transport does for plain HTTP, at a
// fraction of the cost, and believes less.
//
// The whole exchange runs in the goroutine that asks for it. http.Transport needs two
// goroutines per connection for what is done here as follows:
//
//   - That a kept connection has died, or that the upstream has sent bytes nobody
//     asked for, is noticed when the connection is taken again: by a read that must
//     find nothing. The same read arms the runtime's poller, which saves the usual
//     read after the request that finds nothing yet (probe_unix.go).
//   - A context that ends closes the connection. If it has the method AfterFunc that
//     context.AfterFunc looks for, that one is called directly, as it costs nothing.
//   - Deadlines are set once in a while, not for each request (deadline.go).
//   - Only a request with a body gets a goroutine, which sends it (upload.go).
//   - Callers may say that they are done with an answer, so that its memory serves
//     the next request (release.go).
//
// The parts: Transport keeps the connections (transport.go, pool.go), an
// exchange is one request and its answer (exchange.go, request.go,
// response.go), and is the answer's body too (body.go).
package client
