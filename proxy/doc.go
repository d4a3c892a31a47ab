// Package proxy is the request's way: it finds the host's Route, forwards to
// the upstream when the host is online, and answers for it when it is offline.
// Handler is the whole decision; everything else here is one step of it.
package proxy
