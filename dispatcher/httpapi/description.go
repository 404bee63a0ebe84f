package httpapi

import (
	"cmp"
	"maps"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// newAPI makes the huma API that operations are registered with. It serves none of huma's pages, which load scripts from
// strangers: ours are in docs.go.
func newAPI(mux humago.Mux, version string) huma.API {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	for goType, doc := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[registry.Callback]():          reflect.TypeFor[CallbackDoc](),
		reflect.TypeFor[registry.Revealed]():          reflect.TypeFor[createdCallbackDoc](),
		reflect.TypeFor[callbackHealth]():             reflect.TypeFor[callbackHealthDoc](),
		reflect.TypeFor[dispatcher.Attempt]():         reflect.TypeFor[AttemptDoc](),
		reflect.TypeFor[dispatcher.Request]():         reflect.TypeFor[RequestDoc](),
		reflect.TypeFor[dispatcher.Timing]():          reflect.TypeFor[TimingDoc](),
		reflect.TypeFor[dispatcher.DryRunResult]():    reflect.TypeFor[dryRunDoc](),
		reflect.TypeFor[dispatcher.TestResult]():      reflect.TypeFor[testResultDoc](),
		reflect.TypeFor[dispatcher.ChallengeResult](): reflect.TypeFor[challengeResultDoc](),
		reflect.TypeFor[dispatcher.State]():           reflect.TypeFor[stateDoc](),
		reflect.TypeFor[dispatcher.ReplayState]():     reflect.TypeFor[replayStateDoc](),
		reflect.TypeFor[callbackType]():               reflect.TypeFor[callbackTypeDoc](),
		reflect.TypeFor[dispatcher.Egress]():          reflect.TypeFor[egressDoc](),
		reflect.TypeFor[dispatcher.Lanes]():           reflect.TypeFor[lanesDoc](),
		reflect.TypeFor[registry.AuditEntry]():        reflect.TypeFor[auditEntryDoc](),
	} {
		schemas.RegisterTypeAlias(goType, doc)
	}
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Ringback", Version: version,
				Description: "Reliable outbound webhooks: partners register callbacks, internal systems hand over events, " +
					"Ringback delivers each event, signed, to every callback that matches, and can say what became of it.\n\n" +
					"Errors are problems as RFC 9457 describes them. What a key may not see answers 404, as if it did not exist.\n\n" +
					"With the header Idempotency-Key a POST is done once, and for 24 h a repeat gets the same answer. Of an event the key is its id; of events as NDJSON each line has one.\n\n" +
					"Every answer has an X-Request-Id: the one that the request came with, if it is of 1 to 128 printable ASCII characters without spaces, or one of its own. The log names requests by it.",
				License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
			},
			OnAddOperation: []huma.AddOpFunc{describeParameters},
			Tags:           tags,
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", Description: "An API key, as `ringback keys create` gives it."},
				},
			},
		},
		Formats:       map[string]huma.Format{mediaJSON: jsonFormat, "json": jsonFormat},
		DefaultFormat: mediaJSON,
	}
	config.AllowAdditionalPropertiesByDefault = true // answers may grow
	return humago.New(mux, config)
}

// schemaName names a schema after its Go type. If the type stands for another, the Doc at its end is left off.
func schemaName(t reflect.Type, hint string) string {
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "Doc")
}

// tags are the chapters of the API's description.
var tags = []*huma.Tag{
	{Name: "Callbacks", Description: "Where a company's events go. Partners look after their own."},
	{Name: "Events", Description: "What happened, handed over once and delivered to every callback that matches."},
	{Name: "Decisions", Description: "What a partner decides while the caller waits."},
	{Name: "Deliveries", Description: "One event on its way to one callback."},
	{Name: "Fetching", Description: "Deliveries for a partner who cannot be called, and fetches instead."},
	{Name: "Replays", Description: "Many deliveries of one callback, sent again."},
	{Name: "Portal links", Description: "Addresses that let a partner without an API key in to its company's page, once."},
	{Name: "API keys", Description: "Who may do what. They are made on the command line."},
	{Name: "Egress", Description: "Whether anything goes out at all."},
	{Name: "Callback types", Description: "Which events there are, and what they look like."},
	{Name: "Operations", Description: "How the process does, and this description."},
}

// parameters holds an example of each parameter, and a description for operations that give none.
var parameters = map[string]struct {
	description string
	example     any
}{
	"company":       {"The company: 1 to 64 of A-Z a-z 0-9 _ . - and not . or .. A company exists from its first use.", "acme"},
	"callback_id":   {"A callback's id.", 11887},
	"event_id":      {"An event's id.", "order-4711"},
	"delivery_id":   {"A delivery's id, which the partner knows as webhook-id.", "dlv_AYIrM62HwW9yZGVyLTQ3MTE"},
	"replay_id":     {"A replay's id.", "rpl_xoxvujsfkxgqh7o2"},
	"key_id":        {"An API key's id.", "rbk_1f6k2m9q"},
	"ticket":        {"What stands behind /payloads/ in a thin body's address.", exampleTicket},
	"link_id":       {"A portal link's id.", "lnk_q7m2wz4kxn5vhtbs"},
	"name":          {"A callback type: 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..", "customer.created"},
	"file":          {"A file of the page.", "swagger-ui.css"},
	"limit":         {"How many entries at most.", 50},
	"after":         {"", "1769933698020-0"},
	"wait":          {"", "0s"},
	"cursor":        {"The next_cursor of the page before.", "MTE4ODc"},
	"status":        {"Only callbacks with this status.", "paused"},
	"confirm":       {"", "acme"},
	"own":           {"", true},
	"callback_type": {"", "wallet_item_install"},
	"event_type":    {"", "wallet_item_install"},
	"kind":          {"", "delivery"},
	"include":       {"", []string{"request"}},
	"state":         {"", []string{"dead", "held"}},
	"since":         {"", "2026-02-01T00:00:00Z"},
	"until":         {"", "2026-02-02T00:00:00Z"},
	"prefix":        {"", "ac"},
	"webhook_id":    {"", "dlv_AYIrM62HwW9yZGVyLTQ3MTE"},
	"last_event_id": {"", "MFRGGZDFMZTWQ2LKNNWG23TPOA-1769933700784-0"},
	"Last-Event-ID": {"", "MFRGGZDFMZTWQ2LKNNWG23TPOA-1769933700784-0"},

	"If-Match": {"The ETag that an answer gave of it. If it was changed since, the answer is 412, and nothing is done. Without the header it is done however it is.", `"1769933698020"`},

	"Idempotency-Key": {"", "8e03978e-40d5-43dd-bc93-6894a57f9324"},
}

// describeParameters fills in from [parameters].
func describeParameters(_ *huma.OpenAPI, op *huma.Operation) {
	for _, p := range op.Parameters {
		known := parameters[p.Name]
		p.Description, p.Example = cmp.Or(p.Description, known.description), known.example
	}
}

// neverNull says of every list in the API's description that it is never null: an empty one is []. All operations must be registered before.
func (s *server) neverNull() {
	for schema := range maps.Values(s.api.OpenAPI().Components.Schemas.Map()) {
		for property := range maps.Values(schema.Properties) {
			if property.Type == huma.TypeArray {
				property.Nullable = false
			}
		}
	}
}
