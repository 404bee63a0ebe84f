package dispatcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

const (
	// usesShown is how many companies are named that use a type, and how many of each one's callbacks.
	usesShown = 3
	// usesCounted is how many unfinished deliveries of a type are counted in a company.
	usesCounted = 100
	// usesWithin is how long it may take to see whether a type is used. What is not seen by then may be used.
	usesWithin = 10 * time.Second
)

// unfinishedStates are those of deliveries to which something happens still.
var unfinishedStates = []ledger.State{ledger.Pending, ledger.Active, ledger.Retrying, ledger.Held}

// A TypeInUseError says that a callback type cannot be deleted, and where it is used.
type TypeInUseError struct{ Message string }

func (e *TypeInUseError) Error() string { return e.Message }

// A typeUse is what a company has of a callback type.
type typeUse struct {
	company   string
	callbacks []int64 // that are registered for it by its name
	waiting   int     // unfinished deliveries, and events whose deliveries are still being written
	more      bool    // or more
	of        []int64 // callbacks that some of those go to
	unseen    bool    // there was no time to see whether there are any
}

// typeUses looks for what uses a type: callbacks of all companies, and what is not finished in those that have work. In the log, the search leaves out the
// blocks that have nothing of the type, or are all finished.
func (c *Client) typeUses(ctx context.Context, typ string) ([]typeUse, error) {
	until := time.Now().Add(usesWithin)
	all, err := c.registry.Companies(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "listing the companies", err)
	}
	working, err := registry.Lookout(ctx, c.rdb)
	if err != nil {
		return nil, unavailable(ctx, c, "listing the companies with work", err)
	}
	uses := make(map[string]*typeUse)
	for _, name := range slices.Concat(all, working) {
		uses[name] = &typeUse{company: name}
	}
	if err := c.eachCompany(ctx, uses, all, func(u *typeUse) (err error) {
		u.callbacks, err = c.registry.OfType(ctx, u.company, typ)
		return err
	}); err != nil {
		return nil, unavailable(ctx, c, "reading the callbacks", err)
	}
	if err := c.eachCompany(ctx, uses, working, func(u *typeUse) error { return c.waitingOf(ctx, u, typ, until) }); err != nil {
		return nil, err
	}
	var found []typeUse
	for _, u := range uses {
		if len(u.callbacks) > 0 || u.waiting > 0 || u.unseen {
			found = append(found, *u)
		}
	}
	slices.SortFunc(found, func(a, b typeUse) int { return strings.Compare(a.company, b.company) })
	return found, nil
}

// eachCompany looks into companies, some at a time.
func (c *Client) eachCompany(ctx context.Context, uses map[string]*typeUse, companies []string, look func(*typeUse) error) error {
	var failed error
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan string)
	for range min(everywhereAtOnce, len(companies)) {
		wg.Go(func() {
			for name := range next {
				if err := c.contain(ctx, PlaceHTTP, func() error { return look(uses[name]) }); err != nil {
					mu.Lock()
					failed = cmp.Or(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range companies {
		next <- name
	}
	close(next)
	wg.Wait()
	return failed
}

// waitingOf looks for what of a type is not finished in a company.
func (c *Client) waitingOf(ctx context.Context, u *typeUse, typ string, until time.Time) error {
	v, err := c.newView(ctx, u.company)
	if err != nil {
		return err
	}
	if u.waiting, err = c.ledger.Expanding(ctx, u.company, typ, usesCounted); err != nil {
		return unavailable(ctx, c, "looking for events that expand", err)
	}
	q := Query{EventType: typ, States: unfinishedStates, Limit: usesCounted}
	for {
		found, next, err := v.walkLog(ctx, q, until)
		if err != nil {
			return err
		}
		u.waiting += len(found)
		for _, d := range found {
			if len(u.of) < usesShown && !slices.Contains(u.of, d.CallbackID) {
				u.of = append(u.of, d.CallbackID)
			}
		}
		switch {
		case next == "":
			return nil
		case u.waiting >= usesCounted:
			u.more = true
			return nil
		case time.Now().After(until):
			u.unseen = u.waiting == 0
			u.more = !u.unseen
			return nil
		}
		q.Cursor = next
	}
}

// inUse says where a type is used, and what to do.
func inUse(typ string, uses []typeUse) error {
	var callbacks, waiting, unseen int
	more := false
	var named, held []string
	for _, u := range uses {
		callbacks, waiting, more = callbacks+len(u.callbacks), waiting+u.waiting, more || u.more
		if u.unseen {
			unseen++
		}
		if len(u.callbacks) > 0 {
			named = append(named, u.company+" "+someIDs(u.callbacks))
		}
		if u.waiting > 0 {
			where := u.company
			if len(u.of) > 0 {
				where += " callback " + someIDs(u.of)
			}
			held = append(held, where)
		}
	}
	var parts, cures []string
	if callbacks > 0 {
		parts = append(parts, count(callbacks, "callback")+" registered for it ("+some(named)+")")
		cures = append(cures, "delete those callbacks or give them another type")
	}
	if waiting > 0 {
		atLeast := ""
		if more {
			atLeast = "at least "
		}
		parts = append(parts, atLeast+count(waiting, "unfinished delivery")+" of it ("+some(held)+")")
		cures = append(cures, "let the deliveries finish, or cancel them")
	}
	if len(parts) == 0 {
		return &TypeInUseError{fmt.Sprintf("it could not be seen in time whether deliveries of callback type %s wait in %s: try again once less waits", typ, count(unseen, "company"))}
	}
	return &TypeInUseError{fmt.Sprintf("callback type %s is in use: %s; %s, and delete it then", typ, strings.Join(parts, ", and "), strings.Join(cures, ", "))}
}

// some names the first of many.
func some(names []string) string {
	if len(names) <= usesShown {
		return strings.Join(names, "; ")
	}
	return strings.Join(names[:usesShown], "; ") + "; and " + count(len(names)-usesShown, "more company")
}

// someIDs names the first of many ids.
func someIDs(ids []int64) string {
	texts := make([]string, 0, usesShown+1)
	for _, id := range ids[:min(len(ids), usesShown)] {
		texts = append(texts, strconv.FormatInt(id, 10))
	}
	if len(ids) > usesShown {
		texts = append(texts, "…")
	}
	return strings.Join(texts, ", ")
}
