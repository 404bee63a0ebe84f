package httpapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

// The types in this file are documentation: they describe in /openapi.json the JSON that other packages read and write in
// their own way. A test compares them with the real answers. Types that others embed are exported, for huma passes over
// embedded types that are not.

type destinationDoc struct {
	URL         string `json:"url,omitempty" minLength:"1" maxLength:"2048" doc:"Required, unless pull is true. An absolute http or https URL without user info and fragment, in printable ASCII but for the host, which may be an international name: it is called in its xn-- form. Called exactly as it is: nothing is appended, normalised, re-encoded or followed." example:"https://partner.example/hook"`
	Method      string `json:"method,omitempty" enum:"POST,PUT,PATCH" default:"POST" doc:"The method of the requests."`
	ContentType string `json:"content_type,omitempty" enum:"application/json,application/x-www-form-urlencoded" default:"application/json" doc:"What the payload is sent as."`
	Pull        bool   `json:"pull,omitempty" doc:"Nothing is sent: the partner fetches, with poll and ack. It goes with none of the other members, nor with what says how requests are made, and cannot be changed afterwards."`
}

type authDoc struct {
	Type     string `json:"type" enum:"bearer,basic,oauth2" doc:"oauth2 means client credentials (RFC 6749, section 4.4): Ringback asks token_url for an access token and sends it as bearer does, until it expires or is refused."`
	Token    string `json:"token,omitempty" minLength:"1" maxLength:"4096" writeOnly:"true" doc:"With bearer, where it is required: visible ASCII characters without spaces. Comes back as \"***\"." example:"s3cr3t"`
	Username string `json:"username,omitempty" maxLength:"2048" doc:"With basic, where it is required: at most 2048 bytes, no colon and no control characters." example:"ringback"`
	Password string `json:"password,omitempty" maxLength:"2048" writeOnly:"true" doc:"With basic: at most 2048 bytes, no control characters. Without it the password is empty. Comes back as \"***\", or not at all where none is set." example:"s3cr3t"`

	TokenURL     string   `json:"token_url,omitempty" minLength:"1" maxLength:"2048" doc:"With oauth2, where it is required: the token endpoint, by the rules of destination.url. It is asked with POST, takes the client's credentials in the header (HTTP Basic) or in the body, whichever it wants, and answers in JSON within 10 s." example:"https://id.partner.example/oauth2/token"`
	ClientID     string   `json:"client_id,omitempty" minLength:"1" maxLength:"2048" doc:"With oauth2, where it is required: at most 2048 bytes, no control characters." example:"ringback"`
	ClientSecret string   `json:"client_secret,omitempty" minLength:"1" maxLength:"2048" writeOnly:"true" doc:"With oauth2, where it is required: at most 2048 bytes, no control characters. Comes back as \"***\", and must be given anew along with a token_url at another server (scheme, host or port)." example:"s3cr3t"`
	Scopes       []string `json:"scopes,omitempty" nullable:"false" maxItems:"50" doc:"With oauth2: what is asked for, each in visible ASCII characters without spaces, quotes and backslashes; 2048 bytes together." example:"[\"webhooks.write\"]"`
	Audience     string   `json:"audience,omitempty" maxLength:"2048" doc:"With oauth2: sent as audience, which some token endpoints want." example:"https://partner.example"`
}

type retryDoc struct {
	InitialInterval durationDoc `json:"initial_interval,omitempty" default:"5s" example:"5s" doc:"Before the first retry: 1s to 720h, and not above max_interval."`
	Multiplier      float64     `json:"multiplier,omitempty" minimum:"1" maximum:"10" default:"2.5" doc:"How many times as long each further wait is."`
	MaxInterval     durationDoc `json:"max_interval,omitempty" default:"12h" example:"12h" doc:"The longest wait between two attempts, before jitter of 20 %: 1s to 720h."`
	MaxAttempts     int         `json:"max_attempts,omitempty" minimum:"1" maximum:"100" default:"15" doc:"How many attempts there are, the first included. After the last the delivery is dead."`
}

type tlsDoc struct {
	ClientCertificate string    `json:"client_certificate,omitempty" maxLength:"32768" doc:"PEM: the client certificate, and then those between it and its authority, 10 at most. It is shown to endpoints that ask for one. It must not have expired, and be for clients. Needs client_key."`
	ClientKey         secretDoc `json:"client_key,omitempty"`
	CA                string    `json:"ca,omitempty" maxLength:"65536" doc:"PEM: the authorities, 20 at most, that are trusted instead of the system's."`
	ServerName        string    `json:"server_name,omitempty" maxLength:"253" doc:"The host name that is asked for (SNI), and that the endpoint's certificate must hold, instead of the URL's host." example:"hooks.partner.example"`
	Subject           string    `json:"subject,omitempty" readOnly:"true" doc:"Of the client certificate." example:"CN=acme"`
	Issuer            string    `json:"issuer,omitempty" readOnly:"true" doc:"Of the client certificate." example:"CN=Partner CA"`
	NotAfter          time.Time `json:"not_after,omitzero" readOnly:"true" doc:"When the client certificate expires. That is told of 30, 7 and 1 days before." example:"2026-12-31T00:00:00Z"`
	Fingerprint       string    `json:"fingerprint,omitempty" readOnly:"true" doc:"SHA-256 of the client certificate, in hex."`
}

type rateLimitDoc struct {
	PerSecond float64 `json:"per_second" minimum:"0.01" maximum:"10000" doc:"Attempts a second, in the long run." example:"50"`
	Burst     int     `json:"burst,omitempty" minimum:"1" maximum:"10000" doc:"Attempts that may follow at once after a pause. Default: per_second, rounded up." example:"100"`
}

type togetherDoc struct {
	MaxEvents int         `json:"max_events,omitempty" minimum:"1" maximum:"1000" default:"100" doc:"The most events in one request. With results, at most 500." example:"100"`
	MaxBytes  int         `json:"max_bytes,omitempty" minimum:"1024" maximum:"1048576" default:"262144" doc:"The most bytes of payloads in one request. An event whose payload is longer travels alone." example:"262144"`
	MaxWait   durationDoc `json:"max_wait,omitempty" default:"5s" example:"5s" doc:"How long the first event waits for others: 0s to 60s."`
	Element   string      `json:"element,omitempty" enum:"payload,envelope" default:"payload" doc:"What stands in the array for an event: the body that a request by itself would have, or {id, type, payload} with it, where id is the delivery's. Then Ringback-Batch-Element: envelope is sent." example:"envelope"`
	Results   bool        `json:"results,omitempty" default:"false" doc:"The body of an answer that counts as delivered may say {\"results\": [{\"id\": \"dlv_…\", \"status\": 200}]}, within its first 64 KiB: what has a status of 2xx there is delivered, and all else is tried again. An id is the delivery's or the event's. A body that says anything else, or is cut off, says nothing: all are delivered. Then Ringback-Batch-Results: 1 is sent."`
	RateLimit string      `json:"rate_limit,omitempty" enum:"requests,events" default:"requests" doc:"What takes a token of the callback's rate_limit: each request, or each event in it. Of events, a batch goes once there is a token, and the next once all that it took are made up for."`
}

type orderingDoc struct {
	Key       string      `json:"key" minLength:"1" maxLength:"512" doc:"A JSON Pointer (RFC 6901) to a string, a number, true or false in the payload, which the type's schema must have room for. An event that has nothing there, or null, an object or an array, has no order." example:"/customerId"`
	SkipAfter durationDoc `json:"skip_after,omitempty" doc:"How long a delivery may keep those behind it waiting, from when it is the first of its key: 1s to 720h. Then the next goes, and it goes on beside it. It is not skipped before it was attempted, nor while the callback is paused. Default: the next waits until it has ended." example:"24h"`
}

// durationDoc describes a duration.
type durationDoc string

// Schema describes a duration as Go writes it: 90s, 12h, 1h30m.
func (durationDoc) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$`}
}

// secretDoc describes a text that answers hide.
type secretDoc string

// Schema describes a secret.
func (secretDoc) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, WriteOnly: true, Description: "Comes back as \"***\"."}
}

// SettingsDoc are the optional members of a registration.
type SettingsDoc struct {
	Description string               `json:"description,omitempty" maxLength:"1024" doc:"For people: at most 1024 bytes." example:"Wallet sync of the Hamburg shop"`
	StartDate   time.Time            `json:"start_date,omitzero" doc:"Events accepted before this time (RFC 3339) do not match. Default: now, which excludes no event." example:"2026-01-31T12:00:00Z"`
	Headers     map[string]secretDoc `json:"headers,omitempty" maxProperties:"20" doc:"Sent with every request, by name: at most 20, and 4096 bytes together. Values are visible ASCII characters with spaces only between them, and come back as \"***\". Names that HTTP or Ringback needs are refused."`
	Auth        *authDoc             `json:"auth,omitempty" doc:"How requests prove to the partner who they are. Default: not at all."`
	TLS         *tlsDoc              `json:"tls,omitempty" doc:"Who requests are in the TLS handshake with the destination, and whom they trust there. It holds for a token_url at the same scheme, host and port, too, and for no other. Connections are kept apart by it. The destination must be https. Default: no client certificate, the authorities of the server's system, and the URL's host."`
	Success     string               `json:"success,omitempty" enum:"json_200_or_204,any_2xx,any_response" doc:"Which answers count as delivered. Default: the callback type's."`
	Trace       bool                 `json:"trace,omitempty" default:"false" doc:"Send traceparent (W3C Trace Context)."`
	Timeout     durationDoc          `json:"timeout,omitempty" default:"15s" example:"30s" doc:"Of one attempt: 1s to 60s."`
	Retry       *retryDoc            `json:"retry,omitempty" doc:"When failed deliveries are tried again."`
	Filter      *filterDoc           `json:"filter,omitempty" doc:"Narrows the match by what the payload holds. It is decided when an event is accepted; GET …/events/{event_id} names the clause that kept an event away. A patch replaces it whole."`
	Template    *templateDoc         `json:"template,omitempty" doc:"Makes a new body of the payload. A patch replaces it whole, and holds from the next attempt on."`
	Signature   *signatureDoc        `json:"signature,omitempty" doc:"By what requests are signed, and by what else. Default: by HMAC alone, and then it is not shown."`
	Ordering    *orderingDoc         `json:"ordering,omitempty" doc:"Keeps deliveries of events with the same key in order: one of them is under way at a time, and the next goes once it is delivered, dead or cancelled. Each has its number, counting up from 1, in Ringback-Sequence. Others do not wait for a key that fails. A replay neither waits nor keeps others waiting, and has the number that it had. At most 100 callbacks of a company may have one. Default: they go out as they come."`
	RateLimit   *rateLimitDoc        `json:"rate_limit,omitempty" doc:"How fast the partner wants to be called: all attempts at deliveries to this callback together. Deliveries beyond it wait. Default: as fast as it answers."`
	HeaderStyle string               `json:"header_style,omitempty" enum:"standard,svix,github,stripe" doc:"In which headers a signature travels, and in which form. standard is Standard Webhooks: Webhook-Id, Webhook-Timestamp and Webhook-Signature. svix is the same as Svix-Id, Svix-Timestamp and Svix-Signature. github is X-Hub-Signature-256, one signature over the body alone, with X-GitHub-Delivery (the webhook-id) and X-GitHub-Event (the event's type). stripe is Stripe-Signature. Webhook-Id and Ringback-* are sent with each. Absent: standard." example:"standard"`
	Envelope    string               `json:"envelope,omitempty" enum:"none,cloudevents-structured,cloudevents-binary" doc:"What the payload travels in: CloudEvents 1.0. Structured has it as data in a JSON event (application/cloudevents+json); binary has it as the body and the attributes as ce- headers, which only signature.rfc9421 covers. id is the event's id, source is urn:ringback:company: and the company's name, time is when the event was accepted: the same in all attempts and replays."`
	Body        string               `json:"body,omitempty" enum:"full,thin" doc:"thin sends {id, type, time, url} instead of the payload, which is had at url, without a key; see GET /payloads/{ticket}. With envelope cloudevents-structured, dataref has the url and there is no data. It takes an installation with --public-url."`
	Batch       *togetherDoc         `json:"batch,omitempty" doc:"Deliveries travel together: one request has a JSON array, and one webhook-id, which begins with bat_. One answer is the verdict for all. Tried again, the batch is the same, under the same webhook-id; answered 413, it goes out in halves, each under another. Ringback-Batch says how many there are; Ringback-Event-Id and Ringback-Event-Type are not sent. With envelope cloudevents-structured it is an array of CloudEvents (application/cloudevents-batch+json), unless element is envelope. Absent: one by one."`
}

// RegistrationDoc is what a client sends to register a callback.
type RegistrationDoc struct {
	CallbackType string         `json:"callback_type,omitempty" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_.*-]+$" doc:"A callback type, or a glob over types such as customer.* or *. Required, unless event_type stands for it. A member named after the type narrows the match: {\"wallet_item_install\": {\"campaign_token\": \"r3zhm8\"}}; a glob takes none." example:"wallet_item_install"`
	EventType    string         `json:"event_type,omitempty" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_.*-]+$" deprecated:"true" doc:"Alias of callback_type: given alone, or equal to it."`
	Destination  destinationDoc `json:"destination" doc:"Where requests go, and how."`
	SettingsDoc
	Secret string `json:"secret,omitempty" minLength:"16" maxLength:"256" writeOnly:"true" doc:"A signing secret that the receiver has already, so that it verifies the first delivery unchanged. Default: one is made. With header_style standard and svix: whsec_ and the base64 of 24 to 64 bytes, or that base64 alone. With github and stripe the text is the key: 16 to 256 characters. Never shown." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

// TransformSchema demands one of the two names of the type.
func (RegistrationDoc) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.AnyOf = []*huma.Schema{{Required: []string{"callback_type"}}, {Required: []string{"event_type"}}}
	return s
}

type patchDoc struct{ RegistrationDoc }

// TransformSchema makes every member optional and lets null remove it.
func (patchDoc) TransformSchema(schemas huma.Registry, s *huma.Schema) *huma.Schema {
	s = patchable(schemas, s)
	s.Nullable = false
	for _, name := range []string{"callback_type", "destination", "secret"} { // every callback has them
		s.Properties[name].Nullable = false
	}
	return s
}

// patchable is s as a merge patch may have it: no member is required, none has a default, and null removes any.
func patchable(schemas huma.Registry, s *huma.Schema) *huma.Schema {
	p := *s
	if s.Ref != "" {
		p = *schemas.SchemaFromRef(s.Ref)
		p.Description = cmp.Or(s.Description, p.Description)
	}
	p.Required, p.AnyOf, p.Default, p.Nullable = nil, nil, nil, p.Type != "" // without one, it may be anything
	if p.Enum != nil {
		p.Enum = append(slices.Clone(p.Enum), nil)
	}
	if values, ok := p.AdditionalProperties.(*huma.Schema); ok {
		p.AdditionalProperties = patchable(schemas, values)
	}
	p.Properties = maps.Clone(p.Properties)
	for name, member := range p.Properties {
		p.Properties[name] = patchable(schemas, member)
	}
	return &p
}

// CallbackDoc is a callback as answers show it.
type CallbackDoc struct {
	CallbackID   int64          `json:"callback_id" minimum:"1" doc:"Counts up in the company." example:"11887"`
	CallbackType string         `json:"callback_type" doc:"As registered. Where a block narrows the match, it stands under the name it was registered with." example:"wallet_item_install"`
	EventType    string         `json:"event_type" deprecated:"true" doc:"The same as callback_type." example:"wallet_item_install"`
	Destination  destinationDoc `json:"destination"`
	SettingsDoc
	StartDate      time.Time `json:"start_date" doc:"As registered, else when it was created."`
	URL            string    `json:"url" doc:"Where in this API the callback is." example:"/companies/acme/config/callbacks/11887"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
	Status         string    `json:"status" enum:"enabled,paused,disabled,unverified" doc:"Deliveries to a callback that is not enabled are held."`
	StatusAt       time.Time `json:"status_at,omitzero" doc:"Since when it is not enabled."`
	DisabledReason string    `json:"disabled_reason,omitempty" doc:"Why Ringback disabled it." example:"gone"`
	Unverified     string    `json:"unverified_reason,omitempty" doc:"What came of the last challenge, where it is unverified. Absent if none was sent." example:"challenge_failed"`
	OverlapUntil   time.Time `json:"secret_overlap_until,omitzero" doc:"Until then requests are signed with the secrets before the newest, too. Absent if there are none."`
}

// TransformSchema demands the settings that have defaults: answers show them all.
func (CallbackDoc) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = append(s.Required, "trace", "timeout", "retry")
	return s
}

type createdCallbackDoc struct {
	CallbackDoc
	Secret string `json:"secret,omitempty" doc:"The signing secret that was made, shown this once. Absent if you brought one." example:"whsec_…"`
}

// callbackHealthDoc is a callback as a GET shows it.
type callbackHealthDoc struct {
	CallbackDoc
	Company             string              `json:"company,omitempty" doc:"Whose it is, in lists over all companies." example:"acme"`
	Pending             int64               `json:"pending" doc:"Deliveries that are pending, active or retrying." example:"3"`
	Held                int64               `json:"held" doc:"Deliveries that wait: because it is paused, disabled, unverified or failing, or because others are ahead of them." example:"0"`
	OldestWaitingAt     time.Time           `json:"oldest_waiting_at,omitzero" doc:"When the event of the longest waiting of those was accepted. Absent if nothing waits."`
	Dead                int64               `json:"dead" doc:"Deliveries that failed for good and are kept." example:"12"`
	LastSuccessAt       time.Time           `json:"last_success_at,omitzero" doc:"Absent if nothing was ever delivered."`
	LastFailure         *dispatcher.Failure `json:"last_failure,omitempty" doc:"The last attempt that did not deliver, whatever came after it. Those that got no access token are not meant."`
	ConsecutiveFailures int64               `json:"consecutive_failures" doc:"Failed attempts since the last success. Those that say nothing about the partner do not count." example:"0"`
	Breaker             dispatcher.Breaker  `json:"breaker" enum:"closed,open,half_open" doc:"open after ten failures in a row: deliveries are held, and tried a few at a time until one is delivered; half_open while more go out with each success." example:"closed"`
	PausedUntil         time.Time           `json:"paused_until,omitzero" doc:"When the next may be tried, where an open breaker waits for that."`
	LastTokenFailure    *dispatcher.Failure `json:"last_token_failure,omitempty" doc:"With auth oauth2: the last attempt that got no access token, whatever came after it. Nothing was sent to the callback's URL then, unless it had refused a token first."`
}

type testRequestDoc struct {
	_         struct{} `additionalProperties:"false"`
	EventType string   `json:"event_type,omitempty" doc:"Which callback type's example to send. Needed where the callback is for a glob." example:"wallet_item_install"`
}

type testResultDoc struct {
	DeliveryID string `json:"delivery_id" doc:"The webhook-id of this test alone." example:"tst_3qnsb4xk2y7vj5dmwz6hcet4pa"`
	EventType  string `json:"event_type"`
	AttemptDoc
}

type challengeResultDoc struct {
	CallbackID int64  `json:"callback_id" minimum:"1" example:"11887"`
	Verified   bool   `json:"verified" doc:"Whether the endpoint agreed to be called."`
	Status     string `json:"status" enum:"enabled,paused,disabled,unverified" doc:"The callback's, as it is now."`
	DeliveryID string `json:"delivery_id,omitempty" doc:"The webhook-id of this challenge alone. Absent if a handshake was enough." example:"chl_3qnsb4xk2y7vj5dmwz6hcet4pa"`
	PlainAttemptDoc
}

type replayQueryDoc struct {
	_         struct{}  `additionalProperties:"false"`
	Since     time.Time `json:"since,omitzero" doc:"Only deliveries of events accepted at this time or later."`
	Until     time.Time `json:"until,omitzero" doc:"Only deliveries of events accepted before this time. Default: now."`
	States    []string  `json:"states,omitempty" minItems:"1" nullable:"false" enum:"dead,retrying,delivered,cancelled" doc:"Which deliveries. Default: [\"dead\"]."`
	EventType string    `json:"event_type,omitempty" doc:"Only deliveries of events of this type." example:"wallet_item_install"`
	Reason    string    `json:"reason,omitempty" doc:"Only deliveries whose last attempt ended for this reason." example:"status_500"`
	Pace      int64     `json:"pace,omitempty" minimum:"1" maximum:"10000" doc:"At most so many deliveries a second, in steps of some two seconds. Default: as fast as the callback takes them." example:"20"`
	DryRun    bool      `json:"dry_run,omitempty" default:"false" doc:"Count the deliveries and send nothing."`
}

type bulkQueryDoc struct {
	_         struct{} `additionalProperties:"false"`
	Companies []string `json:"companies,omitempty" minItems:"1" maxItems:"1000" nullable:"false" doc:"Only deliveries of these companies. Default: all."`
	SelectionDoc
}

type companyBulkQueryDoc struct {
	_ struct{} `additionalProperties:"false"`
	SelectionDoc
}

// SelectionDoc is what selects deliveries over callbacks.
type SelectionDoc struct {
	CallbackIDs []int64   `json:"callback_ids,omitempty" minItems:"1" maxItems:"1000" nullable:"false" doc:"Only deliveries to these callbacks, of one company. Default: all." example:"[11887]"`
	Since       time.Time `json:"since,omitzero" doc:"Only deliveries of events accepted at this time or later."`
	Until       time.Time `json:"until,omitzero" doc:"Only deliveries of events accepted before this time. Default: now."`
	States      []string  `json:"states,omitempty" minItems:"1" nullable:"false" enum:"dead,retrying,delivered,cancelled" doc:"Which deliveries. Default: [\"dead\"]. Retrying ones make their next attempt at once."`
	EventType   string    `json:"event_type,omitempty" doc:"Only deliveries of events of this type." example:"wallet_item_install"`
	Reason      string    `json:"reason,omitempty" doc:"Only deliveries whose last attempt ended for this reason." example:"status_500"`
	Pace        int64     `json:"pace,omitempty" minimum:"1" maximum:"10000" doc:"At most so many deliveries a second to each callback, in steps of some two seconds. Default: as fast as it takes them." example:"20"`
	DryRun      bool      `json:"dry_run,omitempty" default:"false" doc:"Count the deliveries and send nothing."`
}

type resumeDoc struct {
	_        struct{} `additionalProperties:"false"`
	SkipHeld bool     `json:"skip_held,omitempty" doc:"Cancel what waits instead of delivering it."`
}

type eventDoc struct {
	_          struct{}        `additionalProperties:"false"`
	EventType  string          `json:"event_type" doc:"A callback type." example:"wallet_item_install"`
	EventID    string          `json:"event_id,omitempty" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9_.:-]+$" doc:"Unique in the company. Made up if left out; give one, so that repeating is safe."`
	OccurredAt time.Time       `json:"occurred_at,omitzero"`
	Payload    json.RawMessage `json:"payload" doc:"What partners receive, byte for byte. It must fit the type's schema."`
}

// batchDoc describes a body of one event a line.
type batchDoc string

// Schema describes lines as text: a schema has no words for them.
func (batchDoc) Schema(huma.Registry) *huma.Schema {
	return linesOf("Event")
}

// linesOf describes lines, each of which has the schema of that name.
func linesOf(name string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "One JSON object a line, each as in #/components/schemas/" + name + "."}
}

// batchResultDoc is a line of the answer to a batch.
type batchResultDoc struct {
	Line   int `json:"line" minimum:"1" doc:"Which line of the request it is about. Blank lines count."`
	Status int `json:"status" doc:"As a single event would have been answered: 202 or 200 (accepted before), else 400, 409, 413, 422, 429, 500 or 503."`
	ReceiptDoc
	Title  string              `json:"title,omitempty" doc:"Where it was refused: the status in words."`
	Detail string              `json:"detail,omitempty" doc:"Where it was refused: why, and what would mend it."`
	Errors []*huma.ErrorDetail `json:"errors,omitempty" doc:"With a status of 422: the fields at fault."`

	RetryAfter int `json:"retry_after,omitempty" doc:"With a status of 429 or 503: how many seconds to wait before the line is sent again." example:"10"`
}

// ReceiptDoc are the members of a receipt, for a line that was accepted.
type ReceiptDoc struct {
	EventID    string                `json:"event_id,omitempty"`
	EventType  string                `json:"event_type,omitempty"`
	AcceptedAt time.Time             `json:"accepted_at,omitzero"`
	Deliveries []dispatcher.Accepted `json:"deliveries,omitempty"`
	Duplicate  bool                  `json:"duplicate,omitempty"`
	Expanding  bool                  `json:"expanding,omitempty" doc:"There are more deliveries than are listed: they are written from now on."`
	Warnings   []string              `json:"warnings,omitempty" doc:"What of the payload does not fit the type's schema, where the type only warns."`
}

type rotationDoc struct {
	_       struct{}    `additionalProperties:"false"`
	Overlap durationDoc `json:"overlap,omitempty" default:"24h" example:"24h" doc:"How long the secrets it had go on signing beside the new one: 0s to 168h. With header_style github it must be 0s."`
	Secret  string      `json:"secret,omitempty" minLength:"16" maxLength:"256" writeOnly:"true" doc:"The new secret, if you bring one: as in a registration, by the callback's header_style. Default: one is made. Never shown." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

// AttemptDoc is a dispatcher.Attempt.
type AttemptDoc struct {
	PlainAttemptDoc
	SentDoc
}

// PlainAttemptDoc is an attempt of which nothing more is shown.
type PlainAttemptDoc struct {
	Number          int               `json:"number" doc:"Counts from 1 and goes on over replays."`
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty" doc:"Absent if there was no answer."`
	Verdict         string            `json:"verdict" doc:"delivered, retry, dead or gone."`
	Reason          string            `json:"reason,omitempty"`
	Detail          string            `json:"detail" doc:"A sentence to act on."`
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty" doc:"Its beginning; of the last three attempts that did not deliver, or as --keep-answers says."`
}

// SentDoc is what an attempt sent.
type SentDoc struct {
	Request        *RequestDoc `json:"request,omitempty" doc:"What went out, of the last three attempts (--keep-requests). Of a test, and of a delivery where it is asked for."`
	RequestMissing string      `json:"request_missing,omitempty" doc:"Why there is no request to show, where it is asked for." example:"nothing was sent"`
	Timing         *TimingDoc  `json:"timing,omitempty" doc:"Where the time went. Shown with the request, and where nothing was sent since nobody was reached."`
}

// RequestDoc is a dispatcher.Request.
type RequestDoc struct {
	Method       string            `json:"method" example:"POST"`
	URL          string            `json:"url" doc:"As it was called, with *** for the values in its query. Viewers see nothing of the query." example:"https://partner.example/hook?token=***"`
	Headers      map[string]string `json:"headers" doc:"As they went out, but for *** in place of credentials and of the callback's own headers. Host, Content-Length and what else the connection adds is left out."`
	SentAt       time.Time         `json:"sent_at" doc:"By the clock of the process that sent it. If the request was made twice within the attempt, of the last."`
	Incomplete   bool              `json:"incomplete,omitempty" doc:"It could not be written to its end: the partner may have a part of it."`
	Body         *string           `json:"body" nullable:"true" doc:"As it went out; null where it is not shown."`
	BodyEncoding string            `json:"body_encoding,omitempty" enum:"base64" doc:"Where the body is no text."`
	BodyMissing  string            `json:"body_missing,omitempty" doc:"Why the body is null." example:"the event's body is no longer kept (--body-retention)"`
	Elements     []ElementDoc      `json:"elements,omitempty" doc:"Of a delivery that travelled in a batch: what that had in it, in order. Absent where it is not known."`
}

// ElementDoc is a dispatcher.Element.
type ElementDoc struct {
	DeliveryID string `json:"delivery_id,omitempty" doc:"Absent if its event was erased, or is no longer kept." example:"dlv_AYIrM62HwXVwZGF0ZS0x"`
	EventID    string `json:"event_id,omitempty" doc:"Absent if it was erased, or is no longer kept." example:"update-1"`
	Body       string `json:"body,omitempty" doc:"Only where the request's body is null since some elements are missing: this one as it went out."`
	Missing    string `json:"missing,omitempty" doc:"Why this element cannot be shown." example:"its event was erased, or is no longer kept"`
}

// TimingDoc is a dispatcher.Timing.
type TimingDoc struct {
	DNS       float64 `json:"dns_ms,omitempty" doc:"Looking the host up."`
	Connect   float64 `json:"connect_ms,omitempty" doc:"Opening the connection."`
	TLS       float64 `json:"tls_ms,omitempty" doc:"Its handshake."`
	FirstByte float64 `json:"first_byte_ms,omitempty" doc:"From the request written to the first byte of the answer."`
	Total     float64 `json:"total_ms" doc:"All of the request, with waiting for a connection and reading the answer."`
	Reused    bool    `json:"reused,omitempty" doc:"The connection had served before."`
}

// typeDoc is what an operator sends to add a callback type.
type typeDoc struct {
	_           struct{}          `additionalProperties:"false"`
	Description string            `json:"description,omitempty" doc:"For people: when does such an event happen?"`
	Schema      json.RawMessage   `json:"schema,omitempty" doc:"The JSON Schema (2020-12) of its payloads: at most 256 KiB, 64 levels, 2,000 objects and 20,000 values. Checking a payload takes at most 1,000,000 steps, or the payload is refused. Without a schema any JSON will do."`
	Example     json.RawMessage   `json:"example,omitempty" doc:"A payload that fits the schema. What tests of a callback send."`
	Match       map[string]string `json:"match,omitempty" doc:"What registrations may narrow the match by: name to JSON Pointer (RFC 6901) into the payload."`
	Success     string            `json:"success,omitempty" enum:"json_200_or_204,any_2xx,any_response" default:"json_200_or_204" doc:"Which answers count as delivered, for callbacks that do not say."`
	Validation  string            `json:"validation,omitempty" enum:"enforce,warn" default:"enforce" doc:"What becomes of a payload that does not fit the schema: it is refused, or accepted with warnings."`
	Stamp       string            `json:"stamp,omitempty" doc:"The JSON Pointer to the member that holds the time of sending: it is written anew on every attempt." example:"/timeOfIssue"`
	Synchronous bool              `json:"synchronous,omitempty" default:"false" doc:"Such a payload is asked with POST …/decisions, which waits for the partner's answer, and not sent as an event."`
	Name        string            `json:"name,omitempty" doc:"The name in the path, if at all."`
	Builtin     bool              `json:"builtin,omitempty" doc:"False, if at all."`
	MatchBlocks []string          `json:"match_blocks,omitempty" nullable:"false" doc:"The name alone, if at all."`
	Operational bool              `json:"operational,omitempty" doc:"False, if at all."`
}

type callbackTypeDoc struct {
	Name        string            `json:"name"`
	Builtin     bool              `json:"builtin" doc:"It comes with Ringback and cannot be changed."`
	Description string            `json:"description"`
	Match       map[string]string `json:"match" doc:"What registrations may narrow the match by: name to JSON Pointer into the payload."`
	MatchBlocks []string          `json:"match_blocks" doc:"The names a registration's block may have."`
	Success     string            `json:"success" enum:"json_200_or_204,any_2xx,any_response"`
	Validation  string            `json:"validation" enum:"enforce,warn" doc:"What becomes of a payload that does not fit the schema: it is refused, or accepted with warnings."`
	Stamp       string            `json:"stamp,omitempty" doc:"The JSON Pointer to the member that holds the time of sending. Absent: there is none, and payloads go out as they came." example:"/timeOfIssue"`
	Synchronous bool              `json:"synchronous" doc:"Such a payload is asked with POST …/decisions, not sent as an event."`
	Operational bool              `json:"operational" doc:"Ringback itself sends such events, about its own work, and takes them from nobody."`
	Schema      json.RawMessage   `json:"schema,omitempty" doc:"The JSON Schema (2020-12) of its payloads. Absent: any JSON will do."`
	Example     json.RawMessage   `json:"example,omitempty" doc:"A payload that fits the schema."`
}

// questionDoc is the body that asks for a decision.
type questionDoc struct {
	_         struct{}        `additionalProperties:"false"`
	EventType string          `json:"event_type" doc:"A synchronous callback type." example:"entry_code.verify"`
	Payload   json.RawMessage `json:"payload" doc:"What the partner receives. It must fit the type's schema."`
	Timeout   durationDoc     `json:"timeout,omitempty" example:"3s" doc:"How long to wait for the decision: 100ms to 60s. Default: the callback's timeout."`
}

// replayStateDoc describes a dispatcher.ReplayState.
type replayStateDoc string

// Schema lists the states of replays.
func (replayStateDoc) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{
		string(dispatcher.ReplayRunning), string(dispatcher.ReplayDone), string(dispatcher.ReplayCancelled), string(dispatcher.ReplayDryRun),
	}}
}

// stateDoc describes a dispatcher.State.
type stateDoc string

// Schema lists the states.
func (stateDoc) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, state := range dispatcher.States {
		s.Enum = append(s.Enum, string(state))
	}
	return s
}

// egressDoc stands for [dispatcher.Egress].
type egressDoc struct {
	Status string    `json:"status" enum:"running,paused"`
	Since  time.Time `json:"since,omitzero" doc:"While it is paused."`
}
