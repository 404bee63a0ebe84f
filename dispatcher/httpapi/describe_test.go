package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The parts of the API's description that tests read.
type (
	apiDoc struct {
		Paths map[string]map[string]*opDoc
	}
	opDoc struct {
		OperationID, Summary, Description string
		Tags                              []string
		Security                          []map[string][]string
		Parameters                        []*paramDoc
		RequestBody                       *struct {
			Required bool
			Content  map[string]*contentDoc
		}
		Responses map[string]*struct {
			Description string
			Content     map[string]*contentDoc
		}
		method, path string
	}
	paramDoc struct {
		Name, In, Description string
		Required              bool
		Example               json.RawMessage
	}
	contentDoc struct {
		Schema, Example json.RawMessage
	}
)

func (o *opDoc) String() string { return strings.ToUpper(o.method) + " " + o.path }

// pointer leads to a part of an operation in the description.
func (o *opDoc) pointer(parts ...string) string {
	var p strings.Builder
	p.WriteString("api.json#")
	for _, part := range append([]string{"paths", o.path, o.method}, parts...) {
		p.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(part))
	}
	return p.String()
}

// operations are all that are described, in order.
func (h *house) operations() []*opDoc {
	h.t.Helper()
	var doc apiDoc
	h.must(json.Unmarshal(h.call("", "GET", "/openapi.json", "").want(200).body, &doc))
	var all []*opDoc
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op := doc.Paths[path][method]
			op.method, op.path = method, path
			all = append(all, op)
		}
	}
	if len(all) < 25 {
		h.t.Fatalf("only %d operations", len(all))
	}
	return all
}

// fits validates a JSON text against a part of the description.
func fits(t *testing.T, schemas *jsonschema.Compiler, pointer string, text []byte) {
	t.Helper()
	schema, err := schemas.Compile(pointer)
	if err != nil {
		t.Errorf("%s: %v", pointer, err)
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v: %s", pointer, err, text)
		return
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// linesFit validates each line of a text.
func linesFit(t *testing.T, schemas *jsonschema.Compiler, schema string, text []byte) {
	t.Helper()
	n := 0
	for line := range bytes.Lines(text) {
		fits(t, schemas, "api.json#/components/schemas/"+schema, line)
		n++
	}
	if n == 0 {
		t.Errorf("no line of %s", schema)
	}
}

func unquoted(t *testing.T, text []byte) []byte {
	t.Helper()
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	return []byte(s)
}

// Somebody else's reading of OpenAPI 3.1 finds nothing wrong with the description.
func TestDescriptionIsValidOpenAPI(t *testing.T) {
	h := newHouse(t)
	doc, err := libopenapi.NewDocument(h.call("", "GET", "/openapi.json", "").want(200).body)
	h.must(err)
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	ok, faults := v.ValidateDocument()
	for _, fault := range faults {
		t.Errorf("%s: %s", fault.Message, fault.Reason)
		for _, e := range fault.SchemaValidationErrors {
			t.Errorf("  %s: %s", e.KeywordLocation, e.Reason)
		}
	}
	if !ok {
		t.Error("not valid")
	}
}

// Whoever reads the description finds in it what to send and what comes back, of everything there is.
func TestEverythingIsDescribed(t *testing.T) {
	h := newHouse(t)
	ids, chapters := map[string]bool{}, map[string]bool{}
	for _, tag := range tags {
		chapters[tag.Name] = tag.Description != ""
	}
	for _, op := range h.operations() {
		if op.Summary == "" || op.OperationID == "" || ids[op.OperationID] || len(op.Tags) != 1 || !chapters[op.Tags[0]] {
			t.Errorf("%s: summary %q, id %q, tags %v", op, op.Summary, op.OperationID, op.Tags)
		}
		ids[op.OperationID] = true
		for _, p := range op.Parameters {
			if p.Description == "" || len(p.Example) == 0 {
				t.Errorf("%s: parameter %s: description %q, example %s", op, p.Name, p.Description, p.Example)
			}
		}
		if op.RequestBody != nil {
			for mediaType, content := range op.RequestBody.Content {
				if len(content.Example) == 0 || len(content.Schema) == 0 {
					t.Errorf("%s: %s: example %s, schema %s", op, mediaType, content.Example, content.Schema)
				}
			}
		}
		for status, response := range op.Responses {
			if response.Description == "" {
				t.Errorf("%s: %s: no description", op, status)
			}
			if len(response.Content) == 0 && status != "204" && status != "303" {
				t.Errorf("%s: %s: no content", op, status)
			}
			if status >= "400" && response.Content["application/problem+json"] == nil {
				t.Errorf("%s: %s is no problem", op, status)
			}
			for mediaType, content := range response.Content {
				if len(content.Example) == 0 || len(content.Schema) == 0 {
					t.Errorf("%s: %s: %s: example %s, schema %s", op, status, mediaType, content.Example, content.Schema)
				}
			}
		}
	}
	for id := range examples {
		if !ids[id] {
			t.Errorf("examples of %s, which there is not", id)
		}
	}
}

// Every example is one of what it is an example of.
func TestExamplesFitTheirSchemas(t *testing.T) {
	h := newHouse(t)
	schemas := h.schemas()
	for _, op := range h.operations() {
		for i, p := range op.Parameters {
			fits(t, schemas, op.pointer("parameters", fmt.Sprint(i), "schema"), p.Example)
		}
		if op.RequestBody != nil {
			for mediaType, content := range op.RequestBody.Content {
				fits(t, schemas, op.pointer("requestBody", "content", mediaType, "schema"), content.Example)
				if mediaType == mediaNDJSON {
					linesFit(t, schemas, "Event", unquoted(t, content.Example))
				}
			}
		}
		for status, response := range op.Responses {
			for mediaType, content := range response.Content {
				fits(t, schemas, op.pointer("responses", status, "content", mediaType, "schema"), content.Example)
				if mediaType == mediaNDJSON {
					linesFit(t, schemas, "BatchResult", unquoted(t, content.Example))
				}
				if mediaType == "application/problem+json" {
					var p problemDoc
					h.must(json.Unmarshal(content.Example, &p))
					if fmt.Sprint(p.Status) != status || p.Detail == "" || (status == "422") != (len(p.Errors) > 0) {
						t.Errorf("%s: %s: %s", op, status, content.Example)
					}
				}
			}
		}
	}
	// What stands in schemas, too.
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(h.call("", "GET", "/openapi.json", "").body))
	h.must(err)
	for name, component := range doc.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		properties, _ := component.(map[string]any)["properties"].(map[string]any)
		for property, schema := range properties {
			list, _ := schema.(map[string]any)["examples"].([]any)
			for _, value := range list {
				text, err := json.Marshal(value)
				h.must(err)
				fits(t, schemas, "api.json#/components/schemas/"+name+"/properties/"+property, text)
			}
		}
	}
}

// Everything that is described is done: each request as in its example, answered as described.
func TestExamplesWork(t *testing.T) {
	h := newHouse(t)
	schemas := h.schemas()
	untried := map[string]*opDoc{}
	for _, op := range h.operations() {
		untried[op.String()] = op
	}
	for n, op := range h.guarded() {
		delete(untried, op.String())
		h.afresh()
		r := h.request(op, 1000+n)
		bodies := map[string]string{"": ""}
		if op.RequestBody != nil {
			bodies = map[string]string{}
			for mediaType := range op.RequestBody.Content {
				bodies[mediaType] = r.body // each has the same example
			}
		}
		for r.mediaType, r.body = range bodies {
			a := r.do(h, "operator")
			if a.status >= 300 && op.method != "delete" {
				t.Errorf("%s: the example is answered %d: %s", op, a.status, a.body)
			}
			op.wantDescribedAnswer(t, schemas, a)
			for _, actor := range []string{"", "other producer", "producer"} {
				op.wantDescribedAnswer(t, schemas, r.do(h, actor))
			}
			verbose := r
			verbose.query = "?verbose=1"
			op.wantDescribedAnswer(t, schemas, verbose.do(h, "operator"))
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/docs"} {
		untried["GET "+path].wantDescribedAnswer(t, schemas, h.call("", "GET", path, ""))
		delete(untried, "GET "+path)
	}
	delete(untried, "GET /docs/{file}")        // as Swagger UI has them
	fetch := untried["GET /payloads/{ticket}"] // TestThinBodies has good ones
	fetch.wantDescribedAnswer(t, schemas, h.call("", "GET", "/payloads/x", ""))
	delete(untried, fetch.String())
	keySet := untried["GET "+keySetRoute]
	keySet.wantDescribedAnswer(t, schemas, h.call("", "GET", strings.Replace(keySetRoute, "{company}", "acme", 1), ""))
	delete(untried, keySet.String())
	login := untried["POST /monitoring/login"]
	form := header{"Content-Type": "application/x-www-form-urlencoded"}
	login.wantDescribedAnswer(t, schemas, h.call("", "POST", login.path, "key="+h.keys["operator"], form))
	delete(untried, login.String())
	logout := untried["POST /monitoring/logout"]
	logout.wantDescribedAnswer(t, schemas, h.call("", "POST", logout.path, ""))
	delete(untried, logout.String())
	for op := range untried {
		t.Errorf("%s was not tried", op)
	}

	h.redis.Kill()
	for _, op := range h.operations() {
		if a := h.call("operator", strings.ToUpper(op.method), strings.NewReplacer("{company}", "acme", "{callback_id}", "1", "{event_id}", "e", "{delivery_id}", "dlv_AYIrM62HwW9yZGVyLTQ3MTE",
			"{replay_id}", "rpl_1", "{name}", "t", "{file}", "start.js").Replace(op.path), ""); a.status == http.StatusServiceUnavailable {
			op.wantDescribedAnswer(t, schemas, a)
		}
	}
}

// wantDescribedAnswer checks an answer against the operation's description.
func (o *opDoc) wantDescribedAnswer(t *testing.T, schemas *jsonschema.Compiler, a answer) {
	t.Helper()
	status := fmt.Sprint(a.status)
	response := o.Responses[status]
	if response == nil {
		t.Errorf("%s: status %s is not described: %s", o, status, a.body)
		return
	}
	if len(a.body) == 0 {
		if len(response.Content) > 0 {
			t.Errorf("%s: %s: no body", o, status)
		}
		return
	}
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	switch {
	case o.path == "/metrics" && status == "200": // the handler's own business
	case mediaType == "text/html" && a.status >= 400: // the login form
	case response.Content[mediaType] == nil:
		t.Errorf("%s: %s: %s is not described", o, status, mediaType)
	case mediaType == mediaNDJSON:
		linesFit(t, schemas, "BatchResult", a.body)
	case strings.HasSuffix(mediaType, "json"):
		fits(t, schemas, o.pointer("responses", status, "content", mediaType, "schema"), a.body)
	}
}

// Limits hold for every operation that takes a body, those of tomorrow included.
func TestLimitsOfEveryBody(t *testing.T) {
	const limit = 2000
	h := newHouse(t, func(c *Config) { c.MaxBody = limit })
	callback := h.register("acme")
	tried := 0
	for _, op := range h.operations() {
		if op.RequestBody == nil || op.OperationID == "monitoring-login" {
			continue
		}
		tried++
		t.Run(op.OperationID, func(t *testing.T) {
			h.in(t).wantLimits(op, strings.TrimPrefix(callback, "/companies/"), limit)
		})
	}
	if tried < 8 {
		t.Errorf("only %d operations take a body", tried)
	}
}

// wantLimits sends an operation bodies that are too long, of other media types, or nonsense.
func (h *house) wantLimits(op *opDoc, callback string, limit int) {
	h.t.Helper()
	path := strings.NewReplacer("{company}/config/callbacks/{callback_id}", callback, "{company}", "acme", "{name}", "some.type").Replace(op.path)
	if strings.Contains(path, "{") {
		h.t.Fatalf("which %s?", path)
	}
	mediaTypes := slices.Sorted(maps.Keys(op.RequestBody.Content))
	as := func(mediaType string) header { return header{"Content-Type": mediaType} }
	ask := func(body string, headers ...header) answer {
		return h.call("operator", strings.ToUpper(op.method), path, body, append([]header{as(mediaTypes[0])}, headers...)...)
	}
	most, statusOf := limit, func(a answer) int { return a.status }
	if mediaTypes[0] == mediaNDJSON { // each line has an answer of its own
		most = limit * batchBodies
		statusOf = func(a answer) int {
			var r resultLine
			h.must(json.Unmarshal(a.want(200).body, &r))
			return r.Status
		}
		if got := statusOf(ask(strings.Repeat("x", limit+1))); got != 413 {
			h.t.Errorf("a long line: status %d", got)
		}
	}
	ask(strings.Repeat(" ", most+1)).wantProblem(413)
	r := strings.NewReader(strings.Repeat(" ", most+1))
	unknown, err := http.NewRequestWithContext(h.t.Context(), strings.ToUpper(op.method), path, io.MultiReader(r)) // of unknown length
	h.must(err)
	unknown.ContentLength = -1
	unknown.Header.Set("Authorization", "Bearer "+h.keys["operator"])
	h.do(unknown).wantProblem(413)
	for _, mediaType := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", ";;"} {
		ask(`{}`, as(mediaType)).wantProblem(415)
	}
	ask(`{}`, header{"Content-Encoding": "gzip"}).wantProblem(415)
	for _, mediaType := range mediaTypes {
		for body, want := range map[string]int{`{`: 400, `nope`: 400, "{\"a\":\"\xff\"}": 400, `{} {}`: 400, `{"no_such_member":1}`: 422, `[]`: 422, `"x"`: 422, `null`: 422} {
			if got := statusOf(ask(body, as(mediaType))); got != want {
				h.t.Errorf("%s as %s: status %d, want %d", body, mediaType, got, want)
			}
		}
	}
	if a := ask(""); op.RequestBody.Required != (a.status == 400) {
		h.t.Errorf("no body: status %d, described as required: %v", a.status, op.RequestBody.Required)
	}
	for _, status := range []string{"400", "408", "413", "415", "422"} {
		if op.Responses[status] == nil {
			h.t.Errorf("%s is not described", status)
		}
	}
}
