package httpapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// An example is what the API's description shows of one operation. A test sends the requests, and holds the answers against
// their schemas.
type example struct {
	request  string              // the body; empty: there is none
	answers  map[int]string      // by status of success; none for an answer without a body
	fault    payloads.FieldError // the field at fault in a 422; empty: the query
	conflict string              // the detail of a 409
	refusals map[int]error       // by status of failure, if the usual error for it does not fit
}

// The pieces of which examples are made.
const (
	exampleRegistration = `"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},` +
		`"destination":{"url":"https://partner.example/hook","method":"POST","content_type":"application/json"}`
	exampleCallback = `"callback_id":11887,"callback_type":"wallet_item_install","event_type":"wallet_item_install",` +
		`"wallet_item_install":{"campaign_token":"r3zhm8"},` +
		`"destination":{"url":"https://partner.example/hook","method":"POST","content_type":"application/json"},` +
		exampleDescription + exampleBearer + `,"trace":false,"timeout":"15s",` +
		`"retry":{"initial_interval":"5s","multiplier":2.5,"max_interval":"12h","max_attempts":15},"rate_limit":{"per_second":50,"burst":100},` +
		`"start_date":"2026-01-31T12:00:00Z","url":"/companies/acme/config/callbacks/11887",` +
		`"created_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00Z",`
	exampleDescription = `"description":"Wallet sync of the Hamburg shop",`
	exampleBearer      = `"auth":{"type":"bearer","token":"***"}` //nolint:gosec // nobody's
	exampleTLS         = `"tls":{"client_certificate":"-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n","client_key":"***","server_name":"hooks.partner.example",` +
		`"subject":"CN=acme","issuer":"CN=Partner CA","not_after":"2026-12-31T00:00:00Z","fingerprint":"0f1c7e3b0c2f5a7d9b6e4a8c1d3f5b7a9c0e2d4f6b8a1c3e5d7f9b0a2c4e6d8f"},`
	exampleCompanyTLS = `{"company":"acme","client_certificate":"-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n","client_key":"***",` +
		`"subject":"CN=acme","issuer":"CN=Partner CA","not_after":"2026-12-31T00:00:00Z","fingerprint":"0f1c7e3b0c2f5a7d9b6e4a8c1d3f5b7a9c0e2d4f6b8a1c3e5d7f9b0a2c4e6d8f"}`
	exampleOAuth2 = `"auth":{"type":"oauth2","token_url":"https://id.partner.example/oauth2/token","client_id":"ringback",` +
		`"client_secret":"***","scopes":["webhooks.write"]}`
	exampleSignature = `"signature":{"hmac":true,"ed25519":false,"rfc9421":true,"keys":[` + exampleNextKey + exampleSigningKey + `}]},`
	exampleNextKey   = `{"kid":"2qVQRfLtQ5ka4cUN6MJq1HzpEOLi2aYw0NV1kJ2bUAc","public_key":"whpk_PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=","stage":"announced",` +
		`"announced_at":"2026-02-01T09:30:00Z","signs_from":"2026-02-02T09:30:00Z"},`
	exampleSigningKey = `{"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","public_key":"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","stage":"signing",` +
		`"announced_at":"2026-01-31T12:00:00Z","signs_from":"2026-01-31T12:06:00Z"`
	exampleSigningEnds = `,"signs_until":"2026-02-03T09:30:00Z","published_until":"2026-02-03T09:40:00Z"`
	exampleKeySet      = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",` +
		`"use":"sig","alg":"EdDSA"}]}`

	exampleHealth = `"pending":3,"held":0,"oldest_waiting_at":"2026-02-01T08:14:58.02Z","dead":12,"consecutive_failures":0,"breaker":"closed","last_success_at":"2026-02-01T08:15:01.4Z",` +
		`"last_failure":` + exampleFailure
	exampleFailure = `{"at":"2026-02-01T08:15:00.7Z","delivery_id":"dlv_AYIrM62HwW9yZGVyLTQ3MTE","status_code":500,` +
		`"reason":"status_500","detail":"answered 500 Internal Server Error: the endpoint failed; its own log says why"}`
	exampleTokenFailure = `,"last_token_failure":{"at":"2026-02-01T06:02:11.3Z","delivery_id":"dlv_AYIrM62HwW9yZGVyLTQ3MDk","reason":"oauth_token",` +
		`"detail":"the token endpoint answered 401 (invalid_client); check auth.token_url, client_id and client_secret"}`
	exampleNarrow = `"filter":{"all":[{"pointer":"/wallet_instance/provider","op":"equals","value":"google"}]},` +
		`"template":{"item":{"$pointer":"/wallet_item/uuid"},"kind":"install"}`
	exampleDryRun = `{"event_type":"wallet_item_install","matches":false,` +
		`"why":"The callback's filter.all[0] asks for /wallet_instance/provider equals \"google\", and the event has another value there, a string.",` +
		`"clause":{"location":"filter.all[0]","pointer":"/wallet_instance/provider","op":"equals","value":"google"},` +
		`"request":{"method":"POST","url":"https://partner.example/hook","headers":{"Content-Type":"application/json","User-Agent":"Ringback/1.2.3",` +
		`"Webhook-Id":"dry_ftdovkhm4wrfk5uymptuini22r","Webhook-Timestamp":"1769933700","Webhook-Signature":"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",` +
		`"Ringback-Event-Id":"dry-run","Ringback-Event-Type":"wallet_item_install","Ringback-Attempt":"1"},` +
		`"sent_at":"2026-02-01T08:15:00.702Z","body":"{\"item\":\"item-uuid\",\"kind\":\"install\"}"}}`
	exampleOrdering = `"ordering":{"key":"/wallet_instance/uuid","skip_after":"24h"}`
	exampleSecret   = `"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"` //nolint:gosec // nobody's

	exampleEvent = `{"event_type":"wallet_item_install","event_id":"order-4711","occurred_at":"2026-02-01T08:14:57Z",` +
		`"payload":{"wallet_campaign":{"token":"r3zhm8"},"wallet_instance":{"provider":"google"},"wallet_item":{"uuid":"item-uuid"}}}`
	exampleReceipt = `"event_id":"order-4711","event_type":"wallet_item_install","accepted_at":"2026-02-01T08:14:58.02Z",` +
		`"deliveries":[{"delivery_id":"dlv_AYIrM62HwW9yZGVyLTQ3MTE","callback_id":11887,"state":"pending"}]`

	exampleAttempt = `{"number":1,"started_at":"2026-02-01T08:15:00.7Z","duration_ms":84,"status_code":200,"verdict":"retry","reason":"wrong_content_type",` +
		`"detail":"answered 200 with text/html: a 200 must carry application/json; this looks like a login page or a proxy",` +
		`"response_headers":{"Content-Type":"text/html"},"response_body":"<!doctype html>"}`
	exampleSent = `,"request":{"method":"POST","url":"https://partner.example/hook","headers":{"Content-Type":"application/json","User-Agent":"Ringback/1.2.3",` +
		`"Webhook-Id":"dlv_AYIrM62HwW9yZGVyLTQ3MTE","Webhook-Timestamp":"1769933700","Webhook-Signature":"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",` +
		`"Ringback-Event-Id":"order-4711","Ringback-Event-Type":"wallet_item_install","Ringback-Attempt":"1","Authorization":"***"},` +
		`"sent_at":"2026-02-01T08:15:00.702Z","body":"{\"wallet_campaign\":{\"token\":\"r3zhm8\"}}"},"timing":{"first_byte_ms":81.204,"total_ms":82.113,"reused":true}}`
	exampleDelivery = `{"delivery_id":"dlv_AYIrM62HwW9yZGVyLTQ3MTE","event_id":"order-4711","event_type":"wallet_item_install","callback_id":11887,`
	exampleRetrying = exampleDelivery + `"state":"retrying","summary":"Attempt 1: answered 200 with text/html. Attempt 2 follows at 2026-02-01T08:15:05Z.",` +
		`"accepted_at":"2026-02-01T08:14:58.02Z","attempts":[` + exampleAttempt + `],"next_attempt_at":"2026-02-01T08:15:05.6Z"}`

	exampleSynchronous, exampleDecisionID = "entry_code.verify", "dec_0696r8ah9ttotjq7f6rt1mo3uk"

	exampleReplay = `"replay_id":"rpl_xoxvujsfkxgqh7o2","callback_id":11887,"matched":120,"states":["dead"],"since":"2026-02-01T00:00:00Z",` +
		`"until":"2026-02-01T09:30:00Z","created_at":"2026-02-01T09:30:00Z",`

	exampleBulk = `"replay_id":"rpl_xoxvujsfkxgqh7o2mzat","companies":["acme"],"matched":120,"states":["dead","retrying"],"since":"2026-02-01T00:00:00Z",` +
		`"until":"2026-02-01T09:30:00Z","reason":"status_500","pace":20,"created_at":"2026-02-01T09:30:00Z",`

	exampleQuotas = `{"company":"acme","callbacks":50,"replays":10,"waiting_bytes":268435456,"weight":1,"used":{"callbacks":12,"replays":0,"waiting_bytes":1834201},` +
		`"defaults":{"callbacks":1000,"replays":10,"waiting_bytes":null,"weight":1}}`
	exampleAllQuotas = `{"callback_types":2000,"used":{"callback_types":14},"defaults":{"callback_types":1000}}`

	examplePortalLink = `"id":"lnk_q7m2wz4kxn5vhtbs","created_at":"2026-02-01T09:30:00Z","created_by":"rbk_1f6k2m9q","expires_at":"2026-02-02T09:30:00Z",` +
		`"session_expires_in":"12h","read_only":true,`
	exampleUsedLink = examplePortalLink + `"status":"in_use","used_at":"2026-02-01T10:00:00Z","session_expires_at":"2026-02-01T22:00:00Z"`

	exampleKey = `{"id":"rbk_1f6k2m9q","role":"partner","company":"acme","created_at":"2026-02-01T09:30:00Z","expires_at":"2026-12-31T00:00:00Z",` +
		`"replaced_until":"2026-02-02T09:30:00Z","last_used_at":"2026-02-01T10:05:00Z","rate_limit":20}`

	exampleOldProcess = "a quota has to wait: a process of an older version is still running here; try again when the operator has upgraded it"

	exampleLanes = `{"count":8,"draining":[],"lanes":[{"lane":"ringback-0","pending":3,"active":12,"scheduled":0,"retry":41,"node":"10.0.0.1:6379"}]}`

	exampleEgressPaused = `{"status":"paused","since":"2026-02-01T09:30:00Z"}`

	exampleType = `"description":"A customer signed up.","schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}},` +
		`"example":{"id":4711,"shop":{"code":"hamburg"}},"match":{"shop":"/shop/code"},"success":"any_2xx","validation":"enforce","synchronous":false`
	exampleShownType = `{"name":"customer.created","builtin":false,"operational":false,"match_blocks":["customer.created"],` + exampleType + `}`
)

// examples are by operation id.
var examples = map[string]example{
	"list-companies":     {answers: map[int]string{http.StatusOK: exampleCompanies}},
	"list-all-callbacks": {answers: map[int]string{http.StatusOK: `{"callbacks":[{"company":"acme",` + exampleCallback + `"status":"enabled",` + exampleHealth + `}],"next_cursor":"YWNtZS8"}`}},
	"find-events":        {answers: map[int]string{http.StatusOK: exampleEvents}, fault: payloads.FieldError{Location: "query.campaign", Message: "is not known here: there are event_type, event_id, webhook_id, since, until, limit, cursor, campaign_token"}},
	"overview":           {answers: map[int]string{http.StatusOK: exampleOverview}},
	"create-callback": {
		request: `{` + exampleRegistration + `,"description":"Wallet sync of the Hamburg shop","auth":{"type":"bearer","token":"s3cr3t"},` +
			`"rate_limit":{"per_second":50,"burst":100},"envelope":"cloudevents-structured","batch":{"max_events":200,"max_wait":"10s"}}`,
		answers:  map[int]string{201: `{` + exampleCallback + `"status":"enabled",` + exampleSecret + `}`},
		fault:    payloads.FieldError{Location: "body.timeout", Message: "must be a duration from 1s to 60s", Value: "90s"},
		conflict: exampleOldProcess,
	},
	"list-callbacks": {
		answers: map[int]string{200: `{"callbacks":[{` + exampleCallback + `"status":"enabled",` + exampleHealth + `}],"next_cursor":"MTE4ODc"}`},
		fault:   payloads.FieldError{Location: "query.status", Message: "must be one of enabled, paused, disabled, unverified", Value: "asleep"},
	},
	"get-callback": {answers: map[int]string{
		200: `{` + strings.Replace(exampleCallback, exampleBearer, exampleOAuth2, 1) + exampleTLS + `"status":"enabled",` + exampleHealth + exampleTokenFailure + `}`,
	}},
	"update-callback": {
		request: `{"auth":{"type":"oauth2","token":null,"token_url":"https://id.partner.example/oauth2/token","client_id":"ringback",` +
			`"client_secret":"s3cr3t","scopes":["webhooks.write"]},"timeout":"30s","description":null,"header_style":"svix","signature":{"rfc9421":true},` + exampleOrdering + `,` + exampleSecret + `}`,
		answers:  map[int]string{200: `{` + strings.NewReplacer(exampleBearer, exampleOAuth2, `"15s"`, `"30s"`, exampleDescription, "").Replace(exampleCallback) + strings.Replace(exampleSignature, exampleNextKey, "", 1) + exampleOrdering + `,"header_style":"svix","status":"enabled"}`},
		fault:    payloads.FieldError{Location: "body.timeout", Message: "must be a duration from 1s to 60s", Value: "90s"},
		conflict: busyDetail,
	},
	"delete-callback": {},
	"pause-callback": {
		answers: map[int]string{200: `{` + exampleCallback + `"status":"paused","status_at":"2026-02-01T09:00:00Z"}`},
	},
	"resume-callback": {
		request: `{"skip_held":false}`,
		answers: map[int]string{200: `{` + exampleCallback + `"status":"enabled"}`},
		fault:   payloads.FieldError{Location: "body.skip_held", Message: "must be true or false"},
	},
	"poll-callback": {
		answers: map[int]string{200: `{"deliveries":[{"cursor":"1769933698020-0","delivery_id":"dlv_AYIrM62HwW9yZGVyLTQ3MTE","event_id":"order-4711","event_type":"payment_proof",` +
			`"accepted_at":"2026-02-01T08:14:58.02Z","payload":{"payment_id":"p-1"}}],"next":"1769933698020-0","acknowledged":"1769933690001-2","more":false}`},
		fault:    payloads.FieldError{Location: "query.wait", Value: "1m", Message: "must be a duration from 0s to 30s, such as 30s"},
		conflict: "this callback is paused: resume it to fetch what waits",
	},
	"acknowledge-deliveries": {
		request:  `{"through":"1769933698020-0"}`,
		answers:  map[int]string{200: `{"acknowledged":"1769933698020-0","delivered":1,"cancelled":0}`},
		fault:    payloads.FieldError{Location: "body.through", Message: "is no cursor that a poll of this callback gave"},
		conflict: "this callback's deliveries are sent to its destination.url, so there is nothing to fetch",
	},
	"seek-callback": {
		request:  `{"to":"2026-02-01T08:00:00Z"}`,
		answers:  map[int]string{200: `{"acknowledged":"1769932800000-0","delivered":0,"cancelled":0}`},
		fault:    payloads.FieldError{Location: "body.to", Message: "is no cursor that a poll of this callback gave"},
		conflict: "this callback's deliveries are sent to its destination.url, so there is nothing to fetch",
	},
	"rotate-secret": {
		request:  `{"overlap":"24h"}`,
		answers:  map[int]string{200: `{` + exampleCallback + `"status":"enabled",` + exampleSecret + `}`},
		fault:    payloads.FieldError{Location: "body.overlap", Message: "must be a duration from 0s to 168h"},
		conflict: busyDetail,
	},
	"dry-run": {
		request: `{"callback":{` + exampleRegistration + `,` + exampleNarrow + `},"payload":{"wallet_campaign":{"token":"r3zhm8"},"wallet_instance":{"provider":"apple"},"wallet_item":{"uuid":"item-uuid"}}}`,
		answers: map[int]string{200: exampleDryRun},
		fault:   payloads.FieldError{Location: "body.callback.filter.all[0].op", Message: "must be one of equals, not_equals, in, not_in, prefix, suffix, exists, gt, gte, lt, lte"},
	},
	"dry-run-callback": {
		request: `{"callback":{` + exampleNarrow + `}}`,
		answers: map[int]string{200: exampleDryRun},
		fault:   payloads.FieldError{Location: "body.payload.wallet_campaign.token", Message: "is missing: wallet_item_install needs it"},
	},
	"rotate-signing-key": {
		request:  `{"announce":"24h","overlap":"24h"}`,
		answers:  map[int]string{200: `{` + exampleCallback + strings.Replace(exampleSignature, exampleSigningKey, exampleSigningKey+exampleSigningEnds, 1) + `"status":"enabled"}`},
		fault:    payloads.FieldError{Location: "body.announce", Message: "must be a duration from 6m, for receivers may remember a company's keys for 5m, to 720h", Value: "1m"},
		conflict: busyDetail,
	},
	"key-set": {answers: map[int]string{200: exampleKeySet}},
	"test-callback": {
		request: `{"event_type":"wallet_item_install"}`,
		answers: map[int]string{200: `{"delivery_id":"tst_ftdovkhm4wrfk5uymptuini22r","event_type":"wallet_item_install",` + strings.TrimSuffix(exampleAttempt[1:], "}") + strings.ReplaceAll(exampleSent, "dlv_AYIrM62HwW9yZGVyLTQ3MTE", "tst_ftdovkhm4wrfk5uymptuini22r")},
		fault:   payloads.FieldError{Location: "body.event_type", Message: "must be a type that this callback is for: wallet_item_install"},
	},
	"verify-callback": {
		answers: map[int]string{200: `{"callback_id":11887,"verified":true,"status":"enabled","delivery_id":"chl_q7m2wz4kxn5vhtbs3ycgdjr6ea","number":1,` +
			`"started_at":"2026-02-01T08:15:00.6Z","duration_ms":41,"status_code":200,"verdict":"delivered",` +
			`"detail":"answered 200 OK and said the challenge's token back"}`},
		conflict: "this callback is being tested or challenged already: wait for the answer",
		refusals: map[int]error{http.StatusTooManyRequests: &dispatcher.ChallengedTooOftenError{Wait: 9 * time.Second}},
	},
	"replay-callback": {
		request: `{"since":"2026-02-01T00:00:00Z","until":"2026-02-01T09:30:00Z","states":["dead"],"reason":"status_500","dry_run":true}`,
		answers: map[int]string{202: `{` + exampleReplay + `"replayed":0,"state":"running"}`},
		fault:   payloads.FieldError{Location: "body.states[0]", Message: "must be dead, retrying, delivered or cancelled: others go out by themselves", Value: "held"},
		refusals: map[int]error{
			http.StatusConflict: &registry.QuotaError{Quota: registry.QuotaReplays, Company: "acme", Limit: registry.DefaultReplays, Used: registry.DefaultReplays},
		},
	},
	"replay-companies": {
		request: `{"companies":["acme"],"since":"2026-02-01T00:00:00Z","states":["dead","retrying"],"reason":"status_500","pace":20}`,
		answers: map[int]string{202: `{` + exampleBulk + `"replayed":0,"state":"running"}`},
		fault:   payloads.FieldError{Location: "body.companies[0]", Message: "is no company that there is", Value: "acne"},
		refusals: map[int]error{
			http.StatusConflict: dispatcher.ErrTooManyReplays,
		},
	},
	"replay-company": {
		request: `{"since":"2026-02-01T00:00:00Z","states":["dead","retrying"],"reason":"status_500","pace":20}`,
		answers: map[int]string{202: `{` + exampleBulk + `"replayed":0,"state":"running"}`},
		fault:   payloads.FieldError{Location: "body.callback_ids[0]", Message: "is no callback of this company", Value: 11887},
		refusals: map[int]error{
			http.StatusConflict: &registry.QuotaError{Quota: registry.QuotaReplays, Company: "acme", Limit: registry.DefaultReplays, Used: registry.DefaultReplays},
		},
	},
	"list-bulk-replays": {answers: map[int]string{200: `{"replays":[{` + exampleBulk + `"replayed":80,"state":"running","parts_left":1}]}`}},
	"get-bulk-replay": {answers: map[int]string{200: `{` + exampleBulk + `"replayed":80,"state":"running","parts_left":1,` +
		`"parts":[{"company":"acme","state":"running","matched":120,"replayed":80,"left":40,"callback_ids":[11887]}]}`}},
	"cancel-bulk-replay": {},
	"list-replays":       {answers: map[int]string{200: `{"replays":[{` + exampleReplay + `"replayed":80,"state":"running"}]}`}},
	"get-replay":         {answers: map[int]string{200: `{` + exampleReplay + `"replayed":120,"state":"done","finished_at":"2026-02-01T09:31:12Z"}`}},
	"cancel-replay":      {},

	"send-event": {
		request:  exampleEvent,
		answers:  map[int]string{202: `{` + exampleReceipt + `}`, 200: `{` + exampleReceipt + `,"duplicate":true}`},
		fault:    payloads.FieldError{Location: "body.payload.wallet_campaign.token", Message: "must be a string, but is a number"},
		conflict: "this event_id was accepted before with other content: send new content under a new event_id",
		refusals: map[int]error{http.StatusTooManyRequests: &registry.QuotaError{Quota: registry.QuotaWaitingBytes, Company: "acme", Limit: 268435456, Used: 268434012}},
	},
	"send-events": {
		request: exampleEvent + "\n" + `{"event_type":"wallet_item_install","payload":{}}` + "\n",
		answers: map[int]string{200: `{"line":1,"status":202,` + exampleReceipt + "}\n" +
			`{"line":2,"status":422,"title":"Unprocessable Entity","detail":"body.payload.wallet_campaign is missing",` +
			`"errors":[{"location":"body.payload.wallet_campaign","message":"is missing"}]}` + "\n"},
	},
	"explain-event": {
		answers: map[int]string{200: `{"event_id":"order-4711","event_type":"wallet_item_install","accepted_at":"2026-02-01T08:14:58.02Z",` +
			`"occurred_at":"2026-02-01T08:14:57Z","summary":"order-4711 (wallet_item_install) was accepted at 2026-02-01T08:14:58Z and went to 1 callback: 1 retrying.",` +
			`"callbacks":[{"callback_id":11887,"callback_type":"wallet_item_install","decision":"matched","why":"It matched when the event was accepted.","delivery":` +
			exampleRetrying + `},{"callback_id":11888,"callback_type":"payment_proof","decision":"not_matched","why":"It is for payment_proof."}]}`},
		fault: payloads.FieldError{Location: "query.limit", Message: "must be 1 to 500", Value: "501"},
	},

	"erase-event": {answers: map[int]string{200: `{"event_id":"order-4711","deliveries":3,"unfinished":1,"dead":1,"in_flight":0}`}},
	"erase-company": {
		answers: map[int]string{200: `{"company":"acme","done":true,"callbacks":2,"events":4711,"deliveries":9422,"unfinished":12,"dead":3,"in_flight":1,` +
			`"decisions":40,"replays":1,"api_keys":2,"kept":["cbseq: the last callback_id, so that none is given twice"]}`},
		refusals: map[int]error{http.StatusNotFound: errNoCompany},
	},

	"ask-decision": {
		request: `{"event_type":"` + exampleSynchronous + `","payload":{"entryCode":"4711-0815","customer":{"externalId":"c-17"}},"timeout":"3s"}`,
		answers: map[int]string{200: `{"decision_id":"` + exampleDecisionID + `","callback_id":11889,"status_code":200,"body":{"accepted":false,"message":"not paid"},"duration_ms":84}`},
		fault:   payloads.FieldError{Location: "body.timeout", Message: `must be a duration such as "3s", from 100ms to 1m`},
		refusals: map[int]error{
			http.StatusNotFound: dispatcher.ErrNotAsked,
			http.StatusConflict: &dispatcher.ElectionError{
				Callbacks: []int64{11889, 11890}, Message: "more than one callback is enabled for " + exampleSynchronous + ", and only one can decide: 11889, 11890; pause or delete the others",
			},
			http.StatusTooManyRequests: dispatcher.ErrTooManyAsked,
			http.StatusBadGateway: &dispatcher.NoDecisionError{
				DecisionID: exampleDecisionID, CallbackID: 11889, StatusCode: http.StatusNotFound, Reason: "status_404",
				Detail: "answered 404 Not Found: Customer id c-17 not found", Body: `{"message":"Customer id c-17 not found"}`,
			},
			http.StatusGatewayTimeout: &dispatcher.NoDecisionError{
				DecisionID: exampleDecisionID, CallbackID: 11889, Reason: "timeout", Late: true,
				Detail: "no answer in time; ask with a longer timeout, or let the endpoint decide faster",
			},
		},
	},

	"list-deliveries": {
		answers: map[int]string{200: `{"deliveries":[` + exampleRetrying + `],"next_cursor":"MTc2OTkzMzY5ODAyMC0wLzExODg3"}`},
		fault:   payloads.FieldError{Location: "query.limit", Message: "must be 1 to 500", Value: "501"},
	},
	"stream-deliveries": {
		answers: map[int]string{200: "retry: 2000\nid: MFRGGZDFMZTWQ2LKNNWG23TPOA-1769933698020-0\n\n" +
			"id: MFRGGZDFMZTWQ2LKNNWG23TPOA-1769933700784-0\nevent: delivery\ndata: " + exampleRetrying + "\n\n"},
		fault:    payloads.FieldError{Location: "query.state", Message: "is no state of a delivery: they are pending, active, retrying, held, delivered, dead, cancelled", Value: "lost"},
		refusals: map[int]error{http.StatusTooManyRequests: tooManyStreams("this key has %d streams open, as many as one key may have", keyStreams)},
	},
	"get-delivery": {answers: map[int]string{200: strings.Replace(exampleRetrying, exampleAttempt, strings.TrimSuffix(exampleAttempt, "}")+exampleSent, 1)}},
	"get-payload": {
		answers:  map[int]string{200: `{"wallet_campaign":{"token":"r3zhm8"},"wallet_instance":{"provider":"google"},"wallet_item":{"uuid":"item-uuid"}}`},
		refusals: map[int]error{http.StatusGone: dispatcher.ErrBodyLeft},
	},
	"fetch-payload": {
		answers:  map[int]string{200: `{"wallet_campaign":{"token":"r3zhm8"},"wallet_instance":{"provider":"google"},"wallet_item":{"uuid":"item-uuid"}}`},
		refusals: map[int]error{http.StatusGone: errTicketOver},
	},
	"replay-delivery": {
		answers: map[int]string{202: exampleDelivery + `"state":"pending","summary":"Waits for attempt 2.",` +
			`"accepted_at":"2026-02-01T08:14:58.02Z","attempts":[` + exampleAttempt + `]}`},
		conflict: "this delivery is retrying already: it goes out by itself, a held one once its callback is resumed",
	},
	"hasten-delivery": {
		answers: map[int]string{202: exampleDelivery + `"state":"pending","summary":"The next attempt is due now.",` +
			`"accepted_at":"2026-02-01T08:14:58.02Z","attempts":[` + exampleAttempt + `]}`},
		conflict: "this delivery is dead: replay it to send it again",
	},
	"cancel-delivery": {
		answers: map[int]string{200: exampleDelivery + `"state":"cancelled","summary":"Cancelled at 2026-02-01T08:15:03Z.",` +
			`"accepted_at":"2026-02-01T08:14:58.02Z","attempts":[` + exampleAttempt + `]}`},
		conflict: "this delivery is delivered: there is nothing left to cancel",
	},

	"pause-egress":  {answers: map[int]string{200: exampleEgressPaused}},
	"resume-egress": {answers: map[int]string{200: `{"status":"running"}`}},
	"get-egress":    {answers: map[int]string{200: exampleEgressPaused}},

	"get-lanes": {answers: map[int]string{200: exampleLanes}},
	"set-lanes": {
		request: `{"count":8}`, answers: map[int]string{200: exampleLanes},
		fault:    payloads.FieldError{Location: "body.count", Message: "must be from 1 to 64"},
		conflict: exampleOldProcess,
	},

	"list-audit": {
		answers: map[int]string{200: `{"entries":[{"id":"MTc3MDAwMDAwMDAwMC0wIHthY21lfTphdWRpdA","at":"2026-02-01T09:30:00Z","company":"acme","actor":"rbk_1f6k2m9q",` +
			`"action":"callback.update","object":"callbacks/11887","changes":[{"field":"destination.url","old":"https://partner.example/hook",` +
			`"new":"https://partner.example/v2/hook"},{"field":"auth.token","old":"***","new":"***"}]}],"next_cursor":"bGluZToxNzcw"}`},
		fault: payloads.FieldError{Location: "query.cursor", Message: "must be the next_cursor of the page before"},
	},
	"list-keys": {
		answers: map[int]string{200: `{"keys":[` + exampleKey + `],"next_cursor":"MTc2OTkzODIwMDAwMDAwMDAwMC9yYmtfMWY2azJtOXE"}`},
		fault:   payloads.FieldError{Location: "query.cursor", Message: "must be the next_cursor of the page before"},
	},
	"get-key":    {answers: map[int]string{200: exampleKey}},
	"revoke-key": {conflict: errOwnKey.detail},
	"create-portal-link": {
		request:  `{"expires_in":"24h","session_expires_in":"12h","read_only":true}`,
		answers:  map[int]string{201: `{"url":"https://ringback.example.com/portal/enter/rbl_…",` + examplePortalLink + `"status":"unused"}`},
		fault:    payloads.FieldError{Location: "body.expires_in", Message: "must be from 60s to 720h", Value: "1000h"},
		conflict: errNoAddress.detail,
	},
	"list-portal-links":  {answers: map[int]string{200: `{"portal_links":[{` + exampleUsedLink + `}]}`}},
	"get-portal-link":    {answers: map[int]string{200: `{` + exampleUsedLink + `}`}},
	"revoke-portal-link": {},
	"get-caller":         {answers: map[int]string{200: `{"id":"rbk_1f6k2m9q","role":"viewer","company":"acme","expires_at":"2026-12-31T00:00:00Z"}`}},
	"get-company-tls":    {answers: map[int]string{200: exampleCompanyTLS}},
	"set-company-tls": {
		request:  `{"client_certificate":"-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n","client_key":"-----BEGIN PRIVATE KEY-----\nMIGH…\n-----END PRIVATE KEY-----\n"}`,
		answers:  map[int]string{200: exampleCompanyTLS},
		fault:    payloads.FieldError{Location: "body.client_key", Message: "does not belong to client_certificate: give the key that the first certificate there was issued for"},
		conflict: exampleOldProcess,
	},
	"delete-company-tls": {},
	"get-company-quotas": {answers: map[int]string{200: exampleQuotas}},
	"set-company-quotas": {
		request: `{"callbacks":50,"waiting_bytes":268435456}`, answers: map[int]string{200: exampleQuotas},
		fault:    payloads.FieldError{Location: "body.callbacks", Message: "must be from 0 to 1000000, or null for the default", Value: -1},
		conflict: exampleOldProcess,
	},
	"get-quotas": {answers: map[int]string{200: exampleAllQuotas}},
	"set-quotas": {
		request: `{"callback_types":2000}`, answers: map[int]string{200: exampleAllQuotas},
		fault:    payloads.FieldError{Location: "body.callback_types", Message: "must be from 0 to 100000, or null for the default", Value: -1},
		conflict: exampleOldProcess,
	},

	"list-callback-types": {answers: map[int]string{200: `{"callback_types":[` + exampleShownType + `]}`}},
	"get-callback-type":   {answers: map[int]string{200: exampleShownType}},
	"put-callback-type": {
		request:  `{` + exampleType + `}`,
		answers:  map[int]string{201: exampleShownType, 200: exampleShownType},
		fault:    payloads.FieldError{Location: "body.match.shop", Message: "must be a JSON Pointer into the payload, such as /wallet_campaign/token"},
		conflict: builtinDetail,
	},
	"delete-callback-type": {
		conflict: "callback type order.placed is in use: there is 1 callback registered for it (acme 11887); delete those callbacks or give them another type, and delete it then",
	},

	"health":    {answers: map[int]string{200: `{"status":"ok","version":"1.2.3"}`}},
	"readiness": {answers: map[int]string{200: `{"status":"ready","version":"1.2.3"}`}},
	"metrics": {answers: map[int]string{200: "# TYPE ringback_events_accepted_total counter\n" +
		"ringback_events_accepted_total{event_type=\"wallet_item_install\"} 4711\n"}},
	"openapi":           {answers: map[int]string{200: `{"openapi":"3.1.0","info":{"title":"Ringback","version":"1.2.3"},"paths":{}}`}},
	"docs":              {answers: map[int]string{200: "<!doctype html>…"}},
	"docs-file":         {answers: map[int]string{200: "…"}},
	"monitoring":        {answers: map[int]string{200: "<!doctype html>…"}},
	"monitoring-login":  {request: `{"key":"rk_operator_…"}`},
	"monitoring-logout": {},
}
