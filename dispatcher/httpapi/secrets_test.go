package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher"
)

// Canaries are put wherever a secret can be, everything is asked for, and nobody may have heard one sing.
func TestSecretsNeverComeBack(t *testing.T) {
	h := newHouse(t)
	arrived := make(chan struct{}, 10)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNotFound)
		arrived <- struct{}{}
	}))
	t.Cleanup(partner.Close)

	const canary = "canary-7f3a"
	var heard []string // answers so far
	ask := func(actor, method, path, body string) answer {
		a := h.call(actor, method, path, body)
		heard = append(heard, fmt.Sprintf("%d: %v %s", a.status, a.header, a.body))
		return a
	}
	const callbacks = "/companies/acme/config/callbacks"
	bearer := fmt.Sprintf(`{"callback_type":"*","auth":{"type":"bearer","token":"%[1]s"},"headers":{"X-Proof":"%[1]s"},"destination":{"url":%[2]q}}`, canary, partner.URL)
	basic := fmt.Sprintf(`{"callback_type":"*","auth":{"type":"basic","username":"u","password":"%[1]s"},"destination":{"url":%[2]q}}`, canary, partner.URL)
	oauth2 := fmt.Sprintf(`{"callback_type":"*","auth":{"type":"oauth2","token_url":%[2]q,"client_id":"c","client_secret":"%[1]s"},"destination":{"url":%[2]q}}`, canary, partner.URL)
	h.work()
	created := ask("partner", "POST", callbacks, bearer).want(201)
	secret := created.json()["secret"].(string)
	heard = nil // the one answer that shows it
	ask("partner", "POST", callbacks, basic).want(201)
	if strings.Count(heard[0], "whsec_") != 1 {
		t.Errorf("the answer to creation: %s", heard[0])
	}
	heard = nil
	ask("partner", "POST", callbacks, oauth2).want(201)
	if strings.Count(heard[0], "whsec_") != 1 || strings.Contains(heard[0], canary) {
		t.Errorf("the answer to creation: %s", heard[0])
	}
	heard = nil

	// Faults next to, and in, secrets.
	for _, body := range []string{
		`{"callback_type":"*","auth":{"type":"bearer","token":"` + canary + `\n"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","auth":{"type":"bearer","token":{"x":"` + canary + `"}},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","auth":{"type":"` + canary + `"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","auth":"` + canary + `","destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","auth":{"type":"basic","username":"a:b","password":"` + canary + `"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","auth":{"type":"oauth2","token_url":"http://10.0.0.1/` + canary + `","client_id":"a\n","client_secret":"` + canary + `"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","headers":{"X-Proof":"` + canary + `\r\n"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","headers":{"Host":"` + canary + `"},"destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","headers":"` + canary + `","destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","secret":"` + canary + `","destination":{"url":"http://127.0.0.1/"}}`,
		`{"callback_type":"*","destination":{"url":"http://10.0.0.1/?key=` + canary + `"}}`,
		`{"callback_type":"*","destination":{"url":"http://u:` + canary + `@127.0.0.1/"}}`,
		`{"callback_type":"*","destination":{"url":"http://127.0.0.1/#` + canary + `"}}`,
		`{"callback_type":"*","destination":"http://127.0.0.1/?key=` + canary + `"}`,
		`{"callback_type":"*","auth":{"type":"bearer","token":"` + canary,
	} {
		if a := ask("partner", "POST", callbacks, body); a.status != 400 && a.status != 422 {
			t.Errorf("status %d for %s", a.status, body)
		}
		if a := ask("partner", "PATCH", callbacks+"/1", body); a.status != 400 && a.status != 422 {
			t.Errorf("PATCH: status %d for %s", a.status, body)
		}
	}
	ask("producer", "POST", "/companies/acme/events", `{"event_type":"wallet_item_install","payload":{"wallet_campaign":{"token":["`+canary+`"]}}}`).want(422)
	ask("producer", "POST", "/companies/acme/events", `{"event_type":"wallet_item_install","payload":{"a":"`+canary+`",}}`).want(400)
	ask(canary, "GET", callbacks, "").want(401)
	ask("operator", "GET", "/companies/acme/deliveries?key="+canary, "").want(422)
	ask("operator", "GET", "/nothing?key="+canary, "").want(404)

	// Everything there is to read.
	delivery := h.send("acme", "e1")
	for range 4 { // two deliveries, and the two ways to ask for the third's token
		<-arrived
	}
	ask("partner", "PATCH", callbacks+"/1", `{"description":"x","auth":{"type":"bearer","token":"***"}}`).want(200)
	for _, path := range []string{
		callbacks, callbacks + "/1", callbacks + "/2", callbacks + "/3", "/companies/acme/events/e1", "/companies/acme/deliveries", delivery,
		"/callback-types", "/metrics", "/healthz", "/readyz", "/openapi.json",
		"/monitoring/", "/monitoring/api/queues", "/monitoring/api/redis_info", "/monitoring/api/servers", "/monitoring/api/scheduler_entries", "/monitoring/api/queue_stats",
	} {
		ask("operator", "GET", path, "").want(200)
	}
	for _, lane := range dispatcher.Queues() {
		for _, state := range []string{"active", "pending", "scheduled", "retry", "archived", "completed"} {
			ask("operator", "GET", fmt.Sprintf("/monitoring/api/queues/%s/%s_tasks", lane, state), "").want(200)
		}
	}
	ask("partner", "POST", callbacks+"/1/pause", "").want(200)
	ask("partner", "POST", callbacks+"/1/resume", "").want(200)
	rotated := h.call("partner", "POST", callbacks+"/1/secret", `{"overlap":"1h"}`).want(200).json()["secret"].(string)
	ask("partner", "POST", callbacks+"/1/secret", `{"overlap":"`+canary+`"}`).want(422)
	ask("partner", "GET", callbacks+"/1", "").want(200)
	ask("operator", "POST", "/companies/acme/events/batch", strings.Repeat(`{"event_type":"wallet_item_install","payload":{"wallet_campaign":{"token":["`+canary+`"]}}}`+"\n"+canary+"\n", 2)).want(200)
	ask("operator", "POST", delivery+"/cancel", "")
	ask("partner", "DELETE", callbacks+"/2", "").want(204)

	for _, a := range append(heard, "log: "+h.log.String()) {
		for _, word := range []string{canary, secret, strings.TrimPrefix(secret, "whsec_"), strings.TrimPrefix(rotated, "whsec_"), h.keys["operator"], h.keys["partner"], token + `"}}}`} {
			if i := strings.Index(a, word); i >= 0 {
				t.Errorf("%s is told: …%s", word, a[max(0, i-300):min(len(a), i+100)])
			}
		}
	}
}

// asynq's UI shows which delivery a task is about, and nothing of what it carries.
func TestMonitoringShowsNoPayloads(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.send("acme", "e1") // no worker: its task stays
	var all strings.Builder
	for _, lane := range dispatcher.Queues() {
		all.Write(h.call("viewer", "GET", fmt.Sprintf("/monitoring/api/queues/%s/pending_tasks", lane), "").body)
	}
	if got := all.String(); !strings.Contains(got, "dlv_") || strings.Contains(got, "wallet_campaign") || strings.Contains(got, token) {
		t.Errorf("the UI shows: %s", got)
	}
}
