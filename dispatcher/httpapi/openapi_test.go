package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// walk visits every object within v.
func walk(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(v)
		for _, member := range v {
			walk(member, visit)
		}
	case []any:
		for _, entry := range v {
			walk(entry, visit)
		}
	}
}

func TestDescriptionNamesEveryPath(t *testing.T) {
	h := newHouse(t)
	a := h.call("", "GET", "/openapi.json", "").want(http.StatusOK)
	doc := a.json()
	if version, _ := doc["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		t.Errorf("openapi = %q", version)
	}
	if doc["info"].(map[string]any)["version"] != "1.2.3" {
		t.Errorf("info = %v", doc["info"])
	}
	paths := doc["paths"].(map[string]any)
	described := 0
	for _, path := range paths {
		described += len(path.(map[string]any))
	}
	for _, pattern := range h.api.mux.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		methods, _ := paths[path].(map[string]any)
		if methods[strings.ToLower(method)] == nil {
			t.Errorf("%s is not described", pattern)
		}
	}
	if described != len(h.api.mux.patterns) {
		t.Errorf("%d operations are described, %d exist", described, len(h.api.mux.patterns))
	}

	components := doc["components"].(map[string]any)["schemas"].(map[string]any)
	walk(doc, func(o map[string]any) {
		if ref, ok := o["$ref"].(string); ok && components[strings.TrimPrefix(ref, "#/components/schemas/")] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
		if properties, ok := o["properties"].(map[string]any); ok && properties["$schema"] != nil {
			t.Error("a $schema property")
		}
		if params, ok := o["parameters"].([]any); ok {
			for _, p := range params {
				p := p.(map[string]any)
				if _, described := parameters[p["name"].(string)]; described && p["description"] == nil {
					t.Errorf("parameter %v without description", p["name"])
				}
			}
		}
	})
}

// schemas are the ones of the API's description.
func (h *house) schemas() *jsonschema.Compiler {
	h.t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(h.call("", "GET", "/openapi.json", "").want(200).body))
	h.must(err)
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	h.must(compiler.AddResource("api.json", doc))
	return compiler
}

// A callback with everything set, and one with nothing: each member of the answers is described, what is described of
// registrations comes back, and the defaults are the described ones.
func TestCallbacksAreDescribedWhole(t *testing.T) {
	h := newHouse(t)
	registration, created, callback := h.schema("Registration"), h.schema("CreatedCallback"), h.schema("CallbackHealth")
	cert, key := egresstest.NewAuthority(t, "authority").Client("acme", nil)
	full := `{"tls":` + tlsOf(cert, key, cert, "hooks.partner.example") + `,"callback_type":"wallet_item_install","event_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},` +
		`"description":"d","start_date":"2020-01-01T00:00:00+01:00","headers":{"X-Key":"k"},"auth":{"type":"basic","username":"u","password":"p"},` +
		`"success":"any_response","trace":true,"timeout":"1.5s","retry":{"initial_interval":"2s","multiplier":3,"max_interval":"1h30m","max_attempts":4},"rate_limit":{"per_second":0.5,"burst":3},` +
		`"header_style":"svix","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",` +
		`"filter":{"not":[{"pointer":"/a","op":"exists"}]},"template":{},"signature":{"rfc9421":true},` +
		`"batch":{"max_events":500,"max_bytes":2048,"max_wait":"1.5s","element":"envelope","results":true,"rate_limit":"events"},"envelope":"cloudevents-structured","body":"thin","destination":{"url":"https://127.0.0.1:9/","method":"PATCH","content_type":"application/json"}}`
	const batch = `"batch":{"max_events":500,"max_bytes":2048,"max_wait":"1.5s","element":"envelope","results":true,"rate_limit":"events"}`
	unseen := maps.Clone(registration.Properties)
	for _, text := range []string{full, strings.Replace(full, batch, `"ordering":{"key":"/wallet_instance/uuid","skip_after":"1h30m"}`, 1)} { // those two do not go together
		if err := h.valid(registration, []byte(text)); err != nil {
			t.Error(err)
		}
		answered := h.call("partner", "POST", "/companies/acme/config/callbacks", text).want(201)
		path := answered.header.Get("Location")
		h.call("partner", "POST", path+"/pause", "").want(200)
		for a, s := range map[*answer]*jsonschema.Schema{&answered: created, new(h.call("partner", "GET", path, "").want(200)): callback} {
			if err := h.valid(s, a.body); err != nil {
				t.Errorf("%v: %s", err, a.body)
			}
			shown := a.json()
			delete(shown, "wallet_item_install") // the block, whose name is not the schema's to know
			wantDescribed(t, s, shown)
			for name := range shown {
				delete(unseen, name)
			}
		}
	}
	if names := slices.Collect(maps.Keys(unseen)); len(names) != 1 || names[0] != "secret" {
		t.Errorf("%v do not come back, but for the secret, which should not", names)
	}
	for _, name := range []string{"token", "password", "client_secret"} {
		if !resolve(registration.Properties["auth"]).Properties[name].WriteOnly {
			t.Errorf("%s is not write-only", name)
		}
	}
	if !registration.Properties["secret"].WriteOnly {
		t.Error("the signing secret is not write-only")
	}
	if !registration.Properties["headers"].AdditionalProperties.(*jsonschema.Schema).WriteOnly {
		t.Error("header values are not write-only")
	}
}

// TestRegistrationsAreDescribedAsTheyAreTaken: a registration fits its schema if and only if it is taken.
func TestRegistrationsAreDescribedAsTheyAreTaken(t *testing.T) {
	h := newHouse(t)
	registration := h.schema("Registration")
	const dest = `"destination":{"url":"http://127.0.0.1:9/"}`
	for body, ok := range map[string]bool{
		`{"callback_type":"*",` + dest + `}`: true, `{"event_type":"payment_proof",` + dest + `}`: true, `{` + dest + `}`: false, `{"callback_type":"*"}`: false,
		`{"callback_type":"*","timeout":"15",` + dest + `}`: false, `{"callback_type":"*","retry":{"max_attempts":101},` + dest + `}`: false,
		`{"callback_type":"*","rate_limit":{"per_second":50},` + dest + `}`: true, `{"callback_type":"*","rate_limit":{"per_second":0},` + dest + `}`: false,
		`{"callback_type":"*","rate_limit":{"per_second":10001},` + dest + `}`: false, `{"callback_type":"*","rate_limit":{"burst":5},` + dest + `}`: false,
		`{"callback_type":"*","rate_limit":{"per_second":1,"burst":0},` + dest + `}`: false, `{"callback_type":"*","rate_limit":{"per_second":1,"burst":10001},` + dest + `}`: false,
		`{"callback_type":"*","header_style":"github","secret":"sixteen letters.",` + dest + `}`: true, `{"callback_type":"*","header_style":"github","secret":"fifteen letters",` + dest + `}`: false,
		`{"callback_type":"*","header_style":"mailgun",` + dest + `}`: false, `{"callback_type":"*","header_style":"standard",` + dest + `}`: true,
		`{"callback_type":"*","batch":{},` + dest + `}`: true, `{"callback_type":"*","batch":{"max_events":1001},` + dest + `}`: false, `{"callback_type":"*","batch":{"element":"xml"},` + dest + `}`: false,
		`{"callback_type":"*","ordering":{"key":"/a"},` + dest + `}`: true, `{"callback_type":"*","ordering":{"skip_after":"1h"},` + dest + `}`: false, `{"callback_type":"*","ordering":{"key":""},` + dest + `}`: false,
		`{"callback_type":"*","ordering":{"key":"/a","skip_after":"1"},` + dest + `}`: false, `{"callback_type":"*","ordering":{"key":"/a","skip_after":"90m"},` + dest + `}`: true,
		`{"callback_type":"*","envelope":"cloudevents","body":"full",` + dest + `}`: false, `{"callback_type":"*","envelope":"none","body":"full",` + dest + `}`: true,
	} {
		if err := h.valid(registration, []byte(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
		if status := h.call("partner", "POST", "/companies/acme/config/callbacks", body).status; (status == 201) != ok {
			t.Errorf("%s: status %d", body, status)
		}
	}
	wantDefaults(t, registration, h.call("partner", "POST", "/companies/acme/config/callbacks", `{"event_type":"*",`+dest+`}`).want(201).json())
}

// schema is one of the API's own.
func (h *house) schema(name string) *jsonschema.Schema {
	h.t.Helper()
	s, err := h.schemas().Compile("api.json#/components/schemas/" + name)
	h.must(err)
	if s.Ref != nil {
		s = s.Ref
	}
	return s
}

// valid returns why a text does not fit a schema, or nil.
func (h *house) valid(s *jsonschema.Schema, text []byte) error {
	h.t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	h.must(err)
	return s.Validate(v)
}

func resolve(s *jsonschema.Schema) *jsonschema.Schema {
	if s != nil && s.Ref != nil {
		return s.Ref
	}
	return s
}

// wantDescribed checks that every member of an answer is a property of its schema.
func wantDescribed(t *testing.T, s *jsonschema.Schema, shown map[string]any) {
	t.Helper()
	for name, value := range shown {
		property := resolve(s.Properties[name])
		if property == nil {
			t.Errorf("%s is not described in %s", name, s.Location)
			continue
		}
		if members, ok := value.(map[string]any); ok && name != "headers" {
			wantDescribed(t, property, members)
		}
	}
}

// wantDefaults checks that what is shown where nothing was given are the defaults of its schema.
func wantDefaults(t *testing.T, s *jsonschema.Schema, shown map[string]any) {
	t.Helper()
	for name, property := range s.Properties {
		property = resolve(property)
		if property.Default != nil && fmt.Sprint(*property.Default) != fmt.Sprint(shown[name]) {
			t.Errorf("%s is %v where it is not given, described as %v", name, shown[name], *property.Default)
		}
		if members, ok := shown[name].(map[string]any); ok {
			wantDefaults(t, property, members)
		}
	}
}

// What is answered fits what is described.
func TestAnswersFitTheirDescription(t *testing.T) {
	h := newHouse(t)
	compiler := h.schemas()
	full := `{"callback_type":"wallet_item_install","description":"d","headers":{"X-Key":"k"},"auth":{"type":"bearer","token":"t"},"success":"any_2xx","trace":true,` +
		`"timeout":"20s","retry":{"max_attempts":3},"rate_limit":{"per_second":2.5},"start_date":"2020-01-01T00:00:00Z","destination":{"url":"http://127.0.0.1:9/","method":"PUT"}}`
	check := func(schema string, body []byte) {
		t.Helper()
		s, err := compiler.Compile("api.json#/components/schemas/" + schema)
		h.must(err)
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		h.must(err)
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v\n%s", schema, err, body)
		}
		walk(v, func(o map[string]any) {
			if o["$schema"] != nil && schema != "CallbackType" && schema != "TypeList" {
				t.Errorf("a $schema in %s", body)
			}
		})
	}
	check("Registration", []byte(hook))
	check("Registration", []byte(full))
	check("Registration", []byte(strings.Replace(full, "callback_type", "event_type", 1)))
	check("CreatedCallback", h.call("partner", "POST", "/companies/acme/config/callbacks", hook).want(201).body)
	check("CreatedCallback", h.call("partner", "POST", "/companies/acme/config/callbacks", full).want(201).body)
	oauth2 := strings.Replace(full, `{"type":"bearer","token":"t"}`, `{"type":"oauth2","token_url":"http://127.0.0.1:9/token","client_id":"c","client_secret":"s","scopes":["a"],"audience":"b"}`, 1)
	check("Registration", []byte(oauth2))
	created := h.call("partner", "POST", "/companies/acme/config/callbacks", oauth2).want(201)
	check("CreatedCallback", created.body)
	want := map[string]any{"type": "oauth2", "token_url": "http://127.0.0.1:9/token", "client_id": "c", "client_secret": "***", "scopes": []any{"a"}, "audience": "b"}
	if diff := cmp.Diff(want, created.json()["auth"]); diff != "" {
		t.Errorf("auth comes back otherwise: %s", diff)
	}
	h.call("partner", "POST", "/companies/acme/config/callbacks", strings.Replace(oauth2, "http://127.0.0.1:9/token", "http://10.0.0.1/token", 1)).want(422)
	callback := "/companies/acme/config/callbacks/2"
	check("CallbackHealth", h.call("partner", "GET", callback, "").want(200).body)
	check("Patch", []byte(`{"description":"e"}`))
	check("Patch", []byte(`{"description":null,"auth":null,"headers":{"X-Key":null},"retry":{"multiplier":null},"destination":{"method":null},"success":null,"timeout":null,"rate_limit":null,"filter":null,"template":null}`))
	check("Patch", []byte(`{"rate_limit":{"burst":null}}`))
	check("Callback", h.call("partner", "PATCH", callback, `{"description":"e"}`).want(200).body)
	check("Callback", h.call("partner", "POST", callback+"/pause", "").want(200).body)
	check("CallbackPage", h.call("partner", "GET", "/companies/acme/config/callbacks", "").want(200).body)
	check("Event", []byte(event("e")))
	check("Receipt", h.call("producer", "POST", "/companies/acme/events", event("e")).want(202).body)
	check("Receipt", h.call("producer", "POST", "/companies/acme/events", event("e")).want(200).body)
	check("Explanation", h.call("producer", "GET", "/companies/acme/events/e", "").want(200).body)
	check("DeliveryPage", h.call("producer", "GET", "/companies/acme/deliveries", "").want(200).body)
	check("Resume", []byte(`{"skip_held":true}`))
	check("Callback", h.call("partner", "POST", callback+"/resume", `{"skip_held":true}`).want(200).body)
	check("TypeList", h.call("producer", "GET", "/callback-types", "").want(200).body)
	check("CallbackType", h.call("producer", "GET", "/callback-types/payment_proof", "").want(200).body)
	check("ErrorModel", h.call("producer", "POST", "/companies/acme/events", "{}").want(422).body)
	check("ErrorModel", h.call("", "GET", "/nothing", "").want(404).body)
}

var links = regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)

// A page loads nothing from elsewhere: its links stay here and lead somewhere, and its policy forbids the rest.
func wantOffline(h *house, actor string, page answer, base string) {
	h.t.Helper()
	csp := page.header.Get("Content-Security-Policy")
	if strings.Contains(csp, "http") || strings.Contains(csp, "*") || !strings.HasPrefix(csp, "default-src 'none'") {
		h.t.Errorf("the policy lets others in: %s", csp)
	}
	at, err := url.Parse(base)
	h.must(err)
	found := links.FindAllSubmatch(page.body, -1)
	for _, link := range found {
		target, err := at.Parse(string(link[1]))
		h.must(err)
		if target.Scheme == "data" {
			continue
		}
		if target.Host != at.Host {
			h.t.Errorf("%s leads elsewhere", link[1])
		}
		if target.Path == loginPath {
			continue
		}
		h.call(actor, "GET", target.Path, "").want(http.StatusOK)
	}
	if len(found) == 0 {
		h.t.Errorf("a page without links: %s", page.body)
	}
}

func TestDocsWorkOffline(t *testing.T) {
	h := newHouse(t)
	page := h.call("", "GET", "/docs", "").want(http.StatusOK)
	wantOffline(h, "", page, "http://here/docs")
	if bytes.Contains(page.body, []byte("<script>")) {
		t.Error("an inline script, which the policy forbids")
	}
	start := h.call("", "GET", "/docs/start.js", "").want(http.StatusOK)
	if !strings.Contains(string(start.body), "validatorUrl: null") || strings.Contains(string(start.body), "http") {
		t.Errorf("start.js: %s", start.body)
	}
	for file, mediaType := range map[string]string{
		"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "start.js": "text/javascript", "favicon-32x32.png": "image/png",
	} {
		plain := h.call("", "GET", "/docs/"+file, "").want(http.StatusOK)
		packed := h.call("", "GET", "/docs/"+file, "", header{"Accept-Encoding": "br, gzip"}).want(http.StatusOK)
		for _, a := range []answer{plain, packed} {
			if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, mediaType) {
				t.Errorf("%s: Content-Type %q, want %s", file, got, mediaType)
			}
		}
		if packed.header.Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(bytes.NewReader(packed.body))
			h.must(err)
			packed.body, err = io.ReadAll(r)
			h.must(err)
		}
		if !bytes.Equal(plain.body, packed.body) || len(plain.body) == 0 {
			t.Errorf("%s: %d bytes plain, %d packed", file, len(plain.body), len(packed.body))
		}
	}
	for _, file := range []string{"nothing", "embed.go", "..%2Fembed.go", "swagger-ui.css.map"} {
		h.call("", "GET", "/docs/"+file, "").wantProblem(http.StatusNotFound)
	}
}

func TestDescriptionIsOneJSONText(t *testing.T) {
	h := newHouse(t)
	if !json.Valid(h.call("", "GET", "/openapi.json", "").want(200).body) {
		t.Error("not JSON")
	}
}
