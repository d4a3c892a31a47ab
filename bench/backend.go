//go:build linux

package main

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/coder/websocket"
)

const (
	smallSize    = 1 << 10
	pageSize     = 50 << 10
	fileSize     = 1 << 20
	downloadSize = 100 << 20
	uploadSize   = 10 << 20
)

// newBackend serves what the proxies forward, on ln until ln is closed:
// /small, /page, /download and /file, /upload (any body), /echo (WebSocket),
// /events (server-sent events).
func newBackend() http.Handler {
	small := make([]byte, smallSize)
	html := page()
	chunk := make([]byte, 256<<10)
	fill(small)
	fill(chunk)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /small", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"] = []string{"image/webp"} // what no proxy compresses
		h["Cache-Control"] = []string{"public, max-age=3600"}
		h["Etag"] = []string{`"5f3a-1c2b"`}
		h["Last-Modified"] = []string{"Tue, 04 Mar 2025 10:00:00 GMT"}
		_, _ = w.Write(small) // a client that is gone is found by the load
	})
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(html)))
		_, _ = io.WriteString(w, html)
	})
	for path, size := range map[string]int{"/file": fileSize, "/download": downloadSize} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.Itoa(size))
			for sent := 0; sent < size; sent += len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
	}
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != uploadSize {
			http.Error(w, "upload broken off", http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /echo", echo)
	mux.HandleFunc("GET /events", sendEvents)
	return mux
}

// echo sends every message of a WebSocket back until the client closes it.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // no browser, no Origin
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// fill writes bytes that do not compress, the same every time.
func fill(b []byte) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
}

// page is an HTML page of pageSize bytes that compresses like pages do, to
// about a third: sentences of a few hundred words, the common ones often,
// between the tags and attributes of a list of articles.
func page() string {
	random := rand.New(rand.NewPCG(3, 4))
	words := make([]string, 900)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = "etaoinshrdlcumwfgypbvk"[min(random.IntN(22), random.IntN(22))]
		}
		words[i] = string(word)
	}
	zipf := rand.NewZipf(random, 1.1, 8, uint64(len(words)-1))
	var b strings.Builder
	b.WriteString("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Articles</title></head><body><main>\n")
	for id := 1; b.Len() < pageSize; id++ {
		b.WriteString(`<article class="card" id="article-` + strconv.Itoa(id) + `"><h2><a href="/articles/` + strconv.Itoa(1000+random.IntN(9000)) + `">`)
		for range 6 {
			b.WriteString(words[zipf.Uint64()] + " ")
		}
		b.WriteString("</a></h2>\n<p class=\"summary\">")
		for range 60 + random.IntN(40) {
			b.WriteString(words[zipf.Uint64()] + " ")
		}
		b.WriteString("</p></article>\n")
	}
	return b.String()[:pageSize]
}

// serveBackend serves handler on ln; it ends when ln is closed.
func serveBackend(ln net.Listener, handler http.Handler) *http.Server {
	srv := &http.Server{Handler: handler}
	go func() { _ = srv.Serve(ln) }() // ends with ErrServerClosed by lab.close
	return srv
}
