package server

// WatchDelay is for tests of what happens beside a watch, or without.
const WatchDelay = watchDelay
