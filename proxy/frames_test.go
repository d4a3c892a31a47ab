package proxy

import (
	"testing"
)

func TestFrames(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 1, 125, 126, 65_535, 65_536} {
		stream = append(stream, wsFrame(2, make([]byte, n))...)
	}
	stream = append(stream, closeFrame(1001, true)...)
	for _, step := range []int{1, 2, 3, 7, 1000, len(stream)} {
		f, ends := new(frames), 0
		for rest := stream; len(rest) > 0; {
			n := f.advance(rest[:min(step, len(rest))], false)
			if rest = rest[n:]; f.between() {
				ends++
			}
		}
		if ends != 7 || !f.closing {
			t.Errorf("in steps of %d: %d ends of frames, closing %v; want 7, true", step, ends, f.closing)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(wsFrame(1, []byte("hello")), 3)
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		cut = min(max(cut, 0), len(data))
		var whole, parts frames
		whole.advance(data, true)
		parts.advance(data[:cut], true)
		for rest := data[cut:]; len(rest) > 0; {
			n := parts.advance(rest, false)
			if n <= 0 {
				t.Fatalf("advance(% x) = %d; want progress", rest, n)
			}
			rest = rest[n:]
		}
		if whole != parts {
			t.Errorf("% x cut at %d: %+v; whole: %+v", data, cut, parts, whole)
		}
	})
}
