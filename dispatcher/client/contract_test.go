package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// A method is one of the client's, and the operation of the API's description that it calls.
type method struct {
	operation string // such as "POST /companies/{company}/events"
	call      func(ctx context.Context, c *client.Client) (answer any, err error)
	// element is what the lines of an answer are, where it has lines.
	element any
}

// methods, in an order in which each finds what it needs.
func methods(t *testing.T, then time.Time) []method {
	const company = "/companies/{company}"
	const callback = company + "/config/callbacks/{callback_id}"
	authority := egresstest.NewAuthority(t, "authority")
	cert, certKey := authority.Client("acme", nil)
	full := client.Registration{
		TLS:          &client.TLS{ClientCertificate: cert, ClientKey: certKey, CA: authority.PEM(), ServerName: "hooks.partner.example"},
		CallbackType: "wallet_item_install", Match: map[string]string{"campaign_token": "r3zhm8"}, Destination: client.Destination{
			URL: "https://127.0.0.1:9/a", Method: "PUT", ContentType: "application/x-www-form-urlencoded",
		},
		Description: "d", StartDate: then, Headers: map[string]string{"X-Key": "k"}, Auth: &client.Auth{Type: "basic", Username: "u", Password: "p"},
		Success: "any_2xx", Trace: true, Timeout: client.Duration(20 * time.Second),
		Retry:     &client.Retry{InitialInterval: client.Duration(2 * time.Second), Multiplier: 3, MaxInterval: client.Duration(time.Hour), MaxAttempts: 4},
		RateLimit: &client.RateLimit{PerSecond: 0.5, Burst: 3}, HeaderStyle: "stripe", Secret: "a text that Stripe's library has", Envelope: "cloudevents-binary", Body: "full",
		Ordering: &client.Ordering{Key: "/wallet_instance/uuid", SkipAfter: client.Duration(24 * time.Hour)},
	}
	var delivery, replay, link, key, cursor string
	var pulled int64
	return []method{
		{operation: "POST " + company + "/config/callbacks", call: func(ctx context.Context, c *client.Client) (any, error) {
			cb, err := c.CreateCallback(ctx, "acme", registration)
			if err == nil && !strings.HasPrefix(cb.Secret, "whsec_") {
				err = fmt.Errorf("secret %q", cb.Secret)
			}
			return cb, err
		}},
		{operation: "POST " + company + "/config/callbacks", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.CreateCallback(ctx, "acme", full)
		}},
		{operation: "GET " + company + "/config/callbacks", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Callbacks(ctx, "acme", client.CallbacksQuery{CallbackType: "wallet_item_install", Status: "enabled", Limit: 5})
		}},
		{operation: "GET " + callback, call: func(ctx context.Context, c *client.Client) (any, error) {
			cb, err := c.Callback(ctx, "acme", 2)
			if err == nil && (cb.Match["campaign_token"] != "r3zhm8" || cb.MatchBlock != "wallet_item_install" || cb.Retry != *full.Retry || cb.RateLimit == nil || *cb.RateLimit != *full.RateLimit || cb.HeaderStyle != full.HeaderStyle || cb.Envelope != full.Envelope || cb.Ordering == nil || *cb.Ordering != *full.Ordering || cb.Secret != "" || cb.Timeout != full.Timeout || !cb.StartDate.Equal(then) ||
				cb.TLS == nil || cb.TLS.ClientCertificate != cert || cb.TLS.ClientKey != "***" || cb.TLS.CA != authority.PEM() || cb.TLS.ServerName != full.TLS.ServerName || cb.TLS.Subject != "CN=acme" || len(cb.TLS.Fingerprint) != 64) {
				err = fmt.Errorf("registered %+v, got %+v", full, cb)
			}
			return cb, err
		}},
		{operation: "PATCH " + callback, call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PatchCallback(ctx, "acme", 2, map[string]any{"description": nil, "auth": map[string]any{"password": "***"}})
		}},
		{operation: "POST " + company + "/config/callbacks/dry-run", call: func(ctx context.Context, c *client.Client) (any, error) {
			r, err := c.DryRun(ctx, "acme", client.DryRun{Callback: json.RawMessage(`{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"},"filter":{"all":[{"pointer":"/status","op":"equals","value":"x"}]}}`)})
			if err == nil && (r.Matches || r.Clause == nil || r.Clause.Pointer != "/status" || r.Request == nil) {
				err = fmt.Errorf("%+v", r)
			}
			return r, err
		}},
		{operation: "POST " + callback + "/dry-run", call: func(ctx context.Context, c *client.Client) (any, error) {
			r, err := c.DryRun(ctx, "acme", client.DryRun{CallbackID: 1, Callback: json.RawMessage(`{"template":{"kind":"x"}}`)})
			if err == nil && (!r.Matches || *r.Request.Body != `{"kind":"x"}`) {
				err = fmt.Errorf("%+v", r)
			}
			return r, err
		}},
		{operation: "POST " + callback + "/pause", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PauseCallback(ctx, "acme", 1)
		}},
		{operation: "POST " + company + "/events", call: func(ctx context.Context, c *client.Client) (any, error) {
			e := event("e-1")
			e.OccurredAt = then
			r, err := c.Send(ctx, "acme", e)
			if err == nil {
				delivery = r.Deliveries[0].DeliveryID
			}
			return r, err
		}},
		{operation: "POST " + company + "/events/batch", element: client.BatchResult{}, call: func(ctx context.Context, c *client.Client) (any, error) {
			line, err := event("e-2").Line()
			if err != nil {
				return nil, err
			}
			results, err := c.SendBatch(ctx, "acme", [][]byte{line, []byte(`{"event_type":"nonsense","payload":{}}`)})
			if err == nil && (results[0].Err() != nil || results[0].EventID != "e-2" || results[1].Err() == nil || results[1].Status != 422) {
				err = fmt.Errorf("%+v", results)
			}
			return results, err
		}},
		{operation: "GET " + company + "/deliveries/stream", element: client.Delivery{}, call: func(ctx context.Context, c *client.Client) (any, error) {
			for change, err := range c.Watch(ctx, "acme", client.WatchQuery{States: []string{client.Held}, CallbackID: 1, EventType: "payment_proof", After: "lost"}) {
				if err == nil && !change.Gap {
					err = fmt.Errorf("%+v", change)
				}
				return change, err
			}
			return nil, errors.New("it told nothing")
		}},
		{operation: "GET " + company + "/events/{event_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Event(ctx, "acme", "e-1", client.ExplainQuery{CallbackID: 1, Limit: 5})
		}},
		{operation: "POST " + company + "/decisions", call: func(ctx context.Context, c *client.Client) (any, error) {
			partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"accepted": false}`)
			}))
			defer partner.Close()
			q := client.Question{Type: "entry_code.verify", Payload: json.RawMessage(`{"entryCode":"4711"}`), Timeout: 10 * time.Second}
			var refused *client.APIError
			if _, err := c.Ask(ctx, "acme", q); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
				return nil, fmt.Errorf("nobody to ask: %w", err)
			}
			cb, err := c.CreateCallback(ctx, "acme", client.Registration{CallbackType: q.Type, Destination: client.Destination{URL: "http://127.0.0.1:1/"}})
			if err != nil {
				return nil, err
			}
			if _, err := c.Ask(ctx, "acme", q); !errors.As(err, &refused) || refused.Status != http.StatusBadGateway || refused.Decision.Reason != "refused" ||
				refused.Decision.CallbackID != cb.CallbackID || refused.Decision.DecisionID == "" {
				return nil, fmt.Errorf("a partner that is not there: %w, %+v", err, refused.Decision)
			}
			if _, err := c.PatchCallback(ctx, "acme", cb.CallbackID, map[string]any{"destination": map[string]any{"url": partner.URL}}); err != nil {
				return nil, err
			}
			a, err := c.Ask(ctx, "acme", q)
			if err == nil && (a.CallbackID != cb.CallbackID || a.StatusCode != 200 || string(a.Body) != `{"accepted": false}` && string(a.Body) != `{"accepted":false}`) {
				err = fmt.Errorf("%s", a.Raw)
			}
			return a, err
		}},
		{operation: "GET " + company + "/deliveries", call: func(ctx context.Context, c *client.Client) (any, error) {
			page, err := c.Deliveries(ctx, "acme", client.DeliveriesQuery{
				Decisions: true, States: []string{client.Delivered, client.Dead}, CallbackID: 3, EventType: "entry_code.verify",
				Since: then, Until: time.Now().Add(time.Hour), Limit: 5,
			})
			if err == nil && (len(page.Deliveries) != 2 || page.Deliveries[1].DecisionID == "") {
				err = fmt.Errorf("%s", page.Raw)
			}
			return page, err
		}},
		{operation: "GET " + company + "/deliveries/{delivery_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			if d, err := c.Delivery(ctx, "acme", delivery); err != nil || d.DeliveryID != delivery {
				return nil, fmt.Errorf("%+v, %w", d, err)
			}
			return c.DeliveryWithRequests(ctx, "acme", delivery)
		}},
		{operation: "GET " + company + "/events/{event_id}/payload", call: func(ctx context.Context, c *client.Client) (any, error) {
			payload, err := c.Payload(ctx, "acme", "e-1")
			if err == nil && string(payload) != string(event("e-1").Payload) {
				err = fmt.Errorf("%s", payload)
			}
			return payload, err
		}},
		{operation: "POST " + company + "/deliveries/{delivery_id}/cancel", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.CancelDelivery(ctx, "acme", delivery)
		}},
		{operation: "POST " + company + "/deliveries/{delivery_id}/replay", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ReplayDelivery(ctx, "acme", delivery)
		}},
		{operation: "POST " + company + "/deliveries/{delivery_id}/now", call: func(ctx context.Context, c *client.Client) (any, error) {
			if _, err := c.ResumeCallback(ctx, "acme", 1, false); err != nil {
				return nil, err
			}
			return c.HastenDelivery(ctx, "acme", delivery)
		}},
		{operation: "POST " + callback + "/pause", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PauseCallback(ctx, "acme", 1)
		}},
		{operation: "POST " + callback + "/replay", call: func(ctx context.Context, c *client.Client) (any, error) {
			r, err := c.ReplayCallback(ctx, "acme", 1, client.ReplayQuery{
				Since: then, Until: time.Now().Add(time.Hour), States: []string{client.Dead, client.Cancelled}, EventType: "payment_proof", Reason: "timeout",
			})
			if err == nil {
				replay = r.ReplayID
			}
			return r, err
		}},
		{operation: "GET " + company + "/replays/{replay_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Replay(ctx, "acme", replay)
		}},
		{operation: "GET " + company + "/replays", call: func(ctx context.Context, c *client.Client) (any, error) {
			list, err := c.Replays(ctx, "acme")
			if err == nil && (len(list.Replays) != 1 || list.Replays[0].ReplayID != replay) {
				err = fmt.Errorf("%s", list.Raw)
			}
			return list, err
		}},
		{operation: "DELETE " + company + "/replays/{replay_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.CancelReplay(ctx, "acme", replay)
		}},
		{operation: "POST " + company + "/portal-links", call: func(ctx context.Context, c *client.Client) (any, error) {
			l, err := c.CreatePortalLink(ctx, "acme", client.PortalLinkTerms{
				ExpiresIn: client.Duration(time.Hour), SessionExpiresIn: client.Duration(time.Hour), CallbackIDs: []int64{1}, ReadOnly: true,
			})
			if err == nil {
				link = l.ID
			}
			return l, err
		}},
		{operation: "GET " + company + "/portal-links", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PortalLinks(ctx, "acme")
		}},
		{operation: "GET " + company + "/portal-links/{link_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PortalLink(ctx, "acme", link)
		}},
		{operation: "DELETE " + company + "/portal-links/{link_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.RevokePortalLink(ctx, "acme", link)
		}},
		{operation: "POST /replays", call: func(ctx context.Context, c *client.Client) (any, error) {
			q := client.BulkReplayQuery{Companies: []string{"acme"}, CallbackIDs: []int64{1}}
			q.ReplayQuery = client.ReplayQuery{Since: then, States: []string{client.Retrying}, Pace: 5}
			r, err := c.ReplayCompanies(ctx, q)
			if err == nil {
				replay = r.ReplayID
			}
			return r, err
		}},
		{operation: "GET /replays/{replay_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.CompaniesReplay(ctx, replay)
		}},
		{operation: "GET /replays", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.CompaniesReplays(ctx)
		}},
		{operation: "DELETE /replays/{replay_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.CancelCompaniesReplay(ctx, replay)
		}},
		{operation: "POST " + company + "/replays", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ReplayCompany(ctx, "acme", client.BulkReplayQuery{ReplayQuery: client.ReplayQuery{DryRun: true}})
		}},
		{operation: "POST " + callback + "/test", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.TestCallback(ctx, "acme", 1, "payment_proof")
		}},
		{operation: "POST " + callback + "/verify", call: func(ctx context.Context, c *client.Client) (any, error) {
			r, err := c.VerifyCallback(ctx, "acme", 1)
			if err == nil && (r.Verified || r.Status != "paused" || r.Reason != "refused") {
				err = fmt.Errorf("%+v", r)
			}
			return r, err
		}},
		{operation: "POST " + callback + "/secret", call: func(ctx context.Context, c *client.Client) (any, error) {
			cb, err := c.RotateSecret(ctx, "acme", 1, client.DefaultOverlap)
			if err == nil && !strings.HasPrefix(cb.Secret, "whsec_") {
				err = fmt.Errorf("secret %q", cb.Secret)
			}
			return cb, err
		}},
		{operation: "POST " + callback + "/secret", call: func(ctx context.Context, c *client.Client) (any, error) {
			cb, err := c.RotateSecretTo(ctx, "acme", 2, "another text that Stripe's has", time.Hour)
			if err == nil && (cb.Secret != "" || cb.SecretOverlapUntil.IsZero()) {
				err = fmt.Errorf("secret %q until %s", cb.Secret, cb.SecretOverlapUntil)
			}
			return cb, err
		}},
		{operation: "POST " + callback + "/signing-key", call: func(ctx context.Context, c *client.Client) (any, error) {
			made, err := c.CreateCallback(ctx, "acme", client.Registration{
				CallbackType: "payment_proof", Destination: client.Destination{URL: "https://partner.example.com/keys"}, Signature: &client.Signature{Ed25519: true},
			})
			if err != nil {
				return nil, err
			}
			cb, err := c.RotateKey(ctx, "acme", made.CallbackID, client.DefaultAnnounce, client.DefaultOverlap)
			if err == nil && (cb.Signature == nil || len(cb.Signature.Keys) != 2) {
				err = fmt.Errorf("%+v", cb.Signature)
			}
			return cb, err
		}},
		{operation: "POST " + callback + "/resume", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ResumeCallback(ctx, "acme", 1, true)
		}},
		{operation: "DELETE " + callback, call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.DeleteCallback(ctx, "acme", 1)
		}},
		{operation: "DELETE " + company + "/events/{event_id}", call: func(ctx context.Context, c *client.Client) (any, error) {
			e, err := c.EraseEvent(ctx, "acme", "e-1")
			if err == nil && (e.EventID != "e-1" || e.Deliveries == 0) {
				err = fmt.Errorf("%s", e.Raw)
			}
			return e, err
		}},
		{operation: "GET " + callback + "/poll", call: func(ctx context.Context, c *client.Client) (any, error) {
			cb, err := c.CreateCallback(ctx, "acme", client.Registration{CallbackType: "payment_proof", Destination: client.Destination{Pull: true}})
			if err != nil {
				return nil, err
			}
			pulled = cb.CallbackID
			if _, err := c.Send(ctx, "acme", event("e-pulled")); err != nil {
				return nil, err
			}
			p, err := c.Poll(ctx, "acme", pulled, client.Poll{After: "0-0", Limit: 5, Wait: time.Second})
			if err == nil && (len(p.Deliveries) != 1 || p.Deliveries[0].EventID != "e-pulled" || len(p.Deliveries[0].Payload) == 0 || p.Deliveries[0].Cursor != p.Next) {
				err = fmt.Errorf("%+v", p)
			}
			cursor = p.Next
			return p, err
		}},
		{operation: "POST " + callback + "/ack", call: func(ctx context.Context, c *client.Client) (any, error) {
			a, err := c.Acknowledge(ctx, "acme", pulled, cursor)
			if err == nil && (a.Delivered != 1 || a.Acknowledged != cursor) {
				err = fmt.Errorf("%+v", a)
			}
			return a, err
		}},
		{operation: "POST " + callback + "/seek", call: func(ctx context.Context, c *client.Client) (any, error) {
			a, err := c.Seek(ctx, "acme", pulled, "start")
			if err == nil && a.Acknowledged != "0-0" {
				err = fmt.Errorf("%+v", a)
			}
			return a, err
		}},
		{operation: "POST /egress/pause", call: func(ctx context.Context, c *client.Client) (any, error) {
			e, err := c.PauseEgress(ctx)
			if err == nil && (e.Status != client.EgressPaused || e.Since.IsZero()) {
				err = fmt.Errorf("%s", e.Raw)
			}
			return e, err
		}},
		{operation: "GET /egress", call: func(ctx context.Context, c *client.Client) (any, error) { return c.Egress(ctx) }},
		{operation: "POST /egress/resume", call: func(ctx context.Context, c *client.Client) (any, error) {
			e, err := c.ResumeEgress(ctx)
			if err == nil && e.Status != client.EgressRunning {
				err = fmt.Errorf("%s", e.Raw)
			}
			return e, err
		}},
		{operation: "PUT /lanes", call: func(ctx context.Context, c *client.Client) (any, error) {
			l, err := c.SetLanes(ctx, 8)
			if err == nil && (l.Count != 8 || len(l.Draining) != 0 || len(l.Lanes) != 9 || l.Lanes[0].Lane != "ringback-0") {
				err = fmt.Errorf("%s", l.Raw)
			}
			return l, err
		}},
		{operation: "GET /lanes", call: func(ctx context.Context, c *client.Client) (any, error) { return c.Lanes(ctx) }},
		{operation: "PATCH " + company + "/quotas", call: func(ctx context.Context, c *client.Client) (any, error) {
			q, err := c.SetQuotas(ctx, "acme", map[string]*int64{"callbacks": new(int64(50)), "waiting_bytes": new(int64(1 << 20)), "replays": nil, "weight": new(int64(2))})
			if err == nil && (q.Callbacks != 50 || q.WaitingBytes == nil || *q.WaitingBytes != 1<<20 || q.Used.Callbacks == 0 || q.Defaults.Callbacks != 1000 || q.Replays != q.Defaults.Replays || q.Weight != 2 || q.Defaults.Weight != 1) {
				err = fmt.Errorf("%s", q.Raw)
			}
			return q, err
		}},
		{operation: "PUT " + company + "/tls", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetCompanyTLS(ctx, "acme", client.TLS{ClientCertificate: cert, ClientKey: certKey})
		}},
		{operation: "GET " + company + "/tls", call: func(ctx context.Context, c *client.Client) (any, error) { return c.CompanyTLS(ctx, "acme") }},
		{operation: "DELETE " + company + "/tls", call: func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeleteCompanyTLS(ctx, "acme") }},
		{operation: "GET " + company + "/quotas", call: func(ctx context.Context, c *client.Client) (any, error) { return c.Quotas(ctx, "acme") }},
		{operation: "PATCH /quotas", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetInstallationQuotas(ctx, map[string]*int64{"callback_types": new(int64(20))})
		}},
		{operation: "GET /quotas", call: func(ctx context.Context, c *client.Client) (any, error) {
			q, err := c.InstallationQuotas(ctx)
			if err == nil && (q.CallbackTypes != 20 || q.Defaults.CallbackTypes != 1000) {
				err = fmt.Errorf("%s", q.Raw)
			}
			return q, err
		}},
		{operation: "GET /audit", call: func(ctx context.Context, c *client.Client) (any, error) {
			page, err := c.Audit(ctx, client.AuditQuery{Company: "acme", Since: then, Until: then.Add(2 * time.Hour), Limit: 5})
			if err == nil && (len(page.Entries) != 5 || page.NextCursor == "" || page.Entries[0].Action != "company_tls.delete" || page.Entries[0].Actor == "") {
				err = fmt.Errorf("%s", page.Raw)
			}
			return page, err
		}},
		{operation: "DELETE " + company, call: func(ctx context.Context, c *client.Client) (any, error) {
			e, err := c.EraseCompany(ctx, "acme")
			if err == nil && (!e.Done || e.Events == 0 || e.Callbacks == 0 || len(e.Kept) == 0) {
				err = fmt.Errorf("%s", e.Raw)
			}
			return e, err
		}},
		{operation: "PUT /callback-types/{name}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.PutType(ctx, "order.paid", client.TypeDefinition{
				Description: "d", Schema: json.RawMessage(`{"type":"object"}`), Example: json.RawMessage(`{"id":"1"}`),
				Match: map[string]string{"order": "/id"}, Success: "any_2xx", Validation: "warn",
			})
		}},
		{operation: "DELETE /callback-types/{name}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.DeleteType(ctx, "order.paid")
		}},
		{operation: "GET /companies/*/callbacks", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Callbacks(ctx, client.AllOfThem, client.CallbacksQuery{CallbackType: "payment_proof", Status: "enabled", Limit: 10})
		}},
		{operation: "GET " + company + "/events", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Events(ctx, "acme", client.EventsQuery{EventType: "payment_proof", EventID: "*", WebhookID: "dlv_x", Since: then, Until: then.Add(2 * time.Hour), Limit: 10})
		}},
		{operation: "GET /companies", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Companies(ctx, client.CompaniesQuery{Prefix: "a", Limit: 10})
		}},
		{operation: "GET /callback-types", call: func(ctx context.Context, c *client.Client) (any, error) { return c.Types(ctx) }},
		{operation: "GET /callback-types/{name}", call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.Type(ctx, "payment_proof")
		}},
		{operation: "GET /keys", call: func(ctx context.Context, c *client.Client) (any, error) {
			page, err := c.Keys(ctx, client.KeysQuery{Company: client.AllOfThem, Limit: 10})
			if err == nil && (len(page.Keys) == 0 || page.Keys[0].Role != "operator" || page.Keys[0].LastUsedAt.IsZero()) {
				err = fmt.Errorf("%s", page.Raw)
			}
			if err == nil {
				key = page.Keys[0].ID
			}
			return page, err
		}},
		{operation: "GET /keys/{key_id}", call: func(ctx context.Context, c *client.Client) (any, error) { return c.Key(ctx, key) }},
		{operation: "DELETE /keys/{key_id}", call: func(ctx context.Context, c *client.Client) (any, error) { // the last: it was the client's own
			err := c.RevokeKey(ctx, key)
			if refused, ok := errors.AsType[*client.APIError](err); !ok || refused.Status != http.StatusConflict {
				return nil, fmt.Errorf("the own key is revoked like any: %w", err)
			}
			return nil, c.RevokeOwnKey(ctx, key)
		}},
	}
}

// TestEveryOperationHasAMethodThatFitsIt calls every method against the server and holds it against the API's description: path, query,
// media type and body as they really went out, and the Go type of the answer. No operation may be left over.
func TestEveryOperationHasAMethodThatFitsIt(t *testing.T) {
	h := newHouse(t)
	api := describe(t, h.server.URL)
	left := api.operations()
	for _, m := range methods(t, time.Now().Add(-time.Hour).UTC().Truncate(time.Second)) {
		verb, path, _ := strings.Cut(m.operation, " ")
		op, described := api.operation(verb, path)
		delete(left, m.operation)
		if !described {
			t.Errorf("%s is not described", m.operation)
			continue
		}
		answer, err := m.call(t.Context(), h.client)
		if err != nil {
			t.Errorf("%s: %v", m.operation, err)
			continue
		}
		sent := h.wire.last()
		if sent.method != verb || !pathPattern(path).MatchString(sent.path) {
			t.Errorf("%s was asked as %s %s", m.operation, sent.method, sent.path)
		}
		api.wantBody(m.operation, op, sent)
		api.wantQuery(m.operation, op, sent.query)
		api.wantAnswer(m, op, sent.status, answer)
	}
	for operation := range left {
		t.Errorf("%s has no method", operation)
	}
}

func pathPattern(path string) *regexp.Regexp {
	return regexp.MustCompile("^" + regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(strings.ReplaceAll(path, "*", `\*`), "[^/]+") + "$")
}

// description is the API's, as the server tells it.
type description struct {
	t        *testing.T
	doc      map[string]any
	compiler *jsonschema.Compiler
}

func describe(t *testing.T, server string) *description {
	t.Helper()
	resp, err := http.Get(server + "/openapi.json")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	d := &description{t: t, compiler: jsonschema.NewCompiler()}
	must(t, json.Unmarshal(text, &d.doc))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	must(t, err)
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	must(t, d.compiler.AddResource("api.json", doc))
	return d
}

// operations are those that need a method: not what operators look at.
func (d *description) operations() map[string]bool {
	all := map[string]bool{}
	for path, verbs := range d.doc["paths"].(map[string]any) {
		for verb := range verbs.(map[string]any) {
			if strings.Contains(path, "/.well-known/") {
				continue // it is for receivers
			}
			if strings.HasPrefix(path, "/companies/") || strings.HasPrefix(path, "/callback-types") || strings.HasPrefix(path, "/egress") || path == "/lanes" || path == "/quotas" || path == "/audit" || strings.HasPrefix(path, "/keys") {
				all[strings.ToUpper(verb)+" "+path] = true
			}
		}
	}
	return all
}

func (d *description) operation(verb, path string) (map[string]any, bool) {
	methods, _ := d.doc["paths"].(map[string]any)[path].(map[string]any)
	op, ok := methods[strings.ToLower(verb)].(map[string]any)
	return op, ok
}

// wantBody holds a body that was sent against the operation's schema, line by line where it has lines.
func (d *description) wantBody(name string, op map[string]any, sent exchange) {
	d.t.Helper()
	body, _ := op["requestBody"].(map[string]any)
	if sent.body == nil {
		if body["required"] == true {
			d.t.Errorf("%s was sent no body", name)
		}
		return
	}
	content, _ := body["content"].(map[string]any)
	if content[sent.mediaType] == nil {
		d.t.Errorf("%s was sent %s", name, sent.mediaType)
		return
	}
	verb, path, _ := strings.Cut(name, " ")
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	at := "/paths/" + escape.Replace(path) + "/" + strings.ToLower(verb) + "/requestBody/content/" + escape.Replace(sent.mediaType) + "/schema"
	values := [][]byte{sent.body}
	if line := lineSchema(content[sent.mediaType].(map[string]any)["schema"].(map[string]any)); line != "" {
		at, values = line, bytes.Split(bytes.TrimSpace(sent.body), []byte("\n"))
	}
	schema, err := d.compiler.Compile("api.json#" + at)
	must(d.t, err)
	for _, text := range values {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		must(d.t, err)
		if err := schema.Validate(value); err != nil {
			d.t.Errorf("%s: %v: %s", name, err, text)
		}
	}
}

// lineSchema is where the schema of a body's lines is: a body of lines is described as text, in words that name it. Empty: it has none.
func lineSchema(body map[string]any) string {
	words, _ := body["description"].(string)
	if body["type"] != "string" {
		return ""
	}
	return regexp.MustCompile(`/components/schemas/\w+`).FindString(words)
}

func (d *description) wantQuery(name string, op map[string]any, sent string) {
	d.t.Helper()
	var known []string
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		if p := p.(map[string]any); p["in"] == "query" {
			known = append(known, p["name"].(string))
		}
	}
	for pair := range strings.SplitSeq(sent, "&") {
		if param, _, _ := strings.Cut(pair, "="); param != "" && !slices.Contains(known, param) {
			d.t.Errorf("%s was sent ?%s, which it does not know", name, param)
		}
	}
	var unsent []string
	for _, param := range known {
		if !strings.Contains("&"+sent, "&"+param+"=") && param != "cursor" {
			unsent = append(unsent, param)
		}
	}
	if len(unsent) > 0 {
		d.t.Errorf("%s knows %v, which no method's query has", name, unsent)
	}
}

// wantAnswer holds the Go type of an answer against the schema of the status that came.
func (d *description) wantAnswer(m method, op map[string]any, status int, answer any) {
	d.t.Helper()
	response, ok := op["responses"].(map[string]any)[fmt.Sprint(status)].(map[string]any)
	if !ok {
		d.t.Errorf("%s answered %d, which is not described", m.operation, status)
		return
	}
	content, _ := response["content"].(map[string]any)
	if m.element != nil {
		answer = m.element
	}
	if len(content) == 0 {
		if answer != nil {
			d.t.Errorf("%s answers %d with nothing, and its method with a %T", m.operation, status, answer)
		}
		return
	}
	for _, media := range content {
		schema, _ := media.(map[string]any)["schema"].(map[string]any)
		if line := lineSchema(schema); line != "" {
			schema = map[string]any{"$ref": "#" + line}
		}
		if schema == nil {
			d.t.Errorf("%s answers what is not described", m.operation)
		}
		for _, member := range d.lacking(schema, reflect.TypeOf(answer), "", 0) {
			d.t.Errorf("%s answers %s, which %T lacks", m.operation, member, answer)
		}
	}
}

// lacking are the members of a schema that a Go type has no field for, by path.
func (d *description) lacking(schema map[string]any, t reflect.Type, at string, depth int) (members []string) {
	if depth > 20 {
		d.t.Fatalf("%s is too deep", at)
	}
	if ref, ok := schema["$ref"].(string); ok {
		schema = d.doc["components"].(map[string]any)["schemas"].(map[string]any)[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if items, ok := schema["items"].(map[string]any); ok && t.Kind() == reflect.Slice && t != reflect.TypeFor[json.RawMessage]() {
		return d.lacking(items, t.Elem(), at+"[]", depth+1)
	}
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) > 0 && t.Kind() != reflect.Struct {
		return []string{at + " (an object)"}
	}
	fields := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields[name] = f.Type
		}
	}
	for name, property := range properties {
		field, ok := fields[name]
		if !ok {
			members = append(members, at+"."+name)
			continue
		}
		members = append(members, d.lacking(property.(map[string]any), field, at+"."+name, depth+1)...)
	}
	return members
}
