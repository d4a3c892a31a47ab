//go:build race

package proxy

// poison says that what is over is not used again, but made useless, so that the
// race detector and the tests find who still uses it.
const poison = true
