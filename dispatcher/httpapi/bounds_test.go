package httpapi

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// boundedMay are the operations that keep a bounded caller to its bounds. All others are refused to it: whoever adds one decides here, and with
// operation.bounds.
var boundedMay = strings.Fields("list-callbacks get-callback update-callback delete-callback pause-callback resume-callback rotate-secret rotate-signing-key test-callback dry-run-callback " +
	"verify-callback list-deliveries stream-deliveries get-delivery replay-delivery hasten-delivery cancel-delivery explain-event find-events get-payload replay-callback list-replays get-replay cancel-replay " +
	"list-callback-types get-callback-type get-caller poll-callback acknowledge-deliveries seek-callback")

// by makes the request as a caller that a page has looked at.
func (r request) by(h *house, c registry.Caller) answer {
	h.t.Helper()
	q := httptest.NewRequestWithContext(registry.WithCaller(h.t.Context(), c), strings.ToUpper(r.method), r.path+r.query, strings.NewReader(r.body))
	if r.mediaType != "" {
		q.Header.Set("Content-Type", r.mediaType)
	}
	return h.do(q)
}

// bounded is a partner of acme's with these bounds.
func bounded(readOnly bool, callbacks ...int64) registry.Caller {
	return registry.Caller{Key: registry.Key{ID: "lnk_bounded", Role: registry.Partner, Company: "acme", RateLimit: new(float64), Callbacks: callbacks, ReadOnly: readOnly}}
}

var callbackIDs = regexp.MustCompile(`"callback_id":(\d+)|/callbacks/(\d+)`)

// Every operation that is described is asked by callers with bounds. About what they may not see, it answers as about what there is not, or shows nothing
// of it; about what they may see, it does what it does for others. Operations that say nothing of bounds are refused. A caller that may only look
// changes nothing. An operation that is new needs no line here, unless it is for such callers.
func TestEveryPathForBoundedCallers(t *testing.T) {
	h := newHouse(t)
	n := 1000
	for _, op := range h.guarded() {
		if op.OperationID == "metrics" || op.OperationID == "monitoring" {
			continue
		}
		t.Run(op.String(), func(t *testing.T) {
			h := h.in(t)
			h.afresh()
			own := h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"entry_code.verify","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated).json()
			id := int64(own["callback_id"].(float64))
			n++
			r := h.request(op, n)
			h.wantWithin(r, id)
			h.wantMay(op, r)
		})
	}
}

// wantWithin checks that a caller of one callback does and sees nothing of what a request is about, which is about others.
func (h *house) wantWithin(r request, id int64) {
	h.t.Helper()
	before := h.digest()
	a := r.by(h, bounded(false, id))
	if a.status < 300 && r.method != "get" {
		h.t.Errorf("whoever sees callback %d alone is answered %d: %s", id, a.status, a.body)
	}
	for _, found := range callbackIDs.FindAllStringSubmatch(string(a.body), -1) {
		if found[1]+found[2] != strconv.FormatInt(id, 10) && r.Tags[0] != "Callback types" { // whose examples name one
			h.t.Errorf("whoever sees callback %d alone is shown %s: %.300s", id, found[0], a.body)
		}
	}
	if a.status == http.StatusNotFound {
		none := r
		none.path = strings.Replace(r.opDoc.path, "{company}", "acme", 1)
		for parameter, value := range nobodys {
			none.path = strings.Replace(none.path, parameter, value, 1)
		}
		if b := none.by(h, bounded(false, id)); string(a.body) != string(b.body) {
			h.t.Errorf("it tells what there is (%s) from what there is not (%s)", a.body, b.body)
		}
	}
	if a.status != http.StatusNotFound && strings.Contains(r.path, "_") && slices.Contains(boundedMay, r.OperationID) && strings.Count(r.opDoc.path, "{") > 1 {
		h.t.Errorf("%s is answered %d, not 404", r.path, a.status)
	}
	if h.digest() != before {
		h.t.Error("something changed")
	}
}

// wantMay checks that a caller who sees all that a request is about may make it, if the operation is for bounded callers at all, and one who may only look
// only if it looks.
func (h *house) wantMay(op *opDoc, r request) {
	h.t.Helper()
	all, err := h.api.Registry.IDs(h.t.Context(), "acme", false)
	h.must(err)
	before := h.digest()
	may, looks := slices.Contains(boundedMay, op.OperationID), op.method == "get"
	for _, c := range []registry.Caller{bounded(true), bounded(true, all...)} {
		switch a := r.by(h, c); {
		case may && looks && a.status >= 300, (!may || !looks) && a.status != http.StatusForbidden:
			h.t.Errorf("whoever may only look (%v) is answered %d: %s", c.Key.Callbacks, a.status, a.body)
		}
	}
	if h.digest() != before {
		h.t.Error("whoever may only look changed something")
	}
	switch a := r.by(h, bounded(false, all...)); {
	case may && a.status >= 300, !may && a.status != http.StatusForbidden:
		h.t.Errorf("whoever sees all of it is answered %d: %s", a.status, a.body)
	}
}

// An event's explanation shows a bounded caller its own callbacks alone, and counts no others.
func TestExplanationsWithinBounds(t *testing.T) {
	h := newHouse(t)
	first, second := path.Base(h.register("acme")), path.Base(h.register("acme"))
	h.register("acme") // nobody's here
	other := path.Base(h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated).header.Get("Location"))
	h.send("acme", "order-1")
	number := func(id string) int64 { n, _ := strconv.ParseInt(id, 10, 64); return n }
	x := h.as(bounded(false, number(second), number(other)), "GET", "/companies/acme/events/order-1", "").want(http.StatusOK)
	if list := x.json()["callbacks"].([]any); len(list) != 2 || strings.Contains(string(x.body), `"callback_id":`+first) {
		t.Errorf("%s", x.body)
	}
	if summary := x.json()["summary"].(string); !strings.Contains(summary, "went to 1 callback:") {
		t.Error(summary)
	}
	h.as(bounded(true, number(other)), "GET", "/companies/acme/events/order-1", "").wantProblem(http.StatusNotFound)
	for query, want := range map[string]int{"": 2, "?callback_id=" + first: 1, "?callback_id=" + other: 0, "?state=pending,retrying,dead": 2, "?state=dead": 0, "?limit=1": 1} {
		for who, caller := range map[string]registry.Caller{"both": bounded(true, number(first), number(second)), "one": bounded(true, number(first))} {
			list := h.as(caller, "GET", "/companies/acme/deliveries"+query, "").want(http.StatusOK).json()["deliveries"].([]any)
			n := want
			if who == "one" {
				n = min(n, 1)
			}
			if len(list) != n {
				t.Errorf("%s%s: %d deliveries, want %d", who, query, len(list), n)
			}
		}
	}
	h.as(bounded(false, number(first)), "POST", "/companies/acme/config/callbacks", hook).wantProblem(http.StatusForbidden)
}

// TestEventsWithinBounds: a bounded caller finds events that went to its callbacks, with the counts of those, and no others, in whichever way it asks.
func TestEventsWithinBounds(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.register("acme")
	h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated)
	h.proves("acme", "proof")
	second := path.Base(h.send("acme", "order")) // to the second callback
	for query, want := range map[string]struct{ first, third string }{
		"":                        {"order", "proof"},
		"event_id=order":          {"order", ""},
		"event_id=*":              {"order", "proof"},
		"event_type=*":            {"", ""},
		"webhook_id=" + second:    {"", ""},
		"campaign_token=" + token: {"order", ""},
	} {
		for callback, want := range map[int64]string{1: want.first, 3: want.third} {
			a := h.as(bounded(true, callback), "GET", "/companies/acme/events?"+query, "").want(http.StatusOK)
			var got []string
			for _, e := range a.json()["events"].([]any) {
				got = append(got, e.(map[string]any)["event_id"].(string))
			}
			if strings.Join(got, " ") != want || strings.Contains(string(a.body), ":2}") {
				t.Errorf("%s, who sees callback %d: %s", query, callback, a.body)
			}
		}
	}
}
