// Package logging is the gateway's two logs: the process log, which tells an
// operator what the gateway does, and the access logs, one rotated JSON file per
// host, which tell what visitors did. The two never mix.
//
// The way of an access-log line: access.go wraps the handler and opens a Record
// (record.go), which the handlers fill, while response.go counts the answer;
// line.go encodes the line with json.go, without what redact.go hides, under the
// name of its Sink (sink.go). In file.go lines wait, and disk.go writes and rotates
// in the background, so that no request waits for a disk; trouble.go reports when
// that goes wrong. files.go keeps the files from one configuration to the next.
//
// The process log is process.go, with terminal.go for people and journal.go for
// systemd.
package logging
