//go:build load

package ledger

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// busy is how many microseconds Redis has spent on scripts.
func (d *desk) busy() int64 {
	d.t.Helper()
	info, err := d.rdb.Info(d.t.Context(), "commandstats").Result()
	d.must(err)
	sum := int64(0)
	for _, found := range regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)`).FindAllStringSubmatch(info, -1) {
		n, err := strconv.ParseInt(found[1], 10, 64)
		d.must(err)
		sum += n
	}
	return sum
}

// page is an error page of so many bytes, as a partner may answer.
func page(n int) string {
	var b strings.Builder
	for b.WriteString("<!doctype html><title>Bad gateway</title>\n"); b.Len() < n; {
		fmt.Fprintf(&b, "<tr><td>%d</td><td>at /srv/app/handlers/line_%d.rb</td></tr>\n", b.Len(), b.Len()*7)
	}
	return b.String()[:n]
}

// TestLoadSent measures what it takes to keep what was sent and answered: bytes of Redis for a delivered event with a wallet event of 640 bytes, and for one that
// failed thrice before; and Redis's time for a delivery, accepted, attempted and finished, in turn with one that keeps nothing. It prints the table of OPERATORS.md.
func TestLoadSent(t *testing.T) {
	const size, rounds, each = 640, 21, 100
	url := noise(len("https://partner.example/webhooks/ringback") + 45) // sealed
	request := func(n int) *Sent {
		return &Sent{
			Number: n, At: 1_764_000_000_123, URL: url, Timing: []int64{80_412, 79_820}, Reused: true,
			Headers: []string{":a", "Ringback/1.2.3", ":s", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
		}
	}
	json := map[string]string{"Content-Type": "application/json", "Date": "Mon, 30 Nov 2026 01:44:31 GMT", "Server": "nginx"}
	kinds := []struct {
		name string
		kept func(n int, delivered bool) *Sent
	}{
		{"nothing", func(int, bool) *Sent { return nil }},
		{"requests", func(n int, _ bool) *Sent { return request(n) }},
		{"requests, `--keep-answers all`", func(n int, delivered bool) *Sent {
			s := request(n)
			if delivered {
				s.AnswerHeaders, s.AnswerBody = json, `{"status":"accepted","id":"0197a2b4-0000-7000-8000-5c1b2f1e9d3a"}`
			}
			return s
		}},
		{"requests, `--keep-answers all`, 16 KiB", func(n int, _ bool) *Sent {
			s := request(n)
			s.AnswerHeaders, s.AnswerBody = json, page(16<<10-100)
			return s
		}},
	}
	for _, kind := range kinds[1:] {
		d := newDesk(t, standard)
		cb, r := d.callback(""), dice()
		d.attempt(cb, well)
		count := 0
		deliver := func(kept func(int, bool) *Sent, failures int) {
			count++
			event := "install-" + strconv.Itoa(count)
			ticket := Ticket{Ref: d.ref(event, cb), Generation: 1}
			token := "owner-" + event
			a := d.offer(string(pass(r, size)), token, []string{event}, cb)[0]
			o := &owned{ticket.Ref, token, &Grant{Number: 1, LogID: a.LogID, Version: d.version}}
			for n := 1; n <= failures; n++ {
				f := finishOf(o, badly.retried(minute))
				f.Attempt.Headers, f.Attempt.Body = json, page(900)
				f.Attempts, f.Sent = AppendEntry(o.grant.Attempts, f.Attempt), kept(n, false)
				f.Breaker, f.Run, f.Health = "", RunUntouched, ""
				_, err := d.ledger.Finish(t.Context(), f)
				d.must(err)
				c := d.claim(ticket)
				c.Early = hour
				var why Claimed
				if o, why = d.begin(c); o == nil {
					t.Fatalf("%+v", why)
				}
			}
			f := finishOf(o, well)
			f.Sent = kept(failures+1, true)
			_, err := d.ledger.Finish(t.Context(), f)
			d.must(err)
		}
		grows := func(kept func(int, bool) *Sent, failures int) int64 {
			before := d.memory()
			for range 20 * each {
				deliver(kept, failures)
			}
			return (d.memory() - before) / (20 * each)
		}
		plain, kept := grows(kinds[0].kept, 0), grows(kind.kept, 0)
		plainFailed, keptFailed := grows(kinds[0].kept, 3), grows(kind.kept, 3)
		var shares []float64
		for range rounds {
			var spent [2]int64
			for i, k := range []func(int, bool) *Sent{kinds[0].kept, kind.kept} {
				before := d.busy()
				for range each {
					deliver(k, 0)
				}
				spent[i] = d.busy() - before
			}
			shares = append(shares, float64(spent[1])/float64(spent[0])*100-100)
		}
		slices.Sort(shares)
		t.Logf("| %s | %d | %d | %+.1f %% |  (nothing kept: %d, %d)", kind.name, kept, keptFailed, shares[rounds/2], plain, plainFailed)
	}
}
