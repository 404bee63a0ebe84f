package registry

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// The lives of a portal link, until it is opened, and of the session that it begins then.
const (
	DefaultLinkLife = 24 * time.Hour
	MaxLinkLife     = 30 * 24 * time.Hour
	// MaxLinkSession is the most that a portal link's session may last. The default is SessionLife.
	MaxLinkSession = 7 * 24 * time.Hour
	minLinkLife    = time.Minute
)

const (
	// MaxLinks is how many portal links of a company are remembered. A further one takes the place of the one that ended first.
	MaxLinks = 100
	// maxLinkCallbacks is how many callbacks a link may be bounded to.
	maxLinkCallbacks = 100
	// linkKept is how long a link is listed that has ended.
	linkKept = 7 * 24 * time.Hour
)

const (
	linkIDPrefix      = "lnk_"
	linkPrefix        = "rbl_" // of a link's token, which ends in the link's id, a dot and the company
	linkSessionPrefix = "rbp_" // of its session's, likewise
)

// LinkTerms are what a portal link is made for. The zero value is one of all callbacks, with the default lives.
type LinkTerms struct {
	ExpiresIn        time.Duration // until it is opened: a minute to MaxLinkLife; 0: DefaultLinkLife
	SessionExpiresIn time.Duration // of its session: a minute to MaxLinkSession; 0: SessionLife
	Callbacks        []int64       // what its session sees; nil: all of the company's
	ReadOnly         bool          // its session may look, and do no more
}

// complete fills in the defaults, and returns an *payloads.InvalidError if the terms make no sense.
func (t LinkTerms) complete() (LinkTerms, error) {
	var fields []payloads.FieldError
	life := func(field string, d *time.Duration, usual, most time.Duration) {
		if *d == 0 {
			*d = usual
		}
		if *d < minLinkLife || *d > most {
			fields = append(fields, payloads.FieldError{Location: "body." + field, Message: fmt.Sprintf("must be from %s to %s", formatDuration(minLinkLife), formatDuration(most)), Value: formatDuration(*d)})
		}
	}
	life("expires_in", &t.ExpiresIn, DefaultLinkLife, MaxLinkLife)
	life("session_expires_in", &t.SessionExpiresIn, SessionLife, MaxLinkSession)
	if t.Callbacks != nil {
		t.Callbacks = slices.Compact(slices.Sorted(slices.Values(t.Callbacks)))
		if n := len(t.Callbacks); n == 0 || n > maxLinkCallbacks {
			fields = append(fields, payloads.FieldError{Location: "body.callback_ids", Message: fmt.Sprintf("must name 1 to %d callbacks: leave it out for all", maxLinkCallbacks)})
		}
	}
	if len(fields) > 0 {
		return t, &payloads.InvalidError{Fields: fields}
	}
	return t, nil
}

// SessionLasts is how long a link's session lasts, as people write it.
func (t LinkTerms) SessionLasts() string { return formatDuration(t.SessionExpiresIn) }

// A Link is a portal link: an address that opens a company's page once, for whoever holds it.
type Link struct {
	ID        string
	Company   string
	CreatedAt time.Time // by the installation's time, like all times of it
	CreatedBy string    // the actor, such as an API key's id
	ExpiresAt time.Time // until then it can be opened
	LinkTerms

	UsedAt        time.Time // zero: nobody opened it
	SessionEndsAt time.Time // zero: nobody opened it; when somebody logs out, it is then
}

// LinkState says what becomes of a link.
type LinkState string

// The states.
const (
	LinkUnused  LinkState = "unused"  // it can be opened
	LinkExpired LinkState = "expired" // nobody opened it in time
	LinkInUse   LinkState = "in_use"  // its session lasts
	LinkEnded   LinkState = "ended"   // its session is over
)

// State is the link's at a time of the installation.
func (l Link) State(at time.Time) LinkState {
	switch {
	case l.UsedAt.IsZero() && at.Before(l.ExpiresAt):
		return LinkUnused
	case l.UsedAt.IsZero():
		return LinkExpired
	case at.Before(l.SessionEndsAt):
		return LinkInUse
	default:
		return LinkEnded
	}
}

// newLinkID makes the public name of a link.
func newLinkID() string { return linkIDPrefix + strings.ToLower(rand.Text()[:16]) }

// IsLink reports whether it is the key of a portal link's session.
func (k Key) IsLink() bool { return strings.HasPrefix(k.ID, linkIDPrefix) }

// linkInToken is the link, and its company, that a token belongs to. They are empty if it is none of that prefix.
func linkInToken(prefix, token string) (id, company string) {
	id, company, _ = strings.Cut(nameInToken(prefix, token), ".")
	if !strings.HasPrefix(id, linkIDPrefix) || !payloads.ValidCompany(company) {
		return "", ""
	}
	return id, company
}

// key is what a session of the link acts as: a partner's, within the link's bounds.
func (l Link) key() Key {
	return Key{ID: l.ID, Role: Partner, Company: l.Company, CreatedAt: l.CreatedAt, ExpiresAt: l.SessionEndsAt, Callbacks: l.Callbacks, ReadOnly: l.ReadOnly}
}

// linkChanges are what the audit trail tells of a new link.
func linkChanges(l Link) []AuditChange {
	fields := map[string]auditField{}
	flatten(fields, "expires_at", l.ExpiresAt.UTC().Format(time.RFC3339))
	flatten(fields, "session_expires_in", formatDuration(l.SessionExpiresIn))
	if l.Callbacks != nil {
		flatten(fields, "callback_ids", l.Callbacks)
	}
	if l.ReadOnly {
		flatten(fields, "read_only", true)
	}
	return diff(nil, fields)
}
