package gateway

import "crypto/tls"

// TLSConfig is the one TLS configuration of a gateway, to be kept for its whole
// life so that session tickets survive a reload. It serves TCP and QUIC.
// getCertificate is asked once for each handshake that is not resumed; nil, nil
// refuses the name (unrecognized_name).
func TLSConfig(getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: getCertificate,
		NextProtos:     []string{"h2", "http/1.1", "http/1.0"}, // the last is all that "curl -0" offers
		MinVersion:     tls.VersionTLS12,
		MaxVersion:     tls.VersionTLS13,
		// The first one protects recordings of today from quantum computers.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		// TLS 1.2 with forward secrecy and AEAD alone; TLS 1.3 has nothing else.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}
