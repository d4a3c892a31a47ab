//go:build race

package client

// poison says that what was released is not used again, but useless.
const poison = true
