// Package acme gets and keeps certificates: from an ACME authority by
// Cloudflare's DNS challenge, from the operator's own files, or from the local
// CA, which also answers until the first real certificate is there.
//
// Manager is the whole of it for other rooms. Behind it, certmagic orders,
// stores and renews; solver answers the DNS challenge through Cloudflare's API
// (apiClient); authority is the local CA; pair is a certificate of one's own.
package acme
