package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Resealed says how far Reseal is.
type Resealed struct {
	Companies int // done
	Of        int // companies there are
	Callbacks int // sealed with the primary key now; of this and the next two, a company's client certificate counts as a callback
	Already   int // that were before
	Broken    int // that do not open with the keyset, and stay as they are
}

// replaceSeal puts ARGV[i+2], with anchor ARGV[i+3] or none, in the place of ARGV[i+1] for each callback ARGV[i] that nobody has changed
// since. It returns how many were replaced. No two seals are the same: if ARGV[i+2] is there already, an earlier run, whose answer was lost, put
// it there.
var replaceSeal = redis.NewScript(`
local n = 0
for i = 1, #ARGV, 4 do
	local now = redis.call('HGET', KEYS[1], ARGV[i])
	if now == ARGV[i + 1] then
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
		if ARGV[i + 3] == '' then redis.call('HDEL', KEYS[2], ARGV[i]) else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 3]) end
		n = n + 1
	elseif now == ARGV[i + 2] then
		n = n + 1
	end
end
return n`)

// Reseal seals callbacks anew with the keyset's primary key: those that are sealed with another key, and those that a process of level 1 sealed
// for their place only. Versions and times of the callbacks stay as they are. If a change comes at the same time, the change wins. If Reseal ends
// early, the next call goes on from there. After each company tell hears how far it is.
//
// It refuses until a process has started with this primary key, and while a live one announces a keyset without it ([Process.Keys]): such a
// process could not read its callbacks any more. An error that is ErrSealed says that callbacks do not open with the keyset. All others are done
// then. Lines of the audit trail stay as they are: a stream's entries do not change.
func (r *Registry) Reseal(ctx context.Context, tell func(Resealed)) (done Resealed, err error) {
	if err := r.inUse(ctx); err != nil {
		return done, err
	}
	companies, err := r.Companies(ctx)
	if err != nil {
		return done, err
	}
	done.Of = len(companies)
	var broken error
	for _, company := range companies {
		if err := r.resealCompany(ctx, company, &done, &broken); err != nil {
			return done, err
		}
		done.Companies++
		tell(done)
	}
	if done.Callbacks > 0 {
		line := AuditLine(ctx, "", "keyset.reseal", keysetObject(r.keyset.PrimaryID()), AuditChange{Field: "callbacks", New: done.Callbacks})
		if err := WriteAudit(ctx, r.redis, AuditKeyOfAll, line); err != nil {
			return done, err
		}
	}
	return done, broken
}

// resealCompany goes over a company's callbacks until nobody has changed one under it.
func (r *Registry) resealCompany(ctx context.Context, company string, done *Resealed, broken *error) error {
	for pass := range tries {
		var got Resealed
		tried := 0
		if err := r.rows(ctx, company, func(rows []row) error {
			asked, err := r.resealRows(ctx, company, rows, &got, broken)
			tried += asked
			return err
		}); err != nil {
			return err
		}
		own, err := r.resealCompanyTLS(ctx, company, &got, broken)
		if err != nil {
			return err
		}
		tried += own
		done.Callbacks += got.Callbacks
		if pass == 0 { // what the first one did is no news to the next
			done.Already += got.Already
			done.Broken += got.Broken
		}
		if tried == got.Callbacks {
			return nil
		}
	}
	return fmt.Errorf("%w: the callbacks of company %s", ErrBusy, company)
}

// resealRows returns how many of the rows it tried to replace.
func (r *Registry) resealRows(ctx context.Context, company string, rows []row, got *Resealed, broken *error) (tried int, err error) {
	var args []any
	for _, row := range rows {
		anchor, err := r.newAnchor(ctx)
		if err != nil {
			return 0, err
		}
		if sealedBy(row.sealed) == r.keyset.PrimaryID() && (row.anchor != "" || anchor == "") {
			got.Already++
			continue
		}
		plain, err := r.keyset.openRow(company, row.id, row.sealed, row.anchor)
		if err != nil {
			got.Broken++
			if *broken == nil {
				*broken = err
			}
			continue
		}
		sealed, err := r.keyset.seal(plain, place(company, row.id, anchor))
		if err != nil {
			return 0, err
		}
		args = append(args, row.id, row.sealed, sealed, anchor)
		tried++
	}
	if tried == 0 {
		return 0, nil
	}
	replaced, err := replaceSeal.Run(ctx, r.redis, []string{callbacksKey(company), anchorsKey(company)}, args...).Int()
	if err != nil {
		return 0, fmt.Errorf("registry: seal the callbacks of company %s anew: %w", company, err)
	}
	got.Callbacks += replaced
	return tried, nil
}

// resealCompanyTLS seals a company's certificate anew with the primary key. It returns how many it tried to replace.
func (r *Registry) resealCompanyTLS(ctx context.Context, company string, got *Resealed, broken *error) (tried int, err error) {
	sealed, t, err := r.companyTLS(ctx, company)
	switch {
	case errors.Is(err, ErrSealed):
		got.Broken++
		if *broken == nil {
			*broken = err
		}
		return 0, nil
	case err != nil || t == nil:
		return 0, err
	case sealedBy([]byte(sealed)) == r.keyset.PrimaryID():
		got.Already++
		return 0, nil
	}
	anchor, err := r.newAnchor(ctx)
	if err != nil {
		return 0, err
	}
	anew, err := r.keyset.sealCompanyTLS(company, t, anchor)
	if err != nil {
		return 0, err
	}
	replaced, err := replaceSeal.Run(ctx, r.redis, []string{companyTLSKey(company), anchorsKey(company)}, tlsField, sealed, anew, anchor).Int()
	if err != nil {
		return 0, fmt.Errorf("registry: seal the client certificate of company %s anew: %w", company, err)
	}
	got.Callbacks += replaced
	return 1, nil
}
