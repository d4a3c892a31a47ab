package acme

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// observeIssuers wraps certmagic's log. With several issuers, certmagic's event
// cert_failed knows only the last one's error; the others appear in the log
// alone. failed is told of each; ended is asked about an order that will be tried
// again. They report whether the error is told by itself: then it is not logged here.
func observeIssuers(log *zap.Logger, failed func(name, issuer string, err error) (told bool), ended func(err error) (told bool)) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return issuerObserver{core, failed, ended}
	}))
}

type issuerObserver struct {
	zapcore.Core
	failed func(name, issuer string, err error) (told bool)
	ended  func(err error) (told bool)
}

// What certmagic says when one issuer failed, when an order did, and when its job ended.
const (
	messageIssuerFailed = "could not get certificate from issuer"
	messageOrderFailed  = "will retry"
	messageJobFailed    = "job failed"
)

// Enabled drops certmagic's debug lines, has those about its progress count as
// debug, because the Manager says what came of it, and lets errors through to Check
// even when the log itself is silent.
func (o issuerObserver) Enabled(l zapcore.Level) bool {
	switch {
	case l >= zapcore.ErrorLevel:
		return true
	case l == zapcore.InfoLevel:
		return o.Core.Enabled(zapcore.DebugLevel)
	}
	return l > zapcore.InfoLevel && o.Core.Enabled(l)
}

func (o issuerObserver) With(fields []zapcore.Field) zapcore.Core {
	return issuerObserver{o.Core.With(fields), o.failed, o.ended}
}

func (o issuerObserver) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	switch e.Message {
	case messageIssuerFailed, messageOrderFailed, messageJobFailed:
		return c.AddCore(e, o)
	}
	return o.Core.Check(e, c)
}

func (o issuerObserver) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var name, issuer string
	var err error
	for _, f := range fields {
		switch f.Key {
		case "identifier":
			name = f.String
		case "issuer":
			issuer = f.String
		case "error":
			err, _ = f.Interface.(error)
		}
	}
	if errors.Is(err, context.Canceled) {
		return nil // we took the order back ourselves
	}
	told := false
	switch {
	case err == nil:
	case e.Message == messageIssuerFailed:
		told = o.failed(name, issuer, err)
	case e.Message == messageOrderFailed:
		told = o.ended(err)
	}
	if told || !o.Core.Enabled(e.Level) {
		return nil
	}
	return o.Core.Write(e, fields)
}

// issuerFailed is told by the observer what one issuer answered. If that is the
// only one, the end of the order tells it.
func (m *Manager) issuerFailed(name, issuer string, err error) (told bool) {
	s := m.table.Load().orders[name]
	if s == nil {
		return false
	}
	s.issuerFailed(issuerLabel(issuer), explain(err))
	return len(m.config.Load().Issuers) == 1
}

// orderEnded reports whether the event cert_failed has told err. It tells what the
// issuers say; that a certificate could not be stored is in the log alone.
func (m *Manager) orderEnded(err error) (told bool) {
	for _, s := range m.table.Load().orders {
		if s.told(err) {
			return true
		}
	}
	return false
}
