package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// findable sends events that differ in what is looked for.
func (h *house) findable() {
	h.t.Helper()
	h.tell("PUT", "/callback-types/order.paid", `{"description":"An order was paid.","match":{"company":"/seller","shop":"/shop/code"},"success":"any_2xx"}`)
	for i, shop := range []string{"hamburg", "bremen", "hamburg"} {
		h.tell("POST", "/companies/acme/events", fmt.Sprintf(`{"event_type":"order.paid","event_id":"order-%d","payload":{"seller":"s1","shop":{"code":%q}}}`, i, shop))
	}
	h.tell("POST", "/companies/other/events", `{"event_type":"order.paid","event_id":"order-9","payload":{"seller":"s2","shop":{"code":"hamburg"}}}`)
}

// wantEvents checks which events a page links to, in any order: several may be of one moment.
func (a answer) wantEvents(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for n := range elements(a.parse(t), "a") {
		if _, id, ok := strings.Cut(attribute(n, "href"), "/events/"); ok {
			got = append(got, id)
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("the page finds %q, want %q", got, want)
	}
}

// Events are found by what the API finds them by: company, type, time, id, webhook-id and the chosen type's match attributes, which are fields once it is
// chosen. What is wrong with a form is said in it, in the API's words.
func TestEventsAreFound(t *testing.T) {
	h := newHouse(t)
	h.findable()
	v := h.showing("viewer")
	at := func(form url.Values) string { return "/console/find?" + form.Encode() }
	empty := v.get("/console/find").want(t, http.StatusOK, `name="event_type"`, "order.paid")
	empty.wantSound(t)
	if empty.wantEvents(t); strings.Contains(empty.text, `name="a.shop"`) {
		t.Error("attributes are asked for before a type is chosen")
	}
	chosen := v.get(at(url.Values{"company": {""}, "event_type": {"order.paid"}})).want(t, http.StatusOK, `name="a.shop"`, `name="a.company"`)
	chosen.wantSound(t)
	chosen.wantEvents(t, "order-9", "order-2", "order-1", "order-0")
	webhook, _, _ := strings.Cut(strings.TrimPrefix(h.delivery(h.bad), "/companies/acme/deliveries/"), "?")
	for name, tt := range map[string]struct {
		form url.Values
		want []string
	}{
		"a company":          {url.Values{"company": {"acme"}, "event_type": {"order.paid"}}, []string{"order-2", "order-1", "order-0"}},
		"an attribute":       {url.Values{"company": {"acme"}, "event_type": {"order.paid"}, "a.shop": {" hamburg "}}, []string{"order-2", "order-0"}},
		"one called company": {url.Values{"event_type": {"order.paid"}, "a.company": {"s2"}}, []string{"order-9"}},
		"two attributes":     {url.Values{"event_type": {"order.paid"}, "a.shop": {"hamburg"}, "a.company": {"s1"}}, []string{"order-2", "order-0"}},
		"an id":              {url.Values{"event_id": {"order-1"}}, []string{"order-1"}},
		"how ids begin":      {url.Values{"event_id": {"proof*"}, "company": {"acme"}}, []string{"proof-1"}},
		"a webhook-id":       {url.Values{"webhook_id": {webhook}}, []string{"proof-1"}},
		"a time":             {url.Values{"until": {"1h"}}, nil},
		"since a time":       {url.Values{"company": {"other"}, "since": {"1h"}}, []string{"order-9", "elsewhere"}},
	} {
		a := v.get(at(tt.form)).want(t, http.StatusOK)
		if a.wantSound(t); t.Failed() {
			t.Fatal(name)
		}
		if a.wantEvents(t, tt.want...); t.Failed() {
			t.Fatal(name)
		}
	}
	v.get(at(url.Values{"company": {"acme"}, "event_type": {"order.paid"}, "a.shop": {"hamburg"}})).want(t, http.StatusOK, `name="a.shop" value="hamburg"`, `value="order.paid" selected`)
	v.get(at(url.Values{"since": {"soon"}})).want(t, http.StatusUnprocessableEntity, "must be a span back from now", `value="soon"`).wantSound(t)
	v.get(at(url.Values{"event_type": {"no.such"}})).want(t, http.StatusOK, "No event fits", "no.such")
	v.get(at(url.Values{"company": {"a/b"}})).want(t, http.StatusNotFound).wantSound(t)
	v.get(at(url.Values{"cursor": {"junk"}})).want(t, http.StatusUnprocessableEntity, "start again without it").wantSound(t)

	mine := h.showing("acme viewer")
	form := mine.get("/console/find").want(t, http.StatusOK, `type="hidden" name="company" value="acme"`)
	form.wantSound(t)
	mine.get(at(url.Values{"company": {"other"}, "event_id": {"order-*"}})).want(t, http.StatusOK).wantEvents(t, "order-2", "order-1", "order-0")
	v.get("/console/companies/acme").want(t, http.StatusOK, `action="/console/find"`, `name="company" value="acme"`)
}

// What is found goes on page by page, with all that was asked for.
func TestFoundEventsArePaged(t *testing.T) {
	h := newHouse(t)
	for i := range 55 {
		h.tell("POST", "/companies/acme/events", fmt.Sprintf(`{"event_type":"wallet_item_install","event_id":"w-%d","payload":%s}`, i, h.example("wallet_item_install")))
	}
	seen, v := map[string]bool{}, h.showing("operator")
	for next := "?event_type=wallet_item_install&company="; next != ""; {
		page := v.get("/console/find"+next).want(t, http.StatusOK)
		next = ""
		for n := range elements(page.parse(t), "a") {
			if href := attribute(n, "href"); attribute(n, "rel") == "next" {
				next = href
			} else if strings.Contains(href, "/events/") {
				if seen[href] {
					t.Errorf("%s is on two pages", href)
				}
				seen[href] = true
			}
		}
	}
	if len(seen) != 55 {
		t.Errorf("%d events are found, want 55", len(seen))
	}
}
