package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry/redistest"
)

// samples are the payloads that the contracts' documents show, a file for each type.
const samples = root + "/payloads/testdata/samples"

func sample(name string) string { return filepath.Join(samples, name+".json") }

// An agreement is a callback registered as its contract's document says, and what the partner then expects.
type agreement struct {
	company      string
	registration string            // URL stands for the partner's address and url
	url          string            // as the partner is to see it in the request
	answers      []int             // the partner's, the last one for good
	headers      map[string]string // of its own that requests carry
	events       []string          // the types sent to it

	id     int64  // once registered
	secret string // once registered
}

const ownWallet = "ba9bcNKc"

// agreements are those of the four documents. The loyalty programme's has one URL for all there is.
func agreements() []*agreement {
	return []*agreement{
		{
			company: ownWallet,
			registration: `{ "callback_type": "wallet_item_install", "event_type": "wallet_item_install", "wallet_item_install": { "campaign_token": "r3zhm8" },
				"destination":{ "url":"URL", "method":"POST", "content_type":"application/json" } }`,
			url: "/wallet", answers: []int{204}, events: []string{"wallet_item_install"},
		},
		{
			company: ownWallet,
			registration: `{ "callback_type": "wallet_item_remove", "event_type": "wallet_item_remove", "wallet_item_install": { "campaign_token": "r3zhm8" },
				"destination":{ "url":"URL", "method":"POST", "content_type":"application/json" } }`,
			url: "/wallet?removed", answers: []int{204}, events: []string{"wallet_item_remove"},
		},
		{
			company: "proofs",
			registration: `{"callback_type": "payment_proof", "auth": {"type": "bearer", "token": "ACCESS_TOKEN"},
				"headers": {"X-Tenant": "mx-7", "X-Environment": "demo, two"}, "destination": {"url": "URL"}}`,
			url: "/your-defined-url", answers: []int{200}, events: []string{"payment_proof"},
			headers: map[string]string{"Authorization": "Bearer ACCESS_TOKEN", "X-Tenant": "mx-7", "X-Environment": "demo, two"},
		},
		{
			company:      "loyalty",
			registration: `{"callback_type": "*", "headers": {"X-Proof-Of-Origin": "s3cr3t"}, "destination": {"url": "URL"}}`,
			url:          "/webhooks/", answers: []int{204}, headers: map[string]string{"X-Proof-Of-Origin": "s3cr3t"},
			events: []string{
				"customer.updated", "customer.deleted", "customer.registered", "customer.deactivated", "customer.level_changed_automatically",
				"customer.level_changed", "transaction.registered", "transaction.assigned_to_customer", "account.available_points_amount_changed",
				"customer.bought_campaign", "account.expiring_points_notification", "account.points_transfer",
			},
		},
		{
			company: "doors",
			registration: `{"callback_type": "entry_code.validation_failed", "auth": {"type": "bearer", "token": "d00r"},
				"retry": {"initial_interval": "1s"}, "destination": {"url": "URL"}}`,
			url: "/api/../push//entry-code%2Fnotify/?b=%20+&a=~&", answers: []int{503, 204}, events: []string{"entry_code.validation_failed"},
			headers: map[string]string{"Authorization": "Bearer d00r"},
		},
		{
			company:      "doors",
			registration: `{"callback_type": "customer.created_or_updated", "auth": {"type": "bearer", "token": "d00r"}, "destination": {"url": "URL"}}`,
			url:          "/webhook", answers: []int{500}, events: []string{"customer.created_or_updated"},
			headers: map[string]string{"Authorization": "Bearer d00r"},
		},
	}
}

// TestContracts is the four contracts with a partner in Node: every sample of the documents, sent through an installation of two
// processes over a real Redis, arrives as it was handed over, and the partner's Standard Webhooks library takes the signature.
func TestContracts(t *testing.T) {
	t.Parallel()
	partner, addr, agree := startPartner(t)
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}
	api := start(t, env, "serve", "--roles", "api", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	server := &caller{url: "http://" + address(api)}
	worker := start(t, env, "serve", "--roles", "worker", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	server.key = strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))

	all := agreements()
	for _, a := range all {
		server.register(t, a, addr)
	}
	agree(all)
	address(worker)

	began := time.Now()
	for _, a := range all {
		for _, name := range a.events {
			t.Run(name, func(t *testing.T) {
				payload := payloadOf(t, name)
				receipt := server.send(t, a.company, name, name, payload)
				if len(receipt.Deliveries) != 1 || receipt.Deliveries[0].CallbackID != a.id {
					t.Fatalf("the deliveries are %+v", receipt.Deliveries)
				}
				got := awaitNode(t, partner, name, 1)
				got.check(t, a, name, receipt.Deliveries[0].DeliveryID)
				if name != "entry_code.validation_failed" {
					if diff := cmp.Diff(string(payload), string(got.Body)); diff != "" {
						t.Errorf("it did not arrive byte for byte (-sent +got):\n%s", diff)
					}
					return
				}
				again := awaitNode(t, partner, name, 2)
				again.check(t, a, name, receipt.Deliveries[0].DeliveryID)
				first, second := timeOfIssue(t, payload, got, began), timeOfIssue(t, payload, again, began)
				if second.Sub(first) < 500*time.Millisecond {
					t.Errorf("the first request says that it was issued at %s, and the second, a second later, at %s", first, second)
				}
			})
		}
	}
	t.Run("any answer is good enough for news of a customer", func(t *testing.T) {
		const name = "customer.created_or_updated"
		if verdict := worker.await(`"event":"` + name + `".*"verdict":"(\w+)"`)[1]; verdict != "delivered" {
			t.Errorf("%s was answered 500: %s", name, verdict)
		}
	})
	t.Run("another campaign is none of the callback's business", func(t *testing.T) {
		other := bytes.Replace(payloadOf(t, "wallet_item_install"), []byte(`"token": "r3zhm8"`), []byte(`"token": "r3zhm9"`), 1)
		if receipt := server.send(t, ownWallet, "wallet_item_install", "another-campaign", other); len(receipt.Deliveries) != 0 {
			t.Errorf("the deliveries are %+v", receipt.Deliveries)
		}
	})
	t.Run("off and on again", func(t *testing.T) {
		const name = "customer.updated"
		loyalty := all[slices.IndexFunc(all, func(a *agreement) bool { return a.company == "loyalty" })]
		payload := payloadOf(t, name)
		server.do(t, http.MethodPost, fmt.Sprintf("/companies/loyalty/config/callbacks/%d/pause", loyalty.id), "", nil)
		receipt := server.send(t, "loyalty", name, "while-off", payload)
		server.send(t, "proofs", "payment_proof", "meanwhile", payloadOf(t, "payment_proof")) // what comes after it overtakes it
		awaitNode(t, partner, "meanwhile", 1)
		if strings.Contains(partner.said.String(), `"while-off"`) {
			t.Error("the callback is paused, and was called")
		}
		var held struct {
			State    string `json:"state"`
			Attempts []any  `json:"attempts"`
		}
		server.do(t, http.MethodGet, "/companies/loyalty/deliveries/"+receipt.Deliveries[0].DeliveryID, "", &held)
		if held.State != "held" || len(held.Attempts) != 0 {
			t.Errorf("the delivery is %+v", held)
		}
		server.do(t, http.MethodPost, fmt.Sprintf("/companies/loyalty/config/callbacks/%d/resume", loyalty.id), "", nil)
		got := awaitNode(t, partner, "while-off", 1)
		got.check(t, loyalty, name, receipt.Deliveries[0].DeliveryID)
		if !bytes.Equal(got.Body, payload) {
			t.Errorf("it arrived as %s", got.Body)
		}
	})
	if strings.Contains(partner.said.String(), "another-campaign") {
		t.Error("an event of another campaign was delivered")
	}
}

// startPartner runs testdata/receiver in Node. agree tells it of the callbacks that were registered for its address.
func startPartner(t *testing.T) (p *process, addr string, agree func([]*agreement)) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/receiver")); err != nil {
		t.Fatal(err)
	}
	cmd := nodeReceiver(t, filepath.Join(dir, "receiver.mjs"))
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p = launch(t, cmd)
	return p, p.await(`listening on (\S+)`)[1], func(all []*agreement) {
		type half struct {
			Secret  string `json:"secret"`
			Answers []int  `json:"answers"`
		}
		agreed := map[string]half{}
		for _, a := range all {
			agreed[a.url] = half{a.secret, a.answers}
		}
		if err := json.NewEncoder(stdin).Encode(agreed); err != nil {
			t.Fatal(err)
		}
		_ = stdin.Close()
		p.await(`(?m)^ready$`)
	}
}

// A caller calls the API with an operator's key.
type caller struct{ url, key string }

// do fails the test unless the answer is a success, which it reads into answer unless that is nil.
func (c *caller) do(t *testing.T, method, path, body string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	status, _, text := send(t, req)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), answer); err != nil {
		t.Fatal(err)
	}
}

// register registers the callback at the partner's address.
func (c *caller) register(t *testing.T, a *agreement, addr string) {
	t.Helper()
	var registered struct {
		ID     int64  `json:"callback_id"`
		Secret string `json:"secret"`
	}
	c.do(t, http.MethodPost, "/companies/"+a.company+"/config/callbacks", strings.ReplaceAll(a.registration, "URL", "http://"+addr+a.url), &registered)
	a.id, a.secret = registered.ID, registered.Secret
}

type receipt struct {
	Deliveries []struct {
		DeliveryID string `json:"delivery_id"`
		CallbackID int64  `json:"callback_id"`
	} `json:"deliveries"`
}

// send hands over an event whose payload stands in the call byte for byte.
func (c *caller) send(t *testing.T, company, eventType, id string, payload []byte) (r receipt) {
	t.Helper()
	body := fmt.Sprintf(`{"event_type": %q, "event_id": %q, "payload": %s}`, eventType, id, payload)
	c.do(t, http.MethodPost, "/companies/"+company+"/events", body, &r)
	return r
}

// payloadOf is what is sent of a type: the document's sample, or the type's example where the document has none.
func payloadOf(t *testing.T, name string) []byte {
	t.Helper()
	typ, ok := payloads.Builtin().Lookup(name)
	if !ok {
		t.Fatalf("there is no type %s", name)
	}
	text, err := os.ReadFile(sample(name))
	if os.IsNotExist(err) {
		return typ.Example
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text)
}

// seenByNode is a request as Node saw it.
type seenByNode struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"` // names in lower case
	Body    []byte            `json:"body"`
	Problem string            `json:"problem"` // why the library does not take the signature
}

func awaitNode(t *testing.T, partner *process, event string, attempt int) seenByNode {
	t.Helper()
	line := partner.await(fmt.Sprintf(`(?m)^\{"event":"%s","attempt":"%d",.*\}$`, event, attempt))[0]
	var got seenByNode
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// check compares all but the body with what was agreed upon.
func (r seenByNode) check(t *testing.T, a *agreement, eventType, deliveryID string) {
	t.Helper()
	if r.Problem != "" {
		t.Errorf("the library does not take it: %s", r.Problem)
	}
	if r.Method != http.MethodPost || r.URL != a.url {
		t.Errorf("it came as %s %s, want POST %s", r.Method, r.URL, a.url)
	}
	want := map[string]string{"Content-Type": "application/json", "Webhook-Id": deliveryID, "Ringback-Event-Type": eventType}
	for _, headers := range []map[string]string{want, a.headers} {
		for name, value := range headers {
			if got := r.Headers[strings.ToLower(name)]; got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		}
	}
	if _, has := r.Headers["authorization"]; has && a.headers["Authorization"] == "" {
		t.Error("nobody asked for Authorization")
	}
}

// timeOfIssue is when the request says that it was sent. All else in its body must be what was handed over, byte for byte.
func timeOfIssue(t *testing.T, payload []byte, r seenByNode, began time.Time) time.Time {
	t.Helper()
	head, tail, ok := bytes.Cut(payload, []byte(`"timeOfIssue": "2019-08-24T14:15:22Z"`))
	if !ok {
		t.Fatal("the sample has another timeOfIssue")
	}
	stamp, headed := bytes.CutPrefix(r.Body, slices.Concat(head, []byte(`"timeOfIssue": "`)))
	stamp, tailed := bytes.CutSuffix(stamp, slices.Concat([]byte(`"`), tail))
	if !headed || !tailed {
		t.Fatalf("more than timeOfIssue is not as it was handed over:\n%s", cmp.Diff(string(payload), string(r.Body)))
	}
	at, err := time.Parse(time.RFC3339, string(stamp))
	if err != nil {
		t.Fatal(err)
	}
	if at.Before(began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("timeOfIssue is %s, and the event was sent at %s", stamp, began.Format(time.RFC3339))
	}
	if signed := r.Headers["webhook-timestamp"]; signed != strconv.FormatInt(at.Unix(), 10) {
		t.Errorf("timeOfIssue is %s, and the request was signed at %s", stamp, signed)
	}
	return at
}
