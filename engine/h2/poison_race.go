//go:build race

package h2

// poison says that what is over is not used again, but made useless, so that the
// race detector and the tests find who still uses it.
const poison = true
