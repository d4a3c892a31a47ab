// Package proxy takes a request from the access log to its answer: it finds the
// host's Route, forwards to the upstream if the host is online, and answers in its
// place if it is offline. Handler makes the whole decision; everything else here is a
// step of it.
//
// In the order of a request:
//
//   - handler.go decides: host.go makes the name canonical, table.go and
//     route.go know who serves it, trusted.go and cloudflare.go tell who is
//     asking
//   - session.go and bypass.go know who is served although the host is not
//     online; explain.go tells an operator what would be decided, and why
//   - offline.go answers for a host that is offline: kind.go tells the kinds of
//     clients apart, statuspage.go is where people are sent
//   - forward.go sends the request: its header from forwarded.go, its body from
//     body.go, to a member of the host's Pool (pool.go), over the connections of
//     upstream.go. forwarding.go holds all that belongs to one such request and is
//     used again, context.go ends it; hold.go lets it wait while no upstream takes
//     connections, and observer.go reports how the upstreams fare
//   - answer.go passes the answer on, compress.go compresses it:
//     compressible.go knows what is worth it, negotiate.go what the client
//     accepts, encoder.go has the encoders, etag.go keeps the representations apart
//   - upgrade.go changes the protocol instead, tunnel.go joins the connections,
//     frames.go finds where a WebSocket may be ended; answers and tunnels are
//     copied through copybuffer.go
//   - failure.go says whose fault it is when something goes wrong, and which status
//     that makes; page.go has the words, in the format that accept.go chooses
//
// Not in the course of a request:
//
//   - cut.go ends what is left of a host at the end of its drain, drain.go the
//     upgraded connections of all hosts when the gateway stops
//   - probe.go asks an upstream how it is
//   - progress.go cuts clients that make no progress, above net/http's server
//     and QUIC's; engine/server does that itself
package proxy
