package dispatcher

import (
	"time"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// An Overview answers what somebody on call asks first. Each of its parts has a sentence.
type Overview struct {
	AsOf    time.Time      `json:"as_of"` // when it was looked; answers are kept for a few seconds
	Verdict OverallVerdict `json:"verdict"`
	Worst   WorstPart      `json:"worst"`
	Waiting WaitingPart    `json:"waiting"`
	Dead    DeadPart       `json:"dead"`
	Wave    WavePart       `json:"wave"`
	Rates   RatesPart      `json:"rates"`

	Callbacks CallbacksPart `json:"callbacks"`
	Egress    EgressPart    `json:"egress"`
	Workers   WorkersPart   `json:"workers"`
	Redis     Posture       `json:"redis"`

	Certificates CertificatesPart `json:"certificates"`
	// Unread says what could not be read, a sentence each: what the other parts say is without that.
	Unread []string `json:"unread"`
}

// An OverallVerdict says whether it is us or them.
type OverallVerdict struct {
	Side     string   `json:"side"` // nobody, theirs, ours or both
	Sentence string   `json:"sentence"`
	Ours     []string `json:"ours"`   // what is to be mended here, a sentence each
	Theirs   []string `json:"theirs"` // what partners have to mend, a sentence each
	Outages  []Outage `json:"outages"`
}

// A WorstPart is the callbacks that do worst, of all companies.
type WorstPart struct {
	Sentence string `json:"sentence"`
	// Callbacks are the worst: those for which most waits first, then those with most dead.
	Callbacks []WorstCallback `json:"callbacks"`
	Of        int64           `json:"of"` // how many callbacks are not well
	// Reasons are why callbacks fail at the moment, by their last failure; the one for which most waits first.
	Reasons []FailingReason `json:"reasons"`
}

// A WorstCallback is a callback that does not do well.
type WorstCallback struct {
	Company         string       `json:"company"`
	CallbackID      int64        `json:"callback_id"`
	CallbackType    string       `json:"callback_type,omitempty"`
	Host            string       `json:"host,omitempty"` // of its destination, with the port if it names one
	Status          string       `json:"status"`         // enabled, paused, disabled or unverified
	Breaker         Breaker      `json:"breaker"`
	Words           string       `json:"words"` // the last two, for people
	Waiting         int64        `json:"waiting"`
	Pending         int64        `json:"pending"` // of those: pending or active
	Retrying        int64        `json:"retrying"`
	Held            int64        `json:"held"`
	OldestWaitingAt time.Time    `json:"oldest_waiting_at,omitzero"`
	Dead            int64        `json:"dead"`
	Failures        int64        `json:"consecutive_failures"`
	LastFailure     *Failure     `json:"last_failure,omitempty"`
	LastSuccessAt   time.Time    `json:"last_success_at,omitzero"`
	Side            verdict.Side `json:"side"` // theirs, ours or unclear
}

// A FailingReason is how many callbacks failed last for a reason.
type FailingReason struct {
	Reason    Reason       `json:"reason"`
	Callbacks int64        `json:"callbacks"`
	Waiting   int64        `json:"waiting"`
	Side      verdict.Side `json:"side"`
	Detail    string       `json:"detail"` // the sentence of the worst of them
}

// A WaitingPart is what waits, of all companies.
type WaitingPart struct {
	Sentence string `json:"sentence"`
	Total    int64  `json:"total"`
	Pending  int64  `json:"pending"`
	Retrying int64  `json:"retrying"`
	Held     int64  `json:"held"`
	// OldestAt is when the event of the delivery that waits longest was accepted; then whose it is.
	OldestAt   time.Time `json:"oldest_at,omitzero"`
	Company    string    `json:"company,omitempty"`
	CallbackID int64     `json:"callback_id,omitempty"`
}

// A DeadPart is what is in the dead-letter books.
type DeadPart struct {
	Sentence string `json:"sentence"`
	Total    int64  `json:"total"`
	// Counted is how many of them the reasons are of: the newest of each company, so many that no look takes long.
	Counted int64        `json:"counted"`
	Reasons []DeadReason `json:"reasons"` // the commonest first
}

// A DeadReason is how many of the dead have a reason.
type DeadReason struct {
	Reason    Reason       `json:"reason"`
	Dead      int64        `json:"dead"`
	Callbacks int64        `json:"callbacks"` // that they are of
	Side      verdict.Side `json:"side"`
}

// A WavePart is when deliveries are tried again.
type WavePart struct {
	Sentence string `json:"sentence"`
	DueNow   int64  `json:"due_now"`
	// Minutes are the next 60: how many retries are due in the first minute from now on, in the second, and so on. Held deliveries are in none.
	Minutes []int64 `json:"minutes"`
	Later   int64   `json:"later"`
}

// A RatesPart is what happened in the last hours.
type RatesPart struct {
	Sentence string   `json:"sentence"`
	Minutes  []Minute `json:"minutes"` // the oldest first; the last one is not over
	// First50 and First95 are within how many milliseconds of acceptance half, and 95 %, of those were delivered in the last minutes that the first attempt
	// delivered. They are right by a fifth; 0: there were none.
	First50 int64 `json:"first_attempt_p50_ms"`
	First95 int64 `json:"first_attempt_p95_ms"`
}

// A CallbacksPart is how all callbacks stand.
type CallbacksPart struct {
	Sentence   string `json:"sentence"`
	Enabled    int64  `json:"enabled"`
	Paused     int64  `json:"paused"`
	Disabled   int64  `json:"disabled"`
	Unverified int64  `json:"unverified"`
	Open       int64  `json:"breakers_open"`
	HalfOpen   int64  `json:"breakers_half_open"`
}

// An EgressPart is whether anything goes out.
type EgressPart struct {
	Sentence string `json:"sentence"`
	Egress
}

// A WorkersPart is who attempts deliveries.
type WorkersPart struct {
	Sentence  string `json:"sentence"`
	Workers   int    `json:"workers"`   // -1: it is not known
	Processes int    `json:"processes"` // workers and others
	// OverdueMS is for how long the delivery that is most overdue has waited for its attempt.
	OverdueMS int64 `json:"overdue_ms"`
}

// A CertificatesPart is the client certificates that expire within 7 days, or have expired, of all companies. Those of paused and disabled callbacks are left out.
type CertificatesPart struct {
	Sentence string `json:"sentence"`
	// Callbacks are those that have one, the one that ends first first, and at most 20.
	Callbacks []ExpiringCertificate `json:"callbacks"`
	Of        int64                 `json:"of"`      // how many there are; of very many, how many were looked at
	Expired   int64                 `json:"expired"` // of them
}

// An ExpiringCertificate is a callback whose client certificate expires soon.
type ExpiringCertificate struct {
	Company      string    `json:"company"`
	CallbackID   int64     `json:"callback_id,omitempty"` // absent: it is the company's, for callbacks that have none; the type is absent, too
	CallbackType string    `json:"callback_type,omitempty"`
	NotAfter     time.Time `json:"not_after"`
	Subject      string    `json:"subject"`
	Fingerprint  string    `json:"fingerprint"`
}

// A Posture is what is to be said of Redis.
type Posture struct {
	Sentence string `json:"sentence"`
	Faults   int    `json:"faults"`
	Warnings int    `json:"warnings"`
	// Findings are those of `ringback doctor` about Redis.
	Findings []Finding `json:"findings"`
}

// A Finding is one thing that was looked at.
type Finding struct {
	Node  string `json:"node,omitempty"` // which Redis, if there are several
	Check string `json:"check"`
	Level string `json:"level"` // ok, warn or fault
	Found string `json:"found"`
	Cure  string `json:"cure,omitempty"`
}
