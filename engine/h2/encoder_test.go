package h2

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What the encoder says is what was meant, however the table is resized and
// whatever falls out of it.
func TestEncoder(t *testing.T) {
	names := []string{":status", "server", "date", "content-type", "etag", "content-length", "set-cookie", "x-a", "x-b", "vary", "x-request-id"}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var out []byte
		var e encoder
		e.init(func(int) *[]byte { return &out })
		e.inserted = -uint32(seed % 100) // it may wrap around
		d := hpack.NewDecoder(tableBytes, nil)
		for block := range 50 {
			least := uint64(math.MaxUint64)
			if rng.IntN(10) == 0 {
				for range 1 + rng.IntN(3) {
					size := rng.Uint64N(6000)
					least = min(least, size)
					e.resize(uint32(size))
				}
			}
			out = out[:0]
			var want []string
			for range 1 + rng.IntN(10) {
				name := names[rng.IntN(len(names))]
				value := strings.Repeat(fmt.Sprint(rng.IntN(4)), 1+rng.IntN(3)*rng.IntN(300))
				e.encode(named(name), value)
				want = append(want, name+": "+value)
			}
			said, rest := resized(d, out)
			if said > least {
				t.Fatalf("seed %d, block %d: the least size said is %d; want %d", seed, block, said, least)
			}
			fields, err := d.DecodeFull(rest)
			if err != nil {
				t.Fatalf("seed %d, block %d: %v", seed, block, err)
			}
			var got []string
			for _, f := range fields {
				got = append(got, f.Name+": "+f.Value)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("seed %d, block %d: got %q; want %q", seed, block, got, want)
			}
		}
	}
}

// resized tells d of the table size updates that a block begins with, as it takes
// but one itself, and returns the least of them and the rest of the block.
func resized(d *hpack.Decoder, block []byte) (least uint64, rest []byte) {
	least, rest = math.MaxUint64, block
	for len(rest) > 0 && rest[0]&0xe0 == 0x20 {
		var size uint64
		size, rest, _ = takeInt(rest, 5)
		least = min(least, size)
		d.SetMaxDynamicTableSize(uint32(size))
	}
	return least, rest
}

// named is the wireName of a name on the wire.
func named(name string) wireName {
	if name[0] == ':' {
		return wireName{name: name}
	}
	return wireNameOf(http.CanonicalHeaderKey(name))
}

// A block that comes again costs a byte a field.
func TestEncoderRemembers(t *testing.T) {
	var out []byte
	var e encoder
	e.init(func(int) *[]byte { return &out })
	status, server, vary, via := named(":status"), named("server"), named("vary"), named("via")
	block := func() int {
		out = out[:0]
		for _, f := range [...]answerField{{status, "200"}, {server, "x"}, {vary, "Accept-Encoding"}, {via, "2.0 detour"}} {
			e.encode(f.name, f.value)
		}
		return len(out)
	}
	block()
	if n := block(); n != 4 {
		t.Errorf("a block of 4 fields again takes %d bytes; want 4", n)
	}
	if n := testing.AllocsPerRun(100, func() { block() }); n != 0 {
		t.Errorf("it takes %v allocations; want none", n)
	}
}

// So it does with as many fields as the client's table holds.
func TestEncoderRemembersMany(t *testing.T) {
	var out []byte
	var e encoder
	e.init(func(int) *[]byte { return &out })
	const fields = 40
	block := func() int {
		out = out[:0]
		for i := range fields {
			e.encode(named(fmt.Sprintf("x-%c-%d", 'a'+i%7, i)), fmt.Sprintf("%d.%d", i*i, i))
		}
		return len(out)
	}
	first := block()
	for range 5 {
		block()
	}
	if n := block(); n > fields+10 {
		t.Errorf("a block of %d fields takes %d bytes, and %d when it comes again; want hardly more than one a field", fields, first, n)
	}
}

// What the client's table has no more is not kept either: an upstream that repeats
// what a client says would have each connection hold as much as known has room for.
func TestEncoderForgets(t *testing.T) {
	var out []byte
	var e encoder
	e.init(func(int) *[]byte { return &out })
	origin := named("access-control-allow-origin")
	for i := range 1000 {
		out = out[:0]
		e.encode(origin, strings.Repeat("a", i*i%3000))
	}
	kept := 0
	for i := range e.known {
		kept += len(e.known[i].value)
	}
	if kept > 2*tableBytes {
		t.Errorf("%d bytes of values are kept for a table of %d; want as much twice at most", kept, tableBytes)
	}
}

// A value that is a part of something large does not keep that.
func TestEncoderKeepsNoMoreThanValues(t *testing.T) {
	var out []byte
	var e encoder
	e.init(func(int) *[]byte { return &out })
	const heads, size = 10, 1 << 20
	before := heap()
	for i := range heads {
		head := strings.Repeat(fmt.Sprint(i), size)
		e.encode(named("server"), head[:4])
	}
	if kept := heap() - before; kept > size {
		t.Errorf("%d bytes are kept of %d heads of %d; want some for each value", kept, heads, size)
	}
	runtime.KeepAlive(&e)
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Fields that hardly come again push nothing out of the client's table.
func TestEncoderKeepsTableFree(t *testing.T) {
	var out []byte
	var e encoder
	e.init(func(int) *[]byte { return &out })
	for _, name := range onceNames {
		e.encode(named(name), "x")
	}
	if e.inserted > 0 {
		t.Errorf("%d of %d are put into the table; want none", e.inserted, len(onceNames))
	}
}
