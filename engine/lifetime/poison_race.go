//go:build race

package lifetime

// Poison says that what belonged to a request that is over is made useless instead
// of used again, so that the race detector and the tests find whoever still uses it.
const Poison = true
