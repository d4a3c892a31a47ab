//go:build profile

// This file is no part of detour: `bench/run -profile` lays it over cmd/detour
// when it builds the program that it takes a profile of (go build -overlay).
package main

import (
	"errors"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// init profiles the program's CPU time from its start until SIGUSR2; then the
// profile is in its working directory, whole, as cpu.pprof.
func init() {
	f, err := os.Create("cpu.pprof.part")
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		panic(err)
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGUSR2)
	go func() {
		<-ends
		pprof.StopCPUProfile()
		if err := errors.Join(f.Close(), os.Rename(f.Name(), "cpu.pprof")); err != nil {
			panic(err)
		}
	}()
}
