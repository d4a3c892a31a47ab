package logging

import (
	"strconv"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// journalEncoder puts the priority before a line, without which the journal
// takes every line for an info.
type journalEncoder struct {
	zapcore.Encoder // JSON, which has no line break but its last byte
}

// Clone implements zapcore.Encoder.
func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	out, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	line := "<" + strconv.Itoa(int(priorityOf(entry.Level))) + ">" + out.String()
	out.Reset()
	out.AppendString(line)
	return out, nil
}

func priorityOf(level zapcore.Level) journal.Priority {
	switch level {
	case zapcore.DebugLevel:
		return journal.PriDebug
	case zapcore.InfoLevel:
		return journal.PriInfo
	case zapcore.WarnLevel:
		return journal.PriWarning
	}
	return journal.PriErr
}
