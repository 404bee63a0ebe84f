package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// namesFor is for how long the companies' names are good that were read.
const namesFor = 2 * time.Second

// Names are those of all companies, sorted. Do not write to them. Error: [ErrUnavailable].
func (v *Overviews) Names(ctx context.Context) ([]string, error) {
	return v.names.get(ctx, func(ctx context.Context) ([]string, time.Duration, error) {
		names, err := v.client.registry.Companies(ctx)
		if err != nil {
			return nil, 0, unavailable(ctx, v.client, "listing the companies", err)
		}
		return names, namesFor, nil
	})
}

// A CompanyItem is a company and how it stands.
type CompanyItem struct {
	Company   string `json:"company"`
	Callbacks int64  `json:"callbacks"`
	// Words say in short how it stands.
	Words           string    `json:"words"`
	Waiting         int64     `json:"waiting"` // deliveries that are not finished
	Pending         int64     `json:"pending"` // of those: pending or active
	Retrying        int64     `json:"retrying"`
	Held            int64     `json:"held"`
	OldestWaitingAt time.Time `json:"oldest_waiting_at,omitzero"`
	Dead            int64     `json:"dead"`
	Failing         int64     `json:"failing"` // callbacks whose last attempt failed
	Paused          int64     `json:"paused"`  // callbacks, as the next two
	Disabled        int64     `json:"disabled"`
	Unverified      int64     `json:"unverified"`
}

// Companies lists companies by name whose names begin with a prefix, from a cursor on, and returns the cursor of the next page ("" at the end).
// Errors: [ErrBadCursor], [ErrUnavailable].
func (v *Overviews) Companies(ctx context.Context, prefix string, limit int, cursor string) ([]*CompanyItem, string, error) {
	limit = min(max(defaulted(limit, DefaultLimit), 1), MaxLimit)
	names, err := v.NamesFrom(ctx, prefix, cursor)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(names) > limit {
		names, next = names[:limit], encodeCursor(names[limit-1])
	}
	surveys, err := v.client.ledger.SurveyAll(ctx, names)
	if err != nil {
		return nil, "", unavailable(ctx, v.client, "looking into companies", err)
	}
	items := make([]*CompanyItem, len(names))
	for i := range names {
		if err := surveys[i].Err; err != nil {
			return nil, "", unavailable(ctx, v.client, "looking into a company", err)
		}
		items[i] = companyItem(names[i], &surveys[i])
	}
	return items, next, nil
}

// NamesFrom are the companies' names that begin with a prefix, behind the one that a cursor of [Overviews.Companies] is of.
func (v *Overviews) NamesFrom(ctx context.Context, prefix, cursor string) ([]string, error) {
	last, err := decodeCursor(cursor)
	if err != nil {
		return nil, err
	}
	names, err := v.Names(ctx)
	if err != nil {
		return nil, err
	}
	from, behind := slices.BinarySearch(names, max(prefix, last))
	if behind && last >= prefix && last != "" {
		from++
	}
	names = names[from:]
	to, _ := slices.BinarySearchFunc(names, prefix, func(name, prefix string) int {
		if strings.HasPrefix(name, prefix) {
			return -1
		}
		return 1
	})
	return names[:to], nil
}

func companyItem(company string, s *ledger.Survey) *CompanyItem {
	c := &CompanyItem{Company: company, Callbacks: s.Callbacks, Dead: s.Dead}
	for i := range s.Standings {
		st := &s.Standings[i]
		c.Waiting, c.Pending, c.Retrying, c.Held = c.Waiting+st.Waiting(), c.Pending+st.InLanes, c.Retrying+st.Retrying, c.Held+st.Held
		if at := st.OldestWaiting; !at.IsZero() && (c.OldestWaitingAt.IsZero() || at.Before(c.OldestWaitingAt)) {
			c.OldestWaitingAt = at
		}
		if st.Failures > 0 {
			c.Failing++
		}
		if st.Gate == nil {
			continue
		}
		switch st.Gate.Status {
		case registry.Paused:
			c.Paused++
		case registry.Disabled:
			c.Disabled++
		case registry.Unverified:
			c.Unverified++
		}
	}
	c.say()
	return c
}

func (c *CompanyItem) say() {
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{c.Failing, "failing"}, {c.Paused, "paused"}, {c.Disabled, "disabled"}, {c.Unverified, "unverified"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	switch {
	case c.Callbacks == 0:
		c.Words = "no callbacks"
	case len(parts) > 0:
		c.Words = strings.Join(parts, ", ")
	case c.Waiting > 0:
		c.Words = "delivers, and has something to do"
	default:
		c.Words = "well"
	}
}
