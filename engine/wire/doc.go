// Package wire is the strict grammar of HTTP/1 on the wire (RFC 9112), for bytes
// from strangers. It refuses what two parsers could read in two ways, for that is
// how requests are smuggled past a gateway.
//
// HeadEnd, ParseHead, Chunked and ParseTrailers are pure: bytes in, meaning out, no
// I/O, no allocation. Guard applies them to a connection in front of a more tolerant
// server. ParseResponse and what goes with it are for the answers of upstreams, the
// Append functions for what is sent to them. BodyAllowed, AnnouncedTrailer and Sort
// serve HTTP/2 as well.
package wire
