package payloads_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func template(t testing.TB, text string) *payloads.Template {
	t.Helper()
	tm, err := payloads.ParseTemplate(json.RawMessage(text), "body.template")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return tm
}

func TestTemplates(t *testing.T) {
	const payload = ` {"customer":{"id":  9007199254740993.0,"name":"\u00c4nne \ud800","name":"last","tags":["a", {"b":1}],"none":null,"html":"<a&b>"},"a/b":[ [1,2] ],"":0} `
	tests := []struct{ template, want string }{
		{`{"id":{"$pointer":"/customer/id"},"kind":"x"}`, `{"id":9007199254740993.0,"kind":"x"}`},
		{`{"kind":"<&>","n":1.50,"nested":{"list":[1,{"$pointer":"/customer/tags/1/b"}]}}`, `{"kind":"<&>","n":1.50,"nested":{"list":[1,1]}}`},
		{`{"tags":{"$pointer":"/customer/tags"}}`, `{"tags":["a", {"b":1}]}`},
		{`{"html":{"$pointer":"/customer/html"}}`, `{"html":"<a&b>"}`},

		// Of a name that stands twice the last value counts.
		{`[{"$pointer":"/customer/name"}]`, `["last"]`},

		// What is missing.
		{`{"a":{"$pointer":"/nope"},"b":1}`, `{"b":1}`},
		{`{"b":1,"a":{"$pointer":"/nope"}}`, `{"b":1}`},
		{`{"a":{"$pointer":"/nope"}}`, `{}`},
		{`[1,{"$pointer":"/nope"},2]`, `[1,null,2]`},
		{`{"$pointer":"/nope"}`, `null`},
		{`{"a":{"$pointer":"/nope","$default":null}}`, `{"a":null}`},
		{`{"a":{"$pointer":"/nope","$default":{"$x":["y"]}}}`, `{"a":{"$x":["y"]}}`},
		{`{"a":{"$pointer":"/customer/none","$default":"d"}}`, `{"a":null}`},
		{`{"a":{"$pointer":"/customer/id/deeper","$default":"d"}}`, `{"a":"d"}`},

		// Pointers.
		{`{"$pointer":"/a~1b/0/1"}`, `2`},
		{`[{"$pointer":"/a~1b"},{"$pointer":"/a~1b/0"},{"$pointer":"/a~1b/0"},{"$pointer":"/a~1b/00"},{"$pointer":"/"}]`, `[[ [1,2] ],[1,2],[1,2],null,0]`},

		// Names that look like the template's own.
		{`{"$$pointer":"/x","$$":1,"$$$a":2}`, `{"$pointer":"/x","$":1,"$$a":2}`},
		{`{"a":{"$$pointer":{"$pointer":"/a~1b/0/0"}}}`, `{"a":{"$pointer":1}}`},

		// Constants alone.
		{`"text"`, `"text"`},
		{`null`, `null`},
		{`{"z":1,"a":[true,false,null,{}]}`, `{"z":1,"a":[true,false,null,{}]}`},
	}
	for _, tt := range tests {
		tm := template(t, tt.template)
		got, err := tm.Apply(json.RawMessage(payload))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s:\ngot  %s (%v)\nwant %s", tt.template, got, err, tt.want)
		}
		if again := template(t, tm.String()); again.String() != tm.String() {
			t.Errorf("%s is shown as %s, and that as %s", tt.template, tm, again)
		}
	}
	whole, err := template(t, `{"data":{"$pointer":""}}`).Apply(json.RawMessage(payload))
	if want := `{"data":` + strings.TrimSpace(payload) + `}`; err != nil || string(whole) != want {
		t.Errorf("%s (%v)", whole, err)
	}
	if none, err := (*payloads.Template)(nil).Apply(json.RawMessage(payload)); err != nil || string(none) != payload {
		t.Errorf("no template: %s (%v)", none, err)
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	tests := []struct{ template, location, words string }{
		{`{"a":{"$ref":"/x"}}`, "body.template.a[\"$ref\"]", "names that begin with $ are the template's own"},
		{`{"a":{"$pointer":"/x","kind":1}}`, "body.template.a.kind", "does not go with $pointer"},
		{`{"a":{"$default":1}}`, "body.template.a[\"$pointer\"]", "is missing"},
		{`{"a":{"$pointer":"x"}}`, "body.template.a[\"$pointer\"]", "must be a JSON Pointer"},
		{`{"a":{"$pointer":["/x"]}}`, "body.template.a[\"$pointer\"]", "must be a JSON Pointer"},
		{`{"a":1,"a":2}`, "body.template.a", "is given twice"},
		{strings.Repeat(`[`, 17) + strings.Repeat(`]`, 17), "body.template" + strings.Repeat("[0]", 16), "may nest 16 levels"},
		{`["` + strings.Repeat("x", 16<<10) + `"]`, "body.template", "it may have 16384"},
		{`[` + strings.TrimSuffix(strings.Repeat(`{"$pointer":"/a"},`, 101), ",") + `]`, "body.template", "has 101 pointers: there may be 100"},
		{`{"a":1e99999}`, "body.template.a", "no receiver can read exactly"},
		{`{`, "body.template", "is not valid JSON"},
		{"\"\xff\"", "body.template", "UTF-8"},
	}
	for _, tt := range tests {
		tm, err := payloads.ParseTemplate(json.RawMessage(tt.template), "body.template")
		if err == nil || tm != nil {
			t.Errorf("%.100s: accepted", tt.template)
			continue
		}
		wantField(t, err, tt.location, tt.words)
	}
}

// TestTemplatesAgainstSchemas holds that a pointer to no place is found before anything is sent.
func TestTemplatesAgainstSchemas(t *testing.T) {
	strict := custom(t, `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"integer"}}}`, nil)
	tm := template(t, `{"a":[{"$pointer":"/id"},{"$pointer":"/ident","$default":1}]}`)
	faults := tm.CheckPointers([]*payloads.Type{strict}, "body.template")
	if len(faults) != 1 || faults[0].Location != `body.template.a[1]["$pointer"]` || !strings.Contains(faults[0].Message, "leads nowhere") {
		t.Errorf("%v", faults)
	}
	if faults := tm.CheckPointers([]*payloads.Type{strict, custom(t, "", nil)}, "body.template"); len(faults) > 0 {
		t.Errorf("one of two types has the place: %v", faults)
	}
}

// TestTemplatesAreBounded: a template that repeats a large payload makes no body beyond the bound, and says so.
func TestTemplatesAreBounded(t *testing.T) {
	payload := json.RawMessage(`{"a":"` + strings.Repeat("x", payloads.MaxShaped/2) + `"}`)
	if body, err := template(t, `[{"$pointer":"/a"},1]`).Apply(payload); err != nil || len(body) < payloads.MaxShaped/2 {
		t.Errorf("%d bytes (%v)", len(body), err)
	}
	_, err := template(t, `[{"$pointer":"/a"},{"$pointer":""}]`).Apply(payload)
	wantField(t, err, "body.template", "makes too long a body")
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		`{"id":{"$pointer":"/customer/id"},"kind":"x"}`, `[{"$pointer":"","$default":1},{"$$pointer":"a"}]`, `{"$pointer":"/a/0","$default":{"$x":1}}`, `{"$":1}`, `"x"`, `[[[`,
	} {
		f.Add([]byte(text), []byte(`{"customer":{"id":1.0},"a":[" ",null],"a":[2]}`))
	}
	f.Fuzz(func(t *testing.T, text, payload []byte) {
		tm, err := payloads.ParseTemplate(text, "body.template")
		if err != nil {
			for _, field := range fields(t, err) {
				if !strings.HasPrefix(field.Location, "body.template") || field.Message == "" || strings.ContainsAny(field.Location, "\n\r") {
					t.Errorf("field %q", field)
				}
			}
			return
		}
		again, err := payloads.ParseTemplate(json.RawMessage(tm.String()), "body.template")
		if err != nil || again.String() != tm.String() {
			t.Fatalf("%s is read as %v (%v)", tm, again, err)
		}
		tm.CheckPointers(payloads.Builtin().Types(), "body.template")
		body, err := tm.Apply(payload)
		if !payloads.ReadDocument(payload).Readable() {
			return
		}
		if err != nil {
			wantField(t, err, "body.template", "too long")
			return
		}
		if !json.Valid(body) || len(body) > payloads.MaxShaped {
			t.Fatalf("%s of %s makes %d bytes: %.200s", tm, payload, len(body), body)
		}
		if twice, _ := again.Apply(payload); !bytes.Equal(twice, body) {
			t.Errorf("one template makes %s and %s", body, twice)
		}
	})
}
