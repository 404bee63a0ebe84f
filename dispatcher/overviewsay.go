package dispatcher

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// The sentences of an overview, for somebody who was woken.

// ago says how long ago a time was, as people say it.
func ago(now, at time.Time) string {
	d := max(0, now.Sub(at))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return count(int(d.Seconds()), "second")
}

// many is a number and its noun.
func many(n int64, noun string) string {
	_, noun, _ = strings.Cut(count(int(n), noun), " ")
	return thousands(n) + " " + noun
}

// thousands is a number, with the thousands apart.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// standingWords are how a callback stands.
func standingWords(s *ledger.Standing) string {
	switch g := s.Gate; {
	case g == nil:
	case g.Status == registry.Pulled && s.Waiting() > 0:
		return "its partner fetches, and has not fetched all"
	case g.Status == registry.Pulled:
		return "its partner fetches"
	default:
		words := fmt.Sprintf("%s since %s", g.Status, g.At.UTC().Format(time.RFC3339))
		if g.Reason != "" {
			words = fmt.Sprintf("%s (%s) since %s", g.Status, g.Reason, g.At.UTC().Format(time.RFC3339))
		}
		return words
	}
	switch {
	case s.Breaker == ledger.BreakerOpen:
		return fmt.Sprintf("breaker open: %s in a row, tried carefully", many(s.Failures, "failure"))
	case s.Breaker == ledger.BreakerHalfOpen:
		return "delivers again, more with each success"
	case s.Failures > 0:
		return many(s.Failures, "failure") + " in a row"
	case s.Waiting() > 0:
		return "delivers, and has a backlog"
	}
	return "delivers"
}

func statusOf(s *ledger.Standing) string {
	if s.Gate != nil {
		return string(s.Gate.Shown())
	}
	return string(registry.Enabled)
}

func (p *WorstPart) say() {
	if p.Of == 0 {
		p.Sentence = "No callback fails, is held back or has dead deliveries."
		return
	}
	w := p.Callbacks[0]
	p.Sentence = fmt.Sprintf("%s not well. The worst is callback %d of %s", isAre(p.Of, "callback"), w.CallbackID, w.Company)
	if w.Host != "" {
		p.Sentence += " (" + w.Host + ")"
	}
	p.Sentence += fmt.Sprintf(": %s, %s waiting, %s dead.", w.Words, thousands(w.Waiting), thousands(w.Dead))
	if w.LastFailure != nil {
		p.Sentence += " Its last failure: " + w.LastFailure.Detail + "."
	}
}

func isAre(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return many(n, noun) + " are"
}

func (p *WaitingPart) say(now time.Time) {
	if p.Total == 0 {
		p.Sentence = "Nothing waits."
		return
	}
	p.Sentence = fmt.Sprintf("%s: %s held, %s waiting for a retry, %s on the way.", nowWait(p.Total), thousands(p.Held), thousands(p.Retrying), thousands(p.Pending))
	if !p.OldestAt.IsZero() {
		p.Sentence += fmt.Sprintf(" The oldest was accepted %s ago, for callback %d of %s.", ago(now, p.OldestAt), p.CallbackID, p.Company)
	}
}

func nowWait(n int64) string {
	if n == 1 {
		return "1 delivery waits"
	}
	return many(n, "delivery") + " wait"
}

func (p *DeadPart) say() {
	if p.Total == 0 {
		p.Sentence = "No delivery is dead."
		return
	}
	p.Sentence = isAre(p.Total, "delivery") + " dead"
	var parts []string
	for _, r := range p.Reasons[:min(3, len(p.Reasons))] {
		parts = append(parts, fmt.Sprintf("%s by %s", thousands(r.Dead), reasonWord(r.Reason)))
	}
	if more := len(p.Reasons) - len(parts); more > 0 {
		parts = append(parts, "the rest by "+count(more, "other reason"))
	}
	switch {
	case len(parts) == 0:
		p.Sentence += "."
	case p.Counted < p.Total:
		p.Sentence += fmt.Sprintf(". Of the newest %s: %s.", thousands(p.Counted), strings.Join(parts, ", "))
	default:
		p.Sentence += ": " + strings.Join(parts, ", ") + "."
	}
}

// reasonWord is a reason, or what is said where there is none.
func reasonWord(r Reason) string {
	if r == "" {
		return "a reason that was not recorded"
	}
	return string(r)
}

func (p *WavePart) say(now time.Time) {
	var hour, most int64
	at := 0
	for i, n := range p.Minutes {
		if hour += n; n > most {
			most, at = n, i
		}
	}
	switch {
	case p.DueNow+hour+p.Later == 0:
		p.Sentence = "No retry is due."
		return
	case hour == 0:
		p.Sentence = "No retry is due within the next hour"
	default:
		p.Sentence = fmt.Sprintf("%s due within the next hour, most of them (%s) in the minute from %s UTC on", isAre(hour, "retry"), thousands(most),
			now.UTC().Add(time.Duration(at)*time.Minute).Format("15:04"))
		if hour == most {
			p.Sentence = strings.Replace(p.Sentence, "most of them ("+thousands(most)+")", "all", 1)
		}
	}
	p.Sentence += fmt.Sprintf("; %s due now, %s later.", thousands(p.DueNow), thousands(p.Later))
}

const (
	// overdueTells is how long something has to be overdue for that to be told, and overdueBlames for it to be our fault: the reconciler brings back what is lost
	// well within that.
	overdueTells, overdueBlames = 5 * time.Second, time.Minute
)

// rateOver is how many minutes the rates' sentence is about, the one that is not over among them.
const rateOver = 5

func (p *RatesPart) say() {
	var a, d, f int64
	for _, m := range p.Minutes[max(0, len(p.Minutes)-rateOver):] {
		a, d, f = a+m.Accepted, d+m.Delivered, f+m.Failed
	}
	if a+d+f == 0 {
		p.Sentence = fmt.Sprintf("In the last %d minutes nothing was accepted, delivered or tried. The last seconds are not counted yet.", rateOver)
		return
	}
	p.Sentence = fmt.Sprintf("In the last %d minutes: %s accepted, %s delivered, %s.", rateOver, many(a, "event"), thousands(d), many(f, "failed attempt"))
	if p.First95 > 0 {
		p.Sentence += fmt.Sprintf(" Half of what a first attempt delivered was there within %s, 95 %% within %s.", roughly(p.First50), roughly(p.First95))
	}
}

// roughly is a duration of which two digits are known.
func roughly(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.String()
}

func (p *CallbacksPart) say() {
	all := p.Enabled + p.Paused + p.Disabled + p.Unverified
	p.Sentence = fmt.Sprintf("%s: %s enabled, %s paused, %s disabled, %s unverified; breakers: %s open, %s widening.",
		many(all, "callback"), thousands(p.Enabled), thousands(p.Paused), thousands(p.Disabled), thousands(p.Unverified), thousands(p.Open), thousands(p.HalfOpen))
}

// egressUnknown is the status of what goes out where that could not be read.
const egressUnknown = "unknown"

func (p *EgressPart) say(now time.Time) {
	switch p.Status {
	case EgressPaused:
		p.Sentence = fmt.Sprintf("Nothing goes out, or not everything: it was paused %s ago. `ringback egress resume` lets it go on.", ago(now, p.Since))
	case egressUnknown:
		p.Sentence = "It is not known whether everything goes out."
	default:
		p.Sentence = "Everything goes out."
	}
}

func (p *WorkersPart) say() {
	p.Sentence = fmt.Sprintf("%s at work.", isAre(int64(p.Workers), "worker"))
	if p.Workers < 0 {
		p.Sentence = "It is not known which processes run."
	}
	if late := time.Duration(p.OverdueMS) * time.Millisecond; late >= overdueTells {
		p.Sentence += fmt.Sprintf(" The delivery that is most overdue has waited %s for its attempt.", verdict.InWords(late.Round(time.Second)))
	}
}

func (p *CertificatesPart) say(now time.Time) {
	if p.Of == 0 {
		p.Sentence = "No client certificate expires within 7 days."
		return
	}
	switch soon := p.Of - p.Expired; {
	case soon == 0:
		p.Sentence = hasHave(p.Expired, "client certificate") + " expired."
	case p.Expired == 0:
		p.Sentence = fmt.Sprintf("%s within 7 days.", expires(soon, "client certificate"))
	default:
		p.Sentence = fmt.Sprintf("%s expired, and %s within 7 days.", hasHave(p.Expired, "client certificate"), expires(soon, "other"))
	}
	first := p.Callbacks[0]
	whose := first.Company + " itself"
	if first.CallbackID != 0 {
		whose = fmt.Sprintf("callback %d of %s", first.CallbackID, first.Company)
	}
	p.Sentence += fmt.Sprintf(" The first is of %s, and %s.", whose, (&registry.Certificate{NotAfter: first.NotAfter}).Lives(now))
}

func hasHave(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun + " has"
	}
	return many(n, noun) + " have"
}

func expires(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun + " expires"
	}
	return many(n, noun) + " expire"
}

func (p *Posture) say() {
	switch {
	case p.Faults > 0:
		p.Sentence = fmt.Sprintf("Redis: %s.", p.first("fault"))
	case p.Warnings > 0:
		p.Sentence = fmt.Sprintf("Redis is well, but: %s.", p.first("warn"))
	case len(p.Findings) == 0:
		p.Sentence = "Redis was not examined here: `ringback doctor` does."
	default:
		p.Sentence = "Redis is well."
	}
}

// first is the first finding of a level, and how many others there are.
func (p *Posture) first(level string) string {
	said, more := "", -1
	for _, f := range p.Findings {
		if f.Level != level {
			continue
		}
		if more++; said == "" {
			said = f.Found
			if f.Node != "" {
				said = f.Node + ": " + said
			}
		}
	}
	if more > 0 {
		said += fmt.Sprintf(" (and %d more)", more)
	}
	return said
}

// judge says whether it is us or them, once all other parts are known. full is how full Redis is (percent) if that has events refused, else 0.
func (o *Overview) judge(full int64) {
	v := &o.Verdict
	if o.Egress.Status == EgressPaused {
		v.Ours = append(v.Ours, o.Egress.Sentence)
	}
	for _, out := range v.Outages {
		v.Ours = append(v.Ours, fmt.Sprintf("Process %s cannot reach %d of the %d destinations that it tried in the last minute, for %s now: our own network, firewall or name servers are to blame.",
			out.Process, out.Unreached, out.Destinations, ago(o.AsOf, out.Since)))
	}
	if o.Workers.Workers == 0 && o.Waiting.Total > 0 {
		v.Ours = append(v.Ours, fmt.Sprintf("No worker runs, and %s: start `ringback serve` with the role worker.", nowWait(o.Waiting.Total)))
	} else if late := time.Duration(o.Workers.OverdueMS) * time.Millisecond; late >= overdueBlames && o.Egress.Status != EgressPaused {
		v.Ours = append(v.Ours, fmt.Sprintf("The workers are behind: a delivery has waited %s for an attempt that was due.", verdict.InWords(late.Round(time.Second))))
	}
	if full > 0 {
		v.Ours = append(v.Ours, fmt.Sprintf("Redis is %d %% full, so events are refused with 503: give it more memory.", full))
	}
	if o.Redis.Faults > 0 {
		v.Ours = append(v.Ours, o.Redis.Sentence)
	}
	if o.Certificates.Expired > 0 {
		v.Ours = append(v.Ours, o.Certificates.Sentence)
	}
	for _, r := range o.Worst.Reasons {
		sentence := fmt.Sprintf("%s with %s: %s.", lastFailed(r.Callbacks), reasonWord(r.Reason), r.Detail)
		if r.Side == verdict.Ours {
			v.Ours = append(v.Ours, sentence)
		} else {
			v.Theirs = append(v.Theirs, sentence)
		}
	}
	v.say(o.Worst.Of)
	if v.Side == "nobody" && o.Certificates.Of > 0 {
		v.Sentence += " But: " + o.Certificates.Sentence
	}
}

func lastFailed(n int64) string { return many(n, "callback") + " failed last" }

func (v *OverallVerdict) say(unwell int64) {
	switch ours, theirs := len(v.Ours) > 0, len(v.Theirs) > 0; {
	case ours && theirs:
		v.Side, v.Sentence = "both", "It is us, and some partners fail as well. Ours first: "+v.Ours[0]
	case ours:
		v.Side, v.Sentence = "ours", "It is us. "+v.Ours[0]
	case theirs:
		v.Side, v.Sentence = "theirs", "It is them, not us. "+v.Theirs[0]
	case unwell > 0:
		v.Side, v.Sentence = "nobody", "Nothing fails at the moment; what is not well was paused, or failed before."
	default:
		v.Side, v.Sentence = "nobody", "All is well: nothing fails, here or there."
	}
}
