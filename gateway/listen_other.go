//go:build !linux

package gateway

import "net"

// listenConfig has package net set TCP keep-alive on each connection.
var listenConfig net.ListenConfig
