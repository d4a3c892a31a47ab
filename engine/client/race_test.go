//go:build race

package client

const raceEnabled = true // it allocates, and drops pooled buffers
