package gateway_test

import "detour/gateway"

// newServer makes a server of the engine under test.
func newServer(o gateway.ServerOptions) gateway.Server {
	if *engine == "detour" {
		return gateway.NewEngineServer(o)
	}
	return gateway.NewServer(o)
}
