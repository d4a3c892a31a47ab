package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Weekdays are those of crontab(5), for the file and for the gateway.
func TestCronWeekdays(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"0", []string{"Sun"}},
		{"7", []string{"Sun"}},
		{"0,7", []string{"Sun"}},
		{"1-7", []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}},
		{"0-7", []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}},
		{"5-7", []string{"Sun", "Fri", "Sat"}},
		{"7-7", []string{"Sun"}},
		{"1-7/2", []string{"Sun", "Mon", "Wed", "Fri"}},
		{"0-7/7", []string{"Sun"}},
		{"7/2", []string{"Sun"}},
		{"wed,7", []string{"Sun", "Wed"}},
		{"*/3", []string{"Sun", "Wed", "Sat"}},
		{"*/7", []string{"Sun"}},
		{"mon-fri", []string{"Mon", "Tue", "Wed", "Thu", "Fri"}},
		{"8", nil},
		{"7-3", nil},
		{"7-", nil},
		{"-7", nil},
		{"1-7/0", nil},
		{"17", nil},
		{"9-7", nil},
	} {
		line, err := cronLine("0 3 * * " + test.in)
		if (err == nil) != (test.want != nil) {
			t.Errorf("cronLine(%q): %v; want days %v", test.in, err, test.want)
		}
		if err != nil {
			continue
		}
		m := Maintenance{Hosts: []string{"shop"}, Cron: line, For: time.Minute}
		plan, err := m.Plan("shop", time.UTC)
		if err != nil {
			t.Errorf("Plan(%q): %v", line, err)
			continue
		}
		var got []string
		for day := at(t, "2026-11-29T03:00:00Z"); len(got) < 7 && day.Before(at(t, "2026-12-06T00:00:00Z")); day = day.AddDate(0, 0, 1) {
			if w, ok := plan.Near(day); ok && w.From.Equal(day) {
				got = append(got, day.Format("Mon"))
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.in, diff)
		}
	}
}
