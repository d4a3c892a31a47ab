package proxy

import "net/http"

func upgradeProtocol(r *http.Request) (string, error) { return "", nil }

func (h *Handler) upgrade(f *forwarding, protocol string, header http.Header) {}
