package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// namedCallbacks is how many callbacks a finding names; it counts the rest.
const namedCallbacks = 20

// examineCallbacks looks for callbacks that could be registered once and no longer can. Deliveries to a host name that is not allowed are held. A
// header that is no longer taken is still sent. It reads the keyset, and makes none.
func (d *diagnosis) examineCallbacks(ctx context.Context, rdb redis.UniversalClient, file string, door *egress.Client) {
	if sealed, err := registry.Sealed(ctx, rdb); err != nil || !sealed { // other checks have said what cannot be read
		return
	}
	all, companies, err := readCallbacks(ctx, rdb, file)
	if err != nil {
		d.add(finding{
			Check: "callbacks", Level: levelWarn, Found: "whether the callbacks' host names and headers are still allowed was not checked: " + oneLine(err.Error()),
			Cure: "ringback doctor --keyset-file FILE # as ringback serve has it",
		})
		return
	}
	for _, f := range append(judgeCallbacks(all, door), judgeCertificates(all, companies, time.Now())...) {
		d.add(f)
	}
}

// judgeCallbacks finds those that could not be registered now as they are.
func judgeCallbacks(all []*registry.Callback, door *egress.Client) []finding {
	var names, headers suspicion
	for _, cb := range all {
		names.add(cb, refusedNames(cb, door))
		headers.add(cb, cb.TakenHeaders())
	}
	found := []finding{{Check: "callback names", Level: levelOK, Found: "all callbacks' host names are allowed"}}
	if len(names.callbacks) > 0 {
		found[0] = finding{
			Check: "callback names", Level: levelWarn, Found: "what is for callbacks with internal host names is held: " + names.String(),
			Cure: "ringback serve --egress-allow-name " + strings.Join(names.words, ",") + " # those that are yours; for the others, tell the partner to register another URL",
		}
	}
	if len(headers.callbacks) > 0 {
		found = append(found, finding{
			Check: "callback headers", Level: levelWarn, Found: "headers are sent that can no longer be registered: " + headers.String(),
			Cure: withoutHeader(headers.words),
		})
	}
	return found
}

// judgeCertificates finds client certificates that expire within a month, of callbacks and of whole companies.
func judgeCertificates(all, companies []*registry.Callback, at time.Time) (found []finding) {
	for _, owners := range []struct {
		all               []*registry.Callback
		check, of, renews string
	}{
		{all, "client certificates", "callbacks", "callbacks update ID --company COMPANY"},
		{companies, "company certificates", "companies", "companies tls COMPANY"},
	} {
		var expire suspicion
		for _, owner := range owners.all {
			expire.add(owner, expiringSoon(owner, at))
		}
		if len(expire.callbacks) > 0 {
			found = append(found, finding{
				Check: owners.check, Level: levelWarn, Found: "client certificates of " + owners.of + " expire within a month: " + expire.String(),
				Cure: "ringback " + owners.renews + " --tls client_certificate=@cert.pem,client_key=@key.pem # with the next one, which the partner has",
			})
		}
	}
	return found
}

// expiringSoon says of a callback's client certificate that it expires within a month.
func expiringSoon(cb *registry.Callback, at time.Time) []string {
	certificate := cb.Certificate()
	if certificate == nil || certificate.NotAfter.Sub(at) > 30*24*time.Hour {
		return nil
	}
	return []string{certificate.Lives(at)}
}

// withoutHeader is how one of the headers is taken away. Partners chose the names. If a name holds a character that a shell may act on, it is in
// no command.
func withoutHeader(names []string) string {
	for _, name := range names {
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == "" {
			return `echo '{"headers": {"` + name + `": null}}' | ringback callbacks update ID --company COMPANY --file - # takes it away, if nobody needs it`
		}
	}
	return "ringback callbacks update ID --company COMPANY --file FILE # with the header as null in the file, if nobody needs it"
}

// suspicion collects callbacks, and what is the matter with each.
type suspicion struct {
	callbacks []string // "acme/3 (receiver)"; of a company itself "acme (receiver)"
	words     []string // each once
}

func (s *suspicion) add(cb *registry.Callback, words []string) {
	if len(words) == 0 {
		return
	}
	name := cb.Company
	if cb.ID != 0 {
		name = fmt.Sprintf("%s/%d", name, cb.ID)
	}
	s.callbacks = append(s.callbacks, fmt.Sprintf("%s (%s)", name, strings.Join(words, ", ")))
	for _, word := range words {
		if !slices.Contains(s.words, word) {
			s.words = append(s.words, word)
		}
	}
}

func (s *suspicion) String() string {
	if more := len(s.callbacks) - namedCallbacks; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(s.callbacks[:namedCallbacks], ", "), more)
	}
	return strings.Join(s.callbacks, ", ")
}

// readCallbacks are those of all companies, and the companies that have a client certificate: of a callback each has the company and the certificate.
func readCallbacks(ctx context.Context, rdb redis.UniversalClient, file string) (all, certified []*registry.Callback, err error) {
	keyset, err := readKeyset(file)
	if err != nil {
		return nil, nil, err
	}
	r, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	companies, err := r.Companies(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the companies: %w", err)
	}
	for _, company := range companies {
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := r.List(ctx, company, registry.Filter{Limit: 500, Cursor: cursor})
			if err != nil {
				return nil, nil, fmt.Errorf("listing the callbacks of %s: %w", company, err)
			}
			all, cursor = append(all, page...), next
		}
		switch own, err := r.CompanyTLS(ctx, company); {
		case errors.Is(err, registry.ErrNotFound):
		case err != nil:
			return nil, nil, err
		default:
			certified = append(certified, &registry.Callback{Company: company, TLS: own})
		}
	}
	return all, certified, nil
}

// refusedNames are the host names of a callback that policy does not let through.
func refusedNames(cb *registry.Callback, door *egress.Client) []string {
	urls := []string{cb.Destination.URL}
	if cb.Auth != nil && cb.Auth.TokenURL != "" {
		urls = append(urls, cb.Auth.TokenURL)
	}
	var refused []string
	for _, raw := range urls {
		if !errors.Is(door.CheckURL(raw), egress.ErrNameNotAllowed) {
			continue
		}
		if u, err := url.Parse(raw); err == nil && !slices.Contains(refused, u.Hostname()) {
			refused = append(refused, u.Hostname())
		}
	}
	return refused
}
