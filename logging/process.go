package logging

import (
	"io"
	"log/slog"
	"math"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// Process is the process log: one zap core, offered as slog to our own code
// and as zap to certmagic. Both may be used from any number of goroutines.
type Process struct {
	Slog *slog.Logger
	Zap  *zap.Logger
}

// Format is what the lines of the process log are made for.
type Format uint8

// The formats.
const (
	JSON     Format = iota // programs: one JSON object a line
	Terminal               // eyes: time, level, message, key=value
	Journal                // systemd's journal: JSON after the priority, which the journal strips (sd-daemon(3))
)

// NewProcess returns a process log that writes to w, one line an entry. Entries
// below level are left out. Writes to w are serialized.
func NewProcess(w io.Writer, format Format, level slog.Level) *Process {
	encoder := newJSONEncoder()
	switch format {
	case Terminal:
		encoder = newTerminalEncoder()
	case Journal:
		encoder = journalEncoder{encoder}
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), zapLevel(level))
	return &Process{
		// zapslog adds a stack trace to every error by default; an
		// operator's error says what to do next instead.
		Slog: slog.New(zapslog.NewHandler(core, zapslog.AddStacktraceAt(math.MaxInt))),
		Zap:  zap.New(core),
	}
}

func newJSONEncoder() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "time",
		LevelKey:       "level",
		NameKey:        "logger",
		MessageKey:     "msg",
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	})
}

func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l < slog.LevelInfo:
		return zapcore.DebugLevel
	case l < slog.LevelWarn:
		return zapcore.InfoLevel
	case l < slog.LevelError:
		return zapcore.WarnLevel
	}
	return zapcore.ErrorLevel
}
