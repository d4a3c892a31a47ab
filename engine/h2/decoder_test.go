package h2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
)

// What comes of blocks is what hpack's decoder alone makes of them, whatever is in
// its table.
func TestDecode(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var out blockBuffer
		enc := hpack.NewEncoder(&out)
		var want []field
		plain := hpack.NewDecoder(tableBytes, func(f hpack.HeaderField) {
			want = append(want, field{canonical(f.Name), f.Value})
		})
		var h head
		h.init(1 << 20)
		size := tableBytes
		for range 60 {
			out, want = nil, nil
			if rng.IntN(20) == 0 { // ever smaller: hpack's decoder takes but one update a block
				size = rng.IntN(size + 1)
				enc.SetMaxDynamicTableSize(uint32(size))
			}
			wrong := false
			for range rng.IntN(12) {
				f := hpack.HeaderField{Name: "accept", Value: fmt.Sprint(rng.IntN(4)), Sensitive: rng.IntN(8) == 0}
				switch rng.IntN(6) {
				case 0:
					f.Name, f.Value = fmt.Sprintf("x-%d", rng.IntN(40)), strings.Repeat("v", rng.IntN(300))
				case 1:
					f.Name, f.Value = "cookie", strings.Repeat("c", rng.IntN(5000))
				case 2:
					f.Name, f.Value = "accept-encoding", "gzip, deflate"
				case 3:
					if rng.IntN(10) == 0 {
						f.Name, f.Value, wrong = "x-bad", "\x00", true
					}
				}
				enc.WriteField(f)
			}
			if rng.IntN(50) == 0 && len(out) > 1 { // in two pieces
				cut := 1 + rng.IntN(len(out)-1)
				h.begin(1, true)
				decodeAll(t, &h, out[:cut], out[cut:])
			} else {
				h.begin(1, true)
				decodeAll(t, &h, out)
			}
			if _, err := plain.Write(out); err != nil {
				t.Fatal(err)
			}
			if err := plain.Close(); err != nil {
				t.Fatal(err)
			}
			if len(want) == 0 {
				want = []field{}
			}
			if diff := cmp.Diff(want, append([]field{}, h.fields...), cmp.AllowUnexported(field{})); diff != "" {
				t.Fatalf("seed %d: fields (-want +got):\n%s", seed, diff)
			}
			for _, f := range h.decoder.fields[len(h.decoder.fields):cap(h.decoder.fields)] {
				if f != (tableField{}) {
					t.Fatalf("seed %d: %s fell out of the table and is kept", seed, f.name)
				}
			}
			if got := h.malformed != ""; got != wrong {
				t.Fatalf("seed %d: malformed = %v (%s); want %v", seed, got, h.malformed, wrong)
			}
		}
	}
}

func decodeAll(t *testing.T, h *head, parts ...[]byte) {
	t.Helper()
	for i, p := range parts {
		if err := h.write(p, i == len(parts)-1); err != nil {
			t.Fatal(err)
		}
	}
}

// A table size update after a field is a mistake, also after one that the decoder
// has not seen (RFC 7541, section 4.2).
func TestLateResize(t *testing.T) {
	for _, block := range []string{"\x82\x20", "\xbe\x20", "\x00\x01a\x01b\x20", "\x82\x3f\x80\x80\x80\x80\x00"} {
		var h head
		h.init(1 << 10)
		h.begin(1, true)
		decodeAll(t, &h, []byte("\x40\x01a\x01b"))
		h.begin(1, true)
		if err := h.write([]byte(block), true); err == nil {
			t.Errorf("write(%q) = nil; want an error", block)
		}
	}
}

// Two updates before the first field are in order: the smallest size, and the one
// that is left (RFC 7541, section 4.2).
func TestTwoResizes(t *testing.T) {
	var h head
	h.init(1 << 10)
	h.begin(1, true)
	decodeAll(t, &h, []byte("\x40\x01a\x01b"))
	h.begin(1, true)
	decodeAll(t, &h, []byte("\x20\x3f\xe1\x1f\x40\x01c\x01d\xbe"))
	if len(h.fields) != 2 || h.fields[1] != (field{"C", "d"}) {
		t.Errorf("fields = %v; want C: d twice", h.fields)
	}
	if err := h.decode([]byte("\xbf")); err == nil {
		t.Error("the first field is still in the table")
	}
	if err := h.decode([]byte("\x3f\xe2\x1f")); err == nil {
		t.Error("the table may be larger than our limit")
	}
}

// Numbers may have more bytes than they need, but no more than 63 bits.
func TestTakeInt(t *testing.T) {
	tests := []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"\x1e", 30, true},
		{"\x1f", 0, false},
		{"\x1f\x00", 31, true},
		{"\x1f\x9a\x0a", 1337, true}, // RFC 7541, C.1.2
		{"\x1f\x9a", 0, false},
		{"\x1f\x80\x80\x80\x80\x80\x80\x80\x80\x00", 31, true},
		{"\x1f\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 1<<63 - 1 + 31, true},
		{"\x1f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 0, false},
		{"\x1f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 0, false}, // 1 << 64
	}
	for _, tt := range tests {
		v, rest, ok := takeInt([]byte(tt.in), 5)
		if v != tt.want || ok != tt.ok || len(rest) > 0 {
			t.Errorf("takeInt(%q) = %d, %q, %v; want %d, nothing, %v", tt.in, v, rest, ok, tt.want, tt.ok)
		}
	}
}

// A field is judged by its own value, also if its name is that of one whose value
// is wrong; and that one stays wrong.
func TestDecodeNameOfWrong(t *testing.T) {
	for _, wrong := range []string{"\x40\x01a\x01\x00", "\x40\x01a\x01 "} {
		var h head
		h.init(1 << 10)
		for _, block := range []struct {
			bytes string
			wrong bool
		}{{wrong, true}, {"\x7e\x01b\x0f\x30\x01c", false}, {"\xbf", true}, {"\xbe", false}} {
			h.begin(1, true)
			decodeAll(t, &h, []byte(block.bytes))
			if got := h.malformed != "" || h.padded; got != block.wrong {
				t.Errorf("after %q, %q is wrong = %v; want %v", wrong, block.bytes, got, block.wrong)
			}
		}
	}
}

// A header that is too large does not confuse the ones after it.
func TestDecodeTooLarge(t *testing.T) {
	var h head
	h.init(300)
	var out blockBuffer
	enc := hpack.NewEncoder(&out)
	for i := range 20 {
		out = nil
		n := 1 + i%2*20 // every other block is too large
		for j := range n {
			enc.WriteField(hpack.HeaderField{Name: "x-name", Value: fmt.Sprint(i, j)})
		}
		enc.WriteField(hpack.HeaderField{Name: "x-last", Value: "last"})
		h.begin(1, true)
		decodeAll(t, &h, out)
		if h.tooLarge != (n > 1) {
			t.Fatalf("block %d: tooLarge = %v; want %v", i, h.tooLarge, n > 1)
		}
		if want := fmt.Sprint(i, 0); h.fields[0].value != want {
			t.Fatalf("block %d: first value = %q; want %q", i, h.fields[0].value, want)
		}
	}
}

// FuzzDecode holds blocks of strangers against hpack's decoder.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x82\x84\x40\x01a\x01b\xbe"), []byte("\xbe\x20\xbe"))
	f.Add([]byte("\x3f\xe1\x1f\x40\x81\x1f\x01b"), []byte("\x7f\x80\x01\x00\xff\x00"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var want []field
		plain := hpack.NewDecoder(tableBytes, func(f hpack.HeaderField) {
			if !strings.HasPrefix(f.Name, ":") {
				want = append(want, field{canonical(f.Name), f.Value})
			}
		})
		var h head
		h.init(1 << 20)
		for _, block := range [][]byte{first, second} {
			want = nil
			_, err := plain.Write(block)
			if err == nil {
				err = plain.Close()
			}
			if err != nil && strings.Contains(err.Error(), "MUST occur at the beginning") {
				return // it takes but one update, where RFC 7541 has two, but one behind a field
			}
			h.begin(1, true)
			if got := h.decode(block); got != nil {
				if err == nil && got != errLateResize {
					t.Fatalf("decode(%q) = %v; want nil", block, got)
				}
				return
			}
			if err != nil {
				t.Fatalf("decode(%q) = nil; want %v", block, err)
			}
			if diff := cmp.Diff(append([]field{}, want...), append([]field{}, h.fields...), cmp.AllowUnexported(field{})); diff != "" {
				t.Fatalf("fields of %q (-want +got):\n%s", block, diff)
			}
		}
	})
}
