//go:build !race

package logging

// raceEnabled is whether the race detector looks for uses of what is over.
const raceEnabled = false
