// Package proxy is the request's way: it finds the host's Route, forwards to
// the upstream when the host is online, and answers for it when it is offline.
// Handler is the whole decision; everything else here is one step of it.
//
// In the order of a request:
//
//   - handler.go decides: host.go makes the name canonical, table.go and
//     route.go know who serves it, trusted.go tells who is asking
//   - offline.go answers for a host that is offline, by the kind of client
//   - forward.go sends the request: its header by forwarded.go, its body by
//     body.go, over the connections of upstream.go
//   - answer.go passes the answer on, compress.go compresses it
//   - upgrade.go changes the protocol instead, tunnel.go joins the connections
//   - failure.go is where what went wrong becomes a status, page.go where it
//     becomes words
package proxy
