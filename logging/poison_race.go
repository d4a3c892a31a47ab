//go:build race

package logging

// poison makes what is over useless instead of used again, so that the race
// detector and the tests find whoever still uses it.
const poison = true
