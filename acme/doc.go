// Package acme gets and keeps certificates: from an ACME authority by
// Cloudflare's DNS challenge, from the operator's own files, or from the local
// CA, which also answers until the first real certificate is there.
package acme
