package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"detour/engine/wire"
	"detour/logging"

	"golang.org/x/net/http2"
)

// Why a request was not forwarded, or its answer was not passed on. Errors
// that are none of these are the upstream's.
var (
	errMalformed    = errors.New("malformed request")
	errNotServed    = errors.New("no such host here")
	errPlainConnect = errors.New("CONNECT is for forward proxies")
	errBodyTooLarge = errors.New("request body is over the host's max_body")
	errClientBody   = errors.New("request body did not arrive whole")
	errClientSlow   = errors.New("client sent nothing more of its body")
	errClientGone   = errors.New("client went away")
	errStopping     = errors.New("shutting down, no new upgrades")
	errCut          = errors.New("cut because the host went offline")
	errBrokenOff    = errors.New("one end broke off")
	errStuck        = errors.New("cut because one end took nothing any more")
	errStopped      = errors.New("cut because the gateway stopped")

	// The upstream's.
	errNoConnection = errors.New("upstream takes no connections, others wait for it already")
	errNotKept      = errors.New("upstream did not take the request, and too much of its body was sent to send it again")
	errNotTaken     = fmt.Errorf("upstream took nothing more of the request's body: %w", os.ErrDeadlineExceeded)
)

// blame names whose failure it is that an exchange with the upstream ended with err.
func (f *forwarding) blame(err error) error {
	if ours := f.brokenOff(); ours != nil {
		return ours
	}
	if f.body != nil {
		if cause := f.body.failure(); cause != nil {
			return clientError(f.r, cause)
		}
		if f.stuck.Load() {
			return errNotTaken
		}
	}
	if f.r.Context().Err() != nil {
		return errClientGone
	}
	if _, ok := errors.AsType[wire.Unsendable](err); ok {
		return fmt.Errorf("%w: %w", errMalformed, err) // the server let it pass, as HTTP/2 and HTTP/3 can carry it
	}
	return err
}

// brokenOff is why the gateway itself broke f off; nil = it did not.
func (f *forwarding) brokenOff() error {
	switch {
	case f.cut.Load():
		return errCut
	case f.handler.tunnels.over():
		return errStopped
	}
	return nil
}

// clientError names what went wrong while r's body was read. The context alone cannot
// tell: net/http's HTTP/1 server ends it after any failed read, so there the error has
// to say whether the connection broke or the bytes are no body.
func clientError(r *http.Request, err error) error {
	_, broken := errors.AsType[*net.OpError](err)
	switch {
	case err == errBodyTooLarge:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errClientSlow
	case broken, r.ProtoMajor > 1 && r.Context().Err() != nil,
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClientGone
	}
	return fmt.Errorf("%w: %w", errClientBody, err)
}

// failureStatus is the one place where a failure becomes a status.
func failureStatus(err error) int {
	network, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errMalformed), errors.Is(err, errClientBody):
		return http.StatusBadRequest
	case errors.Is(err, errNotServed):
		return http.StatusMisdirectedRequest
	case errors.Is(err, errPlainConnect):
		return http.StatusNotImplemented
	case errors.Is(err, errClientSlow):
		return http.StatusRequestTimeout
	case errors.Is(err, errBodyTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errClientGone):
		return logging.StatusClientGone
	case errors.Is(err, errStopping), errors.Is(err, errStopped), errors.Is(err, errCut):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), ok && network.Timeout():
		return http.StatusGatewayTimeout // dial, TLS handshake, response header
	}
	return http.StatusBadGateway // refused, reset, DNS, an answer that is not HTTP
}

// Shortage reports whether err, for which there is no connection, means that
// descriptors or memory have run out here, so that it says nothing about the upstream.
func Shortage(err error) bool {
	lookup, failed := errors.AsType[*net.DNSError](err) // which keeps only the words of its cause
	for _, lacking := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, lacking) || failed && strings.HasSuffix(lookup.Err, lacking.Error()) {
			return true
		}
	}
	return false
}

// fail answers r, for which nothing has been sent yet. rt = nil: r is for no host here.
func fail(w http.ResponseWriter, r *http.Request, rt *Route, rec *logging.Record, err error) {
	status := failureStatus(err)
	rec.Err = err
	if rec.Action == "" {
		rec.Action = "refused"
	}
	if status == logging.StatusClientGone {
		rec.Status = status
		panic(http.ErrAbortHandler) // nobody reads an answer
	}
	p := page{Status: status}
	if rt != nil {
		if host, err := CanonicalHost(r.Host); err == nil {
			p.StatusPage = rt.StatusPage.Link(host)
		}
	}
	if r.ProtoMajor == 1 && (status == http.StatusBadRequest || r.ContentLength != 0) {
		// What follows may be part of the same confusion, or the rest of a body
		// that is not waited for. Unannounced, the close would hit a request
		// that the client has just sent.
		w.Header().Set("Connection", "close")
	}
	if status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		if code := cancelledCall(r, err); code != "" {
			failCall(w, rec, status, code, "the service ended the call")
			return
		}
		rt.Stats.failed(err)
	}
	if status >= http.StatusInternalServerError && isGRPC(r.Header) {
		failCall(w, rec, status, grpcUnavailable, "the service is not answering")
		return
	}
	writePage(w, r, p)
}

// gRPC's status codes, as they are sent.
const (
	grpcCancelled        = "1"
	grpcDeadlineExceeded = "4"
	grpcUnavailable      = "14"
)

// cancelledCall is the gRPC status of a call that the upstream itself reset, as gRPC
// servers do when a call's deadline passes; that is no failure of the upstream.
// "" = err says something else.
func cancelledCall(r *http.Request, err error) string {
	reset, ok := errors.AsType[http2.StreamError](err)
	switch {
	case !isGRPC(r.Header) || !ok || reset.Code != http2.ErrCodeCancel:
		return ""
	case r.Header["Grpc-Timeout"] != nil:
		return grpcDeadlineExceeded
	}
	return grpcCancelled
}

// failCall answers a gRPC call in the words of its protocol, by trailers only. The log
// keeps the status that other clients would have got.
func failCall(w http.ResponseWriter, rec *logging.Record, status int, code, message string) {
	rec.Status = status
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Cache-Control", "no-store")
	h.Set("Grpc-Status", code)
	h.Set("Grpc-Message", message)
	w.WriteHeader(http.StatusOK)
}
