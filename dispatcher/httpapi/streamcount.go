package httpapi

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/ringback/ringback/registry"
)

// maxStreams is how many streams a process serves. Each takes a connection, and some 30 KiB. keyStreams is how many of them one key may have, and companyStreams
// how many those may have together that are for one company: its keys, and its portal links, of which it makes as many as it likes.
const maxStreams, companyStreams, keyStreams = 1000, 300, 100

// streams counts those that are served.
type streams struct {
	says refusals // where there are too many

	mu        sync.Mutex
	all       int
	keys      map[string]int // by the key's id, while it has any
	companies map[string]int // by the key's company, in the same way; not of keys of all companies
}

// refusals are what is said where as many are served as may be: %d of a key, of a company, and of the process.
type refusals struct{ ofKey, ofCompany, ofProcess string }

// aboutStreams is said of streams of deliveries, and aboutPolls of polls that wait.
var (
	aboutStreams = refusals{
		"this key has %d streams open, as many as one key may have: close one, or read several callbacks' deliveries in one",
		"this company's keys and portal links have %d streams open, as many as they may have: close one, or read several callbacks' deliveries in one",
		"this process serves %d streams, as many as it may: try again in a moment, or read the list of deliveries",
	}
	aboutPolls = refusals{
		"%d polls of this key wait, as many as may of one key: end one, or poll without wait",
		"%d polls of this company's keys and portal links wait, as many as may: end one, or poll without wait",
		"%d polls wait in this process, as many as may: try again in a moment, or poll without wait",
	}
)

// enter counts a stream of a key. The caller calls leave at its end.
func (s *streams) enter(key registry.Key) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.keys[key.ID] >= keyStreams:
		return nil, tooManyStreams(s.says.ofKey, keyStreams)
	case s.companies[key.Company] >= companyStreams:
		return nil, tooManyStreams(s.says.ofCompany, companyStreams)
	case s.all >= maxStreams:
		return nil, tooManyStreams(s.says.ofProcess, maxStreams)
	}
	if s.keys == nil {
		s.keys, s.companies = make(map[string]int), make(map[string]int)
	}
	s.all++
	s.keys[key.ID]++
	if key.Company != registry.AllCompanies {
		s.companies[key.Company]++
	}
	return func() { s.leave(key) }, nil
}

func (s *streams) leave(key registry.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.keys[key.ID]--; s.keys[key.ID] == 0 {
		delete(s.keys, key.ID)
	}
	if key.Company == registry.AllCompanies {
		return
	}
	if s.companies[key.Company]--; s.companies[key.Company] == 0 {
		delete(s.companies, key.Company)
	}
}

func tooManyStreams(detail string, most int) error {
	return &refusal{status: http.StatusTooManyRequests, shed: true, detail: fmt.Sprintf(detail, most), header: retryIn(retryAfter)}
}
