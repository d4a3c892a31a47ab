package gateway_test

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A WebSocket through the whole gateway: after the upgrade nothing on the
// connection is HTTP any more, for none of the layers.
func TestWebSocketThroughTheWholeGateway(t *testing.T) {
	r := start(t, fmt.Sprintf("[hosts]\nchat = { upstream = %q }\n", upstream(t, echo)))
	c := dial(t, r, "chat")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	talk(t, ctx, c, "chat")
}
