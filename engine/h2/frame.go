package h2

import (
	"encoding/binary"
	"fmt"
)

// preface is what a client says first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	frameHeader = 9
	maxFrame    = 16 << 10  // the largest payload, either way: the smallest limit that may be announced, and what clients send
	firstWindow = 65535     // of streams and connection, before SETTINGS
	maxWindow   = 1<<31 - 1 // the largest window, and the largest stream number
)

type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	settingHeaderTableSize     = 0x1
	settingEnablePush          = 0x2
	settingMaxStreams          = 0x3
	settingInitialWindow       = 0x4
	settingMaxFrame            = 0x5
	settingMaxHeaderList       = 0x6
	settingConnectProtocol     = 0x8 // RFC 8441
	settingNoRFC7540Priorities = 0x9 // RFC 9218
)

// errCode is an error code of RFC 9113, section 7.
type errCode uint32

const (
	codeNo errCode = iota
	codeProtocol
	codeInternal
	codeFlowControl
	codeSettingsTimeout
	codeStreamClosed
	codeFrameSize
	codeRefusedStream
	codeCancel
	codeCompression
	codeConnect
	codeEnhanceYourCalm
)

func (c errCode) String() string {
	names := [...]string{
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
		"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("error code %#x", uint32(c))
}

// connError is a mistake of the client after which nothing on the connection
// can be trusted.
type connError struct {
	code   errCode
	reason string
}

func (e connError) Error() string {
	return fmt.Sprintf("connection ended with %v: %s", e.code, e.reason)
}

// streamError is why a stream ended before its time.
type streamError struct {
	code   errCode
	reason string
}

func (e streamError) Error() string { return fmt.Sprintf("stream ended with %v: %s", e.code, e.reason) }

// frame is a frame from the client. Its payload is valid until the next read.
type frame struct {
	kind    frameType
	flags   uint8
	stream  uint32
	payload []byte
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// unpad returns the payload without padding (RFC 9113, section 6.1).
func (f *frame) unpad() ([]byte, error) {
	p := f.payload
	if !f.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, connError{codeFrameSize, "padded frame without pad length"}
	}
	pad := int(p[0])
	if p = p[1:]; pad > len(p) {
		return nil, connError{codeProtocol, "more padding than frame"}
	}
	return p[:len(p)-pad], nil
}

func appendFrame(b []byte, kind frameType, flags uint8, stream uint32, length int) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}
