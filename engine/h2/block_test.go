package h2

import (
	"testing"
	"testing/synctest"
	"time"
)

// An answer has the date of its second.
func TestDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which a second has just begun
		c := &Conn{born: time.Now()}
		time.Sleep(time.Second / 4)
		first := c.dateText()
		time.Sleep(time.Second/2 + time.Second/4 - time.Nanosecond)
		if date := c.dateText(); date != first {
			t.Errorf("the date is %q and, in the same second, %q", first, date)
		}
		time.Sleep(time.Nanosecond)
		if date := c.dateText(); date == first {
			t.Errorf("a second later the date is still %q", date)
		}
	})
}
