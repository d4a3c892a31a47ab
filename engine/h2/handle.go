package h2

import "encoding/binary"

// handle does what a frame asks for. An error ends the connection.
func (c *Conn) handle(f *frame) error {
	r := &c.in
	if r.block && (f.kind != frameContinuation || f.stream != r.head.stream) {
		return connError{codeProtocol, "header block not continued"}
	}
	if !r.greeted && (f.kind != frameSettings || f.has(flagAck)) {
		return connError{codeProtocol, "first frame is not SETTINGS"}
	}
	switch f.kind {
	case frameData:
		return c.handleData(f)
	case frameHeaders:
		return c.handleHeaders(f)
	case framePriority:
		return c.handlePriority(f)
	case frameRSTStream:
		return c.handleReset(f)
	case frameSettings:
		return c.handleSettings(f)
	case framePushPromise:
		return connError{codeProtocol, "PUSH_PROMISE from a client"}
	case framePing:
		return c.handlePing(f)
	case frameGoAway:
		return c.handleGoAway(f)
	case frameWindowUpdate:
		return c.handleWindowUpdate(f)
	case frameContinuation:
		if !r.block {
			return connError{codeProtocol, "CONTINUATION of nothing"}
		}
		return c.handleBlock(f.payload, f.has(flagEndHeaders))
	}
	return c.spend(costFrame) // unknown types are ignored (RFC 9113, 5.5)
}

// isIdle reports whether the client has not opened stream id yet. Those with even
// numbers would be ours to open, which we never do.
func (c *Conn) isIdle(id uint32) bool { return id%2 == 0 || id > c.lastID }

func (c *Conn) handleData(f *frame) error {
	data, err := f.unpad()
	if err != nil {
		return err
	}
	if len(data) == 0 && !f.has(flagEndStream) {
		if err := c.spend(costFrame); err != nil {
			return err
		}
	}
	c.mu.Lock()
	wrong, err := c.takeData(f, data)
	c.mu.Unlock()
	if err == nil && wrong {
		err = c.spend(costWrong)
	}
	return err
}

// takeData hands data to its stream. wrong reports a mistake that ended only the
// stream.
func (c *Conn) takeData(f *frame, data []byte) (wrong bool, err error) {
	id, size := f.stream, int64(len(f.payload))
	if c.isIdle(id) {
		return false, connError{codeProtocol, "DATA on an idle stream"}
	}
	if c.recvWindow -= size; c.recvWindow < 0 {
		return false, connError{codeFlowControl, "more data than the connection's window"}
	}
	c.received += size
	c.widenWindow()
	st := c.streams[id]
	if st == nil || st.recvEnded {
		c.credit(nil, int(size))
		if st == nil && c.past.of(id) == endedByUs || c.final && id > c.served {
			return false, nil // the client did not know yet
		}
		c.reset(id, st, codeStreamClosed, "DATA on a closed stream")
		return true, nil
	}
	if st.recvWindow -= size; st.recvWindow < 0 {
		c.credit(nil, int(size))
		c.reset(id, st, codeFlowControl, "more data than the stream's window")
		return true, nil
	}
	ended := f.has(flagEndStream)
	if st.declared >= 0 {
		st.missing -= int64(len(data))
		switch {
		case ended && st.missing > 0 && st.writer.sent:
			st.body.end(errCutShort) // as curl does when the answer tells it that it sends in vain
		case st.missing < 0 || ended && st.missing > 0:
			c.credit(nil, int(size))
			c.reset(id, st, codeProtocol, "not as much data as Content-Length says")
			return true, nil
		}
	}
	unused := int(size) - len(data) // padding
	if len(data) > 0 {
		if !st.body.add(data) {
			c.credit(nil, int(size)) // the handler does not want it
			unused = 0
		}
		c.earned += int64(len(data) / earnedPer)
	}
	if unused > 0 {
		c.credit(st, unused)
	}
	if ended {
		c.endRecv(st)
	}
	return false, nil
}

func (c *Conn) handlePriority(f *frame) error {
	if f.stream == 0 {
		return connError{codeProtocol, "PRIORITY of the connection"}
	}
	code, reason := codeNo, ""
	switch {
	case len(f.payload) != 5:
		code, reason = codeFrameSize, "PRIORITY of a wrong size"
	case binary.BigEndian.Uint32(f.payload)&maxWindow == f.stream:
		code, reason = codeProtocol, "stream depends on itself"
	default:
		return c.spend(costFrame)
	}
	c.mu.Lock()
	c.reset(f.stream, c.streams[f.stream], code, reason)
	c.mu.Unlock()
	return c.spend(costWrong)
}

func (c *Conn) handleReset(f *frame) error {
	if f.stream == 0 {
		return connError{codeProtocol, "RST_STREAM of the connection"}
	}
	if len(f.payload) != 4 {
		return connError{codeFrameSize, "RST_STREAM of a wrong size"}
	}
	cost := costFrame
	c.mu.Lock()
	if c.isIdle(f.stream) {
		c.mu.Unlock()
		return connError{codeProtocol, "RST_STREAM of an idle stream"}
	}
	if st := c.streams[f.stream]; st != nil {
		if !st.answered() {
			cost = costReset
		}
		c.closeStream(st, endedByReset, streamError{errCode(binary.BigEndian.Uint32(f.payload)), "by the client"})
	}
	c.mu.Unlock()
	return c.spend(cost)
}

func (c *Conn) handlePing(f *frame) error {
	if f.stream != 0 {
		return connError{codeProtocol, "PING on a stream"}
	}
	if len(f.payload) != 8 {
		return connError{codeFrameSize, "PING of a wrong size"}
	}
	c.mu.Lock()
	if f.has(flagAck) {
		c.acked([8]byte(f.payload))
	} else if !c.closing {
		c.room(frameHeader + 8)
		c.out = append(appendFrame(c.out, framePing, flagAck, 0, 8), f.payload...)
	}
	c.mu.Unlock()
	return c.spend(costFrame)
}

// acked does what was waiting for the client to acknowledge this PING.
func (c *Conn) acked(ping [8]byte) {
	if ping == drainPing {
		if c.draining {
			c.finalGoAway("")
		}
		return
	}
	id := binary.BigEndian.Uint32(ping[4:])
	if st := c.streams[id]; st != nil && st.answered() && !st.canEnd() && ping == answeredPing(id) {
		c.resetAnswered(st)
	}
}

func (c *Conn) handleGoAway(f *frame) error {
	if f.stream != 0 {
		return connError{codeProtocol, "GOAWAY on a stream"}
	}
	if len(f.payload) < 8 {
		return connError{codeFrameSize, "GOAWAY of a wrong size"}
	}
	c.mu.Lock()
	c.finalGoAway("") // it opens no more streams
	c.mu.Unlock()
	return c.spend(costFrame)
}

func (c *Conn) handleWindowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return connError{codeFrameSize, "WINDOW_UPDATE of a wrong size"}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	c.mu.Lock()
	wrong, err := c.widen(f.stream, n)
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case wrong:
		return c.spend(costWrong)
	case n >= smallUpdate:
		return nil
	}
	return c.spend(costFrame)
}

// widen lets us send n bytes more, on stream id or, if that is 0, on the connection.
// wrong reports a mistake that ended only the stream.
func (c *Conn) widen(id uint32, n int64) (wrong bool, err error) {
	if id == 0 {
		if n == 0 {
			return false, connError{codeProtocol, "WINDOW_UPDATE by nothing"}
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return false, connError{codeFlowControl, "window too large"}
		}
		c.nextTurn()
		return false, nil
	}
	if c.isIdle(id) {
		return false, connError{codeProtocol, "WINDOW_UPDATE of an idle stream"}
	}
	st := c.streams[id]
	if st == nil {
		return false, nil
	}
	st.sendWindow += n
	switch {
	case n == 0:
		c.reset(id, st, codeProtocol, "WINDOW_UPDATE by nothing")
	case st.sendWindow > maxWindow:
		c.reset(id, st, codeFlowControl, "window too large")
	default:
		if !st.queued {
			st.writable.Signal()
		}
		return false, nil
	}
	return true, nil
}

func (c *Conn) handleSettings(f *frame) error {
	switch {
	case f.stream != 0:
		return connError{codeProtocol, "SETTINGS on a stream"}
	case f.has(flagAck) && len(f.payload) > 0, len(f.payload)%6 != 0:
		return connError{codeFrameSize, "SETTINGS of a wrong size"}
	}
	if !f.has(flagAck) {
		c.in.greeted = true
		c.mu.Lock()
		for p := f.payload; len(p) > 0; p = p[6:] {
			if err := c.set(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
				c.mu.Unlock()
				return err
			}
		}
		if !c.closing {
			c.room(frameHeader)
			c.out = appendFrame(c.out, frameSettings, flagAck, 0, 0)
		}
		c.mu.Unlock()
	}
	return c.spend(costSetting * (1 + len(f.payload)/6))
}

// set applies one setting of the client.
func (c *Conn) set(id uint16, v uint32) error {
	switch id {
	case settingHeaderTableSize:
		c.encoder.resize(v)
	case settingEnablePush, settingConnectProtocol:
		if v > 1 {
			return connError{codeProtocol, "setting that should be 0 or 1"}
		}
	case settingMaxFrame:
		if v < maxFrame || v > 1<<24-1 {
			return connError{codeProtocol, "SETTINGS_MAX_FRAME_SIZE out of range"}
		}
	case settingInitialWindow:
		if v > maxWindow {
			return connError{codeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE out of range"}
		}
		more := int64(v) - c.peerWindow
		c.peerWindow = int64(v)
		for _, st := range c.streams {
			if st.sendWindow += more; st.sendWindow > maxWindow {
				return connError{codeFlowControl, "window too large"}
			}
			if more > 0 && !st.queued {
				st.writable.Signal()
			}
		}
	}
	return nil
}
