package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fail has the first attempt of each of an event's deliveries in acme fail, an hour before the next.
func (h *house) fail(event string) {
	h.t.Helper()
	now := time.Now()
	fields, err := h.rdb.HGetAll(h.t.Context(), "{acme}:ev:"+event).Result()
	h.must(err)
	for field, record := range fields {
		cb, isRecord := strings.CutPrefix(field, "d")
		if !isRecord || record[0] != 'P' {
			continue
		}
		member := event + "/" + cb
		failed := fmt.Sprintf("R 1 1 1 %d -\n{\"n\":1,\"t\":%d,\"s\":503,\"v\":\"retry\",\"r\":\"status_503\"}", now.Add(time.Hour).UnixMilli(), now.UnixMilli())
		h.must(h.rdb.HSet(h.t.Context(), "{acme}:ev:"+event, field, failed).Err())
		h.must(h.rdb.SRem(h.t.Context(), "{acme}:ready:"+cb, member).Err())
		h.must(h.rdb.Do(h.t.Context(), "ZADD", "{acme}:retry:"+cb, now.UnixMilli(), member).Err())
		h.must(h.rdb.Do(h.t.Context(), "ZADD", "{acme}:due", now.Add(time.Hour).UnixMilli(), member).Err())
	}
}

// TestNow: what is retrying goes at once, what is on its way stays so, and what cannot go says what lets it.
func TestNow(t *testing.T) {
	h := newHouse(t)
	url, got := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"*"`)
	delivery := h.send("acme", "e1")
	now := func() answer { return h.call("partner", "POST", delivery+"/now", "") }
	says := func(a answer, what ...string) {
		t.Helper()
		detail := a.wantProblem(http.StatusConflict).Detail
		for _, text := range what {
			if !strings.Contains(detail, text) {
				t.Errorf("%q does not say %q", detail, text)
			}
		}
	}
	if m := now().want(http.StatusAccepted).json(); m["state"] != "pending" {
		t.Errorf("on its way: %v", m)
	}
	h.fail("e1")
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	says(now(), "is retrying", "paused: resume it first")
	h.call("partner", "POST", callback+"/resume", "").want(http.StatusOK)
	m := now().want(http.StatusAccepted).json()
	if m["state"] != "pending" || len(m["attempts"].([]any)) != 1 || m["delivery_id"] != delivery[strings.LastIndex(delivery, "/")+1:] {
		t.Errorf("hastened: %v", m)
	}
	now().want(http.StatusAccepted) // again changes nothing
	h.work()
	if r := <-got; r.Header.Get("Ringback-Attempt") != "2" || r.Header.Get("Webhook-Id") != m["delivery_id"] {
		t.Errorf("the partner got %v", r.Header)
	}
	h.until(delivery, func(m map[string]any) bool { return m["state"] == "delivered" })
	says(now(), "is delivered: replay it")
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	delivery = h.send("acme", "e2")
	says(now(), "cannot go now", "Resume it")
	h.call("partner", "DELETE", callback, "").want(http.StatusNoContent)
	says(now(), "its callback was deleted")
	h.call("partner", "POST", "/companies/acme/deliveries/dlv_AYIrM62HwW5vYm9keXM/now", "").wantProblem(http.StatusNotFound)
}
