package proxy

import (
	"fmt"
	"testing"
)

// thousandHosts is a table of as many, every second one a wildcard.
func thousandHosts(t testing.TB) *Table {
	t.Helper()
	var routes []*Route
	for i := range 1000 {
		host := fmt.Sprintf("host%d.example.com", i)
		if i%2 == 1 {
			host = "*." + host
		}
		routes = append(routes, &Route{Host: host, Names: []string{host}})
	}
	table, err := NewTable(TableOptions{Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// asked are Host fields, and the hosts they mean.
var asked = []struct{ field, want string }{
	{"host500.example.com", "host500.example.com"},
	{"host500.example.com:8443", "host500.example.com"},
	{"any.host501.example.com", "*.host501.example.com"},
	{"nobody.example.net", ""},
}

// route is the way from a Host field to a Route.
func route(t testing.TB, table *Table, field string) *Route {
	name, err := CanonicalHost(field)
	if err != nil {
		t.Fatal(err)
	}
	return table.Lookup(name)
}

func TestRoutingAllocatesNothing(t *testing.T) {
	table := thousandHosts(t)
	for _, a := range asked {
		got := ""
		if rt := route(t, table, a.field); rt != nil {
			got = rt.Host
		}
		if got != a.want {
			t.Errorf("Host %q leads to %q; want %q", a.field, got, a.want)
		}
		if n := testing.AllocsPerRun(100, func() { route(t, table, a.field) }); n != 0 {
			t.Errorf("Host %q: %v allocations; want none", a.field, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	table := thousandHosts(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		route(b, table, asked[i%len(asked)].field)
	}
}
