package server

// WatchDelay is for tests of what happens beside a watch, or without.
const WatchDelay = watchDelay

// ErrOver is what is told who uses what belonged to a request.
var ErrOver = errOver
