package h2

// head is a header block that arrives. It is used again for the next.
type head struct {
	stream uint32
	ends   bool // the stream, with this block

	fields    []field // the regular ones
	pseudo    [pseudoCount]string
	seen      [pseudoCount]bool
	malformed string // what is wrong with it; "" = nothing
	tooLarge  bool   // more than limit
	padded    bool   // a value has white space around it
	opens     bool   // it opens a stream; else it has trailers, or is not wanted
	refuse    bool   // the stream is not wanted

	limit   int
	size    int    // decoded, as RFC 9113, section 6.5.2, counts
	parts   []byte // the block as far as it is there, if it has several frames
	frames  int
	decoder decoder
}

// field is a regular field of a request.
type field struct{ name, value string } // name is canonical

// maxFields is how many fields may keep their memory from one block to the next.
const maxFields = 128

const paddedReason = "white space around a field value"

const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoCount
)

// maxBlockFrames is how many frames a header block may have: more than four times as
// many as 64 KiB take in full frames, but too few for the floods of empty frames that
// brought down other servers (CVE-2024-27316 and the like).
const maxBlockFrames = 32

func (h *head) init(limit int) {
	h.limit = limit
	h.decoder.max = tableBytes
}

// begin makes h ready for a block.
func (h *head) begin(stream uint32, ends bool) {
	h.fields = h.fields[:0]
	h.stream, h.ends = stream, ends
	h.seen = [pseudoCount]bool{}
	h.malformed, h.tooLarge, h.padded, h.opens, h.refuse = "", false, false, false, false
	h.size, h.frames = 0, 0
}

// write takes a part of the block; last says that it is the last. Only a whole block
// is decoded. Whatever is wrong with it, it must be, to keep the table in step with
// the client's.
func (h *head) write(part []byte, last bool) error {
	h.frames++
	if h.frames > maxBlockFrames || len(h.parts)+len(part) > 2*h.limit {
		return connError{codeEnhanceYourCalm, "header block without an end"}
	}
	if h.frames > 1 || !last {
		h.parts = append(h.parts, part...)
		part = h.parts
	}
	if !last {
		return nil
	}
	h.parts = nil
	if err := h.decode(part); err != nil {
		return connError{codeCompression, "header block cannot be decoded"}
	}
	return nil
}

// forget lets go of what an idle connection would otherwise keep of the block.
func (h *head) forget() {
	if clear(h.fields); cap(h.fields) > maxFields {
		h.fields = nil
	}
	h.pseudo, h.decoder.literal = [pseudoCount]string{}, tableField{}
}

// take takes a field.
func (h *head) take(f *tableField) {
	if h.size += f.size(); h.size > h.limit {
		h.tooLarge = true
		return
	}
	switch f.kind {
	case badPseudo:
		h.wrong("unknown pseudo-field")
		return
	case badName:
		h.wrong("field name")
	case badValue:
		h.wrong("field value")
	case paddedValue:
		h.padded = true
	case regular:
	default:
		h.takePseudo(int(f.kind), f.value)
		return
	}
	h.fields = append(h.fields, field{f.name, f.value})
}

func (h *head) wrong(what string) {
	if h.malformed == "" {
		h.malformed = what
	}
}

func (h *head) takePseudo(i int, value string) {
	switch {
	case h.seen[i]:
		h.wrong("pseudo-field twice")
	case len(h.fields) > 0:
		h.wrong("pseudo-field after others")
	}
	h.seen[i] = true
	h.pseudo[i] = value
}

func (h *head) hasPseudo() bool { return h.seen != [pseudoCount]bool{} }

// handleHeaders begins a header block.
func (c *Conn) handleHeaders(f *frame) error {
	if f.stream%2 == 0 {
		return connError{codeProtocol, "HEADERS on a stream that is not the client's"}
	}
	block, err := f.unpad()
	if err != nil {
		return err
	}
	h := &c.in.head
	h.begin(f.stream, f.has(flagEndStream))
	if f.has(flagPriority) {
		if len(block) < 5 {
			return connError{codeFrameSize, "HEADERS too short for its priority"}
		}
		if on := uint32(block[0]&0x7f)<<24 | uint32(block[1])<<16 | uint32(block[2])<<8 | uint32(block[3]); on == f.stream {
			h.wrong("stream depends on itself")
		}
		block = block[5:]
	}
	if err := c.admit(h); err != nil {
		return err
	}
	return c.handleBlock(block, f.has(flagEndHeaders))
}

// admit decides what a header block is for.
func (c *Conn) admit(h *head) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream > c.lastID {
		h.opens = true
		h.refuse = c.final // by the GOAWAY, which tells the client that it was not served
		c.lastID = h.stream
		return nil
	}
	st := c.streams[h.stream]
	if st == nil {
		switch c.past.of(h.stream) {
		case endedByUs:
		case endedByReset:
			c.reset(h.stream, nil, codeStreamClosed, "")
		case endedOrderly:
			return connError{codeStreamClosed, "HEADERS on a closed stream"}
		default:
			if c.final && h.stream > c.served {
				return nil // trailers of a stream that was refused
			}
			return connError{codeProtocol, "stream number went down"}
		}
		return nil
	}
	switch {
	case st.recvEnded:
		c.reset(h.stream, st, codeStreamClosed, "HEADERS after the request")
	case !h.ends:
		c.reset(h.stream, st, codeProtocol, "trailers without END_STREAM")
	}
	return nil
}

// handleBlock takes a part of the header block.
func (c *Conn) handleBlock(part []byte, last bool) error {
	h := &c.in.head
	if err := h.write(part, last); err != nil {
		return err
	}
	c.in.block = !last
	if !last {
		return nil
	}
	defer h.forget()
	if h.opens {
		if h.refuse {
			return c.spend(costFrame)
		}
		return c.openRequest(h)
	}
	c.mu.Lock()
	ok := c.trailers(h)
	c.mu.Unlock()
	if !ok {
		return c.spend(costWrong)
	}
	return nil
}

// trailers takes the trailers of a request, and reports whether they were in order.
func (c *Conn) trailers(h *head) (ok bool) {
	st := c.streams[h.stream]
	if st == nil {
		return false
	}
	switch {
	case h.hasPseudo():
		h.wrong("pseudo-field in trailers")
	case h.tooLarge:
		h.wrong("trailers too large")
	case h.padded:
		h.wrong(paddedReason)
	case st.missing > 0:
		h.wrong("not as much data as Content-Length says")
	}
	received := trailerOf(h)
	if h.malformed != "" {
		c.reset(h.stream, st, codeProtocol, h.malformed)
		return false
	}
	st.body.received = received
	c.endRecv(st)
	return true
}

// openRequest makes a request of a complete header block.
func (c *Conn) openRequest(h *head) error {
	st := c.newStream(h.stream)
	ok, refused := st.fill(h), true
	c.mu.Lock()
	switch {
	case c.closing:
	case len(c.streams) >= c.limits.Streams:
		c.reset(h.stream, nil, codeRefusedStream, "")
	case !ok:
		c.reset(h.stream, nil, codeProtocol, "")
	default:
		refused = false
		c.open(st)
	}
	c.mu.Unlock()
	if refused {
		st.recycle()
		if h.malformed != "" {
			c.refused(h.malformed, c.remote)
		}
		return c.spend(costWrong)
	}
	switch {
	case h.tooLarge:
		c.refused("request head over the limit", c.remote)
	case h.padded:
		c.refused(paddedReason, c.remote)
	}
	return nil
}
