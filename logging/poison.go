//go:build !race

package logging

const poison = false
