// Package logging is the gateway's two logs: the process log, which tells an
// operator what the gateway does, and the access logs, one rotated JSON file a
// host, which tell what visitors did. The two never mix.
package logging
