package payloads_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// chained is a schema of n definitions, each a link to the next, and an end.
func chained(n int, link, end string) string {
	var defs strings.Builder
	for i := range n {
		fmt.Fprintf(&defs, `"a%d":%s,`, i, strings.ReplaceAll(link, "NEXT", fmt.Sprintf(`{"$ref":"#/$defs/a%d"}`, i+1)))
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/a0","$defs":{%s"a%d":%s}}`, defs.String(), n, end)
}

func nested(n int, inner string) string {
	return strings.Repeat(`{"x":`, n) + inner + strings.Repeat("}", n)
}

// TestSchemasThatWouldNotEnd: what would overflow the stack, and with it end the process, or take minutes, is refused in good time.
func TestSchemasThatWouldNotEnd(t *testing.T) {
	var names strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&names, `"k%d":1,`, i)
	}
	const comments = `{"type":"object","properties":{"x":{"$ref":"#"},"l":{"items":{"type":"string"}}}}`
	const recursive = `{"type":"object","properties":{"x":{"$ref":"#"}}}`
	doubling := chained(25, `{"allOf":[NEXT,NEXT]}`, `{"type":"object"}`)
	tests := []struct{ what, schema, payload, location, words string }{
		{"to itself", `{"$ref":"#"}`, "", "body.schema", "one to itself"},
		{"to itself, around", `{"properties":{"x":{"anyOf":[{"type":"string"},{"$ref":"#/properties/x"}]}}}`, "", "body.schema", "one to itself"},
		{"a long chain", chained(2000, "NEXT", recursive), "", "body.schema", "more than 1000 schemas"},
		{"as long a chain as can be, to the bottom", chained(990, "NEXT", recursive), nested(127, "{}"), "", ""},
		{"a long way down", chained(600, `{"properties":{"x":NEXT}}`, "{}"), "", "body.schema", "more than 1000 schemas deep"},
		{"nested", nested(300, "{}"), "", "body.schema", "nest 256 levels"},
		{"many objects", `{"properties":{` + strings.TrimSuffix(strings.ReplaceAll(names.String(), ":1", ":{}"), ",") + `}}`, "", "body.schema", "10000 objects"},
		{"$dynamicRef", `{"$dynamicAnchor":"a","properties":{"x":{"$dynamicRef":"#a"}}}`, "", "body.schema", "use $ref"},
		{"$recursiveRef", `{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"x":{"$recursiveRef":"#"}}}`, "", "body.schema", "use $ref"},
		{"a standard's own", `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, "", "body.schema", "not followed"},

		{"deep", comments, nested(128, "{}"), "body.payload", "more than 128 levels deep"},
		{"as deep as can be", comments, nested(127, "{}"), "", ""},
		{"deep, where the schema is not", `{"type":"object"}`, nested(5000, "1"), "", ""},
		{"deep and at fault", comments, nested(126, `{"l":[1]}`), "body.payload" + strings.Repeat(".x", 126) + ".l[0]", "must be a string"},
		{"doubling in the same place", doubling, "", "body.schema", "more than 1000 schemas to one value"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			start := time.Now()
			c, err := payloads.NewCatalogue(payloads.Type{Name: "x", Schema: json.RawMessage(tt.schema)})
			if err == nil {
				typ, _ := c.Lookup("x")
				_, err = typ.Check(json.RawMessage(tt.payload))
			}
			switch took := time.Since(start); {
			case took > 20*time.Second:
				t.Errorf("took %s", took)
			case tt.words == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.words != "":
				wantField(t, err, tt.location, tt.words)
			}
		})
	}
}

// TestManyFaults: a payload that does not fit anywhere is told so quickly.
func TestManyFaults(t *testing.T) {
	typ := custom(t, `{"items":{"type":"string"}}`, nil)
	payload := json.RawMessage("[" + strings.Repeat("1,", 100_000) + "1]")
	_, err := typ.Check(payload)
	list := fields(t, err)
	if len(list) != 17 || list[16].Location != "body.payload" || list[16].Message != "has 99985 more faults" {
		t.Errorf("%d fields, the last one %+v", len(list), list[len(list)-1])
	}
	if allocs := testing.AllocsPerRun(1, func() { _, _ = typ.Check(payload) }); allocs > 3_000_000 {
		t.Errorf("%.0f allocations", allocs)
	}
}
