//go:build !race

package client

const poison = false
