//go:build !race

package lifetime

const Poison = false
