package httpapi

import (
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// A type stays while anything uses it, and the answer says what, how many and where. What is finished uses nothing, nor does a glob.
func TestDeleteType(t *testing.T) {
	h := newHouse(t)
	const route = "/callback-types/order.placed"
	h.call("operator", "PUT", route, `{}`).want(http.StatusCreated)
	register := func(company, typ string) string {
		t.Helper()
		return h.call("operator", "POST", "/companies/"+company+"/config/callbacks", `{"callback_type":"`+typ+`","destination":{"url":"http://127.0.0.1:9/"}}`).
			want(http.StatusCreated).json()["url"].(string)
	}
	send := func(company, id string) (delivery string) {
		t.Helper()
		a := h.call("operator", "POST", "/companies/"+company+"/events", `{"event_type":"order.placed","event_id":"`+id+`","payload":{}}`).want(http.StatusAccepted).json()
		return "/companies/" + company + "/deliveries/" + a["deliveries"].([]any)[0].(map[string]any)["delivery_id"].(string)
	}
	stays := func(words ...string) {
		t.Helper()
		detail := h.call("operator", "DELETE", route, "").wantProblem(http.StatusConflict).Detail
		for _, w := range words {
			if !strings.Contains(detail, w) {
				t.Errorf("%q does not say %q", detail, w)
			}
		}
	}
	all := register("acme", "order.*")
	var exact []string
	for _, company := range []string{"acme", "b", "b", "b", "b", "c", "d"} {
		exact = append(exact, register(company, "order.placed"))
	}
	h.call("operator", "POST", exact[0]+"/pause", "").want(http.StatusOK)
	stays("order.placed is in use", "7 callbacks registered for it", "acme 2; b 1, 2, 3, …; c 1; and 1 more company", "give them another type")
	if detail := h.call("operator", "DELETE", route, "").wantProblem(http.StatusConflict).Detail; strings.Contains(detail, "deliver") {
		t.Errorf("nothing waits: %s", detail)
	}
	held := send("acme", "held")
	stays("2 unfinished deliveries of it (acme callback 1, 2)")
	for _, cb := range exact {
		h.call("operator", "DELETE", cb, "").want(http.StatusNoContent)
	}
	stays("in use: 1 unfinished delivery", "acme callback 1")
	h.call("operator", "POST", all+"/pause", "").want(http.StatusOK)
	paused := send("acme", "paused")
	h.call("operator", "POST", held+"/cancel", "").want(http.StatusOK) // of the callback that is left
	stays("1 unfinished delivery", "acme callback 1", "let the deliveries finish, or cancel them")
	h.call("operator", "POST", paused+"/cancel", "").want(http.StatusOK)
	h.call("operator", "POST", all+"/resume", "").want(http.StatusOK)
	retrying := send("acme", "retrying")
	h.fail("retrying")
	stays("1 unfinished delivery", "acme callback 1")
	h.call("operator", "POST", retrying+"/cancel", "").want(http.StatusOK)

	h.call("operator", "DELETE", route, "").want(http.StatusNoContent)
	for _, method := range []string{"DELETE", "GET"} {
		if detail := h.call("operator", method, route, "").wantProblem(http.StatusNotFound).Detail; !strings.Contains(detail, "was deleted at ") {
			t.Error(detail)
		}
	}
	h.call("operator", "POST", "/companies/acme/events", `{"event_type":"order.placed","payload":{}}`).wantFault("body.event_type")
	if d := h.call("partner", "GET", retrying, "").want(http.StatusOK).json(); !strings.Contains(d["summary"].(string), "order.placed was deleted at") {
		t.Error(d["summary"])
	}
	if e := h.call("partner", "GET", "/companies/acme/events/retrying", "").want(http.StatusOK).json(); !strings.Contains(e["summary"].(string), "order.placed was deleted at") {
		t.Error(e["summary"])
	}
	found := h.call("partner", "GET", "/companies/acme/deliveries?event_type=order.placed", "").want(http.StatusOK).json()["deliveries"].([]any)
	if len(found) < 4 {
		t.Errorf("%d deliveries of it are listed", len(found))
	}
	if a := h.call("partner", "POST", retrying+"/replay", "").want(http.StatusAccepted).json(); a["state"] != "pending" || !strings.Contains(a["summary"].(string), "goes out as the type had it") {
		t.Errorf("the replay: %v", a)
	}
	h.call("operator", "PUT", route, `{}`).want(http.StatusCreated)
	if d := h.call("partner", "GET", retrying, "").want(http.StatusOK).json(); strings.Contains(d["summary"].(string), "order.placed was deleted") {
		t.Error(d["summary"])
	}
}

// Only an operator of all companies deletes a type, only one that was added, and only one that there is.
func TestTypesThatAreNotDeleted(t *testing.T) {
	h := newHouse(t)
	h.call("operator", "PUT", "/callback-types/order.placed", `{}`).want(http.StatusCreated)
	for _, actor := range []string{"acme operator", "producer", "all producer", "partner", "viewer"} {
		h.call(actor, "DELETE", "/callback-types/order.placed", "").wantProblem(http.StatusForbidden)
	}
	for name, want := range map[string]struct {
		status int
		words  string
	}{
		"payment_proof": {http.StatusConflict, "comes with Ringback and cannot be deleted"},
		"order.place":   {http.StatusNotFound, "near: order.placed"},
		"zzzzzzzzzz":    {http.StatusNotFound, "GET /callback-types lists"},
		"%3Aversion":    {http.StatusNotFound, "GET /callback-types lists"},
	} {
		if detail := h.call("operator", "DELETE", path.Join("/callback-types", name), "").wantProblem(want.status).Detail; !strings.Contains(detail, want.words) {
			t.Errorf("%s: %s", name, detail)
		}
	}
	h.call("operator", "GET", "/callback-types/order.placed", "").want(http.StatusOK)
}

// What cannot be read may be of the type, and so may what is still being written. Of what is very much, it is not said that it is all.
func TestTypesThatMayBeUsed(t *testing.T) {
	h := newHouse(t)
	const route = "/callback-types/order.placed"
	h.call("operator", "PUT", route, `{}`).want(http.StatusCreated)
	h.call("operator", "POST", h.register("acme")+"/pause", "").want(http.StatusOK)
	h.send("acme", "other") // so that the company has work
	order := func(id string) payloads.Event {
		return payloads.Event{Company: "acme", Type: "order.placed", ID: id, Payload: []byte(`{}`)}
	}
	_, err := h.client.Send(t.Context(), order("expands")) // to no callback
	h.must(err)
	const expanding = "{acme}:paged"
	h.must(h.rdb.ZAdd(t.Context(), expanding, redis.Z{Member: "expands"}).Err())
	h.must(h.rdb.HSet(t.Context(), "{acme}:ev:expands", "e", "1").Err())
	if detail := h.call("operator", "DELETE", route, "").wantProblem(http.StatusConflict).Detail; !strings.Contains(detail, "1 unfinished delivery") {
		t.Error(detail)
	}
	h.must(h.rdb.Set(t.Context(), expanding, "no set", 0).Err())
	h.call("operator", "DELETE", route, "").wantProblem(http.StatusServiceUnavailable)
	h.must(h.rdb.Del(t.Context(), expanding).Err())

	many := h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"order.*","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated).json()
	h.call("operator", "POST", many["url"].(string)+"/pause", "").want(http.StatusOK)
	var batch []payloads.Event
	for i := range 120 {
		batch = append(batch, order("e"+strconv.Itoa(i)))
	}
	for _, sent := range h.client.SendAll(t.Context(), batch) {
		h.must(sent.Err)
	}
	if detail := h.call("operator", "DELETE", route, "").wantProblem(http.StatusConflict).Detail; !strings.Contains(detail, "at least 100 unfinished deliveries") {
		t.Error(detail)
	}
}
