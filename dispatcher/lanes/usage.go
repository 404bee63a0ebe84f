package lanes

import (
	"math"
	"time"
)

const (
	// halfLife is how long it takes until what a company used counts half as much.
	halfLife = time.Second
	// rebased is after how many of those the figures are scaled down anew, and forgotten what is left of a use after so many.
	rebased, forgotten = 64, 16
)

// usage is what companies used of late. Instead of all figures being halved again and again, what comes counts more and more.
type usage struct {
	since time.Time // when 1 counted as 1
	of    map[string]float64
}

// add has a company use so much now.
func (u *usage) add(company string, n float64, now time.Time) {
	u.of[company] += n * u.counts(now)
}

// counts is what 1 counts now.
func (u *usage) counts(now time.Time) float64 {
	return math.Exp2(float64(now.Sub(u.since)) / float64(halfLife))
}

// large reports whether 1 counts far more than it did.
func (u *usage) large(now time.Time) bool { return now.Sub(u.since) > rebased*halfLife }

// rebase has 1 count as 1 again. A company that is not there any more is forgotten with what little is left of its use.
func (u *usage) rebase(now time.Time, there map[string]bool) {
	counted := u.counts(now)
	u.since = now
	for company, used := range u.of {
		if u.of[company] = used / counted; used < counted/(1<<forgotten) && !there[company] {
			delete(u.of, company)
		}
	}
}
