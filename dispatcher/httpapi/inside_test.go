package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// TestNothingInsideIsReachedByTheAPI tries all that makes a process of the API call somebody: tests of a callback, challenges, its token endpoint,
// and decisions. Registrations are taken without a look at their hosts, as if policy had been another then, so that the guard stands alone.
func TestNothingInsideIsReachedByTheAPI(t *testing.T) {
	network := egresstest.Enter(t)
	if network == nil {
		return
	}
	urls := egresstest.URLs
	for name := range egresstest.Names {
		urls = append(urls, "http://"+name+"/")
	}
	h := openHouse(t, egress.Config{}, nil)
	const callbacks = "/companies/acme/config/callbacks"
	quoted := func(url string) string {
		text, err := json.Marshal(url)
		h.must(err)
		return string(text)
	}
	tried := 0
	for _, url := range urls {
		for kind, body := range map[string]string{
			"callback":       `{"callback_type": "entry_code.verify", "destination": {"url": ` + quoted(url) + `}}`,
			"token endpoint": `{"callback_type": "entry_code.verify", "destination": {"url": "http://partner.example/"}, "auth": {"type": "oauth2", "client_id": "me", "client_secret": "s", "token_url": ` + quoted(url) + `}}`,
		} {
			created := h.call("partner", "POST", callbacks, body)
			if created.status != http.StatusCreated { // it is no URL at all
				continue
			}
			tried++
			at, _ := created.json()["url"].(string)
			if a := h.call("partner", "POST", at+"/test", "").want(http.StatusOK).json(); a["verdict"] == "delivered" {
				t.Errorf("%s %s: the test says %v", kind, url, a)
			}
			if a := h.call("operator", "POST", at+"/verify", ""); a.status != http.StatusTooManyRequests && a.want(http.StatusOK).json()["verified"] == true {
				t.Errorf("%s %s: the challenge says %s", kind, url, a.body)
			}
			if a := h.call("producer", "POST", "/companies/acme/decisions", `{"event_type": "entry_code.verify", "payload": {"entryCode": "4711"}}`); a.status == http.StatusOK {
				t.Errorf("%s %s: decided: %s", kind, url, a.body)
			}
			h.call("partner", "DELETE", at, "").want(http.StatusNoContent)
		}
	}
	inside, outside := network.Arrivals()
	t.Logf("%d registrations: %d connections outside, %d inside", tried, outside, len(inside))
	if len(inside) != 0 || outside == 0 || tried < 150 {
		t.Errorf("%d registrations were tried, %d connections arrived outside, and inside at %q", tried, outside, inside)
	}
}

// TestPartnersDoNotLearnInnerNames holds that a name that leads inside reads, to a partner, as one that does not exist, wherever it shows.
func TestPartnersDoNotLearnInnerNames(t *testing.T) {
	names := egresstest.NewNameServer(t, func(name string, _ int) []string {
		if name == "inside.example" {
			return []string{"10.1.2.3"}
		}
		return nil
	})
	h := openHouse(t, egress.Config{Resolver: names.Resolver()}, nil)
	seen := map[string]map[string]string{}
	for _, host := range []string{"inside.example", "nowhere.example"} {
		at := h.registerAt("https://"+host+"/", `"callback_type": "entry_code.verify"`)
		token := h.registerAt("https://partner.example/", `"callback_type": "payment_proof", "auth": {"type": "oauth2", "client_id": "me", "client_secret": "s", "token_url": "https://`+host+`/"}`)
		h.call("producer", "POST", "/companies/acme/decisions", `{"event_type": "entry_code.verify", "payload": {"entryCode": "4711"}}`).wantProblem(http.StatusBadGateway)
		seen[host] = map[string]string{}
		for _, actor := range []string{"partner", "operator"} {
			a := h.call(actor, "POST", at+"/test", "").want(http.StatusOK).json()
			o := h.call(actor, "POST", token+"/test", "").want(http.StatusOK).json()
			v := h.call(actor, "POST", at+"/verify", "").want(http.StatusOK).json()
			list := string(h.call(actor, "GET", "/companies/acme/deliveries?kind=decision&limit=1", "").want(http.StatusOK).body)
			health := h.call(actor, "GET", at, "").want(http.StatusOK).json()
			failure, _ := health["last_failure"].(map[string]any)
			blocked := strings.Contains(list, "blocked_address") && strings.Contains(list, "may be called")
			texts := []string{a["reason"].(string), a["detail"].(string), v["reason"].(string), v["detail"].(string), o["reason"].(string), o["detail"].(string), failure["reason"].(string), failure["detail"].(string)}
			seen[host][actor] = strings.Join(texts, "\n")
			if blocked != (actor == "operator" && host == "inside.example") {
				t.Errorf("of %s, %s reads %s", host, actor, list)
			}
		}
		h.call("partner", "DELETE", at, "").want(http.StatusNoContent)
		h.call("partner", "DELETE", token, "").want(http.StatusNoContent)
	}
	if in, out := seen["inside.example"]["partner"], seen["nowhere.example"]["partner"]; in != out || seen["nowhere.example"]["operator"] != out {
		t.Errorf("a partner reads\n%s\nof a name that leads inside, and\n%s\nof one that does not exist", in, out)
	}
	if in := seen["inside.example"]["operator"]; !strings.HasPrefix(in, "blocked_address\n") || strings.Count(in, "may be called") != 4 {
		t.Errorf("an operator reads\n%s", in)
	}

	h.wantProof()
	at := h.registerAt("https://inside.example/", `"callback_type": "entry_code.verify"`)
	h.call("operator", "POST", at+"/verify", "").want(http.StatusOK)
	if doc := h.call("partner", "GET", at, "").want(http.StatusOK).json(); doc["unverified_reason"] != "dns" {
		t.Errorf("after an operator had it challenged, a partner reads %v", doc["unverified_reason"])
	}
}

// TestOperatorsAreToldHowToAllowIt: where a URL, or the address behind it, is refused, an operator reads which setting allows it. A partner, who has none,
// reads that an operator can.
func TestOperatorsAreToldHowToAllowIt(t *testing.T) {
	h := openHouse(t, egress.Config{}, (*egress.Client).CheckURL)
	for url, flag := range map[string]string{
		"http://10.1.2.3/":          "(--egress-allow allows addresses)",
		"http://localhost:9000/":    "(--egress-allow 127.0.0.0/8 allows it)",
		"http://hooks.internal/":    "(--egress-allow-name allows the name, and --egress-allow its address)",
		"https://user@partner.test": "", // nobody can allow that
	} {
		body := `{"callback_type": "payment_proof", "destination": {"url": "` + url + `"}}`
		const callbacks = "/companies/acme/config/callbacks"
		operator := h.call("operator", "POST", callbacks, body).wantProblem(http.StatusUnprocessableEntity)
		if !strings.Contains(operator.Detail, flag) || !strings.Contains(operator.Errors[0].Message, flag) || flag == "" && strings.Contains(operator.Detail, "--egress") {
			t.Errorf("%s: an operator reads %q", url, operator.Detail)
		}
		partner := h.call("partner", "POST", callbacks, body).wantProblem(http.StatusUnprocessableEntity).Detail
		if strings.Contains(partner, "--egress") || strings.Contains(partner, "an operator can allow") != (flag != "") {
			t.Errorf("%s: a partner reads %q", url, partner)
		}
	}

	open := openHouse(t, egress.Config{}, nil)
	at := open.registerAt("http://10.1.2.3/", `"callback_type": "payment_proof"`)
	for actor, want := range map[string]string{"partner": "(an operator can allow addresses)", "operator": "(--egress-allow allows addresses)"} {
		if said := open.call(actor, "POST", at+"/test", "").want(http.StatusOK).json()["detail"].(string); !strings.Contains(said, want) {
			t.Errorf("of a test, a %s reads %q", actor, said)
		}
	}
}
