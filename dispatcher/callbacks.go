package dispatcher

import (
	"context"
	"errors"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// callback is the delivery's registration as of at least this version of the registry, nil if it was deleted.
func (c *Client) callback(ctx context.Context, r ledger.Ref, atLeast int64) (*registry.Callback, error) {
	cb, err := c.registry.Lookup(ctx, r.Company, r.Callback, atLeast)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil // documented: deleted
	}
	return cb, err
}

// barred reports whether policy keeps this process from calling a callback's host names (egress.Config.AllowNames). Then its deliveries are held:
// an operator may allow the name. cb is the callback as this process knows it, perhaps not the latest, or nil.
func (c *Client) barred(ctx context.Context, key callbackKey, cb *registry.Callback) (bool, error) {
	if cb == nil || !c.namesRefused(cb) {
		return false, nil
	}
	cb, err := c.registry.Get(ctx, key.company, key.callback)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	return err == nil && c.namesRefused(cb), err
}

func (c *Client) namesRefused(cb *registry.Callback) bool {
	refused := func(url string) bool { return errors.Is(c.sender.egress.CheckURL(url), egress.ErrNameNotAllowed) }
	return refused(cb.Destination.URL) || cb.Auth != nil && cb.Auth.TokenURL != "" && refused(cb.Auth.TokenURL)
}

// recheck looks again at a callback that changed after an attempt had begun: where the gate of its delivery was looked at, it was another one. It
// reports whether the callback may be called as it is now.
func (c *Client) recheck(ctx context.Context, a *claim) (proven bool, err error) {
	if a.callback == nil || a.callback.Version <= a.version {
		return true, nil
	}
	a.callback, err = c.registry.Get(ctx, a.ref.Company, a.ref.Callback)
	if errors.Is(err, registry.ErrNotFound) {
		return true, nil // deleted since, as for Client.callback
	}
	if err == nil {
		a.callback, err = c.registry.WithCompanyTLS(ctx, a.callback)
	}
	return err == nil && a.callback.Status != registry.Unverified, err
}

// alone sees to it that a callback has one test or challenge of this process at a time.
func (c *Client) alone(company string, callback int64) (done func(), err error) {
	r := ledger.Ref{Company: company, Callback: callback}
	if _, busy := c.testing.LoadOrStore(r, true); busy {
		return nil, &StateError{Message: "this callback is being tested or challenged already: wait for the answer"}
	}
	return func() { c.testing.Delete(r) }, nil
}

// egressHalted reports whether everything is, or any lane.
func (c *Client) egressHalted(ctx context.Context) bool { return !c.lanes.Halted(ctx).None() }

// weight is how many times as much as others a company gets of what is shared. While Redis does not say it, it is one of all.
func (c *Client) weight(ctx context.Context, company string) int {
	limits, err := c.registry.Quotas(ctx, company)
	if err != nil {
		return 1
	}
	return int(limits[registry.QuotaWeight])
}
