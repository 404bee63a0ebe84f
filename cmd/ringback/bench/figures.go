package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Figures are measurements by name. One that was not measured is absent.
type Figures map[string]float64

// The names of figures. A delivery is one event that arrived at one callback.
const (
	Events     = "events"     // handed over
	Deliveries = "deliveries" // that arrived, each counted once

	AcceptedRate = "accepted_per_s"           // events, from the first that was sent to the last that was accepted
	DeliveryRate = "deliveries_per_s"         // from the first event that was sent to the last arrival
	LowestRate   = "lowest_deliveries_per_s"  // of several runs
	HighestRate  = "highest_deliveries_per_s" // of several runs
	OfFloor      = "of_floor"                 // DeliveryRate as a share of what the floors come to

	// P50 to P99 are of the time from an event's 202 to its arrival, in milliseconds. An arrival before its 202 was read counts as 0.
	// In sync, they are what Ringback adds to the partner's own time.
	P50 = "p50_ms"
	P95 = "p95_ms"
	P99 = "p99_ms"

	RingbackCPU = "ringback_cpu_s_per_1000" // processor seconds per 1,000 deliveries, acceptance included
	RedisCPU    = "redis_cpu_s_per_1000"
	OthersCPU   = "others_cpu_cores"         // processors that other programs kept busy meanwhile: the less, the better the figures
	RedisTime   = "redis_us_per_delivery"    // microseconds in commands that clients sent; see usage
	RedisCalls  = "redis_calls_per_delivery" // commands that clients sent; see usage
	RedisBytes  = "redis_bytes_per_delivery" // that Redis holds more than before
	RingbackRSS = "ringback_rss_mib"         // memory of the process at the end

	Missing       = "missing"        // deliveries that did not arrive in time
	Duplicates    = "duplicates"     // arrivals of a delivery that had arrived
	BadSignatures = "bad_signatures" // arrivals that do not verify
	ChangedIDs    = "changed_ids"    // duplicates under another webhook-id

	RateOfCalm = "rate_of_calm" // DeliveryRate as a share of that of the phase before: without the disturbance, or one by one
	P99OfCalm  = "p99_of_calm"  // P99 by that of the same phase
	Told       = "told"         // changes of deliveries that all viewers together were told

	// The floors, each per second: what Ringback cannot do without, done as barely as the same libraries allow.
	FloorAccept = "accept_per_s" // read an event and answer 202, in the API's framework
	FloorAsynq  = "asynq_per_s"  // enqueue a task and handle it, on the same Redis
	FloorPost   = "post_per_s"   // sign an event and post it to the receiver
)

// faults are the figures of which the worst run counts. counts are those that have no ratio.
var (
	faults = []string{Missing, Duplicates, BadSignatures, ChangedIDs}
	counts = append(slices.Clone(faults), Events, Deliveries, RateOfCalm, P99OfCalm, Told, LowestRate, HighestRate, OthersCPU)
)

// A phase is one part of a scenario with its figures.
type phase struct {
	name    string
	figures Figures
	fan     int // deliveries of an event, if as many were sent as went through; 0: they were paced, and floors say nothing
}

func (p phase) summary(scenario string) string {
	if p.name != "" {
		scenario += " " + p.name
	}
	return fmt.Sprintf("%s: %.0f deliveries, %.0f/s, missing %.0f", scenario, p.figures[Deliveries], p.figures[DeliveryRate], p.figures[Missing])
}

// compareWith adds the share of the floors' rate: a delivery needs its part of one acceptance, one task and one post.
func (f Figures) compareWith(floor Figures, fan int) {
	if floor == nil || fan == 0 {
		return
	}
	f[OfFloor] = f[DeliveryRate] * (1/(floor[FloorAccept]*float64(fan)) + 1/floor[FloorAsynq] + 1/floor[FloorPost])
}

// beside adds how f compares with what the same load came to in calm.
func (f Figures) beside(calm Figures) {
	f[RateOfCalm] = f[DeliveryRate] / calm[DeliveryRate]
	if calm[P99] > 0 {
		f[P99OfCalm] = f[P99] / calm[P99]
	}
}

// latencies adds the percentiles of some durations, which it sorts.
func (f Figures) latencies(took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	for name, share := range map[string]float64{P50: .5, P95: .95, P99: .99} {
		f[name] = milliseconds(percentile(took, share))
	}
}

// percentile is the least of sorted durations that a share of them does not exceed.
func percentile(sorted []time.Duration, share float64) time.Duration {
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func perSecond(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}
