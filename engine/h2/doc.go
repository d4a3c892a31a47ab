// Package h2 is the server half of HTTP/2 (RFC 9113, RFC 7541, RFC 8441) below an
// ordinary http.Handler: one Conn per connection, made with New and run by Serve.
//
// One goroutine reads the connection and puts requests into a queue, from which
// workers take them. Each worker wakes the next before it runs a handler, so that no
// request waits behind one that takes its time, while those that are answered at once
// need no goroutine of their own. Whoever has something to send appends frames to the
// connection's one output buffer. The first to find it idle writes it, or has a
// worker do that, after the other runnable streams had the chance to add theirs: so
// many small answers share a TLS record and a system call. The buffer is bounded.
// Handlers with data wait for room and for the client's windows, each for its turn;
// those with a header, which no window limits, wait for room only, and not in turn.
// One timer, the watchdog's, serves everything that a connection waits for.
//
// In the order of a request:
//
//   - conn.go begins and ends the connection; reader.go reads it frame by frame,
//     frame.go knows what a frame is, handle.go does what one asks for
//   - head.go collects a header block, decoder.go takes it apart, request.go makes a
//     request of it, names.go knows what its fields may hold
//   - stream.go is the request's course, body.go what the client sends of it;
//     worker.go runs the handler
//   - response.go is the http.ResponseWriter, interim.go its 1xx; block.go and
//     encoder.go write its header block
//   - output.go queues and writes, to windows and turns; buffers.go lends the memory
//
// Against clients that take too much or too long: guard.go slows floods down,
// watch.go is the watchdog, which asks deadline.go and progress.go what has to end,
// idle.go ends a connection to make room for others, history.go tells late frames
// from wrong ones.
//
// When a handler has returned, what it was given is used again (recycle.go); see
// package lifetime for what it may keep.
//
// # Differences from net/http
//
// Handlers and clients see what net/http's server would show them; the tests
// hold both against each other. What is different, and why:
//
//   - Requests that RFC 9113 calls malformed are refused with PROTOCOL_ERROR, of
//     which net/http takes some and answers others with 400: connection-specific
//     fields, TE, a Content-Length that is doubled, no number or not the length,
//     methods that are no token, targets that are not a path, no or a malformed
//     authority, trailers that frame or route. White space around values gets a
//     400. A gateway must not pass on what two parsers could read in two ways.
//   - Host must say what :authority says, and is not in the header: Request.Host
//     has it, as with HTTP/1.
//   - Request.Body is http.NoBody if there is none.
//   - Answers have no Keep-Alive, Proxy-Connection, Transfer-Encoding or Upgrade
//     field, and there is no 101: HTTP/2 knows none of them.
//   - An answer shorter than its Content-Length ends with RST_STREAM, not as if it
//     were whole; more than that is refused by Write at once.
//   - Streams beyond the limit get REFUSED_STREAM, so that clients try again.
//   - Frames that were on their way when the server reset their stream are
//     ignored, not answered with another reset.
//   - The first GOAWAY of a shutdown refuses nothing; the second, a round trip
//     later, says what was served. So no request is lost.
//   - A request that was answered before all of it had come is reset only after a
//     round trip, or later, if the client can send the rest without more window;
//     some resets after a success come at once (see stream.resetAtOnce).
//   - A flood is slowed down before it is cut off.
//   - The client must take the end of an answer, and each write, within
//     Limits.WriteTimeout; with Options.Paced the connection limits its writes itself.
//     For an end that waits behind other streams the time begins anew with each turn.
//   - A client that makes no progress with what a handler reads or writes is cut,
//     if Limits.ProgressTimeout says so.
//   - Extended CONNECT is always on. There is no push and no http.CloseNotifier.
//   - After the handler has returned, Write, Flush and the deadlines return an
//     error, and none of them panics, as long as no other request has the
//     ResponseWriter (package lifetime).
package h2
