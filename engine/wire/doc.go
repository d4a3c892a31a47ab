// Package wire is the strict grammar of HTTP/1 on the wire (RFC 9112), for
// bytes from strangers. What two parsers could read in two ways it refuses: that
// is how requests are smuggled past a gateway.
//
// HeadEnd, ParseHead, Chunked and ParseTrailers are pure: bytes in, meaning
// out, no I/O, no allocation. Guard applies them to a connection in front of a
// more tolerant server. BodyAllowed, AnnouncedTrailer and Sort are what HTTP/2
// has in common with it.
package wire
