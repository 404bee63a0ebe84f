package ledger

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
)

var (
	claimScript    = lua.Script("claim")
	reclaimScript  = lua.Script("reclaim")
	answeredScript = lua.Script("answered")
)

const (
	// ClaimKept is how long a request with an Idempotency-Key is remembered.
	ClaimKept = 24 * time.Hour
	// maxClaims is how many of them are remembered of a company, and maxBulkClaims how many of those for replays over callbacks and companies, and of those
	// that are about all companies.
	maxClaims     = 100_000
	maxBulkClaims = 1_000
)

// A ClaimRef names the claim of a request with an Idempotency-Key.
type ClaimRef struct {
	Company string // empty: the request is about all
	Bulk    bool   // what acts writes where bulk replays are, or in no company's place
	Hash    string // of who asks for what, and of the key
}

func (r ClaimRef) place() string {
	if r.Bulk {
		return bulks
	}
	return r.Company
}

// Key is the claim's in Redis.
func (r ClaimRef) Key() string { return Key(r.place(), "idem:"+r.Hash) }

// book names the claims that an erasure of their company has to find.
func (r ClaimRef) book() string {
	if r.Bulk && r.Company != "" {
		return "idems:" + r.Company
	}
	return "idems"
}

func (r ClaimRef) most() int {
	if r.Bulk {
		return maxBulkClaims
	}
	return maxClaims
}

// A ClaimFound is what there is of a claim.
type ClaimFound struct {
	New         bool          // it is the caller's now
	Full        bool          // there are as many as may be; Wait is how long until one ends
	Most        int           // how many may be, if it is full
	Wait        time.Duration // how long the request of before may still be under way
	Fingerprint []byte        // sealed, as the next two
	Answer      []byte        // empty: none yet
	Notes       []byte        // of a step that acted; empty: none did
	token       string
}

// Claim claims a request, if nobody did before: token may act, for so long without being asked whether it still does.
func (l *Ledger) Claim(ctx context.Context, r ClaimRef, token string, fingerprint []byte, lease time.Duration) (ClaimFound, error) {
	v, err := l.run(ctx, claimScript, r.place(), r.Hash, r.book(), token, fingerprint, lease.Milliseconds(), ClaimKept.Milliseconds(), r.most()).Result()
	if err != nil {
		return ClaimFound{}, err
	}
	a := &answer{left: Strings(v)}
	var c ClaimFound
	switch a.text() {
	case "go":
		c.New = true
	case "full":
		c.Full, c.Wait, c.Most = true, a.wait(), r.most()
	case "there":
		c.Fingerprint, c.token, c.Wait = []byte(a.text()), a.text(), a.wait()
		c.Answer, c.Notes = []byte(a.text()), []byte(a.text())
	default:
		a.err = ErrBadAnswer
	}
	return c, a.err
}

// Reclaim takes a claim over that was found without an answer. ok is false if somebody else did.
func (l *Ledger) Reclaim(ctx context.Context, r ClaimRef, found ClaimFound, token string, lease time.Duration) (ok bool, err error) {
	return l.run(ctx, reclaimScript, r.place(), r.Hash, found.token, token, lease.Milliseconds()).Bool()
}

// Answered ends what is under way of a claim with its answer, which is kept if always is set or a step acted. Without an answer a repeat finds one anew where a
// step acted, else the claim is gone.
func (l *Ledger) Answered(ctx context.Context, r ClaimRef, token string, sealed []byte, always bool) error {
	when := "acted"
	if always {
		when = "always"
	}
	return l.run(ctx, answeredScript, r.place(), r.Hash, r.book(), token, sealed, when).Err()
}

// EraseClaims erases a page of a company's claims. Those among the claims of all companies go with [Ledger.ForgetInBulks].
func (l *Ledger) EraseClaims(ctx context.Context, company string) (erased int64, done bool, err error) {
	return l.eraseBook(ctx, company, "idems", "idem:")
}
