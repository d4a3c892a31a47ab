package h2

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Each case is what RFC 9113 (or, where it says, another) demands of a server.
// "open" is a stream whose handler waits for the body, "half" one whose request
// is complete and whose handler waits, "done" one that is over.
func TestViolations(t *testing.T) {
	big := strings.Repeat("x", maxFrame)
	tests := []struct {
		name string
		do   func(r *raw)
		want outcome
	}{
		// 4.1, 5.5: unknown things are ignored
		{"unknown frame", func(r *raw) { r.frame(0x16, 0xff, 0, "xxxx") }, nothing},
		{"unknown frame on a stream", func(r *raw) { r.open(1); r.frame(0x16, 0xff, 1, "xxxx") }, nothing},
		{"undefined flags", func(r *raw) { r.frame(http2.FramePing, 0x16, 0, "xxxxxxxx") }, nothing},
		{"reserved bit", func(r *raw) { r.frame(http2.FramePing, 0, 1<<31, "xxxxxxxx") }, nothing},
		{"PRIORITY_UPDATE", func(r *raw) { r.frame(0x10, 0, 0, "\x00\x00\x00\x01u=1") }, nothing},

		// 4.2: frame size
		{"largest DATA", func(r *raw) { r.open(1); r.WriteData(1, false, []byte(big)) }, nothing},
		{"DATA too large", func(r *raw) { r.open(1); r.WriteData(1, false, []byte(big+"x")) }, onConn(size)},
		{"HEADERS too large", func(r *raw) { r.headers(1, []byte(big+"x"), true) }, onConn(size)},
		{"unknown frame too large", func(r *raw) { r.frame(0x16, 0, 0, big+"x") }, onConn(size)},

		// 4.3: header compression
		{"bad index", func(r *raw) { r.headers(1, []byte{0xff, 0xff, 0x01}, true) }, onConn(hpackE)},
		{"index zero", func(r *raw) { r.headers(1, []byte{0x80}, true) }, onConn(hpackE)},
		{"truncated block", func(r *raw) { b := get("a", "b"); r.headers(1, b[:len(b)-1], true) }, onConn(hpackE)},
		{"bad Huffman", func(r *raw) { r.headers(1, []byte{0x40, 0x81, 0x00, 0x81, 0xff}, true) }, onConn(hpackE)},
		{"table too large", func(r *raw) { r.headers(1, append([]byte{0x3f, 0xe2, 0x1f}, get()...), true) }, onConn(hpackE)},
		{"table size at the end", func(r *raw) { r.headers(1, append(get(), 0x20), true) }, onConn(hpackE)},
		{"table size at the start", func(r *raw) { r.headers(1, append([]byte{0x20}, get()...), true) }, status(200)},
		{"bad trailers block", func(r *raw) { r.open(1); r.headers(1, []byte{0xff, 0xff, 0x01}, true) }, onConn(hpackE)},
		{"bad block of a reset stream", func(r *raw) {
			r.open(1)
			r.WriteRSTStream(1, http2.ErrCodeCancel)
			r.headers(1, []byte{0xff, 0xff, 0x01}, true)
		}, onStream(closedS)}, // then the connection

		// 5.1: states
		{"DATA idle", func(r *raw) { r.WriteData(1, true, nil) }, onConn(protocol)},
		{"RST_STREAM idle", func(r *raw) { r.WriteRSTStream(1, http2.ErrCodeCancel) }, onConn(protocol)},
		{"WINDOW_UPDATE idle", func(r *raw) { r.WriteWindowUpdate(1, 1) }, onConn(protocol)},
		{"CONTINUATION idle", func(r *raw) { r.WriteContinuation(1, true, get()) }, onConn(protocol)},
		{"PRIORITY idle", func(r *raw) { r.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }, nothing},
		{"DATA on an even stream", func(r *raw) { r.open(3); r.WriteData(2, true, nil) }, onConn(protocol)},
		{"WINDOW_UPDATE on an even stream", func(r *raw) { r.open(3); r.WriteWindowUpdate(2, 1) }, onConn(protocol)},
		{"DATA half closed", func(r *raw) { r.half(1); r.WriteData(1, true, []byte("x")) }, onStream(closedS)},
		{"HEADERS half closed", func(r *raw) { r.half(1); r.headers(1, get(), true) }, onStream(closedS)},
		{"CONTINUATION half closed", func(r *raw) { r.half(1); r.WriteContinuation(1, true, get()) }, onConn(protocol)},
		{"WINDOW_UPDATE half closed", func(r *raw) { r.half(1); r.WriteWindowUpdate(1, 1) }, nothing},
		{"PRIORITY half closed", func(r *raw) { r.half(1); r.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }, nothing},
		{"RST_STREAM half closed", func(r *raw) { r.half(1); r.WriteRSTStream(1, http2.ErrCodeCancel) }, nothing},
		{"DATA done", func(r *raw) { r.done(1); r.WriteData(1, true, []byte("x")) }, onStream(closedS)},
		{"HEADERS done", func(r *raw) { r.done(1); r.headers(1, get(), true) }, onConn(closedS)},
		{"CONTINUATION done", func(r *raw) { r.done(1); r.WriteContinuation(1, true, get()) }, onConn(protocol)},
		{"WINDOW_UPDATE done", func(r *raw) { r.done(1); r.WriteWindowUpdate(1, 1) }, nothing},
		{"RST_STREAM done", func(r *raw) { r.done(1); r.WriteRSTStream(1, http2.ErrCodeCancel) }, nothing},
		{"PRIORITY done", func(r *raw) { r.done(1); r.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }, nothing},
		{"DATA after RST_STREAM", func(r *raw) {
			r.open(1)
			r.WriteRSTStream(1, http2.ErrCodeCancel)
			r.WriteData(1, true, []byte("x"))
		}, onStream(closedS)},
		{"HEADERS after RST_STREAM", func(r *raw) {
			r.open(1)
			r.WriteRSTStream(1, http2.ErrCodeCancel)
			r.headers(1, get(), true)
		}, onStream(closedS)},
		{"DATA after the server's RST_STREAM", func(r *raw) {
			r.headers(1, get("te", "gzip"), false)
			r.want(onStream(protocol))
			r.WriteData(1, true, []byte("x"))
			r.headers(1, get(), true)
		}, nothing},

		// 5.1.1: stream numbers
		{"even stream", func(r *raw) { r.headers(2, get(), true) }, onConn(protocol)},
		{"number goes down", func(r *raw) { r.open(5); r.headers(3, get(), true) }, onConn(protocol)},
		{"stream zero", func(r *raw) { r.headers(0, get(), true) }, onConn(protocol)},

		// 5.1.2: concurrency
		{"too many streams", func(r *raw) {
			for id := uint32(1); id < 2*10; id += 2 {
				r.open(id)
			}
			r.headers(21, get(), true)
		}, onStream(refused)},

		// 5.3.1 of RFC 7540, and of h2spec still
		{"HEADERS depends on itself", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true, EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: 1}})
		}, onStream(protocol)},
		{"PRIORITY depends on itself", func(r *raw) { r.WritePriority(1, http2.PriorityParam{StreamDep: 1}) }, onStream(protocol)},
		{"HEADERS with priority", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true, EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: 0, Weight: 255, Exclusive: true}})
		}, status(200)},

		// 6.1: DATA
		{"DATA zero", func(r *raw) { r.frame(http2.FrameData, 0, 0, "x") }, onConn(protocol)},
		{"DATA pad too long", func(r *raw) { r.open(1); r.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x05xxxx") }, onConn(protocol)},
		{"DATA pad missing", func(r *raw) { r.open(1); r.frame(http2.FrameData, http2.FlagDataPadded, 1, "") }, onConn(size)},
		{"DATA all padding", func(r *raw) { r.open(1); r.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x04xxxx") }, nothing},

		// 6.2: HEADERS
		{"HEADERS pad too long", func(r *raw) { r.frame(http2.FrameHeaders, http2.FlagHeadersPadded|4, 1, "\x05\x82") }, onConn(protocol)},
		{"HEADERS priority cut", func(r *raw) { r.frame(http2.FrameHeaders, http2.FlagHeadersPriority|4, 1, "\x05\x82") }, onConn(size)},
		{"HEADERS padded", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true, EndHeaders: true, PadLength: 9})
		}, status(200)},
		{"other frame within a block", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			r.WritePing(false, [8]byte{})
		}, onConn(protocol)},
		{"unknown frame within a block", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			r.frame(0x16, 0, 1, "")
		}, onConn(protocol)},
		{"HEADERS of another stream within a block", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			r.headers(3, get(), true)
		}, onConn(protocol)},

		// 6.3: PRIORITY
		{"PRIORITY zero", func(r *raw) { r.frame(http2.FramePriority, 0, 0, "xxxxx") }, onConn(protocol)},
		{"PRIORITY short", func(r *raw) { r.open(1); r.frame(http2.FramePriority, 0, 1, "xxxx") }, onStream(size)},

		// 6.4: RST_STREAM
		{"RST_STREAM zero", func(r *raw) { r.frame(http2.FrameRSTStream, 0, 0, "xxxx") }, onConn(protocol)},
		{"RST_STREAM short", func(r *raw) { r.open(1); r.frame(http2.FrameRSTStream, 0, 1, "xxx") }, onConn(size)},

		// 6.5: SETTINGS
		{"SETTINGS on a stream", func(r *raw) { r.frame(http2.FrameSettings, 0, 1, "") }, onConn(protocol)},
		{"SETTINGS ACK with payload", func(r *raw) { r.frame(http2.FrameSettings, 1, 0, "\x00\x02\x00\x00\x00\x00") }, onConn(size)},
		{"SETTINGS short", func(r *raw) { r.frame(http2.FrameSettings, 0, 0, "xxx") }, onConn(size)},
		{"ENABLE_PUSH 2", func(r *raw) { r.setting(http2.SettingEnablePush, 2) }, onConn(protocol)},
		{"INITIAL_WINDOW_SIZE too large", func(r *raw) { r.setting(http2.SettingInitialWindowSize, 1<<31) }, onConn(flow)},
		{"MAX_FRAME_SIZE too small", func(r *raw) { r.setting(http2.SettingMaxFrameSize, 16383) }, onConn(protocol)},
		{"MAX_FRAME_SIZE too large", func(r *raw) { r.setting(http2.SettingMaxFrameSize, 1<<24) }, onConn(protocol)},
		{"ENABLE_CONNECT_PROTOCOL 2", func(r *raw) { r.setting(8, 2) }, onConn(protocol)},
		{"unknown setting", func(r *raw) { r.setting(0xff, 1) }, nothing},
		{"settings twice", func(r *raw) {
			r.WriteSettings(http2.Setting{ID: 4, Val: 1}, http2.Setting{ID: 4, Val: 70000})
		}, nothing},

		// 6.6: PUSH_PROMISE
		{"PUSH_PROMISE", func(r *raw) {
			r.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: get(), EndHeaders: true})
		}, onConn(protocol)},

		// 6.7: PING
		{"PING", func(r *raw) {}, nothing},
		{"PING on a stream", func(r *raw) { r.frame(http2.FramePing, 0, 1, "xxxxxxxx") }, onConn(protocol)},
		{"PING short", func(r *raw) { r.frame(http2.FramePing, 0, 0, "xxxxxx") }, onConn(size)},
		{"PING ACK nobody asked for", func(r *raw) { r.WritePing(true, [8]byte{7}) }, nothing},

		// 6.8: GOAWAY
		{"GOAWAY on a stream", func(r *raw) { r.frame(http2.FrameGoAway, 0, 1, "xxxxxxxx") }, onConn(protocol)},
		{"GOAWAY short", func(r *raw) { r.frame(http2.FrameGoAway, 0, 0, "xxxx") }, onConn(size)},
		{"GOAWAY", func(r *raw) { r.WriteGoAway(0, noErr, nil) }, onConn(noErr)},

		// 6.9: WINDOW_UPDATE
		{"WINDOW_UPDATE by zero", func(r *raw) { r.WriteWindowUpdate(0, 0) }, onConn(protocol)},
		{"WINDOW_UPDATE by zero on a stream", func(r *raw) { r.open(1); r.WriteWindowUpdate(1, 0) }, onStream(protocol)},
		{"WINDOW_UPDATE short", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 0, "xxx") }, onConn(size)},
		{"window too large", func(r *raw) { r.WriteWindowUpdate(0, 1<<31-1) }, onConn(flow)},
		{"window of a stream too large", func(r *raw) { r.open(1); r.WriteWindowUpdate(1, 1<<31-1) }, onStream(flow)},
		{"window too large by SETTINGS", func(r *raw) {
			r.open(1)
			r.WriteWindowUpdate(1, 1<<30)
			r.setting(http2.SettingInitialWindowSize, 1<<31-1)
		}, onConn(flow)},
		{"more than the window", func(r *raw) {
			r.unread(1)
			for range 1 + 65536/maxFrame {
				r.WriteData(1, false, []byte(big))
			}
		}, onStream(flow)},
		{"more than the connection's window", func(r *raw) {
			for id := uint32(1); id < 2*9; id += 2 {
				r.unread(id)
			}
			for i := range 1 + 128<<10/maxFrame {
				r.WriteData(uint32(2*(i%8)+1), false, []byte(big))
			}
		}, onConn(flow)},

		// 6.10: CONTINUATION
		{"CONTINUATION", func(r *raw) {
			b := get("a", "b")
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], EndStream: true})
			r.WriteContinuation(1, false, b[3:5])
			r.WriteContinuation(1, false, nil)
			r.WriteContinuation(1, true, b[5:])
		}, status(200)},
		{"CONTINUATION of another stream", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			r.WriteContinuation(3, true, get())
		}, onConn(protocol)},
		{"CONTINUATION after the end", func(r *raw) {
			r.headers(1, get("x-wait", "1"), true)
			r.WriteContinuation(1, true, get())
		}, onConn(protocol)},
		{"CONTINUATION flood", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			for range 100 {
				r.WriteContinuation(1, false, nil)
			}
		}, onConn(calm)},
		{"header flood", func(r *raw) {
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(), EndStream: true})
			for range 20 {
				r.WriteContinuation(1, false, block("x", strings.Repeat("~", 16000)))
			}
		}, onConn(calm)},
		{"header too large", func(r *raw) {
			b := get("x", strings.Repeat("~", 70000))
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:maxFrame], EndStream: true})
			for b = b[maxFrame:]; len(b) > maxFrame; b = b[maxFrame:] {
				r.WriteContinuation(1, false, b[:maxFrame])
			}
			r.WriteContinuation(1, true, b)
		}, status(431)},
		{"header bomb", func(r *raw) {
			b := get("x", strings.Repeat("~", 3000))
			b = append(b, bytes.Repeat([]byte{0x80 | 62}, 10000)...) // the same again and again
			r.headers(1, b, true)
		}, status(431)},

		// 8.1: messages
		{"trailers", func(r *raw) { r.open(1); r.headers(1, block("a", "b"), true) }, status(200)},
		{"trailers without END_STREAM", func(r *raw) { r.open(1); r.headers(1, block("a", "b"), false) }, onStream(protocol)},
		{"trailers with pseudo-field", func(r *raw) { r.open(1); r.headers(1, block(":path", "/"), true) }, onStream(protocol)},
		{"trailers with Content-Length", func(r *raw) { r.open(1); r.headers(1, block("content-length", "0"), true) }, onStream(protocol)},

		// 8.1.1: Content-Length
		{"less than Content-Length", func(r *raw) {
			r.headers(1, request("POST", "content-length", "2"), false)
			r.WriteData(1, true, []byte("x"))
		}, onStream(protocol)},
		{"more than Content-Length", func(r *raw) {
			r.headers(1, request("POST", "content-length", "1"), false)
			r.WriteData(1, false, []byte("xx"))
		}, onStream(protocol)},
		{"less than Content-Length, then trailers", func(r *raw) {
			r.headers(1, request("POST", "content-length", "2"), false)
			r.WriteData(1, false, []byte("x"))
			r.headers(1, block("a", "b"), true)
		}, onStream(protocol)},
		{"Content-Length without data", func(r *raw) { r.headers(1, request("POST", "content-length", "1"), true) }, onStream(protocol)},
		{"Content-Length twice", func(r *raw) {
			r.headers(1, request("POST", "content-length", "1", "content-length", "1"), false)
		}, onStream(protocol)},
		{"Content-Length signed", func(r *raw) { r.headers(1, request("POST", "content-length", "+1"), false) }, onStream(protocol)},
		{"Content-Length empty", func(r *raw) { r.headers(1, request("POST", "content-length", ""), false) }, onStream(protocol)},
		{"Content-Length 0 and no data", func(r *raw) { r.headers(1, request("POST", "content-length", "0"), true) }, status(200)},

		// 8.2.1: fields
		{"upper case", func(r *raw) { r.headers(1, get("X-Test", "a"), true) }, onStream(protocol)},
		{"empty name", func(r *raw) { r.headers(1, get("", "a"), true) }, onStream(protocol)},
		{"space in a name", func(r *raw) { r.headers(1, get("a b", "a"), true) }, onStream(protocol)},
		{"colon in a name", func(r *raw) { r.headers(1, get("a:b", "a"), true) }, onStream(protocol)},
		{"8-bit name", func(r *raw) { r.headers(1, get("\xe4", "a"), true) }, onStream(protocol)},
		{"NUL in a value", func(r *raw) { r.headers(1, get("a", "b\x00"), true) }, onStream(protocol)},
		{"CR in a value", func(r *raw) { r.headers(1, get("a", "b\rc"), true) }, onStream(protocol)},
		{"LF in a value", func(r *raw) { r.headers(1, get("a", "b\nc: d"), true) }, onStream(protocol)},
		{"space before a value", func(r *raw) { r.headers(1, get("a", " b"), true) }, status(400)},
		{"tab after a value", func(r *raw) { r.headers(1, get("a", "b\t"), true) }, status(400)},
		{"space after a value, of the table", func(r *raw) {
			r.headers(1, get("a", "b ", "C", "d"), true)
			r.until("the reset", func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream })
			r.headers(3, append(get(), 0x80|64), true) // the newest are :authority and C
		}, status(400)},
		{"space after a value, and a body", func(r *raw) { r.headers(1, request("POST", "a", "b "), false) }, status(400)},
		{"space after a value, and worse", func(r *raw) { r.headers(1, get("a", "b ", "C", "d"), true) }, onStream(protocol)},
		{"space after a value of trailers", func(r *raw) { r.open(1); r.headers(1, block("a", "b "), true) }, onStream(protocol)},
		{"space in a value", func(r *raw) { r.headers(1, get("a", "b \xe4\tc"), true) }, status(200)},
		{"NUL in a path", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/\x00"), true)
		}, onStream(protocol)},

		// 8.2.2: connection-specific fields
		{"connection", func(r *raw) { r.headers(1, get("connection", "keep-alive"), true) }, onStream(protocol)},
		{"transfer-encoding", func(r *raw) { r.headers(1, get("transfer-encoding", "chunked"), true) }, onStream(protocol)},
		{"upgrade", func(r *raw) { r.headers(1, get("upgrade", "h2c"), true) }, onStream(protocol)},
		{"keep-alive", func(r *raw) { r.headers(1, get("keep-alive", "1"), true) }, onStream(protocol)},
		{"proxy-connection", func(r *raw) { r.headers(1, get("proxy-connection", "close"), true) }, onStream(protocol)},
		{"te gzip", func(r *raw) { r.headers(1, get("te", "trailers, gzip"), true) }, onStream(protocol)},
		{"te trailers", func(r *raw) { r.headers(1, get("te", "trailers"), true) }, status(200)},

		// 8.3: pseudo-fields
		{"unknown pseudo-field", func(r *raw) { r.headers(1, get(":test", "a"), true) }, onStream(protocol)},
		{"pseudo-field of answers", func(r *raw) { r.headers(1, get(":status", "200"), true) }, onStream(protocol)},
		{"pseudo-field last", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", "x", "y", ":path", "/"), true)
		}, onStream(protocol)},
		{"path twice", func(r *raw) { r.headers(1, append(get(), block(":path", "/")...), true) }, onStream(protocol)},
		{"method twice", func(r *raw) { r.headers(1, append(get(), block(":method", "GET")...), true) }, onStream(protocol)},
		{"scheme twice", func(r *raw) { r.headers(1, append(get(), block(":scheme", "https")...), true) }, onStream(protocol)},
		{"no method", func(r *raw) { r.headers(1, block(":scheme", "https", ":authority", "a", ":path", "/"), true) }, onStream(protocol)},
		{"no scheme", func(r *raw) { r.headers(1, block(":method", "GET", ":authority", "a", ":path", "/"), true) }, onStream(protocol)},
		{"no path", func(r *raw) { r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a"), true) }, onStream(protocol)},
		{"empty path", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", ""), true)
		}, onStream(protocol)},
		{"relative path", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "x"), true)
		}, onStream(protocol)},
		{"absolute path", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "https://b/"), true)
		}, onStream(protocol)},
		{"fragment", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/#x"), true)
		}, onStream(protocol)},
		{"GET *", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "*"), true)
		}, onStream(protocol)},
		{"OPTIONS *", func(r *raw) {
			r.headers(1, block(":method", "OPTIONS", ":scheme", "https", ":authority", "a", ":path", "*"), true)
		}, status(200)},
		{"method with space", func(r *raw) {
			r.headers(1, block(":method", "GET /x", ":scheme", "https", ":authority", "a", ":path", "/"), true)
		}, onStream(protocol)},
		{"scheme ftp", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/"), true)
		}, onStream(protocol)},
		{"no authority", func(r *raw) { r.headers(1, block(":method", "GET", ":scheme", "https", ":path", "/"), true) }, onStream(protocol)},
		{"Host alone", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":path", "/", "host", "a"), true)
		}, status(200)},
		{"Host as authority", func(r *raw) { r.headers(1, get("host", "A.test"), true) }, status(200)},
		{"Host not authority", func(r *raw) { r.headers(1, get("host", "b.test"), true) }, onStream(protocol)},
		{"user in authority", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "u@a", ":path", "/"), true)
		}, onStream(protocol)},
		{"slash in authority", func(r *raw) {
			r.headers(1, block(":method", "GET", ":scheme", "https", ":authority", "a/b", ":path", "/"), true)
		}, onStream(protocol)},

		// 8.5, and RFC 8441: CONNECT
		{"CONNECT", func(r *raw) { r.headers(1, block(":method", "CONNECT", ":authority", "a:1"), true) }, status(200)},
		{"CONNECT with path", func(r *raw) {
			r.headers(1, block(":method", "CONNECT", ":authority", "a:1", ":path", "/"), true)
		}, onStream(protocol)},
		{"CONNECT with scheme", func(r *raw) {
			r.headers(1, block(":method", "CONNECT", ":authority", "a:1", ":scheme", "https"), true)
		}, onStream(protocol)},
		{"CONNECT without authority", func(r *raw) { r.headers(1, block(":method", "CONNECT"), true) }, onStream(protocol)},
		{"extended CONNECT", func(r *raw) { r.headers(1, request("CONNECT", ":protocol", "websocket"), true) }, status(200)},
		{"extended CONNECT without path", func(r *raw) {
			r.headers(1, block(":method", "CONNECT", ":authority", "a", ":scheme", "https", ":protocol", "websocket"), true)
		}, onStream(protocol)},
		{":protocol on GET", func(r *raw) { r.headers(1, get(":protocol", "websocket"), true) }, onStream(protocol)},
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Wait") != "" {
			<-r.Context().Done()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}, Options{Limits: Limits{Streams: 10, StreamWindow: 65536, ConnWindow: 128 << 10}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := g.dial(t)
			r.conn.SetDeadline(time.Now().Add(5 * time.Second))
			tt.do(r)
			if got := r.outcome(tt.want); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
	t.Logf("%d cases", len(tests))
}

func TestGreeting(t *testing.T) {
	g := start(t, func(http.ResponseWriter, *http.Request) {}, Options{})
	tests := []struct {
		name string
		do   func(r *raw)
		want outcome
	}{
		{"not a preface", func(r *raw) { io.WriteString(r.conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") }, onConn(protocol)},
		{"first frame is not SETTINGS", func(r *raw) {
			io.WriteString(r.conn, http2.ClientPreface)
			r.WritePing(false, [8]byte{})
		}, onConn(protocol)},
		{"first frame is ACK", func(r *raw) {
			io.WriteString(r.conn, http2.ClientPreface)
			r.WriteSettingsAck()
		}, onConn(protocol)},
		{"first frame too large", func(r *raw) {
			io.WriteString(r.conn, http2.ClientPreface)
			r.frame(http2.FrameSettings, 0, 0, strings.Repeat("x", 2*maxFrame))
		}, onConn(size)},
		{"byte by byte", func(r *raw) {
			for _, b := range http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" {
				r.conn.Write([]byte{byte(b)})
			}
		}, nothing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := g.dialRaw(t)
			tt.do(r)
			if got := r.outcome(tt.want); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}
