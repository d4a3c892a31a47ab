//go:build !race

package server

const poison = false
