//go:build linux

package main

import (
	"os/exec"
	"testing"
)

func TestH2loadCountsAnswers(t *testing.T) {
	if _, err := exec.LookPath(h2load); err != nil {
		t.Skip("h2load is not installed (nghttp2-client)")
	}
	to := serve(t, newBackend())
	url := "https://" + to.addr
	for _, version := range []string{"--h1", "--npn-list=h2"} {
		got, err := runH2load(t.Context(), 200, version, "--requests=20", "--clients=2", url+getSmall.path)
		if want := (tally{requests: 20}); err != nil || got != want {
			t.Errorf("h2load %s = %+v, %v; want %+v", version, got, err, want)
		}
		if got, err := runH2load(t.Context(), 302, version, "--requests=1", url+getSmall.path); err == nil {
			t.Errorf("h2load %s that gets 200 instead of 302 = %+v, nil; want an error", version, got)
		}
		if got, err := runH2load(t.Context(), 200, version, "--requests=1", url+"/nowhere"); err == nil {
			t.Errorf("h2load %s that gets 404 = %+v, nil; want an error", version, got)
		}
	}
}
