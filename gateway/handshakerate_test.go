package gateway

import "testing"

func TestHandshakeRate(t *testing.T) {
	var h handshakeRate
	for i := range quicTrustedRate {
		if h.highAt(7) {
			t.Fatalf("handshake %d of a second counts as too many; want %d to pass", i+1, quicTrustedRate)
		}
	}
	if !h.highAt(7) {
		t.Errorf("handshake %d of a second passes without proof of its address", quicTrustedRate+1)
	}
	if h.highAt(8) {
		t.Error("the first handshake of the next second has to prove its address")
	}
}
