package proxy

import (
	"slices"
	"sync/atomic"
	"time"
)

// rest is how long a member that took no connection is left out: each request to one
// that is switched off would wait for dialTimeout. It is short, since only one visitor
// at a time waits to find out, and nothing else brings the member back.
const rest = 10 * time.Second

// Pool is the upstreams of one host. A request goes to the member with the fewest
// requests in flight. Members that are unhealthy, or took no connection a moment ago,
// are left out, and the standby ones are used only while all others are left out. When
// all are left out all are tried: a probe may be wrong, and an answer is better than
// none.
//
// A Pool may be used by several goroutines at once. It holds what is known of its
// members' health, so one Pool should serve all tables in which the members stay the
// same.
type Pool struct {
	members []*Member     // those that share the requests, then the standby
	active  int           // how many of members share the requests
	turn    atomic.Uint32 // where a search begins, so that equally idle members take turns
}

// Member is one upstream of a Pool.
type Member struct {
	*Upstream
	Standby bool

	unhealthy atomic.Bool
	resting   atomic.Int64 // left out until then, in Unix nanoseconds; 0 = it is not
	failing   atomic.Bool  // the observer heard of a failure, and of no success since
}

// NewPool makes a Pool of members, at least one, and of standby ones.
func NewPool(members, standby []*Upstream) *Pool {
	p := &Pool{active: len(members)}
	for _, u := range members {
		p.members = append(p.members, &Member{Upstream: u})
	}
	for _, u := range standby {
		p.members = append(p.members, &Member{Upstream: u, Standby: true})
	}
	return p
}

// Members are all members, the standby ones last; not to be written.
func (p *Pool) Members() []*Member { return p.members }

// SetHealthy says whether requests should go to m. A new Member is healthy
// until somebody says otherwise. It may be called at any time.
func (m *Member) SetHealthy(healthy bool) {
	m.unhealthy.Store(!healthy)
	m.resting.Store(0)
}

// refused notes that m took no connection.
func (m *Member) refused() { m.resting.Store(time.Now().Add(rest).UnixNano()) }

// in reports whether requests should go to m now.
func (m *Member) in() bool {
	if m.unhealthy.Load() {
		return false
	}
	until := m.resting.Load()
	return until == 0 || time.Now().UnixNano() >= until
}

// pick chooses a member that is not among tried; nil = there is none left.
func (p *Pool) pick(tried []attempt) *Member {
	if len(p.members) == 1 { // nearly every host
		if len(tried) > 0 {
			return nil
		}
		return p.members[0]
	}
	turn := p.turn.Add(1)
	active, standby := p.members[:p.active], p.members[p.active:]
	for _, in := range [...]bool{true, false} {
		for _, members := range [...][]*Member{active, standby} {
			if m := leastBusy(members, turn, in, tried); m != nil {
				return m
			}
		}
	}
	return nil
}

// leastBusy is the member with the fewest requests in flight of those that are in, or
// with in = false are not, without those among tried. Of equals it is another one each
// turn.
func leastBusy(members []*Member, turn uint32, in bool, tried []attempt) *Member {
	var best *Member
	var fewest int64
	for i := range members {
		m := members[(turn+uint32(i))%uint32(len(members))]
		if m.in() != in || slices.ContainsFunc(tried, func(a attempt) bool { return a.member == m }) {
			continue
		}
		if n := m.InFlight(); best == nil || n < fewest {
			best, fewest = m, n
		}
	}
	return best
}

// attempt is a member that failed a request, and how.
type attempt struct {
	member *Member
	err    error
}
