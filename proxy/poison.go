//go:build !race

package proxy

const poison = false
