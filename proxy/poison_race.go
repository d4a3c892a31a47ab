//go:build race

package proxy

// poison says that what is over is not used again, but made useless.
const poison = true
