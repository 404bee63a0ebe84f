package ledger

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/registry"
)

// quota lets so many bytes of payload wait; nil is no quota.
func (d *desk) quota(bytes *int64) {
	d.t.Helper()
	_, err := d.registry.SetQuotas(d.t.Context(), d.company, map[string]*int64{registry.QuotaWaitingBytes: bytes})
	d.must(err)
}

// waiting is how many bytes are counted as waiting. They are the sum of those of each event.
func (d *desk) waiting() int64 {
	d.t.Helper()
	_, _, n, err := d.ledger.Uses(d.t.Context(), d.company)
	d.must(err)
	counts, err := d.rdb.HGetAll(d.t.Context(), Key(d.company, "waiting")).Result()
	d.must(err)
	sum := int64(0)
	for event, text := range counts {
		bytes, err := strconv.ParseInt(text, 10, 64)
		d.must(err)
		if event != "/" {
			sum += bytes
		}
	}
	if sum != n {
		d.t.Errorf("%d bytes are counted as waiting, and %d of all events: %v", n, sum, counts)
	}
	return n
}

// TestTheQuotaOnWaitingBytes: past it nothing is taken, unless nothing waits, nobody gets it, or it tells how the company's callbacks do.
func TestTheQuotaOnWaitingBytes(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	const quota = 3500
	for name, tt := range map[string]struct {
		waits   []int // payloads
		next    int
		kind    string
		nobody  bool // gets the next one
		outcome AcceptOutcome
	}{
		"below":                   {waits: []int{1000, 1000}, next: 1000, outcome: Taken},
		"just fits":               {waits: []int{1000, 2000}, next: 500, outcome: Taken},
		"a byte too many":         {waits: []int{1000, 2000}, next: 501, outcome: OverQuota},
		"large, nothing waits":    {next: 5000, outcome: Taken},
		"large, something does":   {waits: []int{1}, next: 5000, outcome: OverQuota},
		"small, beside a large":   {waits: []int{5000}, next: 1, outcome: OverQuota},
		"for nobody":              {waits: []int{3500}, next: 1000, nobody: true, outcome: Taken},
		"tells of failures":       {waits: []int{3500}, next: 1000, kind: "callback.failing", outcome: Taken},
		"tells of a disabled one": {waits: []int{3500}, next: 1000, kind: "callback.disabled", outcome: Taken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.NewReplacer(" ", "-", ",", "").Replace(name))
			d.quota(new(int64(quota)))
			cb, sum := d.callback(""), int64(0)
			for i, bytes := range tt.waits {
				d.offer(strings.Repeat("x", bytes), "", []string{"p-" + strconv.Itoa(i)}, cb)
				sum += int64(bytes)
			}
			o := &Offer{Company: d.company, ID: "next", Version: d.version, Meta: Meta{Type: tt.kind}, Payload: []byte(strings.Repeat("x", tt.next)), First: []First{{Callback: cb}}}
			if tt.nobody {
				o.First = nil
			}
			got, err := d.ledger.Accept(t.Context(), o)[0].Answer()
			d.must(err)
			if got.Outcome == Outdated {
				o.Version = got.Version
				got, err = d.ledger.Accept(t.Context(), o)[0].Answer()
				d.must(err)
			}
			if got.Outcome != tt.outcome {
				t.Errorf("it ended as %d (%+v), want %d", got.Outcome, got, tt.outcome)
			}
			if over, ok := errors.AsType[*registry.QuotaError](got.Refused); ok != (tt.outcome == OverQuota) || ok && (over.Limit != quota || over.Used != sum) {
				t.Errorf("refused by %+v, where %d of %d are used", got.Refused, sum, quota)
			}
			if tt.outcome == Taken && !tt.nobody {
				sum += int64(tt.next)
			}
			if n := d.waiting(); n != sum {
				t.Errorf("%d bytes wait, want %d", n, sum)
			}
		})
	}
}

// replay has a final delivery sent again.
func (d *desk) replay(event string, cb int64) {
	d.t.Helper()
	r, err := d.ledger.Replay(d.t.Context(), d.ref(event, cb), "{}")
	d.must(err)
	if r.Outcome != Released {
		d.t.Fatalf("%+v", r)
	}
}

// deliverLane makes all attempts that are in the lane, and each delivers.
func (d *desk) deliverLane() {
	d.t.Helper()
	for _, o := range d.beginLane() {
		d.finish(o, well)
	}
}

// broughtTo has an event's delivery to the first callback come to a state.
func broughtTo(state State) func(d *desk, a, b int64) {
	return func(d *desk, a, _ int64) { d.brought("p", state, a) }
}

// TestWhatWaits is an event with a delivery that is not final. It counts once.
func TestWhatWaits(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		does func(d *desk, a, b int64)
		want int64
	}{
		"pending":            {broughtTo(Pending), 2},
		"active":             {broughtTo(Active), 2},
		"retrying":           {broughtTo(Retrying), 2},
		"held":               {broughtTo(Held), 2},
		"delivered":          {broughtTo(Delivered), 0},
		"dead":               {broughtTo(Dead), 0},
		"cancelled":          {broughtTo(Cancelled), 0},
		"two callbacks":      {func(d *desk, a, b int64) { d.accept([]string{"p"}, a, b) }, 2},
		"one of them had it": {func(d *desk, a, b int64) { d.accept([]string{"p"}, a, b); d.finish(d.beginLane()[0], well) }, 2},
		"both had it":        {func(d *desk, a, b int64) { d.accept([]string{"p"}, a, b); d.deliverLane() }, 0},
		"offered twice":      {func(d *desk, a, _ int64) { d.brought("p", Pending, a); d.offer("{}", "", []string{"p"}, a) }, 2},
		"replayed":           {func(d *desk, a, _ int64) { d.brought("p", Dead, a); d.replay("p", a) }, 2},
		"replayed twice": {func(d *desk, a, b int64) {
			d.accept([]string{"p"}, a, b)
			d.deliverLane()
			d.replay("p", a)
			d.replay("p", b)
		}, 2},
		"erased": {func(d *desk, a, _ int64) {
			d.brought("p", Held, a)
			_, err := d.ledger.EraseEvent(d.t.Context(), d.company, "p", "{}")
			d.must(err)
		}, 0},
		"given up in its room": {func(d *desk, a, _ int64) {
			d.rule(bounded(0, hour))
			d.pause(a)
			d.accept([]string{"p"}, a)
		}, 0},
		"of a deleted callback": {func(d *desk, a, _ int64) {
			d.brought("p", Held, a)
			d.must(d.registry.Delete(d.t.Context(), d.company, a))
			_, err := d.ledger.Purge(d.t.Context(), d.company, a, "0", "")
			d.must(err)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			d.quota(new(int64(10_000)))
			tt.does(d, d.callback(""), d.callback(""))
			if got := d.waiting(); got != tt.want {
				t.Errorf("%d bytes wait, want %d", got, tt.want)
			}
		})
	}
}

// TestMembersOfBatchesWait: they are counted where their batch stands, in runs that look at so many of them, and a batch is not.
func TestMembersOfBatchesWait(t *testing.T) {
	t.Parallel()
	c := newDesk(t, standard).convoy(90, 1<<20, 0)
	c.accept(numbered("p-", 270), c.cb)
	c.pump(c.cb)
	c.beginLane()
	c.quota(new(int64(10_000)))
	pages := 0
	for cursor := "0"; pages == 0 || cursor != "0"; pages++ {
		var err error
		cursor, err = c.ledger.CountWaiting(t.Context(), c.company, "due", cursor)
		c.must(err)
		if got := c.waiting(); got > int64(360*(pages+1)) {
			t.Fatalf("%d bytes are counted after %d pages", got, pages+1)
		}
	}
	if got := c.waiting(); got != 540 || pages != 2 {
		t.Errorf("%d bytes wait, counted in %d pages", got, pages)
	}
	if fields := c.rdb.HKeys(t.Context(), Key(c.company, "waiting")).Val(); len(fields) != 271 {
		t.Errorf("%d fields", len(fields))
	}
}

// TestACountThatDriftedIsPutRight, whichever way it is wrong. Without a quota nothing is counted.
func TestACountThatDriftedIsPutRight(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		drift func(d *desk) // with an event in the lane and one in a room, of two bytes each
		want  int64
	}{
		"it is right":        {func(*desk) {}, 4},
		"nothing is counted": {func(d *desk) { d.rdb.Del(d.t.Context(), Key(d.company, "waiting")) }, 4},
		"one that is gone is": {func(d *desk) {
			d.rdb.HSet(d.t.Context(), Key(d.company, "waiting"), "gone", 700)
			d.rdb.HIncrBy(d.t.Context(), Key(d.company, "waiting"), "/", 700)
		}, 4},
		"one that waits is not": {func(d *desk) {
			d.rdb.HDel(d.t.Context(), Key(d.company, "waiting"), "pending")
			d.rdb.HIncrBy(d.t.Context(), Key(d.company, "waiting"), "/", -2)
		}, 4},
		"there is no quota any more": {func(d *desk) { d.quota(nil) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			d.quota(new(int64(10_000)))
			a, b := d.callback(""), d.callback("")
			d.pause(b)
			d.accept([]string{"pending"}, a)
			d.accept([]string{"held"}, b)
			tt.drift(d)
			var ended []string
			for _, what := range []string{"counted", "due", strconv.FormatInt(b, 10)} {
				end := "0"
				for first := true; first || end != "0" && end != ""; first = false {
					var err error
					end, err = d.ledger.CountWaiting(t.Context(), d.company, what, end)
					d.must(err)
				}
				ended = append(ended, end)
			}
			if want := map[bool]string{true: "0"}[tt.want > 0]; cmp.Diff([]string{want, want, want}, ended) != "" {
				t.Errorf("the walks ended with %q, want each with %q", ended, want)
			}
			if got := d.waiting(); got != tt.want {
				t.Errorf("%d bytes wait, want %d", got, tt.want)
			}
		})
	}
}
