package proxy

import "context"

type tunnels struct{}

// Drain is for upgraded connections.
func (h *Handler) Drain(ctx context.Context, code int) {}
