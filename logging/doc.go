// Package logging is the gateway's two logs: the process log, which tells an
// operator what the gateway does, and the access logs, one rotated JSON file a
// host, which tell what visitors did. The two never mix.
//
// A line's way: access.go wraps the handler and opens a Record (record.go), which
// the handlers fill, while response.go counts the answer; line.go writes the line
// by json.go, without what redact.go hides, under the name that its Sink has
// (sink.go). file.go lets lines wait, and disk.go writes and rotates behind it,
// so that no request waits for a disk; trouble.go tells when that goes wrong.
// files.go keeps the files from one configuration to the next.
//
// The process log is process.go, and terminal.go where people read it.
package logging
