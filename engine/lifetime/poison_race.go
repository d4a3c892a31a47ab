//go:build race

package lifetime

// Poison says that what belonged to a request that is over is not used again,
// but made useless, so that the race detector and the tests find who still uses
// it.
const Poison = true
