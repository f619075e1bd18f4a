package lossy

import (
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
)

// Request is what a Policy sees. It must not be changed.
type Request struct {
	Number int // from 1, in the order of arrival
	Method string
	Path   string // with the query, as it was sent
	Header http.Header
	Body   []byte
}

// Policy decides what befalls a request. It is called for requests at the same
// time.
type Policy func(*Request) Fate

// Match picks requests.
type Match func(*Request) bool

// Writes matches every method but GET and HEAD.
func Writes(r *Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// Any matches every request.
func Any(*Request) bool { return true }

// Route matches a method and the path without its query, as path.Match has it:
// Route("POST", "/v1/cvms"), Route("PUT", "/v1/cvms/*").
func Route(method, pattern string) Match {
	return func(r *Request) bool {
		name, _, _ := strings.Cut(r.Path, "?")
		ok, err := path.Match(pattern, name)
		return err == nil && ok && r.Method == method
	}
}

// Always lets the fate befall every request that matches.
func Always(match Match, fate Fate) Policy {
	return func(r *Request) Fate {
		if match(r) {
			return fate
		}
		return Pass()
	}
}

// Nth lets the fate befall the n-th request that matches, from 1, and no other.
func Nth(n int, match Match, fate Fate) Policy {
	var seen atomic.Int64
	return func(r *Request) Fate {
		if match(r) && seen.Add(1) == int64(n) {
			return fate
		}
		return Pass()
	}
}

// Chance is a fate with the probability that it befalls a request.
type Chance struct {
	Probability float64 // 0 to 1; together at most 1
	Fate        Fate
}

// Seeded draws a fate for every request that matches; the rest pass. The same
// seed draws the same fates, in the order in which requests arrive.
func Seeded(seed uint64, match Match, chances ...Chance) Policy {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // to be repeatable is the purpose
	return func(r *Request) Fate {
		if !match(r) {
			return Pass()
		}
		mu.Lock()
		drawn := dice.Float64()
		mu.Unlock()
		for _, c := range chances {
			if drawn < c.Probability {
				return c.Fate
			}
			drawn -= c.Probability
		}
		return Pass()
	}
}
