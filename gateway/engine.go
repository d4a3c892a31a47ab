package gateway

import (
	"detour/config"
	engine "detour/engine/server"
)

// serverOf is what makes the servers of an engine.
func serverOf(e config.Engine) func(ServerOptions) Server {
	if e == config.Detour {
		return NewEngineServer
	}
	return NewServer
}

// NewEngineServer is NewServer on the engine of our own.
func NewEngineServer(o ServerOptions) Server {
	return engine.New(engine.Options{
		Handler:  o.Handler,
		TLS:      o.TLS,
		Limits:   o.Limits,
		Limiter:  o.Limiter,
		Memory:   o.Memory,
		ErrorLog: o.Log,
	})
}
