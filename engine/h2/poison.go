//go:build !race

package h2

const poison = false
