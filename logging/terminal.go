package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// terminalEncoder writes an entry for eyes:
//
//	15:04:05.000 INFO  configuration reloaded generation=4 took=12ms
//
// zap's own console encoder prints the fields as one JSON object. This one lets
// zap's JSON encoder collect them, in order, and prints them as key=value;
// groups become dotted keys.
type terminalEncoder struct {
	zapcore.Encoder // JSON of the fields alone
}

func newTerminalEncoder() terminalEncoder {
	return terminalEncoder{zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		SkipLineEnding: true,
	})}
}

// Clone implements zapcore.Encoder.
func (e terminalEncoder) Clone() zapcore.Encoder { return terminalEncoder{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (e terminalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	fieldsJSON, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, fmt.Errorf("encode log fields: %w", err)
	}
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s %-5s ", entry.Time.Format("15:04:05.000"), entry.Level.CapitalString())
	if entry.LoggerName != "" {
		line.WriteString(plain(entry.LoggerName) + ": ")
	}
	line.WriteString(plain(entry.Message))
	appendPairs(&line, "", fieldsJSON.Bytes())
	line.WriteByte('\n')
	if entry.Stack != "" {
		line.WriteString(entry.Stack + "\n")
	}

	out := fieldsJSON // taken from zap's pool, which gets it back after the write
	out.Reset()
	_, err = out.Write(line.Bytes())
	return out, err
}

// appendPairs writes the members of a JSON object as " key=value", in their
// order.
func appendPairs(line *bytes.Buffer, prefix string, object []byte) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil { // {
		return
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return
		}
		name := prefix + key.(string)
		var text string
		switch {
		case value[0] == '{':
			appendPairs(line, name+".", value)
			continue
		case json.Unmarshal(value, &text) == nil && value[0] == '"':
			text = quoted(text)
		default:
			text = string(value)
		}
		line.WriteString(" " + plain(name) + "=" + text)
	}
}

// plain keeps what would move the cursor or start a new line off the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// quoted returns s as it is when a reader can tell where it ends, else as a Go
// string.
func quoted(s string) string {
	ambiguous := func(r rune) bool { return r == ' ' || r == '=' || r == '"' || !unicode.IsPrint(r) }
	if s == "" || strings.ContainsFunc(s, ambiguous) {
		return strconv.Quote(s)
	}
	return s
}
