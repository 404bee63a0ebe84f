package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// pages follows a list to its end, so many entries a page, and returns what a member of each entry says. With company it says whose, too.
func (h *house) pages(path, member, field string, limit int) (all []string) {
	h.t.Helper()
	join := map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")]
	for cursor := ""; ; {
		a := h.call("operator", "GET", fmt.Sprintf("%s%slimit=%d&cursor=%s", path, join, limit, cursor), "").want(http.StatusOK).json()
		page := a[member].([]any)
		for _, e := range page {
			e := e.(map[string]any)
			all = append(all, fmt.Sprint(e["company"], " ", e[field]))
		}
		next, more := a["next_cursor"].(string)
		if !more {
			return all
		}
		if len(page) != limit {
			h.t.Errorf("%s: a page of %d, want %d", path, len(page), limit)
		}
		cursor = next
	}
}

// TestListsOverAllCompanies: newest first over all, each names its company, pages of any length meet, and filters mean what they mean of one company.
func TestListsOverAllCompanies(t *testing.T) {
	h := newHouse(t)
	var want []string
	companies := []string{"delta", "alpha", "charlie", "bravo", "echo"}
	for _, c := range companies {
		h.hooked(c, "http://127.0.0.1:9/hook")
	}
	for i := range 40 {
		c := companies[i*i%len(companies)]
		id := fmt.Sprintf("e%d", i)
		h.proves(c, id)
		want = append(want, c+" "+id)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 3, 7, 40, 500} {
		for _, list := range []string{"deliveries", "events"} {
			got := h.pages("/companies/*/"+list, list, "event_id", limit)
			if limit == 500 && len(got) == len(want) { // what was accepted in the same millisecond stands by company
				continue
			}
			slices.Sort(got)
			sorted := slices.Sorted(slices.Values(want))
			if !slices.Equal(got, sorted) {
				t.Errorf("%s by %d: %d of %d: %v", list, limit, len(got), len(want), got)
			}
		}
	}
	accepted := h.pages("/companies/*/events", "events", "accepted_at", 6)
	times := make([]string, len(accepted))
	for i, a := range accepted {
		_, times[i], _ = strings.Cut(a, " ")
	}
	if !slices.IsSortedFunc(times, func(a, b string) int { return strings.Compare(padded(b), padded(a)) }) {
		t.Errorf("not the newest first: %v", times)
	}
	if got := h.pages("/companies/*/deliveries?state=dead", "deliveries", "event_id", 5); len(got) != 0 {
		t.Errorf("dead: %v", got)
	}
	for path, n := range map[string]int{
		"deliveries?state=pending": 40, "deliveries?state=pending,dead": 40, "deliveries?event_type=wallet_item_install": 0, "deliveries?callback_id=2": 0, "deliveries?kind=decision": 0,
		"events?event_type=payment_proof": 40, "events?event_id=e7": 1, "events?event_id=e1*": 11, "events?event_id=nobody": 0,
	} {
		if got := h.pages("/companies/*/"+path, strings.Split(path, "?")[0], "event_id", 9); len(got) != n {
			t.Errorf("%s: %d, want %d: %v", path, len(got), n, got)
		}
	}
	h.call("operator", "POST", "/companies/bravo/config/callbacks/1/pause", "").want(http.StatusOK)
	h.hooked("bravo", "http://127.0.0.1:9/other")
	for path, want := range map[string]string{
		"config/callbacks":                "alpha 1, bravo 1, bravo 2, charlie 1, delta 1, echo 1",
		"callbacks":                       "alpha 1, bravo 1, bravo 2, charlie 1, delta 1, echo 1",
		"callbacks?status=paused":         "bravo 1",
		"callbacks?callback_type=nothing": "",
	} {
		for _, limit := range []int{1, 2, 500} {
			if got := strings.Join(h.pages("/companies/*/"+path, "callbacks", "callback_id", limit), ", "); got != want {
				t.Errorf("%s by %d: %s", path, limit, got)
			}
		}
	}
}

// TestListsOfOneMillisecond: what several companies accepted in the same millisecond is listed once, however pages end in it.
func TestListsOfOneMillisecond(t *testing.T) {
	h := newHouse(t)
	companies := []string{"alpha", "bravo", "charlie"}
	var batch []payloads.Event
	for i := range 30 {
		c := companies[i%len(companies)]
		if i < len(companies) {
			h.hooked(c, "http://127.0.0.1:9/hook")
		}
		batch = append(batch, payloads.Event{Company: c, Type: "payment_proof", ID: fmt.Sprintf("e%02d", i), Payload: []byte(`{"requestId":"r","status":"OK"}`)})
	}
	for _, sent := range h.client.SendAll(t.Context(), batch) {
		h.must(sent.Err)
	}
	for _, list := range []string{"deliveries", "events"} {
		all := h.pages("/companies/*/"+list, list, "event_id", 500)
		for _, limit := range []int{1, 2, 4} {
			if got := h.pages("/companies/*/"+list, list, "event_id", limit); len(all) != len(batch) || !slices.Equal(got, all) {
				t.Errorf("%s by %d: %d\n%v\nat once: %d\n%v", list, limit, len(got), got, len(all), all)
			}
		}
	}
}

// padded is a time with all its digits.
func padded(t string) string {
	whole, part, _ := strings.Cut(strings.TrimSuffix(t, "Z"), ".")
	return whole + "." + (part + "000000000")[:9]
}

// TestAllCompaniesAreForTheirKeys: whoever has one company does not learn that there are others.
func TestAllCompaniesAreForTheirKeys(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	for _, path := range []string{"deliveries", "events", "config/callbacks", "callbacks"} {
		for _, actor := range []string{"acme operator", "producer", "partner", "acme viewer", "other partner"} {
			a := h.call(actor, "GET", "/companies/*/"+path, "")
			if a.status != http.StatusNotFound && a.status != http.StatusForbidden {
				t.Errorf("%s as %s: %d", path, actor, a.status)
			}
		}
		h.call("viewer", "GET", "/companies/*/"+path, "").want(http.StatusOK)
		h.call("viewer", "GET", "/companies/%2A/"+path, "").want(http.StatusOK)
	}
	h.call("operator", "POST", "/companies/*/events", event("e")).wantFault("path.company")
	h.call("operator", "GET", "/companies/*/quotas", "").wantFault("path.company")
	h.call("operator", "GET", "/companies/*/events/e", "").wantFault("path.company")
	for _, cursor := range []string{"x", "MTE4ODc", "LTEvYS8", "OTIyMzM3MjAzNjg1NDc3NTgwNy9hLw"} {
		for _, path := range []string{"deliveries", "events", "callbacks"} {
			h.call("operator", "GET", "/companies/*/"+path+"?cursor="+cursor, "").wantFault("query.cursor") // the last is 9223372036854775807/a/
		}
	}
}

// TestFindingEvents: by type, time, id, webhook-id and match attributes, in one company only.
func TestFindingEvents(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.register("other")
	h.send("acme", "a1")
	for sent := time.Now().UnixMilli(); time.Now().UnixMilli() <= sent; { // times are told apart by the millisecond
		runtime.Gosched()
	}
	delivery := h.send("acme", "a2")
	h.send("other", "a1")
	h.proves("acme", "p1") // matches no callback
	long := strings.Replace(event("long"), `"uuid":`, `"note":"`+strings.Repeat("x", 4000)+`","uuid":`, 1)
	h.call("operator", "POST", "/companies/acme/events", long).want(http.StatusAccepted)
	h.call("operator", "POST", "/companies/acme/events", strings.Replace(event("else"), token, "another", 1)).want(http.StatusAccepted)
	webhook := delivery[strings.LastIndex(delivery, "/")+1:]
	at := h.call("viewer", "GET", "/companies/acme/events/a2", "").want(http.StatusOK).json()["accepted_at"].(string)
	for query, want := range map[string]string{
		"":                                       "else, long, p1, a2, a1",
		"event_type=payment_proof":               "p1",
		"event_id=a1":                            "a1",
		"event_id=a*":                            "a2, a1",
		"event_id=*":                             "else, long, p1, a2, a1",
		"event_id=a*b":                           "",
		"webhook_id=" + webhook:                  "a2",
		"webhook_id=dlv_x":                       "",
		"webhook_id=" + webhook + "&event_id=a1": "",
		"campaign_token=" + token:                "long, a2, a1",
		"campaign_token=another":                 "else",
		"campaign_token=":                        "else, long, p1, a2, a1",
		"campaign_token=" + token + "&event_id=else":             "",
		"campaign_token=" + token + "&event_id=a2":               "a2",
		"campaign_token=" + token + "&event_type=payment_proof":  "",
		"event_type=wallet_item_install&campaign_token=" + token: "long, a2, a1",
		"until=" + url.QueryEscape(at):                           "a1",
		"since=" + url.QueryEscape(at) + "&event_id=a*":          "a2",
	} {
		for _, company := range []string{"acme", "*"} {
			if company == "*" && (query == "" || strings.Contains(query, "a1") || strings.Contains(query, "*") || strings.Contains(query, token) || strings.HasPrefix(query, "campaign_token=") || strings.HasPrefix(query, "until")) {
				continue // other has an event, too
			}
			var got []string
			for _, e := range h.call("viewer", "GET", "/companies/"+company+"/events?"+query, "").want(http.StatusOK).json()["events"].([]any) {
				got = append(got, e.(map[string]any)["event_id"].(string))
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("%s %s: %v, want %s", company, query, got, want)
			}
		}
	}
	if got := h.pages("/companies/*/events?campaign_token="+token, "events", "event_id", 2); strings.Join(slices.Sorted(slices.Values(got)), ", ") != "acme a1, acme a2, acme long, other a1" {
		t.Errorf("by campaign over all: %v", got)
	}
	a := h.call("viewer", "GET", "/companies/acme/events", "").want(http.StatusOK)
	if strings.Contains(string(a.body), "uuid") || strings.Contains(string(a.body), token) {
		t.Errorf("a payload in a list: %s", a.body)
	}
	if e := a.json()["events"].([]any)[3].(map[string]any); fmt.Sprint(e["deliveries"]) != "map[pending:1]" {
		t.Errorf("deliveries: %v", e)
	}
	p := h.call("viewer", "GET", "/companies/acme/events?campaign=1", "").wantProblem(http.StatusUnprocessableEntity)
	if len(p.Errors) != 1 || p.Errors[0].Location != "query.campaign" || !strings.Contains(p.Errors[0].Message, "event_type") || !strings.Contains(p.Errors[0].Message, "campaign_token") {
		t.Errorf("a misspelt attribute: %+v", p)
	}
	h.call("viewer", "GET", "/companies/acme/deliveries?campaign_token=1", "").wantFault("query.campaign_token")
}

// TestListingCompanies: by name and prefix, page by page, with how each stands.
func TestListingCompanies(t *testing.T) {
	h := newHouse(t)
	for i := range 12 {
		h.hooked(fmt.Sprintf("c%02d", i), "http://127.0.0.1:9/hook")
	}
	h.hooked("acme", "http://127.0.0.1:9/hook")
	h.proves("acme", "e1", "e2")
	h.call("operator", "POST", "/companies/c03/config/callbacks/1/pause", "").want(http.StatusOK)
	h.proves("c03", "e1")
	names := func(query string, limit int) string {
		t.Helper()
		var all []string
		for _, name := range h.pages("/companies"+query, "companies", "words", limit) {
			all = append(all, strings.Fields(name)[0])
		}
		return strings.Join(all, " ")
	}
	whole := "acme c00 c01 c02 c03 c04 c05 c06 c07 c08 c09 c10 c11"
	for _, limit := range []int{1, 5, 13, 500} {
		if got := names("", limit); got != whole {
			t.Errorf("by %d: %s", limit, got)
		}
	}
	for prefix, want := range map[string]string{"c1": "c10 c11", "c03": "c03", "d": "", "A": "", "acme": "acme", "c": whole[5:]} {
		if got := names("?prefix="+prefix, 3); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
	list := h.call("viewer", "GET", "/companies?limit=6", "").want(http.StatusOK).json()["companies"].([]any)
	acme, c03, c04 := list[0].(map[string]any), list[4].(map[string]any), list[5].(map[string]any)
	if acme["waiting"] != 2.0 || acme["pending"] != 2.0 || acme["callbacks"] != 1.0 || acme["oldest_waiting_at"] == nil {
		t.Errorf("acme: %v", acme)
	}
	if c03["held"] != 1.0 || c03["words"] != "1 paused" || c04["words"] != "well" || c04["waiting"] != 0.0 {
		t.Errorf("c03: %v, c04: %v", c03, c04)
	}
	h.call("viewer", "GET", "/companies?cursor=*", "").wantFault("query.cursor")
	for _, actor := range []string{"acme operator", "partner", "producer", "acme viewer", "all producer"} {
		h.call(actor, "GET", "/companies", "").wantProblem(http.StatusForbidden)
	}
}
